//! What a seed makes of one exchange: the actors, and what the model knows of them.

use super::double::{Act, Effect, Later, PHASES, Phase, Scripted, Setup};
use super::script::{Answers, ClientScript, Connects, PeerScript, Takes, Then};
use crate::plugin::{Action, Hold};
use crate::snapshot::Target;
use fastrand::Rng;

/// What the model knows before the exchange begins.
pub(super) struct Plan {
    pub(super) to_head: bool,
    /// The body the client sends, if it sends all of it.
    pub(super) body: Option<Vec<u8>>,
    /// One of its bytes is another one: that may break the framing or not.
    pub(super) garbled: bool,
    /// Plugins' steps; each is logged once.
    pub(super) plugins: usize,
    pub(super) edits_request: bool,
    pub(super) edits_response: bool,
    /// Plugins that may hold, answer or close.
    pub(super) meddles: bool,
    pub(super) client_fails: bool,
    /// Everybody plays fair: the first peer's answer must come back whole.
    pub(super) must_succeed: bool,
    pub(super) answers: Vec<Answer>,
}

/// What one peer answers.
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    pub(super) status: u16,
    /// It is a whole response that a gateway can pass on.
    pub(super) sound: bool,
}

/// Who takes part, and what they will do.
pub(super) fn plan(random: &mut Rng) -> (ClientScript, Plan, Setup, Vec<PeerScript>) {
    let mut plan = Plan {
        to_head: random.u8(..8) == 0,
        body: None,
        garbled: false,
        plugins: random.usize(..4),
        edits_request: false,
        edits_response: false,
        meddles: false,
        client_fails: false,
        must_succeed: false,
        answers: vec![],
    };
    let client = client(random, &mut plan);
    let mut setup = Setup {
        peers: random.usize(1..4),
        retries: random.u32(..3),
        retry_ms: [0, 0, 500][random.usize(..3)],
        ..Setup::default()
    };
    if random.u8(..16) == 0 {
        setup.target = [Target::Status(503), Target::NoRoute][random.usize(..2)];
    }
    if random.u8(..10) == 0 {
        setup.rules.body_bytes_max = Some(random.u64(..200));
    }
    let meddling = random.bool();
    for at in 0..plan.plugins {
        let plugin = plugin(random, &format!("p{at}"), meddling, &mut plan);
        setup.plugins.push(plugin);
    }
    let peers: Vec<PeerScript> = (0..8).map(|_| peer(random, &mut plan)).collect();
    plan.must_succeed = setup.target == Target::Upstream(0)
        && setup.rules.body_bytes_max.is_none()
        && plan.answers[0].sound
        && matches!(peers[0].connects, Connects::New | Connects::Reused)
        && peers[0].answers == Answers::AfterAll
        && peers[0].takes.is_none()
        && plan.body.is_some()
        && !plan.meddles
        && !plan.client_fails;
    (client, plan, setup, peers)
}

