//! Log lines and the clock.

use super::super::abi::{Status, current_log_level, log_level};
use super::super::property::wall_clock_ns;
use super::{Host, Outcome, open};

pub(super) fn proxy_log(mut host: Host<'_>, level: u32, text: u32, len: u32) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let text = memory.slice(text, len)?;
    let level = log_level(level).ok_or(Status::BadArgument)?;
    guest.say(level, text);
    Ok(())
}

pub(super) fn proxy_get_log_level(mut host: Host<'_>, level_at: u32) -> Outcome {
    let (mut memory, _) = open(&mut host)?;
    memory.write_u32(level_at, current_log_level())?;
    Ok(())
}

pub(super) fn proxy_get_current_time_nanoseconds(mut host: Host<'_>, time_at: u32) -> Outcome {
    let (mut memory, _) = open(&mut host)?;
    memory.write_u64(time_at, wall_clock_ns())?;
    Ok(())
}
