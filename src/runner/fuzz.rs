//! Any bytes from a runner: an answer, never a panic, and never a message that says something else
//! on the wire than it does here.
//!
//! `make fuzz` gives it what a fuzzer makes, `cargo test` what chance makes of good frames.

use super::decode::{Ask, Reply, decode};
use super::frame::{Frame, HEADER_BYTES, Kind, first_frame, write_frame};
use super::loader::Runners;
use super::testing::rig::{Case, Desk, load, place};
use super::testing::{Changes, asks, refused, response, rewrite, stop, token};
use crate::http::{BodyLength, Headers, is_field_value, is_token, uri};
use crate::plugin::{Action, Hold, Message, Plugin, TalkFailure};
use serde_json::json;
use std::cell::RefCell;
use std::sync::Arc;

/// Frames that one message's talk may take: an endless talk is for the worker's deadline to end.
const FRAMES_MAX: usize = 64;

/// The three plugins and a worker's desk, made once a thread.
struct Bench {
    plugins: Vec<Arc<dyn Plugin>>,
    desk: Desk,
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

impl Bench {
    fn new() -> Self {
        let mut runners = Runners::new(vec![place("")]);
        let conf = json!({"conf": [{"name": "say", "value": "{}"}]});
        let plugins: Vec<_> = ["ext-plugin-pre-req", "ext-plugin-post-req", "ext-plugin-post-resp"]
            .into_iter()
            .filter_map(|name| load(&mut runners, name, &conf))
            .map(|loaded| loaded.plugin)
            .collect();
        let desk = Desk::new(&*plugins[0]);
        Self { plugins, desk }
    }
}

/// A hostile runner. The first byte chooses whom it talks to and how its frames are made: of the
/// bytes as they are, or with texts of them in good tables.
pub fn runner(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let made;
    let stream = if choice & 0x80 == 0 {
        data
    } else {
        made = frames_of(data);
        &made
    };
    BENCH.with_borrow_mut(|bench| talk(bench, *choice, stream));
    read(stream);
}

/// Good tables with hostile texts: fields of lines, `=` between a name and its value.
fn frames_of(data: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(data);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let pairs: Vec<_> = rest
        .lines()
        .map(|line| line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value))))
        .collect();
    let all = Changes {
        path: Some(first),
        headers: &pairs,
        args: &pairs,
        resp_headers: &pairs,
        body: rest.as_bytes(),
    };
    let status =
        first.bytes().fold(0, |sum: u16, byte| sum.wrapping_mul(10).wrapping_add(byte.into()));
    let mut frames = Vec::new();
    let payloads = [
        (Kind::PrepareConf, token(7)),
        (Kind::ExtraInfo, asks(Ask::Var(first.as_bytes()))),
        (Kind::ExtraInfo, asks(Ask::RequestBody)),
        (Kind::Error, refused(2)),
        (Kind::RequestCall, rewrite(all)),
        (Kind::RequestCall, stop(status, &pairs, rest.as_bytes())),
        (Kind::ResponseCall, response(status, &pairs, rest.as_bytes())),
    ];
    for (at, (kind, payload)) in payloads.iter().enumerate() {
        // The status decides which of them are there.
        if status >> at & 1 == 0 {
            // Texts of a fuzzer are far shorter than a frame.
            let _ = write_frame(&mut frames, *kind, payload);
        }
    }
    frames
}

/// One message's talk with it, from begin to end.
fn talk(bench: &mut Bench, choice: u8, mut stream: &[u8]) {
    let Bench { plugins, desk } = bench;
    let role = usize::from(choice) % plugins.len();
    let body = [BodyLength::None, BodyLength::Known(5), BodyLength::Chunked];
    let body = body[usize::from(choice >> 2) % body.len()];
    let mut case = Case::new(&plugins[role], desk);
    let is_response = role == 2;
    let mut action = if is_response {
        case = case.answered(200, body);
        case.response(desk)
    } else {
        case.message.request.body = body;
        case.request(desk)
    };
    for _ in 0..FRAMES_MAX {
        let Action::Pause(hold) = action else { break };
        action = match desk.talk() {
            Some(mut talk) => match first_frame(stream) {
                Frame::Whole { kind, payload } => {
                    stream = &stream[HEADER_BYTES + payload.len()..];
                    talk.kind = kind;
                    talk.payload.clear();
                    talk.payload.extend_from_slice(payload);
                    case.call(desk, |plugin, stream| plugin.on_reply(stream, talk))
                }
                Frame::Missing(_) => case.failed(desk, talk, TalkFailure::Closed),
            },
            // It waits for the body.
            None => {
                assert_eq!(hold, Hold::Body);
                case.message.body = b"hello".to_vec();
                case.call(desk, |plugin, stream| {
                    if is_response {
                        plugin.on_response_body(stream, true)
                    } else {
                        plugin.on_request_body(stream, true)
                    }
                })
            }
        };
    }
    check(&case.message, action);
    case.over(desk);
    // What it left for the worker is not for the next.
    desk.forget_errands();
}

/// What goes on the wire next says what it says here.
fn check(message: &Message, action: Action) {
    let good = |headers: &Headers| {
        for (name, value) in headers.iter() {
            assert!(is_token(name) && is_field_value(value), "{name:?}: {value:?}");
        }
    };
    match action {
        Action::Respond => {
            assert!((200..=999).contains(&message.local.status), "{}", message.local.status);
            good(&message.local.headers);
        }
        Action::Continue => {
            good(&message.request.headers);
            good(&message.response.headers);
            let target = &message.request.target;
            assert!(uri::split(target).path.starts_with(b"/"), "{target:?}");
            assert!(target.iter().all(u8::is_ascii_graphic), "{target:?}");
        }
        _ => {}
    }
}

/// A stream of frames as a worker and a plugin read it, cut anywhere.
pub(crate) fn read(mut stream: &[u8]) {
    while let Frame::Whole { kind, payload } = first_frame(stream) {
        let whole = HEADER_BYTES + payload.len();
        for cut in [0, 1, HEADER_BYTES, whole.saturating_sub(1)].map(|cut| cut.min(whole - 1)) {
            let Frame::Missing(missing) = first_frame(&stream[..cut]) else {
                panic!("a frame is whole before it is");
            };
            assert!(missing > 0 && cut + missing <= whole);
        }
        for sent in [Kind::PrepareConf, Kind::RequestCall, Kind::ResponseCall] {
            if let Ok(reply) = decode(kind, payload, sent) {
                touch(&reply);
            }
        }
        stream = &stream[whole..];
    }
}

fn touch(reply: &Reply<'_>) {
    let see = |entries: super::decode::Entries<'_>| {
        let bytes = entries.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
        std::hint::black_box(bytes.sum::<usize>());
    };
    match reply {
        Reply::Stop(stop) => see(stop.headers),
        Reply::Rewrite(rewrite) => {
            see(rewrite.headers);
            see(rewrite.args);
            see(rewrite.resp_headers);
        }
        Reply::Response(response) => see(response.headers),
        _ => {}
    }
}
