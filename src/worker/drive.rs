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
use crate::upstream::{Address, IdlePool, Shelf};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type ReadDone = (io::Result<usize>, Vec<u8>);
/// How much of it is sent.
type SendDone = (io::Result<usize>, Vec<u8>);

/// The upstream connection of one exchange.
#[derive(Default)]
struct UpstreamLink {
    socket: Option<Socket>,
    /// Requests it has carried, this one included.
    requests: u64,
    /// Where it was kept, if it was.
    shelf: Shelf,
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
struct Operations<'a, DR, C, UR, S, T> {
    read_down: Slot<'a, DR>,
    send_down: Slot<'a, S>,
    connect: Slot<'a, C>,
    read_up: Slot<'a, UR>,
    send_up: Slot<'a, S>,
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
    let sent = match socket {
        Some(socket) => socket.send_now(&bytes),
        None => Err(io::ErrorKind::NotConnected.into()),
    };
    send_on(socket, (sent, bytes), slot, rest)
}

/// The same with what a send has left.
fn send_on<F>(
    socket: Option<&Socket>,
    (sent, bytes): SendDone,
    slot: &mut Slot<'_, F>,
    rest: impl FnOnce(Socket, Vec<u8>, usize) -> F,
) -> Option<SendDone> {
    match (sent, socket) {
        (Ok(sent), Some(socket)) if sent < bytes.len() => {
            slot.set(Some(rest(socket.clone(), bytes, sent)));
            None
        }
        (sent, _) => Some((sent, bytes)),
    }
}

/// Connects. Boxed, for it is large and rare, and lies beside what every exchange waits for.
fn connecting(
    (address, _): (&Address, Carries),
) -> Pin<Box<impl Future<Output = io::Result<Socket>> + use<>>> {
    Box::pin(connect(address.clone()))
}

/// What happened.
enum Event {
    ReadDown(ReadDone),
    SentDown(SendDone),
    /// The client took a part of what is sent to it.
    TakesDown,
    Connected(io::Result<Socket>),
    ReadUp(ReadDone),
    SentUp(SendDone),
    /// The upstream did.
    TakesUp,
    Slept,
    Due,
    /// The client reset the connection while nothing was read from it or sent to it.
    Gone,
    /// A plugin asked something of the waiting exchange.
    Asked,
}

