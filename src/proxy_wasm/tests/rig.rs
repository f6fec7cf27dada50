//! One worker, one plugin, one exchange a time; guests as text.

use super::super::{Error, Host, Node, PluginSettings, Plugins, Source, pool};
use crate::plugin::{
    Action, Ask, Errand, Locals, Mailbox, Message, Plugin, PropertyTraits, ReplyTo, ResponseSource,
    Services, Stream, StreamKey,
};
use crate::vm::{Engine, EngineSettings, Join, Module};
use serde_json::json;
use std::cell::RefCell;
use std::sync::{Arc, LazyLock, Mutex, Once};
use std::task::Waker;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| engine(super::super::JOINS));

/// One whose modules have no joined callbacks.
static APART: LazyLock<Engine> = LazyLock::new(|| engine(&[]));

fn engine(joins: &'static [Join]) -> Engine {
    let settings = EngineSettings { instances_max: 500, joins, ..EngineSettings::default() };
    Engine::new(&settings).expect("engine")
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.target() == "wasm" {
            LINES.with_borrow_mut(|lines| {
                lines.push(format!("{} {}", record.level(), record.args()));
            });
        }
    }
    fn flush(&self) {}
}

/// What this thread's guests and their host have logged since the last time.
pub(super) fn lines() -> Vec<String> {
    LINES.take()
}

pub(super) fn host() -> Host {
    host_on(Node::default())
}

fn host_on(node: Node) -> Host {
    host_with(&ENGINE, node)
}

fn host_with(engine: &Engine, node: Node) -> Host {
    static LOGGER: Once = Once::new();
    LOGGER.call_once(|| {
        log::set_logger(&Lines).expect("the only logger");
        log::set_max_level(log::LevelFilter::Debug);
    });
    Host::on_node(engine.clone(), node)
}

/// Pairs as the ABI encodes them.
pub(super) fn pairs(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::super::pairs::encode(
        || fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())),
        &mut bytes,
    );
    bytes
}

/// The settings of a plugin `p` of that text.
pub(super) fn settings(text: &str) -> PluginSettings {
    PluginSettings::new("p", 0, Source::Bytes(text.as_bytes().into()))
}

pub(super) struct Rig {
    pub(super) host: Host,
    pub(super) plugins: Plugins,
    pub(super) plugin: Arc<dyn Plugin>,
    pub(super) locals: Locals,
    pub(super) message: Box<Message>,
    pub(super) state: u64,
    pub(super) key: StreamKey,
    pub(super) letters: Arc<Letters>,
}

/// Letters that were posted to the worker.
#[derive(Debug, Default)]
pub(super) struct Letters(pub(super) Mutex<Vec<ReplyTo>>);

impl Mailbox for Letters {
    fn post(&self, to: ReplyTo) {
        self.0.lock().expect("one thread").push(to);
    }
}

impl Rig {
    /// A rig for that guest, configured with `c`.
    pub(super) fn new(text: &str) -> Self {
        Self::with(settings(text))
    }

