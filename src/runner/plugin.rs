//! The three plugins: `ext-plugin-pre-req`, `ext-plugin-post-req`, `ext-plugin-post-resp`.
//!
//! Each asks a runner what becomes of a message and holds it meanwhile. What they have in common
//! with each other is in [`super::conversation`].

use super::apply;
use super::desk::{Desk, Stage, Waiter};
use super::frame::Kind;
use super::tokens::Token;
use crate::plugin::{
    Action, Hooks, Locals, Plugin, Reply, RequestPhase, ResponseSource, RunnerPlace, Stream,
};
use std::sync::Arc;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Before all other plugins.
    PreReq,
    /// After them.
    PostReq,
    /// When the upstream has answered.
    PostResp,
}

/// All three.
pub(super) const ROLES: [Role; 3] = [Role::PreReq, Role::PostReq, Role::PostResp];

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PreReq => "ext-plugin-pre-req",
            Self::PostReq => "ext-plugin-post-req",
            Self::PostResp => "ext-plugin-post-resp",
        }
    }

    /// APISIX's phase and priority (external plugin reference §1).
    pub(super) fn place(self) -> (RequestPhase, i64) {
        match self {
            Self::PreReq => (RequestPhase::Rewrite, 12_000),
            Self::PostReq => (RequestPhase::Access, -3000),
            Self::PostResp => (RequestPhase::BeforeProxy, -4000),
        }
    }

    /// The call it makes.
    pub(super) fn call(self) -> Kind {
        match self {
            Self::PreReq | Self::PostReq => Kind::RequestCall,
            Self::PostResp => Kind::ResponseCall,
        }
    }
}

/// One of the three with its configuration.
#[derive(Debug)]
pub(super) struct External {
    pub(super) role: Role,
    pub(super) runner: Arc<RunnerPlace>,
    /// Names the configuration to the runner.
    pub(super) key: String,
    /// Plugins of the runner with their configurations.
    pub(super) conf: Vec<(String, String)>,
    /// `allow_degradation`: requests go on without it when the runner fails.
    pub(super) degrades: bool,
    /// Shared with the same configuration of earlier snapshots.
    pub(super) token: Arc<Token<Waiter>>,
}

impl Plugin for External {
    fn name(&self) -> &str {
        self.role.name()
    }

    fn hooks(&self) -> Hooks {
        let always = Hooks::RESPONSE_HEADERS | Hooks::LOG | Hooks::WAITS;
        always
            | match self.role {
                Role::PreReq | Role::PostReq => {
                    Hooks::REQUEST_HEADERS | Hooks::REQUEST_BODY | Hooks::REQUEST_TRAILERS
                }
                Role::PostResp => Hooks::RESPONSE_BODY | Hooks::RESPONSE_TRAILERS,
            }
    }

    fn is_per_worker(&self) -> bool {
        true
    }

    /// How much a body may be is seen to where it is gathered.
    fn held_bytes_max(&self) -> usize {
        usize::MAX
    }

    fn prepare(&self, locals: &mut Locals) -> Result<(), String> {
        Desk::prepare(locals);
        Ok(())
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        self.begin(stream)
    }

    fn on_request_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        self.on_body(stream, end_of_stream)
    }

    fn on_request_trailers(&self, stream: &mut Stream<'_>) -> Action {
        self.on_body(stream, true)
    }

    fn on_response_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        if self.role == Role::PostResp {
            // Only what an upstream answered was ever there for it in APISIX.
            return match stream.message.response.source {
                ResponseSource::Upstream => self.begin(stream),
                _ => Action::Continue,
            };
        }
        if let Some(at) = place_of(*stream.state)
            && let Some(desk) = Desk::of(stream.locals)
            && let Some(conversation) = desk.conversations.get(at)
        {
            apply::later_headers(stream.message, &conversation.later);
        }
        Action::Continue
    }

    fn on_response_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        self.on_body(stream, end_of_stream)
    }

    fn on_response_trailers(&self, stream: &mut Stream<'_>) -> Action {
        self.on_body(stream, true)
    }

    fn on_reply(&self, stream: &mut Stream<'_>, reply: Reply) -> Action {
        match reply.downcast() {
            Ok(talk) => self.on_talk(stream, talk),
            Err(_) => self.on_preparation_over(stream),
        }
    }

    fn on_log(&self, stream: &mut Stream<'_>) {
        self.close(stream);
    }
}

impl External {
    /// Forgets the conversation.
    pub(super) fn close(&self, stream: &mut Stream<'_>) {
        if let Some(at) = place_of(std::mem::take(stream.state))
            && let Some(desk) = Desk::of(stream.locals)
        {
            desk.close(at, self);
        }
    }

    /// Whether the message went another way while the runner thought: the client has an answer
    /// already.
    pub(super) fn is_late(&self, stream: &Stream<'_>) -> bool {
        let expected = match self.role {
            Role::PreReq | Role::PostReq => ResponseSource::None,
            Role::PostResp => ResponseSource::Upstream,
        };
        stream.message.response.source != expected
    }

    /// A piece of the body, or all that was held so far.
    fn on_body(&self, stream: &mut Stream<'_>, end: bool) -> Action {
        let stage = place_of(*stream.state).and_then(|at| {
            Desk::of(stream.locals)?.conversations.get(at).map(|conversation| conversation.stage)
        });
        match stage {
            Some(Stage::Gathering) => self.on_gathered(stream, end),
            Some(Stage::Replacing) => self.on_replaced(stream, end),
            Some(Stage::Called | Stage::Preparing | Stage::Waiting(_)) => {
                Action::Pause(crate::plugin::Hold::Body)
            }
            Some(Stage::Over) | None => Action::Continue,
        }
    }
}

/// The conversation's place that a stream's word names.
pub(super) fn place_of(state: u64) -> Option<usize> {
    (state as usize).checked_sub(1)
}