fn client(random: &mut Rng, plan: &mut Plan) -> ClientScript {
    let method = match random.u8(..4) {
        _ if plan.to_head => "HEAD",
        0 => "PUT",
        1 => "POST",
        _ => "GET",
    };
    let mut bytes = format!("{method} /a?b=c HTTP/1.1\r\nHost: h\r\n").into_bytes();
    if random.u8(..8) == 0 {
        let minor = if random.bool() { "Connection: keep-alive\r\n" } else { "" };
        bytes = format!("{method} / HTTP/1.0\r\nHost: h\r\n{minor}").into_bytes();
    } else if random.u8(..10) == 0 {
        bytes.extend_from_slice(b"Connection: close\r\n");
    }
    let old = bytes.windows(8).any(|text| text == b"HTTP/1.0");
    let body = text(random);
    let mut client = ClientScript::default();
    match random.u8(..5) {
        0 | 1 => bytes.extend_from_slice(b"\r\n"),
        2 if !old => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            chunks(random, &mut bytes, &body);
        }
        _ => {
            client.waits_for_continue = random.u8(..6) == 0 && !old && !body.is_empty();
            let expect = if client.waits_for_continue { "Expect: 100-continue\r\n" } else { "" };
            let head = format!("{expect}Content-Length: {}\r\n\r\n", body.len());
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(&body);
        }
    }
    let head = bytes.windows(4).position(|text| text == b"\r\n\r\n").expect("a head") + 4;
    let sends_body = bytes.len() > head;
    plan.body = Some(if sends_body { body } else { vec![] });
    if sends_body && random.u8(..8) == 0 {
        // Cut off, with or without a close; or broken.
        let at = random.usize(head..bytes.len());
        if random.bool() {
            bytes.truncate(at);
        } else {
            bytes[at] = b'\n';
            plan.garbled = true;
        }
        plan.body = None;
        client.closes = random.bool();
    } else if random.u8(..6) == 0 {
        bytes.extend_from_slice(b"GET /next");
    }
    if !client.waits_for_continue {
        client.early = random.usize(..=bytes.len() - head);
    }
    if random.u8(..12) == 0 {
        plan.client_fails = true;
        client.takes = Some((random.usize(..200), random.bool()));
    }
    client.bytes = bytes;
    client
}

/// Plugins edit idempotently: bytes that are shown twice are upper case all the same.
fn plugin(random: &mut Rng, name: &str, meddling: bool, plan: &mut Plan) -> Scripted {
    let mut plugin = Scripted::new(name).holds_at_most([50, 100_000][random.usize(..2)]);
    let (edits_request, edits_response) = (random.u8(..3) == 0, random.u8(..3) == 0);
    plan.edits_request |= edits_request;
    plan.edits_response |= edits_response;
    for phase in PHASES {
        let body = matches!(phase, Phase::RequestBody | Phase::ResponseBody);
        let edits = phase == Phase::RequestBody && edits_request
            || phase == Phase::ResponseBody && edits_response;
        if !edits && random.bool() {
            continue;
        }
        let mut acts = Vec::new();
        for _ in 0..random.usize(1..4) {
            let effects = if edits { vec![Effect::Upper] } else { vec![] };
            let mut act = Act { effects, action: Action::Continue };
            if meddling && random.u8(..3) == 0 {
                meddle(random, &mut act, body);
                plan.meddles = true;
            }
            acts.push(act);
        }
        plugin = plugin.on(phase, &acts);
    }
    plugin
}

fn meddle(random: &mut Rng, act: &mut Act, body: bool) {
    match random.u8(..15) {
        0 => act.action = Action::Pause(Hold::All),
        12 => {
            act.action = Action::Pause([Hold::All, Hold::Body][random.usize(..2)]);
            act.effects.push(Effect::Later(later(random)));
        }
        13 => act.effects.push(Effect::Later(later(random))),
        1..4 => act.action = Action::Pause(Hold::Body),
        4..7 if !body => act.action = Action::Pause(Hold::Sleep(random.u64(..5_000))),
        4..8 => act.effects.push(Effect::ResumeRequest),
        8 => act.effects.push(Effect::ResumeResponse),
        9 => {
            let bodies = [None, Some(""), Some("plugin")];
            let status = [200, 204, 304, 403, 503][random.usize(..5)];
            act.effects.push(Effect::Respond(status, bodies[random.usize(..3)]));
            act.action = Action::Respond;
        }
        10 => act.action = Action::Close,
        _ => act.effects.push(Effect::SetResponse("X-Set", "1")),
    }
}

fn later(random: &mut Rng) -> Later {
    match random.u8(..8) {
        0 | 1 => Later::ResumeRequest,
        2 | 3 => Later::ResumeResponse,
        4 => Later::Respond([200, 403][random.usize(..2)]),
        5 => Later::Close,
        _ => Later::Reply,
    }
}

