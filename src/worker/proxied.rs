//! Connections that come through a proxy which says who they are from.

use super::Worker;
use super::connection::{Arrived, Downstream};
use crate::proxy_protocol::{self, Origin};
use std::rc::Rc;

impl Downstream {
    /// Reads the PROXY protocol header that the connection must begin with; tells whether there was
    /// one. Who does not send one is told nothing: it may not even speak HTTP.
    pub(super) async fn learn_origin(&mut self, worker: &Rc<Worker>) -> bool {
        loop {
            match proxy_protocol::read(&self.input) {
                Ok(Some((origin, used))) => {
                    self.facts.proxy = Some(self.facts.peer.ip());
                    if let Origin::Client { source, destination } = origin {
                        (self.facts.peer, self.facts.local) = (source, destination);
                    }
                    self.at = used;
                    return true;
                }
                Ok(None) => match self.read_more(worker).await {
                    Arrived::Bytes => {}
                    Arrived::End | Arrived::Late => return false,
                },
                Err(why) => {
                    worker.counters.refused.up();
                    log::info!("{}: connection refused: {why}", self.facts.peer);
                    return false;
                }
            }
        }
    }
}
