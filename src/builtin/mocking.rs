//! `mocking`: answers as the API would that is not there yet.
//!
//! As APISIX's plugin of that name (`apisix/plugins/mocking.lua`): an example with variables in it,
//! or random data by a JSON Schema. `x-mock-by` names ringgate.

use super::fields::{self, FieldTemplate, read_fields};
use crate::expr::Template;
use crate::http::is_field_value;
use crate::limits;
use crate::plugin::{
    Action, Hold, Hooks, LocalResponse, Message, Plugin, Stream, compile_template,
};
use crate::schema::{Fault, Reader};
use std::sync::Arc;

mod mock;

use mock::{Form, Mock};

pub(super) const NAME: &str = "mocking";

const MOCK_BY: &str = concat!("ringgate/", env!("CARGO_PKG_VERSION"));

#[derive(Debug)]
struct Mocking {
    delay_ms: u64,
    status: u16,
    content_type: Vec<u8>,
    body: Body,
    mark: bool,
    fields: Vec<FieldTemplate>,
}

#[derive(Debug)]
enum Body {
    Example(Template),
    Random(Form, Mock),
}

impl Plugin for Mocking {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn only_response(&self) -> Option<LocalResponse> {
        let Body::Example(example) = &self.body else { return None };
        let body = example.as_static().filter(|_| self.delay_ms == 0)?;
        let mut response = LocalResponse { status: self.status, ..LocalResponse::default() };
        response.headers.set(b"Content-Type", &self.content_type);
        if self.mark {
            response.headers.set(b"x-mock-by", MOCK_BY.as_bytes());
        }
        for (name, value) in &self.fields {
            response.headers.set(name, value.as_static()?);
        }
        response.body = Some(body.to_vec());
        Some(response)
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        match self.delay_ms {
            0 => self.on_due(stream),
            ms => Action::Pause(Hold::Sleep(ms)),
        }
    }