    pub(super) fn with(settings: PluginSettings) -> Self {
        Self::try_with(settings).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    /// The same, in a process that has a place among others.
    pub(super) fn on_node(settings: PluginSettings, node: Node) -> Self {
        let rig = Self::on_host(host_on(node), settings);
        rig.unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    /// The same with callbacks that are called one by one.
    pub(super) fn apart(text: &str) -> Self {
        let rig = Self::on_host(host_with(&APART, Node::default()), settings(text));
        lines();
        rig.unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    pub(super) fn try_with(settings: PluginSettings) -> Result<Self, Vec<Error>> {
        let rig = Self::hearing(settings);
        lines();
        rig
    }

    /// The same, with what was logged while it was made still to be read.
    pub(super) fn hearing(settings: PluginSettings) -> Result<Self, Vec<Error>> {
        Self::on_host(host(), settings)
    }

    fn on_host(host: Host, settings: PluginSettings) -> Result<Self, Vec<Error>> {
        let plugins = host.load(vec![settings])?;
        let plugin = plugins.plugin("p", &json!({"conf": "c"})).map_err(|error| vec![error])?;
        Ok(Self::made(host, plugins, plugin).expect("prepared"))
    }

    /// A rig for a plugin that was loaded and configured.
    pub(super) fn of(
        host: Host,
        plugins: Plugins,
        plugin: Arc<dyn Plugin>,
    ) -> Result<Self, String> {
        let rig = Self::made(host, plugins, plugin);
        lines();
        rig
    }

    fn made(host: Host, plugins: Plugins, plugin: Arc<dyn Plugin>) -> Result<Self, String> {
        let letters = Arc::new(Letters::default());
        let services = Services::new(Arc::clone(&letters) as Arc<dyn Mailbox>);
        services.set_upstreams(Arc::new([(b"auth"[..].into(), 0)].into()));
        let key = services.waiting.sit(services.waiting.new_seat());
        let mut locals = Locals::with_services(0, services);
        plugin.prepare(&mut locals)?;
        Ok(Self { host, plugins, plugin, locals, message: request(), state: 0, key, letters })
    }

    /// Ends the root context and drops its instances, as if no snapshot had the entry any more.
    pub(super) fn end(self) {
        let Self { host: _host, plugins, plugin, mut locals, .. } = self;
        drop((plugins, plugin));
        pool::sweep(&mut locals);
    }

    pub(super) fn stream(&mut self) -> (Arc<dyn Plugin>, Stream<'_>) {
        let (message, state) = (&mut self.message, &mut self.state);
        let (locals, key) = (&mut self.locals, Some(self.key));
        (Arc::clone(&self.plugin), Stream { message, state, locals, key })
    }

    pub(super) fn request_headers(&mut self) -> Action {
        let (plugin, mut stream) = self.stream();
        plugin.on_request_headers(&mut stream, true)
    }

    pub(super) fn request_body(&mut self, bytes: &[u8], end: bool) -> Action {
        self.message.body.extend_from_slice(bytes);
        let (plugin, mut stream) = self.stream();
        plugin.on_request_body(&mut stream, end)
    }

    pub(super) fn request_trailers(&mut self) -> Action {
        let (plugin, mut stream) = self.stream();
        plugin.on_request_trailers(&mut stream)
    }

    pub(super) fn response_headers(&mut self) -> Action {
        self.message.response.status = 200;
        self.message.response.source = ResponseSource::Upstream;
        self.message.response.headers.append(b"Server", b"up");
        let (plugin, mut stream) = self.stream();
        plugin.on_response_headers(&mut stream, false)
    }

    pub(super) fn response_body(&mut self, bytes: &[u8], end: bool) -> Action {
        self.message.body.extend_from_slice(bytes);
        let (plugin, mut stream) = self.stream();
        plugin.on_response_body(&mut stream, end)
    }

    pub(super) fn response_trailers(&mut self) -> Action {
        let (plugin, mut stream) = self.stream();
        plugin.on_response_trailers(&mut stream)
    }

    pub(super) fn due(&mut self) -> Action {
        let (plugin, mut stream) = self.stream();
        plugin.on_due(&mut stream)
    }

    pub(super) fn log(&mut self) {
        let (plugin, mut stream) = self.stream();
        plugin.on_log(&mut stream);
    }

    /// What a guest's `report` kept: the status and the bytes.
    pub(super) fn reported(&mut self) -> (u32, Vec<u8>) {
        let status = self.kept("status").expect("a status was kept");
        let status = u32::from_le_bytes(status.try_into().expect("four bytes"));
        let out = self.kept("out").unwrap_or_default();
        for name in ["status", "out"] {
            self.keep(name, b"");
        }
        (status, out)
    }

    /// What a plugin keeps in the exchange under that name.
    pub(super) fn kept(&self, name: &str) -> Option<Vec<u8>> {
        let property = self.message.filter_state.get(format!("wasm.{name}").as_bytes());
        property.map(|property| property.value.to_vec())
    }

    /// Keeps a value as if a plugin had.
    pub(super) fn keep(&mut self, name: &str, value: &[u8]) {
        let (name, traits) = (format!("wasm.{name}"), PropertyTraits::default());
        self.message.filter_state.set(name.as_bytes(), value, traits).expect("room");
    }

    /// The compiled module of the plugin's entry.
    pub(super) fn plugins_module(&self) -> Module {
        self.plugins.module("p").expect("there is one entry")
    }

    /// What the plugin asked of the worker since the last time.
    pub(super) fn errands(&mut self) -> Vec<Errand> {
        let mut errands = Vec::new();
        self.locals.services.take_errands(&mut errands);
        errands
    }

    /// The exchange waits: its message is where the guest can reach it.
    pub(super) fn park(&mut self) {
        self.locals.services.waiting.park(self.key, &mut self.message, Waker::noop());
    }

    /// It goes on; what was asked of it meanwhile.
    pub(super) fn unpark(&mut self) -> Vec<Ask> {
        let waiting = &self.locals.services.waiting;
        waiting.unpark(self.key, &mut self.message);
        std::iter::from_fn(|| waiting.take_ask(self.key)).map(|(_, ask)| ask).collect()
    }

    /// The next exchange begins.
    pub(super) fn next(&mut self) {
        self.message.clear();
        fill(&mut self.message);
        self.state = 0;
    }

    /// Puts another stream in this one's place; gives the one that was there.
    pub(super) fn switch(&mut self, other: (Box<Message>, u64)) -> (Box<Message>, u64) {
        let message = std::mem::replace(&mut self.message, other.0);
        (message, std::mem::replace(&mut self.state, other.1))
    }
}

pub(super) fn request() -> Box<Message> {
    let mut message = Box::default();
    fill(&mut message);
    message
}

fn fill(message: &mut Message) {
    message.request_number = 42;
    message.request.method.extend_from_slice(b"GET");
    message.request.target.extend_from_slice(b"/a?b=c");
    message.request.path.extend_from_slice(b"/a");
    message.request.authority.extend_from_slice(b"host.example");
    message.request.headers.append(b"User-Agent", b"test");
}
