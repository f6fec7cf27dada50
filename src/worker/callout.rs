//! Plugins' own HTTP requests, over the worker's own connections.
//!
//! ```text
//! pick a peer ─► idle connection, or a new one ─► send ─► read to the end ─► keep or close
//!      ▲              │ failed, nothing sent                │ stale, safe to send again
//!      └──────────────┴─────────────────────────────────────┘
//! ```

use super::Worker;
use super::clock::epoch_ns;
use super::connect::connect;
use crate::exchange::{CalloutReader, write_call};
use crate::http::Method;
use crate::limits;
use crate::net::{self, Socket};
use crate::plugin::{CallFailure, CallTarget, HttpCall, HttpReply};
use crate::proxy_protocol::{self, Version};
use crate::snapshot::Pinned;
use crate::upstream::{Address, Ask, KeepAlive, Picked, Shelf, Timeouts};
use std::rc::Rc;

/// Makes the call and tells its plugin how it ended.
pub(super) async fn run(worker: Rc<Worker>, call: Box<HttpCall>) {
    let outcome = match worker.bound_ms(&call) {
        Some(ms) => net::within_ms(ms, worker.call(&call)).await,
        None => Some(Err(CallFailure::NoPeer)),
    };
    let outcome = outcome.unwrap_or(Err(CallFailure::Timeout));
    let mut reply = outcome.unwrap_or_else(|failure| {
        log::info!("callout to {}: {}", shown(&call.upstream), failure.as_str());
        HttpReply::failed(failure)
    });
    worker.tell(&call.to, |root, id, locals| root.on_http_reply(id, &mut reply, locals));
}

fn shown(target: &CallTarget) -> std::borrow::Cow<'_, str> {
    let (CallTarget::Upstream(name) | CallTarget::Direct(name)) = target;
    String::from_utf8_lossy(name)
}

/// One try at a peer.
struct Try {
    address: Address,
    keep_alive: KeepAlive,
    /// A connection begins with a header that says it is our own. Such connections are for one
    /// call.
    own: Option<Version>,
}

impl Worker {
    /// How long all of a call may take: what the plugin said, else the sum of the upstream's own
    /// timeouts. `None`: the upstream is gone with its snapshot.
    fn bound_ms(&self, call: &HttpCall) -> Option<u64> {
        let timeouts = match &call.upstream {
            CallTarget::Upstream(name) => {
                let pinned = self.pinned();
                let number = *pinned.snapshot.upstream_names.get(name)?;
                pinned.upstream(number).timeouts
            }
            CallTarget::Direct(_) => Timeouts::default(),
        };
        let Timeouts { connect_ms, send_ms, read_ms } = timeouts;
        let sum = connect_ms.saturating_add(send_ms).saturating_add(read_ms);
        Some(if call.timeout_ms == 0 { sum } else { call.timeout_ms })
    }

    async fn call(self: &Rc<Self>, call: &HttpCall) -> Result<HttpReply, CallFailure> {
        match &call.upstream {
            CallTarget::Direct(target) => {
                let address = self.lookups.find(target, &self.postbox).await;
                let address = address.ok_or(CallFailure::NoPeer)?;
                let address = Address::Inet(address);
                self.try_peer(call, Try { address, keep_alive: KeepAlive::default(), own: None })
                    .await
            }
            CallTarget::Upstream(name) => self.call_upstream(call, name).await,
        }
    }

    /// Peers are tried in turn as long as none of them can have seen the request.
    async fn call_upstream(
        self: &Rc<Self>,
        call: &HttpCall,
        name: &[u8],
    ) -> Result<HttpReply, CallFailure> {
        let pinned = self.pinned();
        let number = *pinned.snapshot.upstream_names.get(name).ok_or(CallFailure::NoPeer)?;
        let upstream = pinned.upstream(number);
        let mut tried = Vec::new();
        let mut failure = CallFailure::NoPeer;
        while tried.len() <= upstream.retries as usize {
            let Some(Picked { peer, address }) = self.pick(&pinned, number, &tried) else { break };
            tried.push(peer);
            let at = Try { address, keep_alive: upstream.keep_alive, own: upstream.proxy_protocol };
            match self.try_peer(call, at).await {
                Err(CallFailure::Connect) => failure = CallFailure::Connect,
                outcome => return outcome,
            }
        }
        Err(failure)
    }