    fn on_due(&self, stream: &mut Stream<'_>) -> Action {
        let Stream { message, locals, .. } = stream;
        let message: &mut Message = message;
        let body = &mut locals.scratch;
        body.clear();
        match &self.body {
            Body::Example(example) => {
                example.render(&*message, body);
            }
            Body::Random(form, mock) => form.write(mock, &mut locals.random, body),
        }
        message.respond(self.status, Some(body));
        message.local.headers.set(b"Content-Type", &self.content_type);
        if self.mark {
            message.local.headers.set(b"x-mock-by", MOCK_BY.as_bytes());
        }
        for (name, value) in &self.fields {
            fields::render(value, &*message, &mut locals.scratch);
            message.local.headers.set(name, &locals.scratch);
        }
        Action::Respond
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    if !object.has("response_example") && !object.has("response_schema") {
        object.error("expected `response_example` or `response_schema`");
    }
    let delay = object.integer("delay", 0..=(limits::DELAY_MS_MAX / 1000) as i64).unwrap_or(0);
    let status = object.integer("response_status", 200..=999).unwrap_or(200) as u16;
    let content_type = object.get("content_type");
    let text = match &content_type {
        Some(reader) => reader.string(0..=usize::MAX)?,
        None => "application/json;charset=utf8",
    };
    let form = Form::of(text);
    if form.is_none() || !is_field_value(text.as_bytes()) {
        let at = content_type.as_ref()?;
        at.error(Fault::new("unsupported content type!").hint(Form::HINT));
    }
    let example = object
        .get("response_example")
        .and_then(|reader| Some(compile_template(reader.string(0..=usize::MAX)?, &reader)));
    let schema = object.get("response_schema").and_then(|reader| Mock::read(&reader));
    let fields = object.get("response_headers").and_then(read_fields).unwrap_or_default();
    let mark = object.boolean("with_mock_header").unwrap_or(true);
    object.allow_unknown();
    let body = match example {
        Some(example) => Body::Example(example),
        None => Body::Random(form?, schema?),
    };
    let delay_ms = delay as u64 * 1000;
    let content_type = text.as_bytes().to_vec();
    Some(Arc::new(Mocking { delay_ms, status, content_type, body, mark, fields }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{Run, local_field, plugin, refused, request};
    use serde_json::{Value, json};

    fn schema() -> Value {
        json!({ "type": "object", "properties": {
            "field0": { "type": "string", "example": "a\"b<c" },
            "field1": { "type": "number", "example": 123.12 },
            "field2": { "type": "array", "items": { "type": "string" } },
            "field3": { "type": "object", "properties": {
                "inner": { "type": "object", "properties": {
                    "flag": { "type": "boolean", "example": true },
                    "list": { "type": "array", "items": { "type": "integer", "example": 155.55 } },
                } },
            } },
            "n": { "type": "integer" },
            "x": { "type": "number" },
            "none": { "type": "array" },
        } })
    }

    #[test]
    fn examples_have_variables() {
        let conf = json!({
            "delay": 1, "response_status": 201, "content_type": "text/plain",
            "response_example": "$remote_addr $arg_a\n",
            "response_headers": { "X-Foo": "bar", "X-Uri": "$uri" },
        });
        let plugin = plugin(read, &conf);
        assert!(plugin.only_response().is_none());
        let mut run = Run::new(&*plugin, request("GET", "/b?a=1"));
        assert_eq!(run.request_headers(), Action::Pause(Hold::Sleep(1000)));
        assert_eq!(run.due(), Action::Respond);
        assert_eq!(run.answer(), (201, "127.0.0.1 1\n".to_owned()));
        for (name, value) in [
            ("content-type", Some("text/plain")),
            ("x-mock-by", Some(MOCK_BY)),
            ("x-foo", Some("bar")),
            ("x-uri", Some("/b")),
        ] {
            assert_eq!(local_field(&run.message, name).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn plain_examples_are_prepared() {
        let conf = json!({ "response_example": "{}", "with_mock_header": false });
        let response = plugin(read, &conf).only_response().expect("prepared");
        assert_eq!((response.status, response.body.as_deref()), (200, Some(&b"{}"[..])));
        assert_eq!(response.headers.len(), 1);
        let conf = json!({ "response_example": "$uri" });
        assert!(plugin(read, &conf).only_response().is_none());
    }

    #[test]
    fn random_json_fits_the_schema() {
        let plugin = plugin(read, &json!({ "response_schema": schema() }));
        let mut run = Run::new(&*plugin, request("GET", "/"));
        for _ in 0..50 {
            assert_eq!(run.request_headers(), Action::Respond);
            let value: Value = serde_json::from_str(&run.answer().1).expect("JSON");
            assert_eq!((&value["field0"], &value["field1"]), (&json!("a\"b<c"), &json!(123.12)));
            assert_eq!(value["field3"]["inner"]["flag"], true);
            let list = value["field3"]["inner"]["list"].as_array().expect("a list");
            assert!((1..=3).contains(&list.len()) && list.iter().all(|n| *n == 155));
            let words = value["field2"].as_array().expect("a list");
            let is_word = |word: &Value| word.as_str().is_some_and(|w| (1..=10).contains(&w.len()));
            assert!((1..=3).contains(&words.len()) && words.iter().all(is_word));
            assert!(value["n"].as_u64().is_some_and(|n| (1..=10_000).contains(&n)));
            assert!(value["x"].is_f64() && value.get("none").is_none());
        }
    }

    #[test]
    fn random_xml() {
        let conf = json!({ "response_schema": schema(), "content_type": "text/xml" });
        let plugin = plugin(read, &conf);
        let mut run = Run::new(&*plugin, request("GET", "/"));
        assert_eq!(run.request_headers(), Action::Respond);
        let text = run.answer().1;
        assert!(text.starts_with("<data>") && text.ends_with("</data>"), "{text}");
        assert!(text.contains("<field0>a&quot;b&lt;c</field0><field1>123.12</field1><field2>"));
        assert!(text.contains("<inner><flag>true</flag><list>155</list>"), "{text}");
    }

    #[test]
    fn configurations_refused() {
        let schema = |schema: Value| json!({ "response_schema": schema });
        for (conf, start) in [
            (json!({}), "p: expected `response_example` or `response_schema`"),
            (json!({ "response_example": "", "delay": -1 }), "p.delay: "),
            (json!({ "response_example": "", "response_status": 100 }), "p.response_status: "),
            (
                json!({ "response_example": "", "content_type": "image/png" }),
                "p.content_type: unsupported content type!",
            ),
            (schema(json!([])), "p.response_schema: "),
            (
                schema(json!({ "properties": { "a": { "type": "nul" } } })),
                "p.response_schema.properties.a.type: ",
            ),
            (
                schema(json!({ "properties": { "a": {} } })),
                "p.response_schema.properties.a: missing key `type`",
            ),
            (
                schema(json!({ "properties": { "<a>": { "type": "string" } } })),
                "p.response_schema.properties.<a>: ",
            ),
        ] {
            refused(read, &conf, start);
        }
    }
}
