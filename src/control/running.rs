//! What a running gateway has beside its workers and that a reload can change: the addresses it
//! listens on, and the file of the access log.

use super::access_log::AccessLog;
use super::workers::{reserve_all, shown};
use crate::conf::Config;
use crate::listen::{Address, Options, Place};
use crate::net::Reservation;
use std::path::Path;

/// Addresses and files in use.
#[derive(Debug)]
pub(super) struct Running {
    access: AccessLog,
    /// Each listener of the configuration, and what it became: port 0 is some port.
    bound: Vec<Bound>,
    /// What a configuration that is not carried through yet would have, and hold meanwhile.
    next: Vec<Bound>,
    held: Vec<Reservation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    configured: Options,
    place: Place,
}

impl Running {
    /// With what the process started with: `places` are those of the configuration, in order.
    pub(super) fn new(config: &Config, places: &[Place], access: AccessLog) -> Self {
        let bound = |(configured, place): (&Options, &Place)| Bound {
            configured: configured.clone(),
            place: place.clone(),
        };
        let bound = config.listen.iter().zip(places).map(bound).collect();
        Self { access, bound, next: Vec::new(), held: Vec::new() }
    }

    /// Makes sure that a configuration can be carried through, and gives its addresses. New ones
    /// are held until [`Running::commit`] or [`Running::forget`].
    ///
    /// # Errors
    /// An address is in use or not ours; the access log can't be opened.
    pub(super) fn prepare(&mut self, config: &Config) -> Result<Vec<Place>, String> {
        self.forget();
        if let Some(log) = &config.access_log {
            AccessLog::try_open(Path::new(&log.file))?;
        }
        let mut left = self.bound.clone();
        for configured in &config.listen {
            let there = left.iter().position(|bound| bound.configured == *configured);
            let bound = match there {
                Some(at) => left.remove(at),
                None => self.added(configured)?,
            };
            self.next.push(bound);
        }
        Ok(self.next.iter().map(|bound| bound.place.clone()).collect())
    }

    /// A listener that is not there like this.
    fn added(&mut self, configured: &Options) -> Result<Bound, String> {
        let is_same = |bound: &&Bound| {
            configured.address.is_fixed() && bound.configured.address == configured.address
        };
        let place = match (self.bound.iter().find(is_same), &configured.address) {
            (Some(_), address @ Address::Unix(_)) => {
                return Err(format!(
                    "{address}: its settings can't change while it is listened on; restart, or use \
                     another path"
                ));
            }
            // The address is ours already: only how it is listened on changes.
            (Some(_), Address::Tcp(_)) => Place { options: configured.clone(), held: None },
            (None, _) => {
                let mut held = reserve_all(std::slice::from_ref(configured))?;
                let place = held[0].place.clone();
                self.held.append(&mut held);
                place
            }
        };
        Ok(Bound { configured: configured.clone(), place })
    }

    /// The configuration serves.
    pub(super) fn commit(&mut self, config: &Config) {
        let next = std::mem::take(&mut self.next);
        let gone = self.bound.iter().filter(|bound| !next.contains(bound));
        for bound in gone {
            let address = &bound.place.options.address;
            log::warn!("no longer listening on {address}");
            if let Address::Unix(path) = address
                && let Err(error) = std::fs::remove_file(path)
            {
                log::warn!("{address}: can't be removed: {error}");
            }
        }
        for bound in next.iter().filter(|bound| !self.bound.contains(bound)) {
            println!("ringgate: listening on {}", shown(&bound.place));
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
