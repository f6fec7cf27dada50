//! What a running gateway has beside its workers and that a reload can change: the addresses it
//! listens on, and the file of the access log.

use super::access_log::AccessLog;
use super::workers::reserve_all;
use crate::conf::Config;
use crate::net::Reservation;
use std::net::SocketAddr;
use std::path::Path;

/// Addresses and files in use.
#[derive(Debug)]
pub(super) struct Running {
    access: AccessLog,
    /// Each address of the configuration, and the one it became: port 0 is some port.
    bound: Vec<Bound>,
    /// What a configuration that is not carried through yet would have, and hold meanwhile.
    next: Vec<Bound>,
    held: Vec<Reservation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    configured: SocketAddr,
    address: SocketAddr,
}

impl Running {
    /// With what the process started with: `addresses` are those of the configuration, in order.
    pub(super) fn new(config: &Config, addresses: &[SocketAddr], access: AccessLog) -> Self {
        let pairs = config.listen.iter().zip(addresses);
        let bound = pairs
            .map(|(configured, address)| Bound { configured: *configured, address: *address })
            .collect();
        Self { access, bound, next: Vec::new(), held: Vec::new() }
    }

    /// Makes sure that a configuration can be carried through, and gives its addresses. New ones
    /// are held until [`Running::commit`] or [`Running::forget`].
    ///
    /// # Errors
    /// An address is in use or not ours; the access log can't be opened.
    pub(super) fn prepare(&mut self, config: &Config) -> Result<Vec<SocketAddr>, String> {
        self.forget();
        if let Some(log) = &config.access_log {
            AccessLog::try_open(Path::new(&log.file))?;
        }
        let mut left = self.bound.clone();
        for configured in &config.listen {
            let there = left.iter().position(|bound| bound.configured == *configured);
            let bound = match there {
                Some(at) => left.remove(at),
                None => {
                    let mut held = reserve_all(&[*configured])?;
                    let address = held[0].address;
                    self.held.append(&mut held);
                    Bound { configured: *configured, address }
                }
            };
            self.next.push(bound);
        }
        Ok(self.next.iter().map(|bound| bound.address).collect())
    }

    /// The configuration serves.
    pub(super) fn commit(&mut self, config: &Config) {
        let next = std::mem::take(&mut self.next);
        let gone = self.bound.iter().filter(|bound| !next.contains(bound));
        gone.for_each(|bound| log::warn!("no longer listening on {}", bound.address));
        for bound in next.iter().filter(|bound| !self.bound.contains(bound)) {
            println!("ringgate: listening on http://{}", bound.address);
        }
        self.bound = next;
        self.held.clear();
        let file = config.access_log.as_ref().map(|log| Path::new(&log.file));
        if let Err(why) = self.access.open(file) {
            log::error!("{why}");
        }
    }

    /// It does not.
    pub(super) fn forget(&mut self) {
        self.next.clear();
        self.held.clear();
    }
}
