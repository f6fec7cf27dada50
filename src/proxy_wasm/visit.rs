//! Streams that wait, seen from other callbacks of their instance.
//!
//! A reply or a tick arrives on a root context; the guest then makes one of its waiting streams the
//! effective context and reads, edits, resumes or answers it. For that time the stream's message is
//! borrowed from its seat; what was asked of it goes there when it is given back.

use super::abi::{Phase, stream};
use super::guest::{Effects, Guest};
use crate::plugin::{Ask, Message, StreamKey};

/// The waiting stream that the guest looks at.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) context: u32,
    key: StreamKey,
    pub(super) message: Box<Message>,
    pub(super) effects: Effects,
}

impl Visit {
    /// The phase whose rules hold for the message: how far it has come.
    pub(super) fn phase(&self) -> Phase {
        match self.message.held_body {
            Some(held) if held.step == self.key.step() => {
                match (held.of_response, held.with_trailers) {
                    (false, false) => Phase::RequestBody,
                    (false, true) => Phase::RequestTrailers,
                    (true, false) => Phase::ResponseBody,
                    (true, true) => Phase::ResponseTrailers,
                }
            }
            _ if self.message.response.status != 0 => Phase::ResponseHeaders,
            _ => Phase::RequestHeaders,
        }
    }
}

impl Guest {
    /// Borrows the message of a stream, if it is another one than the callback's own and waits.
    pub(super) fn visit(&mut self, context: u32) {
        if context == self.frame.stream || self.visit.as_ref().is_some_and(|v| v.context == context)
        {
            return;
        }
        self.end_visit();
        let Some(key) = self.streams.get(&context).and_then(|stream| stream.key) else { return };
        let Some(services) = &self.services else { return };
        let mut message = self.spare_message.take().unwrap_or_default();
        if services.waiting.swap(key, &mut message) {
            self.visit = Some(Visit { context, key, message, effects: Effects::default() });
        } else {
            self.spare_message = Some(message);
        }
    }

    /// Gives the message back and passes on what was asked of its stream.
    pub(super) fn end_visit(&mut self) {
        let Some(mut visit) = self.visit.take() else { return };
        let resume_request = std::mem::take(&mut visit.message.resume_request);
        let resume_response = std::mem::take(&mut visit.message.resume_response);
        let Some(services) = &self.services else { return };
        let waiting = &services.waiting;
        waiting.swap(visit.key, &mut visit.message);
        let asks = [
            (visit.effects.close, Ask::Close),
            (visit.effects.respond, Ask::Respond),
            (resume_request, Ask::ResumeRequest),
            (resume_response, Ask::ResumeResponse),
        ];
        asks.into_iter().filter(|(asked, _)| *asked).for_each(|(_, ask)| {
            waiting.ask(visit.key, ask);
        });
        self.spare_message = Some(visit.message);
    }

    /// Lets a live stream go on that does not wait just now.
    pub(super) fn resume_elsewhere(&self, context: u32, which: u32) {
        let key = self.streams.get(&context).and_then(|stream| stream.key);
        if let (Some(key), Some(services)) = (key, &self.services) {
            let ask = match which {
                stream::REQUEST => Ask::ResumeRequest,
                stream::RESPONSE => Ask::ResumeResponse,
                _ => return,
            };
            services.waiting.ask(key, ask);
        }
    }
}