fn peer(random: &mut Rng, plan: &mut Plan) -> PeerScript {
    let mut then = [Then::Waits, Then::Waits, Then::Closes, Then::Breaks][random.usize(..4)];
    let mut answer = Answer { body: text(random), status: 200, sound: true };
    answer.status = [200, 200, 404, 503, 204, 304][random.usize(..6)];
    let (mut bytes, open_from) = answer_bytes(random, plan, &mut answer, then);
    match random.u8(..16) {
        0 | 1 => {
            // Cut off anywhere, at its start too.
            bytes.truncate(random.usize(..bytes.len()));
            // A close in a body that ends with one can't be told from its end.
            let open = open_from.filter(|head| answer.sound && bytes.len() >= *head);
            answer.sound = open.is_some();
            if let Some(head) = open {
                answer.body.truncate(bytes.len() - head);
            }
        }
        2 => {
            bytes = b"SSH-2.0-OpenSSH\r\n\r\n".to_vec();
            answer.sound = false;
        }
        3 if open_from.is_none() => {
            bytes.extend_from_slice(b"too much");
            then = Then::Waits;
        }
        _ => {}
    }
    plan.answers.push(answer);
    let connects = match random.u8(..10) {
        0 => Connects::Refused,
        1 => Connects::Never,
        2..5 => Connects::Reused,
        _ => Connects::New,
    };
    let answers = match random.u8(..6) {
        0 => Answers::AfterHead,
        1 => Answers::After(random.usize(..300)),
        _ => Answers::AfterAll,
    };
    let stops = [Takes::ThenFails, Takes::ThenStalls][random.usize(..2)];
    let takes = (random.u8(..12) == 0).then(|| (random.usize(..300), stops));
    PeerScript { connects, answers, answer: bytes, then, takes }
}

/// A whole response, and where its body begins if only a close ends it.
fn answer_bytes(
    random: &mut Rng,
    plan: &Plan,
    answer: &mut Answer,
    then: Then,
) -> (Vec<u8>, Option<usize>) {
    let hints: &str =
        if random.u8(..6) == 0 { "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" } else { "" };
    let closes = if random.u8(..8) == 0 { "Connection: close\r\n" } else { "" };
    let status = answer.status;
    let mut bytes = format!("{hints}HTTP/1.1 {status} Any\r\nX-Peer: 1\r\n{closes}").into_bytes();
    let bodiless = plan.to_head || matches!(status, 204 | 304);
    let mut open_from = None;
    match random.u8(..4) {
        0 if !bodiless => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            chunks(random, &mut bytes, &answer.body);
        }
        1 if !bodiless => {
            bytes.extend_from_slice(b"\r\n");
            open_from = Some(bytes.len());
            bytes.extend_from_slice(&answer.body);
            // Only a proper close ends it.
            answer.sound = then == Then::Closes;
        }
        _ => {
            let length = format!("Content-Length: {}\r\n\r\n", answer.body.len());
            bytes.extend_from_slice(length.as_bytes());
            if bodiless {
                answer.body.clear();
            }
            bytes.extend_from_slice(&answer.body);
        }
    }
    (bytes, open_from)
}

fn text(random: &mut Rng) -> Vec<u8> {
    let most = if random.u8(..50) == 0 { 400_000 } else { 120 };
    let length = random.usize(..most);
    (0..length).map(|at| b"abcdefghij klmnopqr"[at % 19]).collect()
}

fn chunks(random: &mut Rng, out: &mut Vec<u8>, body: &[u8]) {
    let mut rest = body;
    while !rest.is_empty() {
        let take = random.usize(1..=rest.len());
        out.extend_from_slice(format!("{take:X}\r\n").as_bytes());
        out.extend_from_slice(&rest[..take]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[take..];
    }
    let trailers = if random.u8(..3) == 0 { "X-Trailer: 1\r\n" } else { "" };
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
}
