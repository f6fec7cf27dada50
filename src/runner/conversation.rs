//! One plugin's talk with a runner about one message: a state machine without I/O. The picture is
//! above [`Conversation`].
//!
//! In: the message, frames and failures that come back, the body as it arrives.
//! Out: frames to send, actions, edits of the message.

use super::apply;
use super::decode::{Ask, NewResponse, Refusal, Reply, Wrong, decode};
use super::desk::{Conversation, Desk, Stage, Waiter};
use super::encode::Encoder;
use super::frame::Kind;
use super::plugin::{External, Role, place_of};
use super::tokens::Begin;
use crate::expr::Variables;
use crate::http::BodyLength;
use crate::limits;
use crate::plugin::{Action, Errand, Hold, Message, RunnerTalk, Stream};
use std::rc::Rc;

/// How long a token is good, in milliseconds: a little less than the runner was told
/// (APISIX's 3240 s of 3600).
const TOKEN_LIFE_MS: u64 = 3_240_000;

/// The largest body that a frame carries, with room for the table around it.
const BODY_BYTES_MAX: usize = limits::RUNNER_FRAME_BYTES_MAX - 64;

/// What follows a frame.
enum Next {
    /// `out` has the next frame; or none, then another one comes.
    Send,
    /// The configuration has this token.
    Prepared(u32),
    /// The runner forgot the configuration.
    TryAgain,
    /// The runner wants the body first.
    Gather,
    /// The runner decided.
    Over(Action),
    /// It is over without a decision.
    Fail(Failure),
}

/// Why there is no decision, and what the client gets if there has to be one.
struct Failure {
    status: u16,
    why: String,
}

impl Failure {
    fn new(why: impl Into<String>) -> Self {
        Self { status: 503, why: why.into() }
    }

    /// APISIX's words for what did not come.
    fn receiving(kind: Kind, why: impl std::fmt::Display) -> Self {
        Self::new(format!("failed to receive {}: {why}", kind.name()))
    }

    fn sending(kind: Kind, why: impl std::fmt::Display) -> Self {
        Self::new(format!("failed to send {}: {why}", kind.name()))
    }

    fn too_large(whose: &str) -> Self {
        let why =
            format!("the {whose}'s body is larger than the {BODY_BYTES_MAX} bytes of a frame");
        Self { status: if whose == "request" { 413 } else { 503 }, why }
    }
}

impl External {
    /// Begins the conversation about the message at hand.
    pub(super) fn begin(&self, stream: &mut Stream<'_>) -> Action {
        let Some(key) = stream.key else {
            return self.fail(stream, &Failure::new("this stream can't wait"));
        };
        let Some(desk) = Desk::of(stream.locals) else {
            return self.fail(stream, &Failure::new("this worker was not prepared"));
        };
        *stream.state = desk.open(key) as u64 + 1;
        self.find_token(stream, None)
    }

    /// Calls, once there is a token. `talk`: one with a connection already.
    fn find_token(&self, stream: &mut Stream<'_>, talk: Option<Box<RunnerTalk>>) -> Action {
        let services = Rc::clone(&stream.locals.services);
        let (now, worker) = (stream.locals.now_ms, stream.locals.worker);
        let Some((desk, at)) = desk_of(stream.locals, *stream.state) else {
            return Action::Continue;
        };
        let epoch = self.runner.life.epoch();
        let found = match self.token.get(epoch, now) {
            Some(token) => Begin::Ready(token),
            None => self.token.begin(epoch, now, || desk.waiter(at, &services)),
        };
        let key = desk.conversations[at].key;
        let mut talk = talk.unwrap_or_else(|| desk.talk(key, &self.runner));
        talk.out.clear();
        let id = desk.next_id(worker);
        let Desk { encoder, conversations, .. } = desk;
        let conversation = &mut conversations[at];
        conversation.epoch = epoch;
        let encoded = match found {
            Begin::Wait(number) => {
                conversation.stage = Stage::Waiting(number);
                conversation.talk = Some(talk);
                return Action::Pause(Hold::All);
            }
            Begin::Prepare => {
                conversation.stage = Stage::Preparing;
                let prepared = encoder.prepare_conf(&mut talk.out, &self.key, &self.conf);
                prepared.map_err(|why| Failure::sending(Kind::PrepareConf, why))
            }
            Begin::Ready(token) => {
                conversation.begin_call(token, id);
                self.encode_call(encoder, &mut talk.out, stream.message, token, id)
            }
        };
        match encoded {
            Ok(()) => self.send(stream, talk),
            Err(failure) => self.fail(stream, &failure),
        }
    }

