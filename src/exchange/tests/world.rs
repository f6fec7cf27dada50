//! A client, peers and a clock around one exchange, and the driver between them. Whoever runs it
//! chooses what happens next among what can; every command is checked against the contract.

use super::double::{Asks, Calls, Later, Setup};
use super::script::{ClientScript, Connects, Fate, Link, PART_MS, PARTS, PeerScript, Takes, Then};
use crate::exchange::{Arrival, Command, Cx, Ending, Exchange};
use crate::http::{HeadLimits, RequestHead};
use crate::plugin::{Ask, Connection, Locals, Message, Properties};
use crate::snapshot::Pinned;
use crate::time::HttpDate;
use crate::upstream::Address;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

#[derive(Debug, Default)]
struct Running {
    read_down: bool,
    send_down: Option<Vec<u8>>,
    connect: Option<(Address, bool)>,
    send_up: Option<Vec<u8>>,
    read_up: bool,
    sleep: Option<u64>,
}

/// An operation that can end now, or the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    ReadDown,
    SendDown,
    Connect,
    SendUp,
    ReadUp,
    Asked,
    Clock,
}

pub(super) struct World {
    pub(super) exchange: Exchange,
    pub(super) locals: Locals,
    date: HttpDate,
    client: ClientScript,
    at: usize,
    pub(super) seen: Vec<u8>,
    pub(super) peers: VecDeque<PeerScript>,
    pub(super) links: Vec<Link>,
    running: Running,
    pub(super) ending: Option<Ending>,
    pub(super) calls: Calls,
    asks: Asks,
    pub(super) trace: Option<Vec<String>>,
    pub(super) head: RequestHead,
    pub(super) sends: usize,
    steps: usize,
    began_ms: u64,
    /// Nothing more is sent to the client, and it knows.
    pub(super) client_told: bool,
    /// What plugins keep for the connection.
    pub(super) kept: Properties,
}

impl World {
    pub(super) fn new(client: ClientScript, peers: Vec<PeerScript>) -> Self {
        let mut locals = Locals::new(0);
        locals.now_ms = 1_000;
        Self {
            exchange: Exchange::default(),
            locals,
            date: HttpDate::new(784_111_777),
            at: 0,
            client,
            seen: Vec::new(),
            peers: peers.into(),
            links: Vec::new(),
            running: Running::default(),
            ending: None,
            calls: Calls::default(),
            asks: Asks::default(),
            trace: None,
            head: RequestHead::default(),
            sends: 0,
            steps: 0,
            began_ms: 1_000,
            client_told: false,
            kept: Properties::default(),
        }
    }

    /// Runs the request to its end. `choose(n)` gives a number below `n`.
    pub(super) fn run(&mut self, setup: Setup, choose: &mut dyn FnMut(usize) -> usize) {
        let (pinned, calls, asks) = setup.pin();
        (self.calls, self.asks) = (calls, asks);
        self.begin(&pinned);
        self.drain();
        while self.ending.is_none() {
            self.steps += 1;
            assert!(self.steps < 100_000, "it does not end");
            self.cx(|exchange, cx| exchange.park(Waker::noop(), cx));
            let next = self.next(choose);
            self.note(|| format!("{next:?}"));
            if next == Next::Asked {
                self.ask(choose);
            }
            self.cx(|exchange, cx| exchange.unpark(cx));
            if choose(64) == 32 {
                // A timer looked at too early does no harm.
                self.cx(|exchange, cx| exchange.on_due(cx));
            }
            self.happen(next, choose);
            self.drain();
        }
        assert_eq!(self.cx(|exchange, cx| exchange.poll(cx)), None, "a command after the end");
        let left = self.exchange.take_output();
        if self.ending != Some(Ending::Abort) {
            self.seen.extend_from_slice(&left);
        }
        let open = self.links.iter().any(|link| link.fate == Fate::Open);
        assert!(!open && self.running.connect.is_none(), "a connection was forgotten");
    }

    fn begin(&mut self, pinned: &Rc<Pinned>) {
        let parsed = self.head.parse(&self.client.bytes, HeadLimits::default());
        assert_eq!(parsed, Ok(true), "the client's request must be valid");
        let arrival = Arrival {
            head: &self.head,
            bytes: &self.client.bytes,
            path: b"/",
            route: Some(0).filter(|_| !self.client.bytes.starts_with(b"GET /nowhere")),
            connection: Connection {
                id: 1,
                peer: ([192, 0, 2, 1], 5000).into(),
                local: ([192, 0, 2, 2], 9080).into(),
                proxy: None,
            },
            kept: &self.kept,
            started_ns: 0,
            number: 1,
            closing: false,
        };
        let out = std::mem::take(&mut self.client.gathered);
        let mut cx = Cx { locals: &mut self.locals, date: &self.date };
        self.exchange.begin(pinned, &arrival, out, &mut cx);
        self.at = self.head.len;
    }

