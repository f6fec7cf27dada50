//! Removes, sets and adds headers of the request before it goes upstream, and of the response before it
//! goes back.

mod settings;

use std::rc::Rc;

use log::error;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

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
                error!("header: {problem}");
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

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let edits = &self.settings.request;
        for name in &edits.remove {
            self.set_http_request_header(name, None);
        }
        for (name, value) in &edits.set {
            self.set_http_request_header(name, Some(value));
        }
        for (name, value) in &edits.add {
            self.add_http_request_header(name, value);
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let edits = &self.settings.response;
        for name in &edits.remove {
            self.set_http_response_header(name, None);
        }
        for (name, value) in &edits.set {
            self.set_http_response_header(name, Some(value));
        }
        for (name, value) in &edits.add {
            self.add_http_response_header(name, value);
        }
        Action::Continue
    }
}