    fn encode_call(
        &self,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
        message: &Message,
        token: u32,
        id: u32,
    ) -> Result<(), Failure> {
        let kind = self.role.call();
        let failure = |why: &dyn std::fmt::Display| Failure::sending(kind, why);
        match self.role {
            Role::PreReq | Role::PostReq => {
                encoder.request_call(out, message, token, id).map_err(|why| failure(&why))
            }
            Role::PostResp => {
                let response = &message.response;
                encoder
                    .response_call(out, response.status, &response.headers, token, id)
                    .map_err(|why| failure(&why))
            }
        }
    }

    fn send(&self, stream: &mut Stream<'_>, talk: Box<RunnerTalk>) -> Action {
        stream.locals.services.ask(Errand::RunnerSend(talk));
        // A body that is held stays held.
        let gathered = desk_of(stream.locals, *stream.state)
            .is_some_and(|(desk, at)| desk.conversations[at].gathered);
        Action::Pause(if gathered { Hold::Body } else { Hold::All })
    }

    /// The talk came back from the worker.
    pub(super) fn on_talk(&self, stream: &mut Stream<'_>, mut talk: Box<RunnerTalk>) -> Action {
        let late = self.is_late(stream);
        let Some((desk, at)) = desk_of(stream.locals, *stream.state) else {
            return Action::Continue;
        };
        if late {
            desk.spare(talk);
            self.close(stream);
            return Action::Continue;
        }
        let sent = desk.conversations[at].sent(self.role);
        let next = match talk.failure.take() {
            Some(failure) => Next::Fail(Failure::receiving(sent, failure)),
            None => self
                .read(stream, &mut talk, sent)
                .unwrap_or_else(|wrong| Next::Fail(Failure::receiving(sent, wrong))),
        };
        self.go_on(stream, talk, next)
    }

    /// Reads the frame that came; what it decides is done to the message.
    fn read(
        &self,
        stream: &mut Stream<'_>,
        talk: &mut RunnerTalk,
        sent: Kind,
    ) -> Result<Next, Wrong> {
        let Some((desk, at)) = desk_of(stream.locals, *stream.state) else {
            return Ok(Next::Over(Action::Continue));
        };
        let Desk { encoder, conversations, .. } = desk;
        let (conversation, message) = (&mut conversations[at], &mut **stream.message);
        if conversation.is_second_token(talk.kind) {
            talk.out.clear();
            return Ok(Next::Send);
        }
        Ok(match decode(talk.kind, &talk.payload, sent)? {
            Reply::Token(token) => Next::Prepared(token),
            Reply::Refused(Refusal::TokenNotFound) if conversation.may_try_again(sent) => {
                Next::TryAgain
            }
            Reply::Refused(why) => Next::Fail(Failure::receiving(sent, why)),
            Reply::Asks(Ask::Var(name)) => {
                let value = std::str::from_utf8(name).ok().and_then(|name| message.variable(name));
                answer(encoder, &mut talk.out, value.as_deref())
            }
            Reply::Asks(Ask::RequestBody) => {
                self.on_body_wanted(Role::PreReq, conversation, message, encoder, &mut talk.out)
            }
            Reply::Asks(Ask::ResponseBody) => {
                self.on_body_wanted(Role::PostResp, conversation, message, encoder, &mut talk.out)
            }
            Reply::Unchanged { id } if id == conversation.id => Next::Over(Action::Continue),
            Reply::Unchanged { id } => return Err(Wrong::Id(id)),
            Reply::Stop(stop) => {
                apply::stop(message, &stop);
                Next::Over(Action::Respond)
            }
            Reply::Rewrite(rewrite) => {
                apply::rewrite(message, &rewrite, &mut conversation.later);
                Next::Over(match rewrite.body {
                    Some(body) => conversation.replace_request_body(message, body),
                    None => Action::Continue,
                })
            }
            Reply::Response(new) => {
                apply::response(message, &new);
                Next::Over(conversation.replace_response_body(message, &new))
            }
        })
    }

