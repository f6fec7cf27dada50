//! Carrying out what an exchange commands.
//!
//! Each kind of operation has a slot of its own; waiting looks at all that run. Events are given to
//! the exchange one at a time, and all its commands are taken before the next wait.

use super::connect::connect;
use super::connection::Downstream;
use super::slots::{Slot, poll_slot};
use super::{Ring, Worker, at_work};
use crate::exchange::{Carries, Command, Cx, Ending, Exchange};
use crate::limits;
use crate::net::{self, Socket};
use crate::time::DeadlineId;
use crate::upstream::{Address, IdlePool, KeepAlive};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type ReadDone = (io::Result<usize>, Vec<u8>);
type SendDone = (io::Result<()>, Vec<u8>);

/// The upstream connection of one exchange.
#[derive(Default)]
struct UpstreamLink {
    socket: Option<Socket>,
    /// Requests it has carried, this one included.
    requests: u64,
    /// Bytes received; those before `at` are used.
    input: Vec<u8>,
    at: usize,
    /// The exchange was shown what is left and could use none of it: it needs more behind it.
    starved: bool,
}

/// Counts a tunnel for as long as it lives.
struct OpenTunnel(Rc<Worker>);

impl OpenTunnel {
    fn count(worker: &Rc<Worker>) -> Self {
        worker.counters.tunnels.up();
        worker.counters.tunnels_open.up();
        // For hours, perhaps, and with next to nothing to do.
        worker.counters.running.down();
        Self(Rc::clone(worker))
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.counters.tunnels_open.down();
        self.0.counters.running.up();
    }
}

/// The operations of one exchange that may run at the same time.
struct Operations<'a, DR, DS, C, UR, US, T> {
    read_down: Slot<'a, DR>,
    send_down: Slot<'a, DS>,
    connect: Slot<'a, C>,
    read_up: Slot<'a, UR>,
    send_up: Slot<'a, US>,
    sleep: Slot<'a, T>,
}

/// Sends what the socket takes at once; what is left then is for the slot, by `rest`. Gives what
/// came of it if nothing is left.
fn send<F>(
    socket: Option<&Socket>,
    bytes: Vec<u8>,
    slot: &mut Slot<'_, F>,
    rest: impl FnOnce(Socket, Vec<u8>, usize) -> F,
) -> Option<SendDone> {
    let Some(socket) = socket else {
        return Some((Err(io::ErrorKind::NotConnected.into()), bytes));
    };
    match socket.send_now(&bytes) {
        Ok(sent) if sent < bytes.len() => {
            slot.set(Some(rest(socket.clone(), bytes, sent)));
            None
        }
        done => Some((done.map(|_| ()), bytes)),
    }
}

/// What happened.
enum Event {
    ReadDown(ReadDone),
    SentDown(SendDone),
    Connected(io::Result<Socket>),
    ReadUp(ReadDone),
    SentUp(SendDone),
    Slept,
    Due,
    /// A plugin asked something of the waiting exchange.
    Asked,
}

impl<DR, DS, C, UR, US, T> Operations<'_, DR, DS, C, UR, US, T>
where
    DR: Future<Output = ReadDone>,
    DS: Future<Output = SendDone>,
    C: Future<Output = io::Result<Socket>>,
    UR: Future<Output = ReadDone>,
    US: Future<Output = SendDone>,
    T: Future<Output = ()>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(done) = poll_slot(&mut self.send_up, cx) {
            return Poll::Ready(Event::SentUp(done));
        }
        if let Poll::Ready(done) = poll_slot(&mut self.read_up, cx) {
            return Poll::Ready(Event::ReadUp(done));
        }
        if let Poll::Ready(done) = poll_slot(&mut self.send_down, cx) {
            return Poll::Ready(Event::SentDown(done));
        }
        if let Poll::Ready(done) = poll_slot(&mut self.read_down, cx) {
            return Poll::Ready(Event::ReadDown(done));
        }
        if let Poll::Ready(done) = poll_slot(&mut self.connect, cx) {
            return Poll::Ready(Event::Connected(done));
        }
        poll_slot(&mut self.sleep, cx).map(|()| Event::Slept)
    }

    /// Waits for what happens next. Meanwhile the exchange's message can be reached.
    async fn next(
        &mut self,
        worker: &Rc<Worker>,
        alarm: DeadlineId,
        exchange: &mut Exchange,
    ) -> Event {
        worker.see_to_errands();
        worker.arm(alarm, exchange.due_ms());
        at_work(0);
        let event = poll_fn(|cx| {
            let rang = worker.rang(alarm, cx.waker());
            match (self.poll(cx), rang) {
                (Poll::Pending, Some(Ring::Due)) => Poll::Ready(Event::Due),
                (Poll::Pending, _) if exchange.is_reachable() => worker.park(exchange, cx.waker()),
                (event, _) => event,
            }
        })
        .await;
        at_work(exchange.message().request_number);
        if exchange.is_reachable() {
            worker.with_cx(|cx| exchange.unpark(cx));
        }
        event
    }

    /// Drops everything that runs on the upstream connection.
    fn drop_upstream(&mut self) {
        self.connect.set(None);
        self.read_up.set(None);
        self.send_up.set(None);
    }
}