    /// How many of the client's bytes were used.
    pub(super) fn used(&self) -> usize {
        self.at
    }

    fn cx<T>(&mut self, f: impl FnOnce(&mut Exchange, &mut Cx<'_>) -> T) -> T {
        f(&mut self.exchange, &mut Cx { locals: &mut self.locals, date: &self.date })
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// Carries out all commands, as the worker does.
    fn drain(&mut self) {
        let mut count = 0;
        while let Some(command) = self.cx(|exchange, cx| exchange.poll(cx)) {
            count += 1;
            assert!(count < 10_000, "commands without end");
            assert_eq!(self.ending, None, "a command after Finish: {command:?}");
            self.note(|| shown(&command));
            self.start(command);
        }
    }

    fn start(&mut self, command: Command) {
        match command {
            Command::ReadDownstream => {
                assert!(!self.running.read_down, "two reads from the client");
                self.running.read_down = true;
                let early = (self.head.len + self.client.early).min(self.client.bytes.len());
                if self.at < early {
                    self.give_down(early - self.at);
                }
            }
            Command::SendDownstream(bytes) => {
                assert!(self.running.send_down.is_none() && !bytes.is_empty());
                self.running.send_down = Some(bytes);
                self.sends += 1;
            }
            Command::Connect { fresh } => {
                let address = self.exchange.peer().expect("a peer was picked").0.clone();
                self.start_connect(address, fresh);
            }
            Command::SendUpstream(bytes) => {
                assert!(self.running.send_up.is_none() && !bytes.is_empty());
                assert!(self.link().is_some(), "a send without a connection");
                self.running.send_up = Some(bytes);
            }
            Command::ReadUpstream => {
                assert!(!self.running.read_up, "two reads from the upstream");
                let link = self.link().expect("a read without a connection");
                let again = !link.unused.is_empty() && !link.starved;
                self.running.read_up = true;
                if again {
                    self.give_up(0);
                }
            }
            Command::Switch => assert!(self.running.send_up.is_none() && !self.running.read_up),
            Command::EndDownstream => {
                assert!(self.running.send_down.is_none() && !self.client_told, "told once, last");
                self.client_told = true;
            }
            Command::EndUpstream => {
                assert!(self.running.send_up.is_none(), "its last bytes come first");
                let link = self.link().expect("a connection to end");
                assert!(!link.told, "told once");
                link.told = true;
            }
            Command::CloseUpstream => self.close_upstream(),
            Command::ReleaseUpstream => {
                let (address, ..) = self.exchange.take_peer().expect("it has a peer");
                self.release_upstream(address);
            }
            Command::Sleep(ms) => self.running.sleep = Some(self.locals.now_ms + ms),
            Command::Finish(ending) => self.finish(ending),
        }
    }

    fn start_connect(&mut self, address: Address, fresh: bool) {
        assert!(self.link().is_none() && self.running.connect.is_none());
        let script = self.peers.front().expect("a script for every connection");
        self.running.connect = Some((address, fresh));
        if script.connects == Connects::Reused && !fresh {
            self.connected(true);
        }
    }

    fn close_upstream(&mut self) {
        if self.running.connect.take().is_some() {
            self.peers.pop_front();
            return;
        }
        self.link().expect("closing a connection that is there").fate = Fate::Closed;
        self.running.send_up = None;
        self.running.read_up = false;
    }

    fn release_upstream(&mut self, to: Address) {
        assert!(self.running.send_up.is_none() && !self.running.read_up, "still in use");
        let link = self.link().expect("releasing a connection that is there");
        assert_eq!(link.address, to);
        assert!(link.unused.is_empty(), "released with bytes left: {:?}", link.unused);
        link.fate = Fate::Released;
    }

    fn finish(&mut self, ending: Ending) {
        if ending == Ending::KeepAlive {
            assert!(!self.running.read_down && self.running.send_down.is_none());
        }
        self.ending = Some(ending);
    }

    fn link(&mut self) -> Option<&mut Link> {
        self.links.last_mut().filter(|link| link.fate == Fate::Open)
    }

    /// One of the things that can happen. Time passes only when nothing else can, or by chance.
    fn next(&mut self, choose: &mut dyn FnMut(usize) -> usize) -> Next {
        const ALL: [Next; 6] = [
            Next::ReadDown,
            Next::SendDown,
            Next::ReadUp,
            Next::SendUp,
            Next::Connect,
            Next::Asked,
        ];
        let mut can = Vec::new();
        for next in ALL {
            if self.can_end(next) {
                can.push(next);
            }
        }
        if can.is_empty() {
            return Next::Clock;
        }
        can[choose(can.len())]
    }

    fn can_end(&mut self, next: Next) -> bool {
        match next {
            Next::ReadDown => {
                self.running.read_down && (self.client_has() > 0 || self.client_ends())
            }
            Next::SendDown => {
                let stalls = matches!(self.client.takes, Some((most, false))
                    if self.seen.len() >= most);
                self.running.send_down.is_some() && !stalls
            }
            Next::Connect => {
                let never = self.peers.front().is_some_and(|p| p.connects == Connects::Never);
                self.running.connect.is_some() && !never
            }
            Next::SendUp => {
                let stalls = self.link().is_some_and(|link| {
                    matches!(link.script.takes, Some((most, Takes::ThenStalls))
                        if link.received.len() >= most)
                });
                self.running.send_up.is_some() && !stalls
            }
            Next::ReadUp => {
                self.running.read_up
                    && self.link().is_some_and(|link| {
                        link.has() > 0 || link.answers() && link.script.then != Then::Waits
                    })
            }
            Next::Asked => !self.asks.lock().expect("no panic").is_empty(),
            Next::Clock => true,
        }
    }

    /// Bytes the client has ready to be read.
    fn client_has(&self) -> usize {
        let waits = self.client.waits_for_continue
            && !self.seen.windows(12).any(|text| text == b"100 Continue");
        if waits { 0 } else { self.client.bytes.len() - self.at }
    }

    fn client_ends(&self) -> bool {
        self.client.closes && self.at == self.client.bytes.len()
    }

    fn happen(&mut self, next: Next, choose: &mut dyn FnMut(usize) -> usize) {
        match next {
            Next::ReadDown => match self.client_has() {
                0 => {
                    self.running.read_down = false;
                    self.cx(|exchange, cx| exchange.on_downstream_end(cx));
                }
                has => self.give_down(1 + choose(has)),
            },
            Next::SendDown => self.take_down(),
            Next::Connect => self.end_connect(),
            Next::SendUp => self.take_up(),
            Next::ReadUp => self.end_read_up(choose),
            Next::Asked => self.cx(|exchange, cx| {
                assert!(exchange.is_asked(cx));
                exchange.on_asked(cx);
            }),
            Next::Clock => self.pass_time(),
        }
    }

    /// Somebody asks what a plugin wanted to be asked.
    fn ask(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        let mut asks = self.asks.lock().expect("no panic");
        let at = choose(asks.len());
        let (key, later) = asks.remove(at);
        let waiting = &self.locals.services.waiting;
        let mut visitor = Box::new(Message::default());
        assert!(waiting.swap(key, &mut visitor), "its message can be reached");
        let held = visitor.held_body.is_some_and(|held| held.step == key.step());
        match later {
            Later::EditHeld if held => visitor.body.make_ascii_uppercase(),
            Later::Respond(status) | Later::RespondAndResume(status) => {
                visitor.respond(status, Some(b"asked"));
            }
            _ => {}
        }
        assert!(waiting.swap(key, &mut visitor), "and given back");
        asks_of(later).for_each(|ask| waiting.ask(key, ask));
    }

    fn give_down(&mut self, count: usize) {
        self.running.read_down = false;
        let bytes = self.client.bytes[self.at..self.at + count].to_vec();
        let used = self.cx(|exchange, cx| exchange.on_downstream(&bytes, cx));
        assert!(used > 0 && used <= count, "{used} of {count} bytes used");
        self.at += used;
    }

    fn take_down(&mut self) {
        let bytes = self.running.send_down.take().expect("a send runs");
        if self.client.slow {
            self.take_slowly(Exchange::on_downstream_takes);
        }
        let fails = matches!(self.client.takes, Some((most, true))
            if self.seen.len() + bytes.len() > most);
        if !fails {
            self.seen.extend_from_slice(&bytes);
        }
        self.cx(|exchange, cx| exchange.on_downstream_sent(bytes, !fails, cx));
    }

    /// Each part of a piece is taken just in time.
    fn take_slowly(&mut self, took: fn(&mut Exchange, &Cx<'_>)) {
        for _ in 0..PARTS {
            self.locals.now_ms += PART_MS;
            self.cx(|exchange, cx| {
                exchange.on_due(cx);
                took(exchange, cx);
            });
        }
    }

    fn end_connect(&mut self) {
        if self.peers.front().is_some_and(|peer| peer.connects == Connects::Refused) {
            self.running.connect = None;
            self.peers.pop_front();
            return self.cx(|exchange, cx| exchange.on_connect_failed("refused", cx));
        }
        self.connected(false);
    }

    fn connected(&mut self, reused: bool) {
        let (address, _) = self.running.connect.take().expect("a connect runs");
        let script = self.peers.pop_front().expect("a script for every connection");
        self.links.push(Link::new(address, script, reused));
        self.cx(|exchange, cx| exchange.on_connected(reused, None, cx));
    }

    fn take_up(&mut self) {
        let bytes = self.running.send_up.take().expect("a send runs");
        if self.link().is_some_and(|link| matches!(link.script.takes, Some((_, Takes::Slowly)))) {
            self.take_slowly(Exchange::on_upstream_takes);
        }
        let link = self.link().expect("a connection");
        let fails = matches!(link.script.takes, Some((most, Takes::ThenFails))
            if link.received.len() + bytes.len() > most);
        if !fails {
            link.received.extend_from_slice(&bytes);
        }
        self.cx(|exchange, cx| exchange.on_upstream_sent(bytes, !fails, cx));
    }

    fn end_read_up(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        let link = self.link().expect("a connection");
        let (has, then) = (link.has(), link.script.then);
        if has > 0 {
            return self.give_up(1 + choose(has));
        }
        self.running.read_up = false;
        self.cx(|exchange, cx| match then {
            Then::Closes => exchange.on_upstream_end(cx),
            _ => exchange.on_upstream_broken("connection reset", cx),
        });
    }

    /// Gives what is unused with `count` bytes more.
    fn give_up(&mut self, count: usize) {
        self.running.read_up = false;
        let link = self.link().expect("a connection");
        link.unused.extend_from_slice(&link.script.answer[link.read..link.read + count]);
        link.read += count;
        let bytes = std::mem::take(&mut link.unused);
        let used = self.cx(|exchange, cx| exchange.on_upstream(&bytes, cx));
        assert!(used <= bytes.len());
        let link = self.links.last_mut().expect("a connection");
        link.unused = bytes[used..].to_vec();
        link.starved = used == 0;
    }

    fn pass_time(&mut self) {
        let due = self.exchange.due_ms();
        let slept = self.running.sleep.unwrap_or(u64::MAX);
        let gone = self.client.gone_ms.map_or(u64::MAX, |ms| self.began_ms + ms);
        let now = due.min(slept).min(gone);
        assert!(now != u64::MAX, "hangs: nothing runs, no timer, nobody sleeps");
        self.locals.now_ms = self.locals.now_ms.max(now);
        if now == gone {
            let heard = self.running.read_down || self.running.send_down.is_some();
            assert!(!heard, "an operation would tell");
            return self.cx(|exchange, cx| exchange.on_downstream_broken(cx));
        }
        if slept <= due {
            self.running.sleep = None;
            return self.cx(|exchange, cx| exchange.on_slept(cx));
        }
        self.cx(|exchange, cx| exchange.on_due(cx));
    }
}

fn asks_of(later: Later) -> impl Iterator<Item = Ask> {
    let asks = match later {
        Later::ResumeRequest => vec![Ask::ResumeRequest],
        Later::ResumeResponse => vec![Ask::ResumeResponse],
        Later::EditHeld => vec![Ask::ResumeRequest, Ask::ResumeResponse],
        Later::Respond(_) => vec![Ask::Respond],
        Later::RespondAndResume(_) => vec![Ask::Respond, Ask::ResumeRequest],
        Later::Close => vec![Ask::Close],
        Later::Reply => vec![Ask::Reply(Box::new(()))],
        Later::Lost => vec![Ask::Lost],
    };
    asks.into_iter()
}

fn shown(command: &Command) -> String {
    match command {
        Command::SendDownstream(bytes) | Command::SendUpstream(bytes) => {
            let name = if matches!(command, Command::SendUpstream(_)) { "up" } else { "down" };
            format!("  send {name} {:?}", String::from_utf8_lossy(bytes))
        }
        other => format!("  {other:?}"),
    }
}
