//! Header fields in configurations: edits of a message's fields, with templates as values.

use crate::expr::{Template, Variables};
use crate::http::{Headers, is_field_value, is_token};
use crate::plugin::compile_template;
use crate::schema::{Object, Reader};
use serde_json::Value;
use std::fmt::Write;

/// A field's name and the template of its value.
pub(super) type FieldTemplate = (Vec<u8>, Template);

/// Fields to add, to set and to remove, in this order.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldEdits {
    pub(super) add: Vec<FieldTemplate>,
    pub(super) set: Vec<FieldTemplate>,
    pub(super) remove: Vec<Vec<u8>>,
}

impl FieldEdits {
    /// Reads `{add, set, remove}`, or what to set without `set` around it: APISIX's older form.
    /// `read_add` reads `add`, which is an object in requests and a list in responses.
    pub(super) fn read(
        reader: Reader<'_>,
        read_add: fn(Reader<'_>) -> Option<Vec<FieldTemplate>>,
    ) -> Option<Self> {
        let is_new = |key| reader.value().get(key).is_some_and(|v| v.is_array() || v.is_object());
        if !["add", "set", "remove"].into_iter().any(is_new) {
            return Some(Self { set: read_fields(reader)?, ..Self::default() });
        }
        let mut object = reader.object()?;
        let edits = Self {
            add: object.get("add").and_then(read_add).unwrap_or_default(),
            set: object.get("set").and_then(read_fields).unwrap_or_default(),
            remove: read_names(&mut object),
        };
        object.finish();
        Some(edits)
    }

    /// Every template there is.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.add.iter().chain(&self.set).map(|(_, template)| template)
    }
}

/// Sets a field; an empty value removes it, as in OpenResty.
pub(super) fn set_or_remove(headers: &mut Headers, name: &[u8], value: &[u8]) {
    if value.is_empty() {
        headers.remove(name);
    } else {
        headers.set(name, value);
    }
}

/// Renders a field's value into `out`, which is cleared first.
pub(super) fn render(template: &Template, variables: &dyn Variables, out: &mut Vec<u8>) {
    out.clear();
    template.render(variables, out);
    escape_controls(out);
}

/// A header made from request data must not end its line: `$uri` is decoded, so it may hold CR and
/// LF.
pub(super) fn escape_controls(value: &mut Vec<u8>) {
    if is_field_value(value) {
        return;
    }
    let mut escaped = String::new();
    for byte in value.iter() {
        if is_field_value(&[*byte]) && byte.is_ascii() {
            escaped.push(*byte as char);
        } else {
            // Writing to a string can't fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    *value = escaped.into_bytes();
}

/// An object of at least one field: templates or numbers by name.
pub(super) fn read_fields(reader: Reader<'_>) -> Option<Vec<FieldTemplate>> {
    read_members(reader, |text, value| compile_template(&text, value))
}

/// An object of at least one field: strings or numbers by name.
pub(super) fn read_texts(reader: Reader<'_>) -> Option<Vec<(Vec<u8>, String)>> {
    read_members(reader, |text, _| text)
}

fn read_members<T>(
    reader: Reader<'_>,
    make: impl Fn(String, &Reader<'_>) -> T,
) -> Option<Vec<(Vec<u8>, T)>> {
    let object = reader.object()?;
    let mut fields = Vec::new();
    for (name, value) in object.members() {
        if !is_token(name.as_bytes()) {
            value.error_on_key(NAME_RULE);
        }
        if let Some(text) = string_or_number(&value) {
            if !is_field_value(text.as_bytes()) {
                value.error("a header value has no control characters");
            }
            fields.push((name.as_bytes().to_vec(), make(text, &value)));
        }
    }
    if object.members().next().is_none() {
        object.error("expected at least one header");
    }
    object.allow_unknown();
    Some(fields)
}

/// A list of lines `Name: value`.
pub(super) fn read_lines(reader: Reader<'_>) -> Option<Vec<FieldTemplate>> {
    reader.list_of(1..=usize::MAX, |line| {
        let text = line.string(1..=usize::MAX)?;
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let (name, value) = (name.trim_ascii(), value.trim_ascii());
        if !is_token(name.as_bytes()) || value.is_empty() || !is_field_value(value.as_bytes()) {
            line.expected("a line like `Name: value`");
        }
        Some((name.as_bytes().to_vec(), compile_template(value, &line)))
    })
}

/// A field's name.
pub(super) fn read_name(reader: &Reader<'_>) -> Option<Vec<u8>> {
    let name = reader.string(1..=usize::MAX)?;
    if !is_token(name.as_bytes()) {
        reader.error(NAME_RULE);
    }
    Some(name.as_bytes().to_vec())
}

fn read_names(object: &mut Object<'_>) -> Vec<Vec<u8>> {
    let names = |list: Reader<'_>| list.list_of(1..=usize::MAX, |name| read_name(&name));
    object.get("remove").and_then(names).unwrap_or_default()
}

fn string_or_number(reader: &Reader<'_>) -> Option<String> {
    match reader.value() {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => {
            reader.expected("a string or a number");
            None
        }
    }
}

const NAME_RULE: &str = "a header name has only letters, digits and !#$%&'*+-.^_`|~";
