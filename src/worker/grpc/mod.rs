//! Plugins' gRPC calls and streams, over HTTP/2 connections that all of a worker's calls share.
//!
//! ```text
//! GrpcOpen ─► connection to the peer (one per address) ─► stream ─┬─ outgoing: GrpcSend's messages
//!                                                                 └─ incoming ─► Root::on_grpc …
//! ```

mod call;

use super::Worker;
use crate::limits;
use crate::net::{self, Http2Sender};
use crate::plugin::GrpcOpen;
use crate::proxy_protocol::{self, Version};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A worker's connections and running calls.
#[derive(Debug, Default)]
pub(super) struct Grpc {
    connections: RefCell<FxHashMap<Peer, Http2Sender>>,
    calls: RefCell<FxHashMap<u64, Rc<Outgoing>>>,
}

/// Where a connection leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Peer {
    address: SocketAddr,
    /// It begins with a header that says it is our own.
    own: Option<Version>,
}

/// What a plugin still wants of a running call.
#[derive(Debug, Default)]
struct Outgoing {
    wishes: RefCell<Wishes>,
}

#[derive(Debug, Default)]
struct Wishes {
    messages: VecDeque<Vec<u8>>,
    /// The sum of theirs.
    bytes: usize,
    /// They were more than may wait.
    overflowed: bool,
    ended: bool,
    cancelled: bool,
    sender: Option<Waker>,
    receiver: Option<Waker>,
}

/// Why a call is over before its peer says so.
enum Cut {
    /// Its plugin gave it up.
    Cancelled,
    /// The peer takes messages more slowly than the plugin makes them.
    Overflowed,
}

/// The next thing to send.
enum Wish {
    Message(Vec<u8>),
    End,
}

/// Begins a call or stream.
pub(super) fn open(worker: &Rc<Worker>, open: Box<GrpcOpen>) {
    let outgoing = Rc::new(Outgoing::default());
    worker.grpc.calls.borrow_mut().insert(open.call, Rc::clone(&outgoing));
    net::spawn(call::run(Rc::clone(worker), open, outgoing));
}

/// Sends on a stream; void if it is over.
pub(super) fn send(worker: &Worker, call: u64, message: Option<Vec<u8>>, end: bool) {
    let outgoing = worker.grpc.calls.borrow().get(&call).cloned();
    if let Some(outgoing) = outgoing {
        outgoing.add(message, end);
    }
}

/// Ends a call at once.
pub(super) fn cancel(worker: &Worker, call: u64) {
    if let Some(outgoing) = worker.grpc.calls.borrow_mut().remove(&call) {
        outgoing.give_up();
    }
}

impl Outgoing {
    fn add(&self, message: Option<Vec<u8>>, end: bool) {
        let mut wishes = self.wishes.borrow_mut();
        wishes.bytes += message.as_ref().map_or(0, Vec::len);
        wishes.messages.extend(message);
        wishes.ended |= end;
        if wishes.bytes > limits::GRPC_BACKLOG_BYTES_MAX {
            wishes.overflowed = true;
            wishes.receiver.take().into_iter().for_each(Waker::wake);
        }
        wishes.sender.take().into_iter().for_each(Waker::wake);
    }

    /// Nothing more is sent, and nobody hears of what still comes.
    fn give_up(&self) {
        let mut wishes = self.wishes.borrow_mut();
        (wishes.cancelled, wishes.bytes) = (true, 0);
        wishes.messages.clear();
        wishes.sender.take().into_iter().for_each(Waker::wake);
        wishes.receiver.take().into_iter().for_each(Waker::wake);
    }

    /// The next thing to send; `None` once the call is cancelled.
    fn poll_wish(&self, cx: &mut Context<'_>) -> Poll<Option<Wish>> {
        let mut wishes = self.wishes.borrow_mut();
        if wishes.cancelled {
            return Poll::Ready(None);
        }
        if let Some(message) = wishes.messages.pop_front() {
            wishes.bytes -= message.len();
            return Poll::Ready(Some(Wish::Message(message)));
        }
        if wishes.ended {
            return Poll::Ready(Some(Wish::End));
        }
        wishes.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the call was cancelled, seen while a message goes out; remembers whom to wake.
    fn stops_sending(&self, cx: &Context<'_>) -> bool {
        let mut wishes = self.wishes.borrow_mut();
        wishes.sender = Some(cx.waker().clone());
        wishes.cancelled
    }

    /// Whether the call is over before its peer says so, and why; remembers whom to wake.
    fn poll_end(&self, cx: &Context<'_>) -> Poll<Cut> {
        let mut wishes = self.wishes.borrow_mut();
        wishes.receiver = Some(cx.waker().clone());
        match (wishes.cancelled, wishes.overflowed) {
            (true, _) => Poll::Ready(Cut::Cancelled),
            (false, true) => Poll::Ready(Cut::Overflowed),
            (false, false) => Poll::Pending,
        }
    }
}

impl Worker {
    /// A connection to that address that takes another stream.
    async fn http2(self: &Rc<Self>, peer: Peer) -> std::io::Result<Http2Sender> {
        let known = self.grpc.connections.borrow().get(&peer).cloned();
        if let Some(known) = known
            && let Ok(ready) = known.ready().await
        {
            return Ok(ready);
        }
        let mut lead = Vec::new();
        if let Some(version) = peer.own {
            proxy_protocol::write_own(&mut lead, version);
        }
        let (sender, driver) = net::connect_http2(peer.address, lead).await?;
        self.grpc.connections.borrow_mut().insert(peer, sender.clone());
        let worker = Rc::clone(self);
        net::spawn(async move {
            if let Err(error) = driver.await {
                log::info!("gRPC connection to {}: {error}", peer.address);
            }
            worker.grpc.connections.borrow_mut().remove(&peer);
        });
        sender.ready().await.map_err(std::io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_has_a_bound() {
        let outgoing = Outgoing::default();
        let cx = &mut Context::from_waker(Waker::noop());
        let most = limits::GRPC_BACKLOG_BYTES_MAX;
        outgoing.add(Some(vec![0; most]), false);
        assert!(outgoing.poll_end(cx).is_pending(), "so much may wait");
        assert!(matches!(outgoing.poll_wish(cx), Poll::Ready(Some(Wish::Message(_)))));
        outgoing.add(Some(vec![0; most]), false);
        assert!(outgoing.poll_end(cx).is_pending(), "what was sent waits no more");
        outgoing.add(Some(vec![0]), false);
        assert!(matches!(outgoing.poll_end(cx), Poll::Ready(Cut::Overflowed)));
        outgoing.give_up();
        assert!(matches!(outgoing.poll_wish(cx), Poll::Ready(None)));
        assert!(outgoing.stops_sending(cx));
    }
}
