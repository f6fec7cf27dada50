//! The calls an instance has running, by the tokens its guest knows them by.

use rustc_hash::FxHashMap;

/// What kind of call a token names; its two lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    Http = 0,
    GrpcCall = 1,
    GrpcStream = 2,
}

/// One running call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) kind: CallKind,
    /// The root context it belongs to: the stream that made it may be over when it ends.
    pub(super) root: u32,
    /// The worker's number of a gRPC call.
    pub(super) number: u64,
}

/// All running calls of an instance.
#[derive(Debug, Default)]
pub(super) struct Calls {
    running: FxHashMap<u32, Call>,
    last: u32,
}

impl Calls {
    /// Begins a call: its token, which no running call has.
    pub(super) fn begin(&mut self, call: Call) -> u32 {
        loop {
            // Zero is what guests find where a call could not be made.
            self.last = self.last.wrapping_add(4).max(4);
            let token = (self.last & !3) | call.kind as u32;
            if let std::collections::hash_map::Entry::Vacant(place) = self.running.entry(token) {
                place.insert(call);
                return token;
            }
        }
    }

    pub(super) fn find(&self, token: u32) -> Option<Call> {
        self.running.get(&token).copied()
    }

    pub(super) fn end(&mut self, token: u32) -> Option<Call> {
        self.running.remove(&token)
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Ends all calls: their worker's numbers, of gRPC calls.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Call> + '_ {
        self.running.drain().map(|(_, call)| call)
    }

    /// The kind that a token would be of.
    pub(super) fn is_stream_token(token: u32) -> bool {
        token & 3 == CallKind::GrpcStream as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_kinds_and_are_never_shared() {
        let mut calls = Calls { last: u32::MAX - 8, ..Calls::default() };
        let call = |kind| Call { kind, root: 1, number: 0 };
        let kinds = [CallKind::Http, CallKind::GrpcCall, CallKind::GrpcStream];
        let mut seen = Vec::new();
        for kind in kinds.into_iter().cycle().take(12) {
            let token = calls.begin(call(kind));
            assert_eq!(token & 3, kind as u32);
            assert!(token > 3 && !seen.contains(&token), "{token}");
            seen.push(token);
        }
        assert_eq!(calls.len(), 12);
        assert!(calls.end(seen[0]).is_some() && calls.end(seen[0]).is_none());
        assert_eq!(calls.drain().count(), 11);
    }
}