    /// The runner asks for a body: one of the side that this plugin holds.
    fn on_body_wanted(
        &self,
        side: Role,
        conversation: &mut Conversation,
        message: &Message,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) -> Next {
        let of_response = self.role == Role::PostResp;
        if of_response != (side == Role::PostResp) {
            // APISIX's words for the one of them that it can't answer either.
            let which = if of_response { "request" } else { "response" };
            log::warn!("{}: failed to read {which} body: not exits", self.role.name());
            return answer(encoder, out, None);
        }
        let (length, whose) = if of_response {
            (message.response.body, "response")
        } else {
            (message.request.body, "request")
        };
        match length {
            BodyLength::None => answer(encoder, out, None),
            _ if conversation.gathered => answer_body(encoder, out, &message.body),
            BodyLength::Known(bytes) if bytes > BODY_BYTES_MAX as u64 => {
                Next::Fail(Failure::too_large(whose))
            }
            _ => Next::Gather,
        }
    }

    fn go_on(&self, stream: &mut Stream<'_>, mut talk: Box<RunnerTalk>, next: Next) -> Action {
        let services = Rc::clone(&stream.locals.services);
        let now = stream.locals.now_ms;
        let Some((desk, at)) = desk_of(stream.locals, *stream.state) else {
            return Action::Continue;
        };
        let conversation = &mut desk.conversations[at];
        match next {
            Next::Send => self.send(stream, talk),
            Next::Prepared(token) => {
                let good = (token, conversation.epoch, now.saturating_add(TOKEN_LIFE_MS));
                // From here on this conversation prepares no more.
                conversation.stage = Stage::Called;
                conversation.prepared = true;
                self.token.finish(Some(good)).into_iter().for_each(Waiter::wake);
                self.find_token(stream, Some(talk))
            }
            Next::TryAgain => {
                self.token.forget(conversation.epoch, conversation.token);
                self.find_token(stream, Some(talk))
            }
            Next::Gather => {
                conversation.stage = Stage::Gathering;
                conversation.talk = Some(talk);
                Action::Pause(Hold::Body)
            }
            Next::Over(action) => {
                let done = conversation.stage != Stage::Replacing;
                if done {
                    conversation.stage = Stage::Over;
                }
                let needed = !done || !conversation.later.is_empty();
                if let Some(link) = talk.link.take() {
                    services.ask(Errand::RunnerRelease(link));
                }
                desk.spare(talk);
                if !needed {
                    self.close(stream);
                }
                action
            }
            Next::Fail(failure) => {
                desk.spare(talk);
                self.fail(stream, &failure)
            }
        }
    }

    /// The preparation that this conversation waited for is over.
    pub(super) fn on_preparation_over(&self, stream: &mut Stream<'_>) -> Action {
        let late = self.is_late(stream);
        let Some((desk, at)) = desk_of(stream.locals, *stream.state) else {
            return Action::Continue;
        };
        let conversation = &mut desk.conversations[at];
        let Stage::Waiting(number) = conversation.stage else { return Action::Pause(Hold::All) };
        if late {
            self.close(stream);
            return Action::Continue;
        }
        if self.token.has_failed(number) {
            let why = "the call that others wait for too has failed";
            return self.fail(stream, &Failure::receiving(Kind::PrepareConf, why));
        }
        let talk = conversation.talk.take();
        self.find_token(stream, talk)
    }

    /// More of a body that the runner wants.
    pub(super) fn on_gathered(&self, stream: &mut Stream<'_>, end: bool) -> Action {
        let body = &stream.message.body;
        if body.len() > BODY_BYTES_MAX {
            let whose = if self.role == Role::PostResp { "response" } else { "request" };
            return self.fail(stream, &Failure::too_large(whose));
        }
        if !end {
            return Action::Pause(Hold::Body);
        }
        let Some((desk, at)) = desk_of(stream.locals, *stream.state) else {
            return Action::Continue;
        };
        let Desk { encoder, conversations, .. } = desk;
        let conversation = &mut conversations[at];
        conversation.gathered = true;
        conversation.stage = Stage::Called;
        let Some(mut talk) = conversation.talk.take() else { return Action::Continue };
        let next = answer_body(encoder, &mut talk.out, body);
        self.go_on(stream, talk, next)
    }

    /// More of a body that another one takes the place of.
    pub(super) fn on_replaced(&self, stream: &mut Stream<'_>, end: bool) -> Action {
        stream.message.body.clear();
        if !end {
            return Action::Pause(Hold::Body);
        }
        if let Some((desk, at)) = desk_of(stream.locals, *stream.state) {
            let conversation = &mut desk.conversations[at];
            conversation.stage = Stage::Over;
            std::mem::swap(&mut stream.message.body, &mut conversation.body);
        }
        Action::Continue
    }

