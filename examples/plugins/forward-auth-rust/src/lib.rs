//! Asks a service of yours whether a request may pass, and waits for its answer.
//!
//! A 2xx of the service lets the request pass, with headers of that answer added to it. Any other
//! answer goes to the client in place of the upstream's.

mod settings;

use std::rc::Rc;

use log::error;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, LogLevel};

use settings::Settings;

proxy_wasm::main! {{
    // Also installs the hook that logs a panic's message before the module traps.
    proxy_wasm::set_log_level(LogLevel::Error);
    proxy_wasm::set_root_context(|_| Box::new(Root { settings: None }));
}}

/// One configuration, shared by the streams made under it.
struct Root {
    settings: Option<Rc<Settings>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match Settings::parse(&self.get_plugin_configuration().unwrap_or_default()) {
            Ok(settings) => {
                self.settings = Some(Rc::new(settings));
                true
            }
            Err(problem) => {
                error!("forward-auth: {problem}");
                false
            }
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let settings = Rc::clone(self.settings.as_ref()?);
        Some(Box::new(Stream { settings }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    settings: Rc<Settings>,
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let question = self.question();
        let headers = question.iter().map(|(name, value)| (*name, value.as_str()));
        let settings = &self.settings;
        // The answer comes to on_http_call_response below: the SDK knows which stream has asked.
        let asked = self.dispatch_http_call(
            &settings.upstream,
            headers.collect(),
            None,
            Vec::new(),
            settings.timeout,
        );
        match asked {
            Ok(_token) => Action::Pause,
            Err(status) => {
                error!("forward-auth: {} can't be asked: {status:?}", settings.upstream);
                self.without_an_answer()
            }
        }
    }
}

impl Context for Stream {
    fn on_http_call_response(
        &mut self,
        _token: u32,
        headers: usize,
        body: usize,
        _trailers: usize,
    ) {
        // A call that failed has no headers at all, not even a status.
        let answer =
            if headers == 0 { Vec::new() } else { self.get_http_call_response_headers_bytes() };
        let status = answer.iter().find(|(name, _)| name == ":status");
        let status = status.and_then(|(_, value)| str::from_utf8(value).ok()?.parse::<u32>().ok());
        match status {
            None => {
                error!("forward-auth: {} gave no answer in time", self.settings.upstream);
                if self.without_an_answer() == Action::Continue {
                    self.resume_http_request();
                }
            }
            Some(200..=299) => {
                self.let_pass(&answer);
                self.resume_http_request();
            }
            Some(status) => self.refuse(status, &answer, body),
        }
    }
}

impl Stream {
    /// The request to the service: what the client asked for, and the headers chosen.
    fn question(&self) -> Vec<(&str, String)> {
        let settings = &self.settings;
        let own = |name| text(self.get_http_request_header_bytes(name).unwrap_or_default());
        let mut fields = vec![
            (":method", settings.method.clone()),
            (":path", settings.path.clone()),
            (":authority", settings.authority.clone()),
            (":scheme", "http".to_owned()),
            // Set here and not copied, so that no client decides what the service believes.
            ("x-forwarded-proto", own(":scheme")),
            ("x-forwarded-method", own(":method")),
            ("x-forwarded-host", own(":authority")),
            ("x-forwarded-uri", own(":path")),
            ("x-forwarded-for", self.client()),
        ];
        for name in settings.request_headers.iter().filter(|name| !is_forwarded(name)) {
            if let Some(value) = self.get_http_request_header_bytes(name) {
                fields.push((name, text(value)));
            }
        }
        fields
    }

    /// The client's address, without its port.
    fn client(&self) -> String {
        let address = text(self.get_property(vec!["source", "address"]).unwrap_or_default());
        address.rsplit_once(':').map_or(address.as_str(), |(host, _port)| host).to_owned()
    }

    /// Puts the answer's headers into the request. One that the answer does not have is removed: only
    /// the service may make the upstream believe it.
    fn let_pass(&self, answer: &[(String, Bytes)]) {
        for name in &self.settings.upstream_headers {
            self.set_http_request_header(name, None);
            for (_, value) in answer.iter().filter(|(given, _)| given == name) {
                self.add_http_request_header_bytes(name, value);
            }
        }
    }

    fn refuse(&self, status: u32, answer: &[(String, Bytes)], body_size: usize) {
        let body = self.get_http_call_response_body(0, body_size).unwrap_or_default();
        let chosen = &self.settings.client_headers;
        // The body is the service's, so its type is too.
        let told = |name: &String| name == "content-type" || chosen.contains(name);
        let headers = answer.iter().filter(|(name, _)| told(name));
        let headers: Vec<_> = headers.map(|(name, value)| (name, text(value.clone()))).collect();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.send_http_response(status, headers, Some(&body));
    }

    /// What to do where the service said nothing.
    fn without_an_answer(&self) -> Action {
        let Some(status) = self.settings.status_on_error else { return Action::Continue };
        self.send_http_response(status, Vec::new(), None);
        Action::Pause
    }
}

/// Headers the plugin sets itself.
fn is_forwarded(name: &str) -> bool {
    name.starts_with("x-forwarded-")
}

/// The SDK sends text only. A value that is none would come to the service in another form than to
/// the upstream, but visibly so.
fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
