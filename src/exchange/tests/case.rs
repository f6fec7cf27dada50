//! One case of a table: who does what, run with bytes in pieces of every kind.

use super::double::{Scripted, Setup};
use super::naive::{self, Parsed};
use super::script::{Answers, ClientScript, Connects, Link, PeerScript, Takes, Then};
use super::world::World;
use crate::exchange::Ending;

/// The actors of one exchange.
pub(super) struct Case {
    pub(super) client: ClientScript,
    pub(super) peers: Vec<PeerScript>,
    pub(super) setup: Setup,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) ending: Ending,
    /// All bytes the client got.
    pub(super) text: String,
    pub(super) interim: Vec<Parsed>,
    pub(super) response: Option<Parsed>,
    pub(super) links: Vec<Link>,
    pub(super) calls: Vec<String>,
    /// The client's bytes that were used up.
    pub(super) used: usize,
    pub(super) sends: usize,
    pub(super) client_told: bool,
    pub(super) ms: u64,
    /// The route that was told of at the end.
    pub(super) route: Option<String>,
    /// `response.code_details` and `response.flags`.
    pub(super) details: String,
    pub(super) flags: u64,
    pub(super) attempts: u32,
}

/// Runs a case with whole pieces, with pieces of one byte, and with random ones in random order.
pub(super) fn check(make: impl Fn() -> Case, verify: impl Fn(&Outcome)) {
    verify(&run(make(), &mut |n| n - 1));
    verify(&run(make(), &mut |_| 0));
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        verify(&run(make(), &mut |n| random.usize(0..n)));
    }
}

/// Runs a case once with whole pieces, where the pieces matter to what is seen.
pub(super) fn whole(case: Case) -> Outcome {
    run(case, &mut |n| n - 1)
}

/// Runs a case once.
pub(super) fn run(case: Case, choose: &mut dyn FnMut(usize) -> usize) -> Outcome {
    let gathered = case.client.gathered.len();
    let mut world = World::new(case.client, case.peers);
    let began = world.locals.now_ms;
    world.run(case.setup, choose);
    let to_head = world.head.method == crate::http::Method::Head;
    let message = world.exchange.message();
    let (interim, response) = responses(world.seen.get(gathered..).unwrap_or_default(), to_head);
    Outcome {
        route: message.route.as_ref().map(|route| route.route_id.clone()),
        details: String::from_utf8_lossy(&message.response.details).into_owned(),
        flags: message.response.flags.bits(),
        attempts: message.attempts.count,
        ending: world.ending.expect("it ended"),
        text: String::from_utf8_lossy(&world.seen).into_owned(),
        interim,
        response,
        calls: world.calls.lock().expect("no panic").clone(),
        used: world.used(),
        sends: world.sends,
        client_told: world.client_told,
        ms: world.locals.now_ms - began,
        links: world.links,
    }
}

/// The 1xx responses, and the final one as far as it came.
pub(super) fn responses(mut bytes: &[u8], to_head: bool) -> (Vec<Parsed>, Option<Parsed>) {
    let mut interim = Vec::new();
    while let Some(parsed) = naive::response(bytes, to_head) {
        bytes = &bytes[parsed.len..];
        if parsed.status() >= 200 {
            assert!(bytes.is_empty(), "bytes behind the response: {bytes:?}");
            return (interim, Some(parsed));
        }
        interim.push(parsed);
    }
    (interim, None)
}

impl Case {
    pub(super) fn new(request: &str) -> Self {
        let client = ClientScript { bytes: request.as_bytes().to_vec(), ..Default::default() };
        Self { client, peers: vec![], setup: Setup::default() }
    }

    pub(super) fn get() -> Self {
        Self::new("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
    }

    /// A POST of that body with its length.
    pub(super) fn post(body: &str) -> Self {
        let length = body.len();
        Self::new(&format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"))
    }

    /// A chunked POST of what follows the head.
    pub(super) fn chunked(coded: &str) -> Self {
        Self::new(&format!(
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{coded}"
        ))
    }

    /// The next connection gives that answer once it has the whole request.
    pub(super) fn peer(mut self, answer: &str) -> Self {
        self.peers.push(PeerScript {
            connects: Connects::New,
            answers: Answers::AfterAll,
            answer: answer.as_bytes().to_vec(),
            then: Then::Waits,
            takes: None,
        });
        self
    }

    fn last(&mut self) -> &mut PeerScript {
        self.peers.last_mut().expect("a peer")
    }

    pub(super) fn connects(mut self, how: Connects) -> Self {
        self.last().connects = how;
        self
    }

    pub(super) fn answers(mut self, when: Answers) -> Self {
        self.last().answers = when;
        self
    }

    pub(super) fn then(mut self, then: Then) -> Self {
        self.last().then = then;
        self
    }

    pub(super) fn takes(mut self, bytes: usize, takes: Takes) -> Self {
        self.last().takes = Some((bytes, takes));
        self
    }

    pub(super) fn plugin(mut self, plugin: Scripted) -> Self {
        self.setup.plugins.push(plugin);
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        change(&mut self.setup);
        self
    }

    pub(super) fn client(mut self, change: impl FnOnce(&mut ClientScript)) -> Self {
        change(&mut self.client);
        self
    }
}

impl Outcome {
    pub(super) fn parsed(&self) -> &Parsed {
        self.response.as_ref().unwrap_or_else(|| panic!("no response in {:?}", self.text))
    }

    /// The status of a complete response.
    pub(super) fn status(&self) -> u16 {
        let parsed = self.parsed();
        let closed = parsed.until_close && self.ending == Ending::Close;
        assert!(parsed.complete || closed, "{:?} {:?}", self.ending, self.text);
        assert_ne!(self.ending, Ending::Abort, "{}", self.text);
        parsed.status()
    }

    pub(super) fn body(&self) -> String {
        String::from_utf8_lossy(&self.parsed().body).into_owned()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.parsed().get(name)
    }

    /// The request that the n-th connection got.
    pub(super) fn request(&self, link: usize) -> Parsed {
        naive::request(&self.links[link].received).expect("a whole request head")
    }

    /// The calls of one phase without its name.
    pub(super) fn calls_of(&self, phase: &str) -> Vec<String> {
        let of_phase = |call: &&String| call.split(' ').nth(1) == Some(phase);
        self.calls
            .iter()
            .filter(of_phase)
            .map(|call| call.replacen(&format!(" {phase}"), "", 1))
            .collect()
    }
}
