//! A gateway that took over from the one that the test started.

use super::Gateway;
use rustix::process::{Pid, Signal, kill_process};

/// The process; killed by its id when dropped. It is no child of ours: who started it has ended.
pub(crate) struct Successor(pub(crate) i32);

impl Successor {
    /// Has whoever serves taken over from (`None`: the process of the test) and waits for it. The
    /// new one writes to the log of the first.
    #[track_caller]
    pub(crate) fn of(gateway: &Gateway, serving: Option<&Self>) -> Self {
        let said = |log: &str| log.matches("serves; finishing").count();
        let refused = |log: &str| log.matches("upgrade refused").count();
        let before = (said(&gateway.log()), refused(&gateway.log()));
        match serving {
            Some(successor) => successor.signal(Signal::USR2),
            None => gateway.process().signal(Signal::USR2),
        }
        let is_over = || {
            let log = gateway.log();
            assert_eq!(refused(&log), before.1, "{log}");
            said(&log) > before.0
        };
        super::eventually("the new process serves", is_over);
        let log = gateway.log();
        let (line, _) = log.rsplit_once(" serves; finishing").expect("the line");
        let pid = line.rsplit(' ').next().and_then(|pid| pid.parse().ok());
        Self(pid.expect("a number"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0).expect("a number");
        kill_process(pid, signal).expect("the process is there");
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0).filter(|_| is_alive(self.0)) {
            // It may end in between.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Whether a process is there, and no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}
