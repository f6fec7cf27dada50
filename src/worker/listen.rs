//! Where a worker listens, and whether it accepts.

use super::{Worker, connection};
use crate::limits;
use crate::listen::Place;
use crate::net::{self, Accepted, Listener};
use std::rc::Rc;

impl Worker {
    /// Listens in these places and in no others. Connections that are open already go on, whoever
    /// accepted them.
    ///
    /// # Errors
    /// One can't be listened on; nothing has changed then.
    pub(super) fn listen_on(self: &Rc<Self>, wanted: &[Place]) -> Result<(), String> {
        let mut listeners = self.listeners.borrow_mut();
        let is_missing = |place: &&Place| !listeners.iter().any(|listener| listener.is_of(place));
        let mut added = Vec::new();
        for place in wanted.iter().filter(is_missing) {
            let address = &place.options.address;
            let opened = Listener::open(place, self.index, self.workers)
                .map_err(|error| format!("can't listen on {address}: {error}"))?;
            added.extend(opened.into_iter().map(Rc::new));
        }
        listeners.retain(|listener| {
            let place = wanted.iter().find(|place| listener.is_of(place));
            match place {
                Some(place) => listener.set_options(&place.options),
                None => listener.stop(),
            }
            place.is_some()
        });
        if self.accepting.get() {
            self.accept_on(&added);
        }
        listeners.extend(added);
        Ok(())
    }

    /// Accepts or leaves connections in the kernel, as it is wished.
    pub(super) fn see_whether_to_accept(self: &Rc<Self>) {
        let wish = self.shared.accepts();
        if self.stopping.get() || self.accepting.replace(wish) == wish {
            return;
        }
        let listeners = self.listeners.borrow();
        if wish {
            self.accept_on(&listeners);
        } else {
            listeners.iter().for_each(|listener| listener.pause());
        }
        self.shared.note_accepting(wish);
    }

    fn accept_on(self: &Rc<Self>, listeners: &[Rc<Listener>]) {
        for listener in listeners {
            match listener.begin() {
                Ok(()) => net::spawn(accept(Rc::clone(self), Rc::clone(listener))),
                Err(error) => log::error!("can't accept on {}: {error}", listener.address()),
            }
        }
    }

    /// Nobody new comes in. Where another process has the sockets they are its to stop.
    pub(super) fn stop_listening(&self) {
        if self.accepting.replace(false) {
            self.listeners.borrow().iter().for_each(|listener| listener.stop());
        }
    }
}

async fn accept(worker: Rc<Worker>, listener: Rc<Listener>) {
    loop {
        match listener.accept().await {
            Ok(Some(Accepted { socket, peer, local })) => {
                let Some(local) = local.or_else(|| socket.local()) else { continue };
                let proxied = listener.is_proxied();
                net::spawn(connection::serve(Rc::clone(&worker), socket, (peer, local), proxied));
            }
            Ok(None) => return,
            Err(error) => {
                // No descriptors left, most likely: waiting lets some be closed.
                log::warn!("accept on {}: {error}", listener.address());
                net::sleep_ms(limits::TICK_MS).await;
            }
        }
    }
}
