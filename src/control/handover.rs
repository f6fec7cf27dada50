//! The store while another process takes over: it stays as it is, and lets go of what only one
//! process can have.

use super::local;
use super::store::Store;
use crate::listen::{Options, Place};
use std::time::Duration;

impl Store {
    /// Waits for the change at hand and lets no more begin. Gives where traffic comes in, as it is
    /// configured and as it became, and how long an upgrade may take.
    pub(super) async fn freeze(&self) -> (Vec<(Options, Place)>, Duration) {
        let desk = self.desk.lock().await;
        self.frozen.send_replace(true);
        let running = desk.loading.running.as_ref();
        let listeners = running.map(|running| running.listeners()).unwrap_or_default();
        (listeners, desk.loading.config.upgrade)
    }

    /// Lets another process have the store. Gives the resources that are kept nowhere else.
    ///
    /// # Errors
    /// The store can't be closed.
    pub(super) async fn release(&self) -> Result<String, String> {
        self.backend.release(|| local::text(&self.document())).await
    }

    /// The other process is gone: changes may come again.
    pub(super) async fn thaw(&self) {
        if let Err(why) = self.backend.take_back().await {
            log::error!("{why}; changes are refused");
        }
        self.frozen.send_replace(false);
    }

    pub(super) fn is_frozen(&self) -> bool {
        *self.frozen.borrow()
    }

    /// Waits until changes may come.
    pub(super) async fn thawed(&self) {
        // The store keeps the sender.
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }
}
