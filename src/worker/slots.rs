//! Operations in flight: a future that stays where it is pinned until it is done.
//!
//! Several operations of one connection run at the same time (read from one side while sending to
//! the other). Dropping a read's future could lose bytes, so each has a slot, and waiting polls all
//! of them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A place for one running operation.
pub(super) type Slot<'a, F> = Pin<&'a mut Option<F>>;

/// Polls the slot's operation if there is one; empties the slot when it is done.
pub(super) fn poll_slot<F: Future>(
    slot: &mut Slot<'_, F>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let Some(running) = slot.as_mut().as_pin_mut() else { return Poll::Pending };
    let done = std::task::ready!(running.poll(cx));
    slot.set(None);
    Poll::Ready(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    #[test]
    fn a_slot_is_empty_once_its_operation_is_done() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut slot = pin!(Some(std::future::ready(7)));
        assert_eq!(poll_slot(&mut slot, &mut cx), Poll::Ready(7));
        assert_eq!(poll_slot(&mut slot, &mut cx), Poll::Pending);
    }
}
