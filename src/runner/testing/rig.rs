//! A plugin of this room with a message and a worker's own things, and no worker.

use crate::plugin::{
    Action, Errand, Locals, Mailbox, Message, Plugin, ReplyTo, RequestFacts, ResponseSource,
    RunnerLife, RunnerPlace, RunnerTalk, Services, Stream, StreamKey,
};
use crate::plugin::{Loaded, Loader, RunnerLink, TalkFailure};
use crate::runner::{Frame, Kind, Runners, first_frame};
use crate::schema::{Path, Problems, Reader};
use serde_json::Value;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// Letters, as they were posted.
#[derive(Debug, Default)]
struct Box_(Mutex<Vec<ReplyTo>>);

impl Mailbox for Box_ {
    fn post(&self, to: ReplyTo) {
        self.0.lock().expect("one thread").push(to);
    }
}

pub(crate) fn place(name: &str) -> Arc<RunnerPlace> {
    Arc::new(RunnerPlace {
        name: name.to_owned(),
        socket: "/nowhere/runner.sock".into(),
        connections_max: 4,
        queue_max: 4,
        call_ms: 1000,
        start_ms: 0,
        life: RunnerLife::default(),
    })
}

pub(crate) fn load(runners: &mut Runners, name: &str, conf: &Value) -> Option<Loaded> {
    let problems = Problems::new();
    let at = Path::root().key("routes").index(0).key("plugins").key(name);
    let loaded = runners.load(name, Reader::new(conf, at, &problems));
    assert_eq!(loaded.is_some(), problems.is_ok());
    loaded
}

/// One worker.
pub(crate) struct Desk {
    pub(crate) locals: Locals,
    letters: Arc<Box_>,
    /// Seats of cases that are over: one is for as long as the worker runs.
    seats: RefCell<Vec<u32>>,
}

impl Desk {
    pub(crate) fn new(plugin: &dyn Plugin) -> Self {
        let letters = Arc::new(Box_::default());
        let services = Services::new(Arc::clone(&letters) as Arc<dyn Mailbox>);
        let mut locals = Locals::with_services(3, services);
        plugin.prepare(&mut locals).expect("it can always run");
        Self { locals, letters, seats: RefCell::default() }
    }

    /// The only talk that plugins asked the worker to carry.
    pub(crate) fn talk(&self) -> Option<Box<RunnerTalk>> {
        let mut errands = Vec::new();
        self.locals.services.take_errands(&mut errands);
        let mut talks = errands.into_iter().filter_map(|errand| match errand {
            Errand::RunnerSend(talk) => Some(talk),
            _ => None,
        });
        let talk = talks.next();
        assert!(talks.next().is_none(), "one talk at a time");
        talk
    }

    /// The talk, and the kind of the frame it is to send.
    pub(crate) fn sends(&self, kind: Kind) -> Box<RunnerTalk> {
        let talk = self.talk().expect("a talk");
        assert!(matches!(first_frame(&talk.out), Frame::Whole { kind: k, .. } if k == kind as u8));
        talk
    }

    /// Whatever plugins asked for is not done.
    pub(crate) fn forget_errands(&self) {
        self.locals.services.take_errands(&mut Vec::new());
        self.letters.0.lock().expect("one thread").clear();
    }

    /// Whether a connection was given back.
    pub(crate) fn releases(&self) -> bool {
        let mut errands = Vec::new();
        self.locals.services.take_errands(&mut errands);
        matches!(errands[..], [Errand::RunnerRelease(_)])
    }

    /// Delivers letters.
    pub(crate) fn deliver(&mut self) {
        for to in std::mem::take(&mut *self.letters.0.lock().expect("one thread")) {
            let root = to.root.upgrade().expect("the desk is there");
            root.on_post(to.id, &mut self.locals);
        }
    }
}

/// One exchange with one plugin in its chain.
pub(crate) struct Case {
    pub(crate) plugin: Arc<dyn Plugin>,
    pub(crate) message: Box<Message>,
    pub(crate) key: StreamKey,
    seat: u32,
    state: u64,
}

impl Case {
    pub(crate) fn new(plugin: &Arc<dyn Plugin>, desk: &Desk) -> Self {
        let waiting = &desk.locals.services.waiting;
        let seat = desk.seats.borrow_mut().pop().unwrap_or_else(|| waiting.new_seat());
        let key = waiting.sit(seat);
        let mut message = Box::new(Message::default());
        message.request.method = b"GET".to_vec();
        message.request.target = b"/hello?a=1&b=2".to_vec();
        message.request.path = b"/hello".to_vec();
        message.request.authority = b"test.local".to_vec();
        assert_eq!(message.status(), None);
        Self { plugin: Arc::clone(plugin), message, key, seat, state: 0 }
    }

    /// As if the upstream had answered.
    pub(crate) fn answered(mut self, status: u16, body: crate::http::BodyLength) -> Self {
        self.message.response.status = status;
        self.message.response.source = ResponseSource::Upstream;
        self.message.response.body = body;
        self.message.response.headers.append(b"Content-Type", b"text/plain");
        self.message.response.headers.append(b"Content-Encoding", b"gzip");
        self.message.response.headers.append(b"X-Old", b"1");
        self
    }

    pub(crate) fn call<T>(
        &mut self,
        desk: &mut Desk,
        callback: impl FnOnce(&dyn Plugin, &mut Stream<'_>) -> T,
    ) -> T {
        let (state, locals) = (&mut self.state, &mut desk.locals);
        let message = &mut self.message;
        callback(&*self.plugin, &mut Stream { message, state, locals, key: Some(self.key) })
    }

    pub(crate) fn request(&mut self, desk: &mut Desk) -> Action {
        self.call(desk, |plugin, stream| plugin.on_request_headers(stream, true))
    }

    pub(crate) fn response(&mut self, desk: &mut Desk) -> Action {
        self.call(desk, |plugin, stream| plugin.on_response_headers(stream, false))
    }

    pub(crate) fn over(&mut self, desk: &mut Desk) {
        self.call(desk, |plugin, stream| plugin.on_log(stream));
        desk.locals.services.waiting.leave(self.key);
        desk.seats.borrow_mut().push(self.seat);
    }

    /// The runner answers.
    pub(crate) fn frame(
        &mut self,
        desk: &mut Desk,
        mut talk: Box<RunnerTalk>,
        kind: Kind,
        payload: &[u8],
    ) -> Action {
        talk.kind = kind as u8;
        talk.payload = payload.to_vec();
        talk.link.get_or_insert_with(|| RunnerLink(Rc::new(())));
        self.call(desk, |plugin, stream| plugin.on_reply(stream, talk))
    }

    /// The worker could not.
    pub(crate) fn failed(
        &mut self,
        desk: &mut Desk,
        mut talk: Box<RunnerTalk>,
        failure: TalkFailure,
    ) -> Action {
        talk.failure = Some(failure);
        self.call(desk, |plugin, stream| plugin.on_reply(stream, talk))
    }

    /// Whatever was asked in this exchange's name.
    pub(crate) fn woken(&mut self, desk: &mut Desk) -> Option<Action> {
        let (_, ask) = desk.locals.services.waiting.take_ask(self.key)?;
        let crate::plugin::Ask::Reply(reply) = ask else { panic!("a reply") };
        Some(self.call(desk, |plugin, stream| plugin.on_reply(stream, reply)))
    }
}
