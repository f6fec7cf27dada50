//! One direction's place in the chain, and what a chain remembers of one exchange.
//!
//! ```text
//!            position 0 ──► 1 ──► 2 ──► … ──► out of the chain
//! headers      run in order; one may hold them: nothing passes its position
//! body         each piece runs through in order; a plugin that pauses keeps its piece, and sees it
//!              again, with more, next time
//! trailers     after the last piece; they take along what is kept, and wait where headers wait
//! ```

use crate::limits;
use crate::plugin::Hold;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// What a pass through the chain came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// Everything is through.
    Through,
    /// Some plugin holds it.
    Held,
    /// The plugin of that step answers with `message.local`.
    Respond(usize),
    /// A plugin closes the exchange.
    Close,
    /// A plugin holds back more than it may.
    TooMuch,
    /// The gateway answers with that status: what the chain needs is not there.
    Fail(u16),
}

impl Passed {
    /// Whether the message is still on its way.
    pub(super) fn goes_on(self) -> bool {
        matches!(self, Self::Through | Self::Held)
    }
}

/// What the exchange remembers for each step of its chain. Kept and filled again.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: Vec<StepState>,
    /// Some step has a `resumes`.
    resumed: bool,
}

#[derive(Debug, Default)]
pub(super) struct StepState {
    /// The plugin's own word.
    pub(super) word: u64,
    /// Whether `_meta.filter` lets it run; `None`: not asked yet.
    pub(super) runs: Option<bool>,
    /// It let go, in a callback of the other direction, what it held in this one.
    resumes: Option<Direction>,
}

impl Steps {
    pub(super) fn begin(&mut self, count: usize) {
        self.steps.clear();
        self.steps.resize_with(count, StepState::default);
        self.resumed = false;
    }

    /// Steps joined those that are there.
    pub(super) fn grow(&mut self, count: usize) {
        self.steps.resize_with(count, StepState::default);
    }

    pub(super) fn at(&mut self, step: usize) -> &mut StepState {
        &mut self.steps[step]
    }

    pub(super) fn resume(&mut self, step: usize, direction: Direction) {
        self.steps[step].resumes = Some(direction);
        self.resumed = true;
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether a step may have let go.
    pub(super) fn any_resumed(&self) -> bool {
        self.resumed
    }

    /// A step that let go, each once.
    pub(super) fn take_resumed(&mut self) -> Option<(usize, Direction)> {
        if !self.resumed {
            return None;
        }
        let mut all = self.steps.iter_mut().enumerate();
        let found = all.find_map(|(at, step)| Some((at, step.resumes.take()?)));
        self.resumed = found.is_some();
        found
    }
}

/// How far one direction is in its chain, and what is held on the way.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The position that holds the headers, and how.
    pub(super) held: Option<(usize, Hold)>,
    /// Whether all headers callbacks are done.
    pub(super) headers_through: bool,
    /// The pieces kept by paused body callbacks, by position.
    kept: Vec<Vec<u8>>,
    /// The position that keeps the end of the body.
    pub(super) end_at: Option<usize>,
    /// The position where the trailers wait for the headers.
    pub(super) trailers_at: Option<usize>,
    /// Whether the end of the message went through the whole chain.
    pub(super) end_through: bool,
}

impl Flow {
    pub(super) fn clear(&mut self) {
        self.held = None;
        self.headers_through = false;
        self.end_at = None;
        self.trailers_at = None;
        self.end_through = false;
        for piece in &mut self.kept {
            piece.clear();
            piece.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        }
    }

    /// Whether body bytes may enter the chain now.
    pub(super) fn takes_body(&self) -> bool {
        match self.held {
            None => self.headers_through,
            Some((_, hold)) => hold == Hold::Body,
        }
    }

    /// How `position` holds the headers, if it does.
    pub(super) fn hold_at(&self, position: usize) -> Option<Hold> {
        self.held.filter(|(at, _)| *at == position).map(|(_, hold)| hold)
    }

    /// Whether anything of the message waits at `position`.
    pub(super) fn waits_at(&self, position: usize) -> bool {
        self.hold_at(position).is_some()
            || self.end_at == Some(position)
            || self.trailers_at == Some(position)
            || self.kept.get(position).is_some_and(|piece| !piece.is_empty())
    }

    /// Adds a piece to what `position` keeps; gives how much that is now.
    pub(super) fn keep(&mut self, position: usize, piece: &mut Vec<u8>) -> usize {
        if self.kept.len() <= position {
            self.kept.resize_with(position + 1, Vec::new);
        }
        let kept = &mut self.kept[position];
        if kept.is_empty() {
            std::mem::swap(kept, piece);
        } else {
            kept.append(piece);
        }
        kept.len()
    }

    /// Swaps what `position` keeps with `body`: to look at it and back.
    pub(super) fn swap_kept(&mut self, position: usize, body: &mut Vec<u8>) {
        if self.kept.len() <= position && !body.is_empty() {
            self.kept.resize_with(position + 1, Vec::new);
        }
        if let Some(kept) = self.kept.get_mut(position) {
            std::mem::swap(kept, body);
        }
    }

    /// The position that keeps body bytes, or the end of a body; the first if several do.
    pub(super) fn keeps_at(&self) -> Option<usize> {
        self.kept.iter().position(|piece| !piece.is_empty()).or(self.end_at)
    }

    /// Puts what `position` kept before `piece`.
    pub(super) fn join_kept(&mut self, position: usize, piece: &mut Vec<u8>) {
        if let Some(kept) = self.kept.get_mut(position)
            && !kept.is_empty()
        {
            kept.extend_from_slice(piece);
            std::mem::swap(kept, piece);
            kept.clear();
        }
    }
}
