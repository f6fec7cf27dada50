//! Answers a share of the requests with a fixed response instead of letting them reach the upstream.

mod random;
mod settings;

use std::rc::Rc;

use log::error;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use random::Random;
use settings::Settings;

proxy_wasm::main! {{
    // Also installs the hook that logs a panic's message before the module traps.
    proxy_wasm::set_log_level(LogLevel::Error);
    proxy_wasm::set_root_context(|_| Box::new(Root { fault: None }));
}}

/// One configuration. The streams made under it share its fault and copy nothing.
struct Root {
    fault: Option<Rc<Fault>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match Settings::parse(&self.get_plugin_configuration().unwrap_or_default()) {
            Ok(settings) => {
                self.fault = Some(Rc::new(Fault::new(settings)));
                true
            }
            Err(problem) => {
                error!("fault-injection: {problem}");
                false
            }
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let fault = Rc::clone(self.fault.as_ref()?);
        Some(Box::new(Stream { fault }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    fault: Rc<Fault>,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        if !self.fault.fires() {
            return Action::Continue;
        }
        self.send_http_response(self.fault.status, Vec::new(), Some(&self.fault.body));
        Action::Pause
    }
}

struct Fault {
    status: u32,
    body: Vec<u8>,
    chance: Chance,
}

enum Chance {
    Never,
    Always,
    Percent(u32, Random),
}

impl Fault {
    fn new(Settings { http_status: status, body, percentage }: Settings) -> Self {
        let chance = match percentage {
            0 => Chance::Never,
            100 => Chance::Always,
            percentage => Chance::Percent(percentage, Random::new()),
        };
        Self { status, body: body.into_bytes(), chance }
    }

    fn fires(&self) -> bool {
        match &self.chance {
            Chance::Never => false,
            Chance::Always => true,
            Chance::Percent(percentage, random) => random.below(100) < *percentage,
        }
    }
}
