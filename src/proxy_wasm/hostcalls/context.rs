//! Contexts, timers.

use super::super::abi::Status;
use super::super::guest::Ending;
use super::{Host, Outcome};
use std::sync::Arc;

pub(super) fn proxy_set_effective_context(mut host: Host<'_>, context: u32) -> Outcome {
    let step = if host.data().frame.joined { step(&mut host) } else { 0 };
    let guest = host.data_mut();
    if !guest.is_live(context) {
        return Err(Status::BadArgument.into());
    }
    guest.frame.effective = context;
    guest.frame.step = step;
    if guest.streams.contains_key(&context) {
        guest.visit(context);
    }
    Ok(())
}

/// Ends what [`proxy_set_effective_context`] began if the callback that asked for it has returned.
#[cold]
pub(super) fn leave_with_step(host: &mut Host<'_>) {
    if step(host) != host.data().frame.step {
        let guest = host.data_mut();
        guest.frame.effective = 0;
        guest.end_visit();
    }
}

/// Which callback of a joined call runs.
fn step(host: &mut Host<'_>) -> i32 {
    let facts = Arc::clone(&host.data().facts);
    facts.exports.step(host)
}

/// The guest has finished a root context that it asked us to wait for.
pub(super) fn proxy_done(mut host: Host<'_>) -> Outcome {
    match host.data_mut().root() {
        Some(root) if root.ending == Ending::Pending => {
            root.ending = Ending::Done;
            Ok(())
        }
        _ => Err(Status::NotFound.into()),
    }
}

pub(super) fn proxy_set_tick_period_milliseconds(mut host: Host<'_>, period: u32) -> Outcome {
    let guest = host.data_mut();
    let Some(root) = guest.root() else { return Err(Status::BadArgument.into()) };
    root.tick_ms = period;
    let id = root.id;
    guest.arm_tick(id);
    Ok(())
}