impl Downstream {
    /// Runs an exchange that has begun to its end. `first` is what it commands first.
    pub(super) async fn drive(
        &mut self,
        worker: &Rc<Worker>,
        exchange: &mut Exchange,
        first: Option<Command>,
    ) -> Ending {
        let mut link = UpstreamLink::default();
        let mut tunnel: Option<OpenTunnel> = None;
        let mut operations = Operations {
            read_down: pin!(None),
            send_down: pin!(None),
            connect: pin!(None),
            read_up: pin!(None),
            send_up: pin!(None),
            sleep: pin!(None),
        };
        let mut next = first;
        loop {
            while let Some(command) = next {
                match command {
                    Command::ReadDownstream if self.at < self.input.len() => {
                        self.give_input(worker, exchange);
                    }
                    Command::ReadDownstream => {
                        let buffer = self.body_buffer(worker, tunnel.is_some());
                        operations.read_down.set(Some(net::read(self.socket.clone(), buffer)));
                    }
                    Command::SendDownstream(bytes) => {
                        self.sent += bytes.len() as u64;
                        let (socket, slot) = (Some(&self.socket), &mut operations.send_down);
                        if let Some(done) = send(socket, bytes, slot, net::send_from) {
                            self.on_event(worker, exchange, &mut link, Event::SentDown(done));
                        }
                    }
                    Command::Connect { address, fresh, carries } => {
                        let idle = self.pool(worker, carries);
                        if fresh || !link.reuse(worker, exchange, idle, &address) {
                            operations.connect.set(Some(connect(address)));
                        }
                    }
                    Command::SendUpstream(bytes) => {
                        let (socket, slot) = (link.socket.as_ref(), &mut operations.send_up);
                        if let Some(done) = send(socket, bytes, slot, net::send_from) {
                            self.on_event(worker, exchange, &mut link, Event::SentUp(done));
                        }
                    }
                    Command::ReadUpstream if link.at < link.input.len() && !link.starved => {
                        link.give(worker, exchange);
                    }
                    Command::ReadUpstream => operations.read_up.set(link.read(worker, &tunnel)),
                    Command::Switch => tunnel = Some(OpenTunnel::count(worker)),
                    Command::EndDownstream => self.socket.end_sending(),
                    Command::EndUpstream => link.end_sending(),
                    Command::CloseUpstream => {
                        operations.drop_upstream();
                        link.close(worker);
                    }
                    Command::ReleaseUpstream { address, policy, carries } => {
                        link.release(worker, self.pool(worker, carries), address, policy);
                    }
                    Command::Sleep(ms) => operations.sleep.set(Some(net::sleep_ms(ms))),
                    Command::Finish(ending) => return ending,
                }
                next = worker.with_cx(|cx| exchange.poll(cx));
            }
            let event = operations.next(worker, self.alarm, exchange).await;
            self.on_event(worker, exchange, &mut link, event);
            next = worker.with_cx(|cx| exchange.poll(cx));
        }
    }

    fn on_event(
        &mut self,
        worker: &Rc<Worker>,
        exchange: &mut Exchange,
        link: &mut UpstreamLink,
        event: Event,
    ) {
        match event {
            Event::ReadDown((result, buffer)) => {
                self.input = buffer;
                match result {
                    Ok(0) => worker.with_cx(|cx| exchange.on_downstream_end(cx)),
                    Ok(_) => self.give_input(worker, exchange),
                    Err(_) => worker.with_cx(|cx| exchange.on_downstream_broken(cx)),
                }
            }
            Event::SentDown((result, buffer)) => {
                worker.with_cx(|cx| exchange.on_downstream_sent(buffer, result.is_ok(), cx));
            }
            Event::Connected(Ok(socket)) => {
                link.socket = Some(socket);
                link.requests = 1;
                let local = link.local();
                worker.with_cx(|cx| exchange.on_connected(false, local, cx));
            }
            Event::Connected(Err(error)) => {
                let why = error.to_string();
                worker.with_cx(|cx| exchange.on_connect_failed(&why, cx));
            }
            Event::ReadUp((result, buffer)) => {
                link.input = buffer;
                match result {
                    Ok(0) => worker.with_cx(|cx| exchange.on_upstream_end(cx)),
                    Ok(_) => link.give(worker, exchange),
                    Err(error) => {
                        let why = error.to_string();
                        worker.with_cx(|cx| exchange.on_upstream_broken(&why, cx));
                    }
                }
            }
            Event::SentUp((result, buffer)) => {
                worker.with_cx(|cx| exchange.on_upstream_sent(buffer, result.is_ok(), cx));
            }
            Event::Slept => worker.with_cx(|cx| exchange.on_slept(cx)),
            Event::Due => worker.with_cx(|cx| exchange.on_due(cx)),
            Event::Asked => worker.with_cx(|cx| exchange.on_asked(cx)),
        }
    }

