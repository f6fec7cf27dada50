//! What other threads tell this worker: letters for plugins, names looked up, a new snapshot.

use super::Worker;
use crate::net::{Bell, Doorbell};
use crate::plugin::{Mailbox, ReplyTo};
use crossbeam::channel::{Receiver, Sender};
use std::net::SocketAddr;
use std::rc::Rc;

/// What can be told.
#[derive(Debug)]
pub(super) enum Letter {
    /// [`Root::on_post`](crate::plugin::Root::on_post).
    Post(ReplyTo),
    /// The answer to a question of [`super::lookup`].
    Resolved {
        /// The question's number.
        ticket: u64,
        /// The name's address, if it has one.
        address: Option<SocketAddr>,
    },
}

/// Writes letters to one worker.
#[derive(Clone, Debug)]
pub(super) struct Postbox {
    pub(super) letters: Sender<Letter>,
    pub(super) bell: Bell,
}

impl Postbox {
    pub(super) fn send(&self, letter: Letter) {
        // A worker that has ended reads no more letters.
        if self.letters.send(letter).is_ok() {
            self.bell.ring();
        }
    }
}

impl Mailbox for Postbox {
    fn post(&self, to: ReplyTo) {
        self.send(Letter::Post(to));
    }
}

/// Reads letters, takes a new snapshot, and sees whether to accept, whenever the bell rings.
pub(super) async fn read(worker: Rc<Worker>, doorbell: Doorbell, letters: Receiver<Letter>) {
    let mut bell = match doorbell.listen() {
        Ok(bell) => bell,
        Err(error) => return log::error!("a worker's bell does not work: {error}"),
    };
    while bell.heard().await.is_ok() {
        worker.adopt_snapshot();
        worker.see_whether_to_accept();
        while let Ok(letter) = letters.try_recv() {
            match letter {
                Letter::Post(to) => worker.tell(&to, |root, id, locals| root.on_post(id, locals)),
                Letter::Resolved { ticket, address } => worker.lookups.answer(ticket, address),
            }
        }
    }
}