impl<DR, C, UR, S, T> Operations<'_, DR, C, UR, S, T>
where
    DR: Future<Output = ReadDone>,
    C: Future<Output = io::Result<Socket>>,
    UR: Future<Output = ReadDone>,
    S: Future<Output = SendDone>,
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

    /// Waits for what happens next. Meanwhile the exchange's message can be reached. A client that
    /// no operation would hear of is looked at from time to time.
    async fn next(
        &mut self,
        worker: &Rc<Worker>,
        client: &Downstream,
        exchange: &mut Exchange,
    ) -> Event {
        worker.see_to_errands();
        // A tunnel may have ended its own side.
        let unheard = self.read_down.is_none() && self.send_down.is_none() && !exchange.is_tunnel();
        let look_ms = worker.clock.now_ms() + limits::CLIENT_LOOK_MS;
        let due_ms = exchange.due_ms();
        worker.arm(client.alarm, if unheard { due_ms.min(look_ms) } else { due_ms });
        at_work(0);
        let event = poll_fn(|cx| {
            let rang = worker.rang(client.alarm, cx.waker());
            match (self.poll(cx), rang) {
                (Poll::Pending, Some(Ring::Due)) if unheard && client.socket.is_gone() => {
                    Poll::Ready(Event::Gone)
                }
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

    /// A send that was done in part goes on, by `rest`.
    fn go_on(
        &mut self,
        event: Event,
        client: &Socket,
        upstream: &UpstreamLink,
        rest: impl FnOnce(Socket, Vec<u8>, usize) -> S,
    ) -> Event {
        match event {
            Event::SentDown(done) => {
                let done = send_on(Some(client), done, &mut self.send_down, rest);
                done.map_or(Event::TakesDown, Event::SentDown)
            }
            Event::SentUp(done) => {
                let done = send_on(upstream.socket.as_ref(), done, &mut self.send_up, rest);
                done.map_or(Event::TakesUp, Event::SentUp)
            }
            event => event,
        }
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
            // Nothing waits in here, so the worker's own state is lent once for all of it.
            let ending = worker.with_cx(|cx| {
                loop {
                    let mut done = None;
                    match next.take().or_else(|| exchange.poll(cx))? {
                        Command::ReadDownstream if self.at < self.input.len() => {
                            self.give_input(exchange, cx);
                        }
                        Command::ReadDownstream => {
                            let buffer = self.body_buffer(worker, tunnel.is_some());
                            operations.read_down.set(Some(net::read(self.socket.clone(), buffer)));
                        }
                        Command::SendDownstream(bytes) => {
                            self.sent += bytes.len() as u64;
                            let (to, slot) = (Some(&self.socket), &mut operations.send_down);
                            done = send(to, bytes, slot, net::send_some).map(Event::SentDown);
                        }
                        Command::Connect { fresh } => {
                            if fresh || !self.reuse(worker, exchange, &mut link, cx) {
                                operations.connect.set(exchange.peer().map(connecting));
                            }
                        }
                        Command::SendUpstream(bytes) => {
                            let (to, slot) = (link.socket.as_ref(), &mut operations.send_up);
                            done = send(to, bytes, slot, net::send_some).map(Event::SentUp);
                        }
                        Command::ReadUpstream if link.has_unused() => link.give(exchange, cx),
                        Command::ReadUpstream => operations.read_up.set(link.read(worker, &tunnel)),
                        Command::Switch => tunnel = Some(OpenTunnel::count(worker)),
                        Command::EndDownstream => self.socket.end_sending(),
                        Command::EndUpstream => link.end_sending(),
                        Command::CloseUpstream => {
                            operations.drop_upstream();
                            link.close(worker);
                        }
                        Command::ReleaseUpstream => self.release(worker, exchange, &mut link),
                        Command::Sleep(ms) => operations.sleep.set(Some(net::sleep_ms(ms))),
                        Command::Finish(ending) => return Some(ending),
                    }
                    if let Some(event) = done {
                        self.on_event(worker, exchange, &mut link, event, cx);
                    }
                }
            });
            if let Some(ending) = ending {
                return ending;
            }
            let event = operations.next(worker, self, exchange).await;
            let event = operations.go_on(event, &self.socket, &link, net::send_some);
            worker.with_cx(|cx| self.on_event(worker, exchange, &mut link, event, cx));
        }
    }

    fn on_event(
        &mut self,
        worker: &Rc<Worker>,
        exchange: &mut Exchange,
        link: &mut UpstreamLink,
        event: Event,
        cx: &mut Cx<'_>,
    ) {
        match event {
            Event::ReadDown((result, buffer)) => {
                self.input = buffer;
                match result {
                    Ok(0) => exchange.on_downstream_end(cx),
                    Ok(_) => self.give_input(exchange, cx),
                    Err(_) => exchange.on_downstream_broken(cx),
                }
            }
            Event::SentDown((result, buffer)) => {
                exchange.on_downstream_sent(buffer, result.is_ok(), cx);
            }
            Event::TakesDown => exchange.on_downstream_takes(cx),
            Event::Connected(Ok(socket)) => {
                worker.counters.upstream_made.up();
                link.open(worker, socket, 1);
                let local = link.local();
                exchange.on_connected(false, local, cx);
            }
            Event::Connected(Err(error)) => {
                let why = error.to_string();
                exchange.on_connect_failed(&why, cx);
            }
            Event::ReadUp((result, buffer)) => {
                link.input = buffer;
                match result {
                    Ok(0) => exchange.on_upstream_end(cx),
                    Ok(_) => link.give(exchange, cx),
                    Err(error) => {
                        let why = error.to_string();
                        exchange.on_upstream_broken(&why, cx);
                    }
                }
            }
            Event::SentUp((result, buffer)) => {
                exchange.on_upstream_sent(buffer, result.is_ok(), cx);
            }
            Event::TakesUp => exchange.on_upstream_takes(cx),
            Event::Slept => exchange.on_slept(cx),
            Event::Due => exchange.on_due(cx),
            Event::Gone => exchange.on_downstream_broken(cx),
            Event::Asked => exchange.on_asked(cx),
        }
    }

    /// Where connections to upstreams wait that may carry such requests.
    fn pool<'a>(&'a self, worker: &'a Worker, carries: Carries) -> &'a RefCell<IdlePool<Socket>> {
        match carries {
            Carries::All => &worker.idle,
            Carries::OneClients => &self.idle,
        }
    }

    /// Gives the exchange an idle connection to its peer that nobody has closed, if there is one.
    fn reuse(
        &self,
        worker: &Worker,
        exchange: &mut Exchange,
        link: &mut UpstreamLink,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some((address, carries)) = exchange.peer() else { return false };
        let (now, mut pool) = (worker.clock.now_ms(), self.pool(worker, carries).borrow_mut());
        let Some((shelf, idle)) = pool.take(address, now, Socket::is_fresh) else { return false };
        link.shelf = shelf;
        worker.counters.upstream_reused.up();
        link.open(worker, idle.connection, idle.requests + 1);
        exchange.on_connected(true, link.local(), cx);
        true
    }

    /// The connection may carry another request.
    fn release(&self, worker: &Worker, exchange: &mut Exchange, link: &mut UpstreamLink) {
        if let Some(socket) = link.socket.clone()
            && let Some((address, policy, carries)) = exchange.take_peer()
        {
            let (now, mut pool) = (worker.clock.now_ms(), self.pool(worker, carries).borrow_mut());
            pool.put((address, link.shelf), socket, link.requests, policy, now);
        }
        link.close(worker);
    }

    /// Body bytes that are in the buffer already.
    fn give_input(&mut self, exchange: &mut Exchange, cx: &mut Cx<'_>) {
        let bytes = &self.input[self.at..];
        self.at += exchange.on_downstream(bytes, cx);
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
    fn open(&mut self, worker: &Worker, socket: Socket, requests: u64) {
        worker.counters.upstream_in_use.up();
        self.socket = Some(socket);
        self.requests = requests;
    }

    /// Our end of the connection.
    fn local(&self) -> Option<SocketAddr> {
        self.socket.as_ref()?.local()
    }

    /// Whether the exchange was not shown all of what was read.
    fn has_unused(&self) -> bool {
        self.at < self.input.len() && !self.starved
    }

    /// Gives what was read and not used yet to the exchange.
    fn give(&mut self, exchange: &mut Exchange, cx: &mut Cx<'_>) {
        let used = exchange.on_upstream(&self.input[self.at..], cx);
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
        if self.socket.take().is_some() {
            worker.counters.upstream_in_use.down();
        }
        worker.give_back_buffer(std::mem::take(&mut self.input));
        self.at = 0;
        self.starved = false;
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
