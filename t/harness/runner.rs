//! External plugin runners on unix sockets. Each connection runs a script on a thread of its own.
//!
//! The tables are read and written by the code that flatc makes of our schema; that the schema is
//! right is for the real runners to tell (`i20_real_runners.rs`).

use super::DEADLINE;
pub(crate) use frames::*;
use ringgate::runner::schema::a6::{self, TextEntry};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[path = "../../src/runner/testing/frames.rs"]
mod frames;

/// Types of frames.
pub(crate) const ERROR: u8 = 0;
pub(crate) const PREPARE: u8 = 1;
pub(crate) const REQUEST: u8 = 2;
pub(crate) const INFO: u8 = 3;
pub(crate) const RESPONSE: u8 = 4;

/// A frame that came.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

/// A request as the gateway showed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) id: u32,
    pub(crate) src_ip: Vec<u8>,
    pub(crate) method: u8,
    pub(crate) path: String,
    pub(crate) args: Vec<(String, Option<String>)>,
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) token: u32,
    pub(crate) status: u16,
}

/// A listening runner.
pub(crate) struct Runner {
    socket: PathBuf,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    frames: Mutex<Vec<Came>>,
    stop: AtomicBool,
}

/// One connection of a runner.
pub(crate) struct Talk {
    stream: UnixStream,
    seen: Arc<Seen>,
}

impl Runner {
    /// Listens on a socket; every connection runs the script.
    pub(crate) fn script(
        socket: &Path,
        script: impl Fn(&mut Talk) + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket of our own");
        let seen = Arc::new(Seen::default());
        let (script, shared) = (Arc::new(script), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(DEADLINE)).expect("a read deadline");
                shared.connections.fetch_add(1, Ordering::AcqRel);
                let (script, seen) = (Arc::clone(&script), Arc::clone(&shared));
                std::thread::spawn(move || script(&mut Talk { stream, seen }));
            }
        });
        Self { socket: socket.to_owned(), seen }
    }

    /// Gives every configuration the token 233, and answers every call with what `reply` makes.
    pub(crate) fn answering(
        socket: &Path,
        reply: impl Fn(&mut Talk, &Came) + Send + Sync + 'static,
    ) -> Self {
        Self::script(socket, move |talk| {
            while let Some(came) = talk.receive() {
                match came.kind {
                    PREPARE => talk.send(PREPARE, &token(233)),
                    _ => reply(talk, &came),
                }
            }
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Acquire)
    }

    /// The types of all frames that came, in order.
    pub(crate) fn kinds(&self) -> Vec<u8> {
        self.frames().iter().map(|came| came.kind).collect()
    }

    pub(crate) fn frames(&self) -> Vec<Came> {
        self.seen.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calls about requests and responses that came.
    pub(crate) fn calls(&self) -> Vec<Shown> {
        let is_call = |came: &&Came| matches!(came.kind, REQUEST | RESPONSE);
        self.frames().iter().filter(is_call).map(Came::shown).collect()
    }

    /// The only one.
    #[track_caller]
    pub(crate) fn call(&self) -> Shown {
        let mut calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Release);
        // Wakes the thread that accepts, if it still does.
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Talk {
    /// The next frame, which is recorded; `None` if the gateway closed instead.
    pub(crate) fn receive(&mut self) -> Option<Came> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).ok()?;
        let [kind, high, middle, low] = header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let came = Came { kind, payload };
        let mut frames = self.seen.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.push(came.clone());
        Some(came)
    }

    pub(crate) fn send(&mut self, kind: u8, payload: &[u8]) {
        let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
        self.raw(&[&[kind, high, middle, low], payload].concat());
    }

    /// Sends bytes that need not be frames.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        // A gateway that hangs up is what some tests are about.
        let _ = self.stream.write_all(bytes);
    }

    /// Asks for something and gives the answer.
    pub(crate) fn ask(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        self.send(INFO, question);
        let came = self.receive().expect("an answer");
        assert_eq!(came.kind, INFO);
        came.answer()
    }

    /// Says nothing until the gateway hangs up.
    pub(crate) fn stall(&mut self) {
        let mut rest = [0; 1024];
        while self.stream.read(&mut rest).is_ok_and(|bytes| bytes > 0) {}
    }
}

impl Came {
    fn shown(&self) -> Shown {
        let text = |bytes: Option<flatbuffers::Vector<'_, u8>>| {
            bytes.map(|b| String::from_utf8_lossy(b.bytes()).into_owned()).unwrap_or_default()
        };
        if self.kind == RESPONSE {
            let call = flatbuffers::root::<a6::httpresp_call::Req<'_>>(&self.payload);
            let call = call.expect("a table");
            return Shown {
                id: call.id(),
                status: call.status(),
                headers: read(call.headers()),
                token: call.conf_token(),
                ..Shown::default()
            };
        }
        let call = flatbuffers::root::<a6::httpreq_call::Req<'_>>(&self.payload);
        let call = call.expect("a table");
        Shown {
            id: call.id(),
            src_ip: call.src_ip().map(|ip| ip.bytes().to_vec()).unwrap_or_default(),
            method: call.method().0,
            path: text(call.path()),
            args: read(call.args()),
            headers: read(call.headers()),
            token: call.conf_token(),
            status: 0,
        }
    }

    /// The id of the call.
    pub(crate) fn id(&self) -> u32 {
        self.shown().id
    }

    /// What the gateway answered to a question.
    pub(crate) fn answer(&self) -> Option<Vec<u8>> {
        let answer = flatbuffers::root::<a6::extra_info::Resp<'_>>(&self.payload);
        answer.expect("a table").result().map(|result| result.bytes().to_vec())
    }

    /// The key of a configuration.
    pub(crate) fn key(&self) -> String {
        let conf = flatbuffers::root::<a6::prepare_conf::Req<'_>>(&self.payload).expect("a table");
        String::from_utf8_lossy(conf.key().expect("a key").bytes()).into_owned()
    }
}

type Entries<'a> = flatbuffers::Vector<'a, flatbuffers::ForwardsUOffset<TextEntry<'a>>>;

fn read(entries: Option<Entries<'_>>) -> Vec<(String, Option<String>)> {
    let text =
        |bytes: flatbuffers::Vector<'_, u8>| String::from_utf8_lossy(bytes.bytes()).into_owned();
    let pair = |entry: TextEntry<'_>| {
        (entry.name().map(text).unwrap_or_default(), entry.value().map(text))
    };
    entries.map(|entries| entries.iter().map(pair).collect()).unwrap_or_default()
}

/// Ends the request, always with a body.
pub(crate) fn stop(status: u16, headers: Pairs<'_>, body: &[u8]) -> Vec<u8> {
    stop_with(status, headers, Some(body))
}
