//! Callbacks on root contexts: ticks, queues, replies of callouts.
//!
//! ```text
//! worker ─ Root for Entry ─► the pool's instance of that number ─► its root context's callback
//!                                     │ fault: the instance is dropped, its streams are told
//! ```

use super::abi::Phase;
use super::calls::{Call, CallKind};
use super::guest::{Frame, Guest};
use super::host::Entry;
use super::instance::Instance;
use super::pool;
use super::reply::Reply;
use crate::plugin::{GrpcEvent, HttpReply, Locals, Root};
use crate::vm::Fault;

/// The maps of gRPC metadata.
const INITIAL_METADATA: u32 = 4;
const TRAILING_METADATA: u32 = 5;

/// An instance's number above, what is meant in it below.
pub(super) fn root_id(number: u32, what: u32) -> u64 {
    u64::from(number) << 32 | u64::from(what)
}

fn parts(id: u64) -> (u32, u32) {
    ((id >> 32) as u32, id as u32)
}

impl Root for Entry {
    fn on_http_reply(&self, id: u64, reply: &mut HttpReply, locals: &mut Locals) {
        let (number, token) = parts(id);
        self.run(number, "proxy_on_http_call_response", locals, |instance| {
            instance.on_http_reply(token, reply)
        });
    }

    fn on_grpc(&self, id: u64, event: GrpcEvent, locals: &mut Locals) {
        let (number, token) = parts(id);
        self.run(number, "a gRPC callback", locals, |instance| instance.on_grpc(token, event));
    }

    fn on_timer(&self, id: u64, locals: &mut Locals) {
        let (number, root) = parts(id);
        self.run(number, "proxy_on_tick", locals, |instance| instance.on_timer(root));
    }

    /// An item is in a queue: the conf's index above, the queue's id below. Whichever instance is
    /// active hears of it.
    fn on_post(&self, id: u64, locals: &mut Locals) {
        let (conf_index, queue) = parts(id);
        let active = pool::find(locals, self).and_then(|pool| pool.active_number());
        let Some(number) = active else { return };
        self.run(number, "proxy_on_queue_ready", locals, |instance| {
            instance.on_queue_ready(conf_index as usize, queue)
        });
    }
}

impl Entry {
    fn run(
        &self,
        number: u32,
        callback: &str,
        locals: &mut Locals,
        f: impl FnOnce(&mut Instance) -> Result<(), Fault>,
    ) {
        let now_ms = locals.now_ms;
        let Some(pool) = pool::find(locals, self) else { return };
        let Some(instance) = pool.instance(number) else { return };
        let Err(fault) = f(instance) else { return };
        let name = &self.facts.name;
        let what = self.facts.what_happened(&fault);
        log::error!(target: "wasm", "[{name}] {callback} {what}: {fault}");
        pool.count_failure(self, now_ms, fault.kind);
        pool.drop_instance(number);
        locals.wants_chores = true;
    }
}

impl Instance {
    fn on_http_reply(&mut self, token: u32, reply: &mut HttpReply) -> Result<(), Fault> {
        let Some(Call { root, .. }) = self.guest().calls.end(token) else { return Ok(()) };
        let reply = Reply::of_http(reply);
        let body_len = reply.body.as_ref().map_or(0, |body| body.len() as u32);
        let params = [root, token, reply.map_len(6), body_len, reply.map_len(7)];
        self.show(root, reply, |this, frame| {
            this.call_rare(|exports| &exports.http_call_response, frame, params)
        })
    }

    fn on_grpc(&mut self, token: u32, event: GrpcEvent) -> Result<(), Fault> {
        let Some(Call { root, kind, .. }) = self.guest().calls.find(token) else {
            return Ok(());
        };
        match event {
            GrpcEvent::InitialMetadata(fields) => {
                let reply = Reply::of_metadata(INITIAL_METADATA, fields);
                let params = [root, token, reply.map_len(INITIAL_METADATA)];
                self.show(root, reply, |this, frame| {
                    this.call_rare(|exports| &exports.grpc_initial_metadata, frame, params)
                })
            }
            GrpcEvent::Message(message) => {
                if kind == CallKind::GrpcCall {
                    // A unary call that went well has no other end than its message.
                    self.guest().calls.end(token);
                }
                let params = [root, token, message.len() as u32];
                self.show(root, Reply::of_message(message), |this, frame| {
                    this.call_rare(|exports| &exports.grpc_receive, frame, params)
                })
            }
            GrpcEvent::TrailingMetadata(fields) => {
                let reply = Reply::of_metadata(TRAILING_METADATA, fields);
                let params = [root, token, reply.map_len(TRAILING_METADATA)];
                self.show(root, reply, |this, frame| {
                    this.call_rare(|exports| &exports.grpc_trailing_metadata, frame, params)
                })
            }
            GrpcEvent::Closed { status, message } => {
                self.guest().calls.end(token);
                let params = [root, token, status];
                self.show(root, Reply::of_status(status, message), |this, frame| {
                    this.call_rare(|exports| &exports.grpc_close, frame, params)
                })
            }
        }
    }

    /// A tick of a root context. The next one is set when the callback has returned, so that ticks
    /// never pile up, unless the callback itself has done so.
    fn on_timer(&mut self, id: u32) -> Result<(), Fault> {
        let armed = |guest: &Guest| {
            let root = guest.roots.iter().find(|root| root.id == id && root.tick_ms > 0);
            root.map(|root| root.armed)
        };
        let before = armed(self.guest());
        if before.is_none() {
            return Ok(());
        }
        self.show(id, Reply::default(), |this, frame| {
            this.call_rare(|exports| &exports.tick, frame, [id])
        })?;
        let guest = self.guest();
        if armed(guest) == before {
            guest.arm_tick(id);
        }
        Ok(())
    }

    fn on_queue_ready(&mut self, conf_index: usize, queue: u32) -> Result<(), Fault> {
        let roots = &self.guest().roots;
        let Some(root) = roots.iter().find(|root| root.conf_index == conf_index) else {
            return Ok(());
        };
        let root = root.id;
        self.show(root, Reply::default(), |this, frame| {
            this.call_rare(|exports| &exports.queue_ready, frame, [root, queue])
        })
    }

    /// Runs a callback on a root context that lives, with a reply to look at.
    fn show(
        &mut self,
        root: u32,
        reply: Reply,
        callback: impl FnOnce(&mut Self, Frame) -> Result<Option<()>, Fault>,
    ) -> Result<(), Fault> {
        if !self.guest().roots.iter().any(|known| known.id == root) {
            return Ok(());
        }
        self.guest().reply = reply;
        let done = callback(self, Frame::root(Phase::Root, root));
        self.guest().reply = Reply::default();
        done.map(|_| ())
    }
}
