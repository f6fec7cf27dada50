//! What plugins asked for, carried out between their callbacks.
//!
//! ```text
//! callback ─ leaves errands ─► run_errands ─ a task each ─► Root::on_… ─ may leave more
//! ```

use super::{Worker, callout};
use crate::net;
use crate::plugin::{Errand, Locals, ReplyTo, Root};
use std::rc::Rc;

impl Worker {
    /// Lends the worker's own state to a call into plugins, then sees to what they asked for.
    pub(super) fn with_locals<T>(self: &Rc<Self>, f: impl FnOnce(&mut Locals) -> T) -> T {
        let done = self.lend_locals(f);
        self.see_to_errands();
        done
    }

    /// Lends the worker's own state to calls whose errands somebody sees to later.
    pub(super) fn lend_locals<T>(&self, f: impl FnOnce(&mut Locals) -> T) -> T {
        let mut locals = self.locals.borrow_mut();
        locals.now_ms = self.clock.now_ms();
        f(&mut locals)
    }

    /// Carries out what plugins asked for, if there is anything.
    pub(super) fn see_to_errands(self: &Rc<Self>) {
        if !self.services.is_quiet() {
            self.run_errands();
        }
    }

    /// Calls whoever is to get something, if that is still there.
    pub(super) fn tell(self: &Rc<Self>, to: &ReplyTo, f: impl FnOnce(&dyn Root, u64, &mut Locals)) {
        let Some(root) = to.root.upgrade() else { return };
        self.with_locals(|locals| f(&*root, to.id, locals));
    }

    #[cold]
    pub(super) fn run_errands(self: &Rc<Self>) {
        let mut errands = std::mem::take(&mut *self.errands.borrow_mut());
        self.services.take_errands(&mut errands);
        for errand in errands.drain(..) {
            self.run_errand(errand);
        }
        *self.errands.borrow_mut() = errands;
    }

    fn run_errand(self: &Rc<Self>, errand: Errand) {
        match errand {
            Errand::HttpCall(call) => net::spawn(callout::run(Rc::clone(self), call)),
            Errand::Timer { to, after_ms } => self.set_timer(to, after_ms),
            Errand::GrpcOpen(open) => super::grpc::open(self, open),
            Errand::GrpcSend { call, message, end } => super::grpc::send(self, call, message, end),
            Errand::GrpcCancel { call } => super::grpc::cancel(self, call),
            Errand::RunnerSend(talk) => self.send_to_runner(talk),
            Errand::RunnerRelease(link) => self.release_runner(link),
        }
    }
}
