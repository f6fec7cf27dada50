//! Contexts, timers.

use super::super::abi::Status;
use super::super::guest::Ending;
use super::{Host, Outcome};

pub(super) fn proxy_set_effective_context(mut host: Host<'_>, context: u32) -> Outcome {
    let guest = host.data_mut();
    if !guest.is_live(context) {
        return Err(Status::BadArgument.into());
    }
    guest.frame.effective = context;
    if guest.streams.contains_key(&context) {
        guest.visit(context);
    }
    Ok(())
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
