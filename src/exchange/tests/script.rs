//! What a client and peers are to do, and what peers have seen.

use super::double::address;
use crate::upstream::Address;
use std::fmt;

/// What happens when a connection to a peer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connects {
    New,
    /// An idle connection is there, if one may be used.
    Reused,
    Refused,
    Never,
}

/// When a peer begins to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// It has the request's head.
    AfterHead,
    /// It has this many bytes in all.
    After(usize),
    /// It has the whole request.
    AfterAll,
}

/// What a peer does when its answer is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Waits,
    Closes,
    Breaks,
}

/// How a peer behaves on one connection.
#[derive(Clone)]
pub(super) struct PeerScript {
    pub(super) connects: Connects,
    pub(super) answers: Answers,
    pub(super) answer: Vec<u8>,
    pub(super) then: Then,
    /// Bytes it takes before sends fail, or stall.
    pub(super) takes: Option<(usize, Takes)>,
}

impl fmt::Debug for PeerScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.answer);
        let (connects, answers, then) = (self.connects, self.answers, self.then);
        write!(f, "{connects:?}, {answers:?} {text:?}, {then:?}, takes {:?}", self.takes)
    }
}

/// How a peer stops taking bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    ThenFails,
    ThenStalls,
    /// It takes everything, but slowly: see [`PARTS`].
    Slowly,
}

/// The parts in which who is slow takes each piece, and the time until each: one is well within the
/// time for a send, all are not.
pub(super) const PARTS: u64 = 5;
pub(super) const PART_MS: u64 = 1_500;

/// How the client behaves.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientScript {
    /// The request, and what follows it on the connection.
    pub(super) bytes: Vec<u8>,
    /// Bytes of the body that are in the buffer when the exchange begins.
    pub(super) early: usize,
    /// It closes when it has sent everything.
    pub(super) closes: bool,
    /// It sends its body only after a 100.
    pub(super) waits_for_continue: bool,
    /// It takes no more than this.
    pub(super) takes: Option<(usize, bool)>,
    /// It takes everything slowly: see [`PARTS`].
    pub(super) slow: bool,
    /// It is gone after so many milliseconds, and no operation hears of it.
    pub(super) gone_ms: Option<u64>,
    /// Responses of the same batch that are gathered already.
    pub(super) gathered: Vec<u8>,
}

/// One connection to a peer, as the peer saw it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: Address,
    pub(super) script: PeerScript,
    pub(super) reused: bool,
    pub(super) received: Vec<u8>,
    /// Bytes of the answer that were read.
    pub(super) read: usize,
    /// Bytes read that the exchange did not use.
    pub(super) unused: Vec<u8>,
    pub(super) starved: bool,
    /// Nothing more is sent to it, and it knows.
    pub(super) told: bool,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Closed,
    Released,
}

impl Link {
    pub(super) fn new(address: Address, script: PeerScript, reused: bool) -> Self {
        Self {
            address,
            script,
            reused,
            received: Vec::new(),
            read: 0,
            unused: Vec::new(),
            starved: false,
            told: false,
            fate: Fate::Open,
        }
    }

    /// Whether the peer has begun to answer.
    pub(super) fn answers(&self) -> bool {
        match self.script.answers {
            Answers::AfterHead => super::naive::request(&self.received).is_some(),
            Answers::After(bytes) => self.received.len() >= bytes,
            Answers::AfterAll => super::naive::request(&self.received).is_some_and(|r| r.complete),
        }
    }

    pub(super) fn has(&self) -> usize {
        if self.answers() { self.script.answer.len() - self.read } else { 0 }
    }

    /// The peer's number.
    pub(super) fn peer(&self) -> usize {
        (0..9).find(|at| address(*at) == self.address).expect("a known peer")
    }
}