    /// Where connections to upstreams wait that may carry such requests.
    fn pool<'a>(&'a self, worker: &'a Worker, carries: Carries) -> &'a RefCell<IdlePool<Socket>> {
        match carries {
            Carries::All => &worker.idle,
            Carries::OneClients => &self.idle,
        }
    }

    /// Body bytes that are in the buffer already.
    fn give_input(&mut self, worker: &Rc<Worker>, exchange: &mut Exchange) {
        let bytes = &self.input[self.at..];
        self.at += worker.with_cx(|cx| exchange.on_downstream(bytes, cx));
    }

    /// The read buffer for a body: all of it was used up, so it is empty; large bodies get more
    /// room, tunnels less.
    fn body_buffer(&mut self, worker: &Worker, tunnel: bool) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.input);
        buffer.clear();
        self.at = 0;
        if tunnel {
            return worker.tunnel_buffer(buffer);
        }
        if buffer.capacity() < limits::BODY_BUFFER_BYTES {
            buffer.reserve(limits::BODY_BUFFER_BYTES);
        }
        buffer
    }
}

impl UpstreamLink {
    /// Gives the exchange an idle connection to that address that nobody has closed, if there is
    /// one.
    fn reuse(
        &mut self,
        worker: &Worker,
        exchange: &mut Exchange,
        idle: &RefCell<IdlePool<Socket>>,
        address: &Address,
    ) -> bool {
        let now = worker.clock.now_ms();
        let idle = idle.borrow_mut().take(address, now, Socket::is_fresh);
        let Some(idle) = idle else { return false };
        self.socket = Some(idle.connection);
        self.requests = idle.requests + 1;
        let local = self.local();
        worker.with_cx(|cx| exchange.on_connected(true, local, cx));
        true
    }

    /// Our end of the connection.
    fn local(&self) -> Option<SocketAddr> {
        self.socket.as_ref()?.local()
    }

    /// Gives what was read and not used yet to the exchange.
    fn give(&mut self, worker: &Rc<Worker>, exchange: &mut Exchange) {
        let used = worker.with_cx(|cx| exchange.on_upstream(&self.input[self.at..], cx));
        self.at += used;
        self.starved = used == 0;
    }

    /// Reads on.
    fn read(
        &mut self,
        worker: &Worker,
        tunnel: &Option<OpenTunnel>,
    ) -> Option<impl Future<Output = ReadDone> + use<>> {
        let buffer = self.read_buffer(worker, tunnel.is_some());
        self.socket.clone().map(|socket| net::read(socket, buffer))
    }

    /// The read buffer, behind what the exchange could not use yet (an incomplete head).
    fn read_buffer(&mut self, worker: &Worker, tunnel: bool) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.input);
        buffer.drain(..self.at);
        self.at = 0;
        if tunnel {
            return worker.tunnel_buffer(buffer);
        }
        if buffer.capacity() == 0 {
            buffer = worker.take_buffer(limits::BODY_BUFFER_BYTES);
        }
        if buffer.len() == buffer.capacity() {
            buffer.reserve(limits::BODY_BUFFER_BYTES);
        }
        buffer
    }

    /// Tells the upstream that nothing more comes.
    fn end_sending(&self) {
        if let Some(socket) = &self.socket {
            socket.end_sending();
        }
    }

    fn close(&mut self, worker: &Worker) {
        self.socket = None;
        worker.give_back_buffer(std::mem::take(&mut self.input));
        self.at = 0;
        self.starved = false;
    }

    fn release(
        &mut self,
        worker: &Worker,
        idle: &RefCell<IdlePool<Socket>>,
        address: Address,
        policy: KeepAlive,
    ) {
        if let Some(socket) = self.socket.take() {
            let now = worker.clock.now_ms();
            idle.borrow_mut().put(address, socket, self.requests, policy, now);
        }
        self.close(worker);
    }
}

impl Worker {
    /// A read buffer for a side of a tunnel, in place of an empty one of any size: it may wait for
    /// hours.
    fn tunnel_buffer(&self, buffer: Vec<u8>) -> Vec<u8> {
        debug_assert!(buffer.is_empty());
        if (1..=limits::TUNNEL_BUFFER_BYTES).contains(&buffer.capacity()) {
            return buffer;
        }
        self.give_back_buffer(buffer);
        Vec::with_capacity(limits::TUNNEL_BUFFER_BYTES)
    }

    /// Lends the worker's own state to a call of an exchange, at the time of now. What its plugins
    /// ask for is seen to before the exchange waits, and after its end.
    pub(super) fn with_cx<T>(&self, f: impl FnOnce(&mut Cx<'_>) -> T) -> T {
        self.lend_locals(|locals| f(&mut Cx { locals, date: &self.date.borrow() }))
    }

    /// The exchange waits, unless somebody has asked something of it already.
    fn park(&self, exchange: &mut Exchange, waker: &Waker) -> Poll<Event> {
        self.with_cx(|cx| {
            if exchange.is_asked(cx) {
                return Poll::Ready(Event::Asked);
            }
            exchange.park(waker, cx);
            Poll::Pending
        })
    }
}