    /// There is no decision: the request goes on as if the plugin were not there, if it may.
    fn fail(&self, stream: &mut Stream<'_>, failure: &Failure) -> Action {
        if let Some((desk, at)) = desk_of(stream.locals, *stream.state)
            && desk.conversations[at].stage == Stage::Preparing
        {
            desk.conversations[at].stage = Stage::Over;
            self.token.finish(None).into_iter().for_each(Waiter::wake);
        }
        self.close(stream);
        let (plugin, why) = (self.role.name(), &failure.why);
        let runner = &self.runner.name;
        let of = if runner.is_empty() { String::new() } else { format!(" (runner {runner})") };
        if self.degrades {
            log::warn!("{plugin}{of}: {why}; Plugin Runner is wrong, allow degradation");
            return Action::Continue;
        }
        log::error!("{plugin}{of}: {why}");
        stream.message.respond(failure.status, None);
        Action::Respond
    }
}

impl Conversation {
    fn begin_call(&mut self, token: u32, id: u32) {
        self.stage = Stage::Called;
        self.tries += 1;
        self.token = token;
        self.id = id;
    }

    /// The kind of what was sent last.
    fn sent(&self, role: Role) -> Kind {
        if self.stage == Stage::Preparing { Kind::PrepareConf } else { role.call() }
    }

    /// Whether a frame is the token that was just given, once more: the Java runner sends it twice.
    fn is_second_token(&mut self, kind: u8) -> bool {
        let is_token = kind == Kind::PrepareConf as u8 && self.stage != Stage::Preparing;
        is_token && std::mem::take(&mut self.prepared)
    }

    fn may_try_again(&self, sent: Kind) -> bool {
        sent != Kind::PrepareConf && self.tries < limits::RUNNER_TRIES_MAX
    }

    /// Puts a body in the place of the request's, at once if all of that is here or there is none.
    fn replace_request_body(&mut self, message: &mut Message, body: &[u8]) -> Action {
        apply::body_length(&mut message.request.headers, body.len());
        self.replace_body(message.request.body == BodyLength::None, &mut message.body, body)
    }

    fn replace_response_body(&mut self, message: &mut Message, new: &NewResponse<'_>) -> Action {
        let Some(body) = new.body else { return Action::Continue };
        let status = message.response.status;
        let has_none = message.response.body == BodyLength::None;
        if has_none && (message.request.method == b"HEAD" || matches!(status, 204 | 304)) {
            return Action::Continue;
        }
        apply::body_length(&mut message.response.headers, body.len());
        if has_none {
            // There is no body on the way that this could stand for: the whole response is made.
            message.respond(status, Some(body));
            message.local.verbatim = true;
            message.response.headers.remove(b"content-length");
            std::mem::swap(&mut message.local.headers, &mut message.response.headers);
            return Action::Respond;
        }
        self.replace_body(false, &mut message.body, body)
    }

    fn replace_body(&mut self, has_none: bool, held: &mut Vec<u8>, body: &[u8]) -> Action {
        let now = has_none || self.gathered;
        let place = if now { held } else { &mut self.body };
        place.clear();
        place.extend_from_slice(body);
        if now {
            return Action::Continue;
        }
        self.stage = Stage::Replacing;
        Action::Pause(Hold::Body)
    }
}

fn answer(encoder: &mut Encoder, out: &mut Vec<u8>, result: Option<&[u8]>) -> Next {
    out.clear();
    match encoder.extra_info(out, result) {
        Ok(()) => Next::Send,
        Err(why) => Next::Fail(Failure::sending(Kind::ExtraInfo, why)),
    }
}

/// A body without bytes is none, as in APISIX.
fn answer_body(encoder: &mut Encoder, out: &mut Vec<u8>, body: &[u8]) -> Next {
    answer(encoder, out, Some(body).filter(|body| !body.is_empty()))
}

/// The worker's desk, and where the conversation is on it that a stream's word names.
fn desk_of(locals: &mut crate::plugin::Locals, state: u64) -> Option<(&mut Desk, usize)> {
    let at = place_of(state)?;
    let desk = Desk::of(locals)?;
    desk.conversations.contains(at).then_some((desk, at))
}