    /// A peer for something that is no client's request: there is no key to hash.
    pub(super) fn pick(&self, pinned: &Pinned, upstream: usize, tried: &[usize]) -> Option<Picked> {
        let random = &mut self.locals.borrow_mut().random;
        let hash = random.u32(..);
        pinned.pick(upstream, Ask { tried, hash, now_ns: epoch_ns(), random })
    }

    async fn try_peer(self: &Rc<Self>, call: &HttpCall, at: Try) -> Result<HttpReply, CallFailure> {
        let now = self.clock.now_ms();
        let idle = match at.own {
            None => self.idle.borrow_mut().take(&at.address, now, Socket::is_fresh),
            Some(_) => None,
        };
        let _in_use = InUse::new(self);
        if let Some((_, idle)) = idle {
            self.counters.upstream_reused.up();
            let outcome = self.talk(call, &at, idle.connection, idle.requests + 1).await;
            let idempotent = Method::from_bytes(&call.method).is_idempotent();
            match outcome {
                // Closed before a byte came: it had gone stale between the look and the use.
                Err((CallFailure::Closed, 0)) if idempotent => {}
                outcome => return outcome.map_err(|(failure, _)| failure),
            }
        }
        let socket = connect(at.address.clone()).await.map_err(|_| CallFailure::Connect)?;
        self.counters.upstream_made.up();
        self.talk(call, &at, socket, 1).await.map_err(|(failure, _)| failure)
    }

    /// Sends the request and reads the reply; a failure tells how many bytes had come.
    async fn talk(
        self: &Rc<Self>,
        call: &HttpCall,
        at: &Try,
        socket: Socket,
        requests: u64,
    ) -> Result<HttpReply, (CallFailure, usize)> {
        let mut bytes = self.take_buffer(limits::READ_BUFFER_BYTES);
        if let Some(version) = at.own {
            proxy_protocol::write_own(&mut bytes, version);
        }
        write_call(&mut bytes, call);
        let (sent, mut input) = net::send(socket.clone(), bytes).await;
        input.clear();
        // A peer that takes no more may have answered already, so what it sent is read either way.
        let sent = sent.is_ok();
        let mut reader = CalloutReader::new(call);
        let mut received = 0;
        loop {
            input.reserve(limits::READ_BUFFER_BYTES);
            let (result, buffer) = net::read(socket.clone(), input).await;
            input = buffer;
            let ended = match result {
                Ok(0) if reader.on_end() => true,
                Ok(0) | Err(_) => return Err((CallFailure::Closed, received)),
                Ok(bytes) => {
                    received += bytes;
                    reader.read(&mut input).map_err(|failure| (failure, received))?
                }
            };
            if ended {
                let (reply, keeps) = reader.into_reply();
                // Bytes behind a response belong to nobody.
                let keeps = keeps && at.own.is_none();
                if keeps && sent && input.is_empty() && result.is_ok_and(|bytes| bytes > 0) {
                    let now = self.clock.now_ms();
                    self.idle.borrow_mut().put(
                        (at.address.clone(), Shelf::default()),
                        socket,
                        requests,
                        at.keep_alive,
                        now,
                    );
                }
                self.give_back_buffer(input);
                return Ok(reply);
            }
        }
    }
}

/// Counts a connection while a call has it.
struct InUse(Rc<Worker>);

impl InUse {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.counters.upstream_in_use.up();
        Self(Rc::clone(worker))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.counters.upstream_in_use.down();
    }
}
