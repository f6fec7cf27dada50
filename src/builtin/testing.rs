//! What the tests of all plugins stand on.

use crate::http::BodyLength;
use crate::plugin::{Action, Hold, Hooks, Locals, Message, Plugin, Stream};
use crate::schema::{Path, Problems, Reader, validate};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

type Schemas = Vec<(&'static str, Value, Option<Value>)>;
type Made = Option<Arc<dyn Plugin>>;

/// Reads a configuration that stands at `p`.
fn try_plugin(
    read: impl Fn(Reader<'_>) -> Made,
    conf: &Value,
) -> Result<Arc<dyn Plugin>, Vec<String>> {
    let problems = Problems::new();
    let plugin = read(Reader::new(conf, Path::root().key("p"), &problems));
    let (errors, _) = problems.into_parts();
    match plugin {
        Some(plugin) if errors.is_empty() => Ok(plugin),
        _ => Err(errors.iter().map(|p| format!("{}: {}", p.at, p.message)).collect()),
    }
}

/// Reads a good configuration.
#[track_caller]
pub(super) fn plugin(read: impl Fn(Reader<'_>) -> Made, conf: &Value) -> Arc<dyn Plugin> {
    let plugin = try_plugin(read, conf).unwrap_or_else(|errors| panic!("{conf}: {errors:?}"));
    assert_eq!(misfit(plugin.name(), conf), None, "{conf}");
    plugin
}

/// What a plugin's schema has against a configuration.
fn misfit(name: &str, conf: &Value) -> Option<String> {
    static SCHEMAS: LazyLock<Schemas> = LazyLock::new(super::schemas);
    let (_, schema, _) = SCHEMAS.iter().find(|(native, ..)| *native == name)?;
    validate::misfit(conf, schema, schema)
}

/// Reads a wrong configuration: some error begins like this.
#[track_caller]
pub(super) fn refused(read: impl Fn(Reader<'_>) -> Made, conf: &Value, start: &str) {
    let errors = try_plugin(read, conf).expect_err(&conf.to_string());
    assert!(errors.iter().any(|error| error.starts_with(start)), "{conf}: {errors:?}");
}

/// A request from 127.0.0.1 to a.example; its path is decoded, nothing more.
pub(super) fn request(method: &str, target: &str) -> Box<Message> {
    let mut message = Box::<Message>::default();
    message.connection.peer = ([127, 0, 0, 1], 4000).into();
    message.started_ns = 1_784_678_400_000_000_000;
    message.request.method = method.as_bytes().to_vec();
    message.request.target = target.as_bytes().to_vec();
    let path = target.split('?').next().unwrap_or_default();
    message.request.path = crate::http::uri::percent_decode(path.as_bytes()).into_owned();
    message.request.authority = b"a.example".to_vec();
    message
}

/// One exchange of a plugin, callback by callback.
pub(super) struct Run<'a> {
    pub(super) plugin: &'a dyn Plugin,
    pub(super) message: Box<Message>,
    pub(super) locals: Locals,
    state: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(plugin: &'a dyn Plugin, message: Box<Message>) -> Self {
        let mut locals = Locals::new(0);
        locals.random.seed(7);
        Self { plugin, message, locals, state: 0 }
    }

    fn stream(&mut self) -> Stream<'_> {
        Stream {
            message: &mut self.message,
            state: &mut self.state,
            locals: &mut self.locals,
            key: None,
        }
    }

    pub(super) fn request_headers(&mut self) -> Action {
        self.plugin.on_request_headers(&mut self.stream(), true)
    }

    pub(super) fn request_headers_before_a_body(&mut self) -> Action {
        self.plugin.on_request_headers(&mut self.stream(), false)
    }

    pub(super) fn request_body(&mut self) -> Action {
        self.plugin.on_request_body(&mut self.stream(), false)
    }

    pub(super) fn response_headers(&mut self) -> Action {
        self.plugin.on_response_headers(&mut self.stream(), false)
    }

    pub(super) fn response_body(&mut self, end_of_stream: bool) -> Action {
        self.plugin.on_response_body(&mut self.stream(), end_of_stream)
    }

    pub(super) fn due(&mut self) -> Action {
        self.plugin.on_due(&mut self.stream())
    }

    /// Response headers with the body's pieces; gives what goes out of the body. A piece that is
    /// held comes back before the next one.
    pub(super) fn response(&mut self, pieces: &[&str]) -> String {
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        self.message.response.body = match bytes {
            0 => BodyLength::None,
            bytes => BodyLength::Known(bytes as u64),
        };
        let out = self.pass_response(pieces, false);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The same with trailers behind the body, so that no piece is called its last.
    pub(super) fn response_with_trailers(&mut self, pieces: &[&str]) -> String {
        self.message.response.body = BodyLength::Chunked;
        let out = self.pass_response(pieces, true);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn pass_response(&mut self, pieces: &[&str], trailers: bool) -> Vec<u8> {
        self.message.apply_response_fields();
        let (plugin, hooks) = (self.plugin, self.plugin.hooks());
        let end = self.message.response.body == BodyLength::None;
        if hooks.has(Hooks::RESPONSE_HEADERS) {
            assert_eq!(plugin.on_response_headers(&mut self.stream(), end), Action::Continue);
        }
        if !hooks.has(Hooks::RESPONSE_BODY) {
            return pieces.concat().into_bytes();
        }
        let made = self.message.response.body != BodyLength::None;
        let pieces = if end && made { &[""][..] } else { pieces };
        let (mut out, mut held) = (Vec::new(), Vec::new());
        for (at, piece) in pieces.iter().enumerate() {
            self.message.body = [&held[..], piece.as_bytes()].concat();
            held.clear();
            let last = at + 1 == pieces.len() && !trailers;
            match plugin.on_response_body(&mut self.stream(), last) {
                Action::Continue => out.append(&mut self.message.body),
                Action::Pause(_) => held = std::mem::take(&mut self.message.body),
                action => panic!("{action:?}"),
            }
        }
        if trailers {
            self.message.body = held;
            assert_eq!(plugin.on_response_trailers(&mut self.stream()), Action::Continue);
            out.append(&mut self.message.body);
        }
        out
    }

    pub(super) fn log(&mut self) {
        self.plugin.on_log(&mut self.stream());
    }

    /// What the plugin answered: status and body; an empty text for the gateway's page.
    pub(super) fn answer(&self) -> (u16, String) {
        answer(&self.message)
    }
}

/// The local response's status and body.
pub(super) fn answer(message: &Message) -> (u16, String) {
    let body = message.local.body.as_deref().unwrap_or_default();
    (message.local.status, String::from_utf8_lossy(body).into_owned())
}

/// A field of the local response.
pub(super) fn local_field(message: &Message, name: &str) -> Option<String> {
    let value = message.local.headers.get(name.as_bytes())?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// A field of the response.
pub(super) fn response_field(message: &Message, name: &str) -> Option<String> {
    let value = message.response.headers.get(name.as_bytes())?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Runs the request's headers callback; sleeps pass at once.
pub(super) fn run(plugin: &dyn Plugin, message: &mut Box<Message>) -> Action {
    let mut run = Run::new(plugin, std::mem::take(message));
    let action = match run.request_headers() {
        Action::Pause(Hold::Sleep(_)) => run.due(),
        action => action,
    };
    *message = run.message;
    action
}
