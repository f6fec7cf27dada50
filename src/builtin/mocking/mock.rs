//! Random data by a JSON Schema, as JSON or XML.

use crate::schema::{Object, Reader};
use serde_json::Value;
use std::io::Write;

/// As deep as schemas may be: they are read and written by recursion.
const DEPTH_MAX: usize = 32;

/// What is written for one place of a schema.
#[derive(Clone, Debug)]
pub(super) enum Mock {
    Text(Option<String>),
    Number(Option<f64>),
    Integer(Option<i64>),
    Boolean(Option<bool>),
    Array(Box<Mock>),
    Object(Vec<(String, Mock)>),
}

impl Mock {
    /// Reads a schema whose root is an object.
    pub(super) fn read(reader: &Reader<'_>) -> Option<Self> {
        members(reader.clone().object()?, DEPTH_MAX)
    }

    /// Reads a schema below the root. An array without `items` is left out, as in APISIX.
    fn read_inner(reader: &Reader<'_>, depth: usize) -> Option<Self> {
        let Some(depth) = depth.checked_sub(1) else {
            reader.error(format!("schemas have at most {DEPTH_MAX} levels"));
            return None;
        };
        let mut object = reader.clone().object()?;
        let kinds = ["string", "number", "integer", "boolean", "array", "object"];
        let kind = object.need("type")?.one_of(&kinds.map(|kind| (kind, kind)))?;
        let example = object.get("example").map(|reader| reader.value()).unwrap_or(&Value::Null);
        let mock = match kind {
            "string" => Self::Text(example.as_str().map(str::to_owned)),
            "number" => Self::Number(example.as_f64()),
            // As many integers as a float has are those of Lua.
            "integer" => Self::Integer(example.as_f64().map(|number| number.floor() as i64)),
            "boolean" => Self::Boolean(example.as_bool()),
            "array" => {
                let items = object.get("items")?;
                Self::Array(Box::new(Self::read_inner(&items, depth)?))
            }
            _ => return members(object, depth),
        };
        object.allow_unknown();
        Some(mock)
    }
}

fn members(mut object: Object<'_>, depth: usize) -> Option<Mock> {
    let properties = object.section("properties");
    object.allow_unknown();
    let member = |(name, reader): (&str, Reader<'_>)| {
        // In XML the name becomes a tag.
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(is_name) {
            reader.error_on_key("a name here has letters, digits, `_`, `-` and `.`");
        }
        Some((name.to_owned(), Mock::read_inner(&reader, depth)?))
    };
    Some(Mock::Object(properties.members().filter_map(member).collect()))
}

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Xml,
}

impl Form {
    pub(super) const HINT: &'static str =
        "use application/json, application/xml, text/xml, text/html or text/plain";

    /// By the content type.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim_ascii();
        match kind {
            "application/json" | "text/plain" | "text/html" => Some(Self::Json),
            "application/xml" | "text/xml" => Some(Self::Xml),
            _ => None,
        }
    }

    /// Appends data that fits.
    pub(super) fn write(self, mock: &Mock, random: &mut fastrand::Rng, out: &mut Vec<u8>) {
        match self {
            Self::Json => write_json(mock, random, out),
            Self::Xml => write_element("data", mock, random, out),
        }
    }
}

fn write_json(mock: &Mock, random: &mut fastrand::Rng, out: &mut Vec<u8>) {
    match mock {
        Mock::Array(item) => {
            out.push(b'[');
            for at in 0..random.usize(1..=3) {
                if at > 0 {
                    out.push(b',');
                }
                write_json(item, random, out);
            }
            out.push(b']');
        }
        Mock::Object(members) => {
            out.push(b'{');
            for (at, (name, value)) in members.iter().enumerate() {
                // Names need no escapes: see `members`.
                let comma = if at > 0 { "," } else { "" };
                let _ = write!(out, "{comma}\"{name}\":");
                write_json(value, random, out);
            }
            out.push(b'}');
        }
        // Writing to a vector can't fail.
        Mock::Text(Some(example)) => drop(serde_json::to_writer(out, example)),
        Mock::Text(None) => {
            out.push(b'"');
            write_scalar(mock, random, out);
            out.push(b'"');
        }
        _ => write_scalar(mock, random, out),
    }
}

/// An element; of an array one for each item.
fn write_element(name: &str, mock: &Mock, random: &mut fastrand::Rng, out: &mut Vec<u8>) {
    if let Mock::Array(item) = mock {
        for _ in 0..random.usize(1..=3) {
            write_element(name, item, random, out);
        }
        return;
    }
    let _ = write!(out, "<{name}>");
    match mock {
        Mock::Object(members) => {
            for (name, value) in members {
                write_element(name, value, random, out);
            }
        }
        Mock::Text(Some(example)) => write_xml_text(example, out),
        _ => write_scalar(mock, random, out),
    }
    let _ = write!(out, "</{name}>");
}

fn write_xml_text(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            byte => out.push(byte),
        }
    }
}

/// A value without parts: its example, or a random one.
fn write_scalar(mock: &Mock, random: &mut fastrand::Rng, out: &mut Vec<u8>) {
    // Writing to a vector can't fail.
    let _ = match mock {
        Mock::Text(Some(text)) => out.write_all(text.as_bytes()),
        Mock::Text(None) => {
            let length = random.usize(1..=10);
            out.extend((0..length).map(|_| random.u8(b'a'..=b'z')));
            Ok(())
        }
        Mock::Number(example) => {
            let number = example.unwrap_or_else(|| random.f64() * 10_000.0);
            write!(out, "{number:?}")
        }
        Mock::Integer(example) => {
            let number = example.unwrap_or_else(|| random.i64(1..=10_000));
            write!(out, "{number}")
        }
        Mock::Boolean(example) => {
            let value = example.unwrap_or_else(|| random.bool());
            write!(out, "{value}")
        }
        Mock::Array(_) | Mock::Object(_) => Ok(()),
    };
}
