//! What a running gateway has beside its workers and that a reload can change: the addresses it
//! listens on, and the file of the access log.

use super::access_log::AccessLog;
use super::workers::{reserve_all, shown, traffic};
use crate::conf::Config;
use crate::listen::{Address, Options, Place};
use crate::net;
use std::path::Path;

/// Addresses and files in use.
#[derive(Debug)]
pub(super) struct Running {
    access: AccessLog,
    /// Each listener of the configuration, and what it became: port 0 is some port.
    bound: Vec<Bound>,
    /// What a configuration that is not carried through yet would have.
    next: Vec<Bound>,
    workers: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    configured: Options,
    place: Place,
}

impl Bound {
    /// The same sockets, listened on in another way.
    fn with(mut self, configured: &Options) -> Self {
        let address = self.place.options.address;
        self.place.options = Options { address, ..configured.clone() };
        self.configured = configured.clone();
        self
    }
}

impl Running {
    /// With what the process started with: `places` are those of the configuration, in order.
    pub(super) fn new(
        config: &Config,
        places: &[Place],
        access: AccessLog,
        workers: usize,
    ) -> Self {
        let bound = |(configured, place): (&Options, &Place)| Bound {
            configured: configured.clone(),
            place: place.clone(),
        };
        let bound = traffic(config).iter().zip(places).map(bound).collect();
        Self { access, bound, next: Vec::new(), workers }
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
        let (wanted, mut left) = (traffic(config), self.bound.clone());
        // Those that stay as they are first: of several on port 0 the others are the changed ones.
        let mut take = |is_it: &dyn Fn(&Options) -> bool| {
            let at = left.iter().position(|bound| is_it(&bound.configured))?;
            Some(left.remove(at))
        };
        let same: Vec<_> = wanted.iter().map(|wanted| take(&|it| it == wanted)).collect();
        for (wanted, same) in wanted.iter().zip(same) {
            let there = same.or_else(|| take(&|it| it.address == wanted.address));
            self.next.push(match there {
                Some(bound) => bound.with(wanted),
                None => self.added(wanted)?,
            });
        }
        Ok(self.next.iter().map(|bound| bound.place.clone()).collect())
    }

    fn added(&self, configured: &Options) -> Result<Bound, String> {
        let place = reserve_all(std::slice::from_ref(configured), self.workers)?.remove(0);
        Ok(Bound { configured: configured.clone(), place })
    }

    /// Each listener of the configuration, and what it became.
    pub(super) fn listeners(&self) -> Vec<(Options, Place)> {
        self.bound.iter().map(|bound| (bound.configured.clone(), bound.place.clone())).collect()
    }

    /// The configuration serves.
    pub(super) fn commit(&mut self, config: &Config) {
        let next = std::mem::take(&mut self.next);
        let is_there = |all: &[Bound], one: &Bound| {
            all.iter().any(|bound| bound.place.sockets == one.place.sockets)
        };
        for bound in self.bound.iter().filter(|bound| !is_there(&next, bound)) {
            let address = &bound.place.options.address;
            log::warn!("no longer listening on {address}");
            bound.place.sockets.close();
            if let Address::Unix(path) = address
                && let Err(error) = std::fs::remove_file(path)
            {
                log::warn!("{address}: can't be removed: {error}");
            }
        }
        for bound in next.iter().filter(|bound| !self.bound.contains(bound)) {
            if !is_there(&self.bound, bound) {
                println!("ringgate: listening on {}", shown(&bound.place));
            } else if let Err(error) = net::set_options(&bound.place) {
                let address = &bound.place.options.address;
                log::error!("{address}: its settings could not be changed: {error}");
            }
        }
        self.bound = next;
        let file = config.access_log.as_ref().map(|log| Path::new(&log.file));
        if let Err(why) = self.access.open(file) {
            log::error!("{why}");
        }
    }

    /// It does not.
    pub(super) fn forget(&mut self) {
        self.next.clear();
    }
}
