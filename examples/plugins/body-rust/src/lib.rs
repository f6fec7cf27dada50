//! Replaces a text by another in the request body and in the response body.
//!
//! A text may lie across two chunks, so the body is held back until it is complete and edited as a whole.

mod settings;

use std::rc::Rc;

use log::error;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use settings::{Replacement, Settings};

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
                error!("body: {problem}");
                false
            }
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let settings = Rc::clone(self.settings.as_ref()?);
        Some(Box::new(Stream { settings, request_held: 0, response_held: 0 }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    settings: Rc<Settings>,
    /// Bytes of the request body held back so far.
    request_held: usize,
    /// Bytes of the response body held back so far.
    response_held: usize,
}

impl Stream {
    fn edit_request(&self, rule: &Replacement, size: usize) {
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        if let Some(edited) = rule.apply(&body) {
            self.set_http_request_body(0, size, &edited);
        }
    }

    fn edit_response(&self, rule: &Replacement, size: usize) {
        let body = self.get_http_response_body(0, size).unwrap_or_default();
        if let Some(edited) = rule.apply(&body) {
            self.set_http_response_body(0, size, &edited);
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        if self.settings.response.is_some() {
            // No text can be found in a compressed response.
            self.set_http_request_header("accept-encoding", None);
        }
        if !end_of_stream && self.settings.request.as_ref().is_some_and(Replacement::resizes) {
            self.set_http_request_header("content-length", None);
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let Some(rule) = &self.settings.request else { return Action::Continue };
        if end_of_stream {
            self.edit_request(rule, size);
            return Action::Continue;
        }
        self.request_held = size;
        Action::Pause
    }

    /// With trailers, no chunk of the body is its last: it is complete now.
    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        if let Some(rule) = self.settings.request.as_ref().filter(|_| self.request_held > 0) {
            self.edit_request(rule, self.request_held);
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        if !end_of_stream && self.settings.response.as_ref().is_some_and(Replacement::resizes) {
            self.set_http_response_header("content-length", None);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let Some(rule) = &self.settings.response else { return Action::Continue };
        if end_of_stream {
            self.edit_response(rule, size);
            return Action::Continue;
        }
        self.response_held = size;
        Action::Pause
    }

    fn on_http_response_trailers(&mut self, _trailers: usize) -> Action {
        if let Some(rule) = self.settings.response.as_ref().filter(|_| self.response_held > 0) {
            self.edit_response(rule, self.response_held);
        }
        Action::Continue
    }
}
