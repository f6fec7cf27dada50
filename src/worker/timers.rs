//! Timers of plugins, one for each that is to be called, however often it is set.
//!
//! ```text
//! Errand::Timer ─┬─ none runs ─► a task that sleeps ─► Root::on_timer
//!                └─ one runs ──► its task sleeps anew, or ends
//! ```

use super::Worker;
use crate::net;
use crate::plugin::ReplyTo;
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A worker's running timers.
#[derive(Debug, Default)]
pub(super) struct Timers(RefCell<FxHashMap<Key, Rc<Timer>>>);

/// The place of whom it calls, which its task keeps, and the id.
type Key = (usize, u64);

#[derive(Default)]
struct Timer {
    /// What it was set to since its task looked last; 0: it is stopped.
    set_ms: Cell<Option<u64>>,
    task: Cell<Option<Waker>>,
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Timer")
    }
}

impl Worker {
    /// Sets, moves or, with 0, stops a timer.
    pub(super) fn set_timer(self: &Rc<Self>, to: ReplyTo, after_ms: u64) {
        let mut running = self.timers.0.borrow_mut();
        if let Some(timer) = running.get(&key(&to)) {
            return timer.set(after_ms);
        }
        if after_ms > 0 {
            let timer = Rc::<Timer>::default();
            running.insert(key(&to), Rc::clone(&timer));
            net::spawn(run(Rc::clone(self), to, timer, after_ms));
        }
    }
}

async fn run(worker: Rc<Worker>, to: ReplyTo, timer: Rc<Timer>, mut after_ms: u64) {
    while after_ms > 0
        && let Some(set_ms) = timer.sleep(after_ms).await
    {
        after_ms = set_ms;
    }
    // Before the call, which may set it again.
    worker.timers.0.borrow_mut().remove(&key(&to));
    if after_ms > 0 {
        worker.tell(&to, |root, id, locals| root.on_timer(id, locals));
    }
}

impl Timer {
    fn set(&self, after_ms: u64) {
        self.set_ms.set(Some(after_ms));
        self.task.take().into_iter().for_each(Waker::wake);
    }

    /// Sleeps; where it is set anew meanwhile, ends at once with that.
    async fn sleep(&self, ms: u64) -> Option<u64> {
        let mut sleep = pin!(net::sleep_ms(ms));
        poll_fn(|cx| {
            if let Some(set_ms) = self.set_ms.take() {
                return Poll::Ready(Some(set_ms));
            }
            self.task.set(Some(cx.waker().clone()));
            sleep.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

fn key(to: &ReplyTo) -> Key {
    (to.root.as_ptr().cast::<()>().addr(), to.id)
}
