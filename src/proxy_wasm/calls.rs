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
    /// What it has to send, of an HTTP or unary call.
    pub(super) bytes: usize,
}

/// All running calls of an instance.
#[derive(Debug, Default)]
pub(super) struct Calls {
    running: FxHashMap<u32, Call>,
    /// The sum of theirs.
    bytes: usize,
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
                self.bytes += call.bytes;
                return token;
            }
        }
    }

    pub(super) fn find(&self, token: u32) -> Option<Call> {
        self.running.get(&token).copied()
    }

    pub(super) fn end(&mut self, token: u32) -> Option<Call> {
        let call = self.running.remove(&token)?;
        self.bytes -= call.bytes;
        Some(call)
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// What all of them have to send.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Ends the calls of a root context, or all of them.
    pub(super) fn drain(&mut self, root: Option<u32>) -> Vec<Call> {
        let ends = |call: &Call| root.is_none_or(|root| call.root == root);
        let ended: Vec<_> =
            self.running.extract_if(|_, call| ends(call)).map(|(_, call)| call).collect();
        self.bytes -= ended.iter().map(|call| call.bytes).sum::<usize>();
        ended
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
        let call = |kind| Call { kind, root: 1, number: 0, bytes: 5 };
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
        assert_eq!(calls.bytes(), 55);
        assert_eq!(calls.drain(Some(2)).len(), 0);
        assert_eq!(calls.drain(Some(1)).len(), 11);
        assert_eq!((calls.len(), calls.bytes()), (0, 0));
    }
}
