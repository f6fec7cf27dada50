//! One request of a connection: parse, route, and answer at once or run an exchange.

use super::clock::epoch_ns;
use super::connection::{Downstream, Served};
use super::counting::Answer;
use super::{Worker, at_work};
use crate::exchange::{Arrival, Command, Cx, Ending};
use crate::http::{BodyLength, Headers, Method, RequestError, RequestHead, Version, uri};
use crate::http::{write_error_page, write_field, write_number_field};
use crate::plugin::{
    Connection, Message, Outcome, RequestFacts, Response, ResponseFlags, RouteFacts, VariablesOf,
};
use crate::route::Lookup;
use crate::snapshot::{Pinned, write_local_head};
use std::pin::pin;
use std::rc::Rc;

impl Downstream {
    /// Serves the request at the start of the unused input.
    pub(super) async fn serve_next(&mut self, worker: &Rc<Worker>) -> Served {
        let pinned = worker.pinned();
        if self.at == self.input.len() {
            return Served::Incomplete;
        }
        match self.head.parse(&self.input[self.at..], pinned.snapshot.rules.head) {
            // What comes behind it is another head, with a time of its own.
            Ok(true) => self.head_since = None,
            Ok(false) => return Served::Incomplete,
            Err(error) => {
                self.refuse(worker, error);
                return Served::Close;
            }
        }
        if !pinned.snapshot.rules.underscores {
            let bytes = &self.input[self.at..];
            self.head.fields.retain(|field| !field.name.of(bytes).contains(&b'_'));
        }
        let Ok(route) = self.find_route(worker, &pinned) else {
            self.refuse(worker, RequestError::Bad("the path can't be normalised"));
            return Served::Close;
        };
        if self.answer_prepared(worker, &pinned, route) {
            return Served::Next;
        }
        if worker.counters.running.get() >= pinned.snapshot.rules.running_max {
            return self.shed(worker, &pinned, route);
        }
        self.run_exchange(worker, &pinned, route).await
    }

    /// The route's number. Ordinary paths are used where they lie.
    fn find_route(
        &mut self,
        worker: &Worker,
        pinned: &Pinned,
    ) -> Result<Option<u32>, uri::UriError> {
        let bytes = &self.input[self.at..];
        let path = path_of(&self.head, bytes);
        self.scratch.clear();
        if !self.head.path_is_normal && path != b"*" {
            uri::normalise(path, &mut self.scratch)?;
        }
        let path = if self.scratch.is_empty() { path } else { &self.scratch };
        let path = pinned.snapshot.rules.matched_path(path);
        let peer = self.facts.peer.ip();
        let lookup = Lookup { host: &self.head.host, path, method: self.head.method, peer };
        let facts = Parsed {
            head: &self.head,
            bytes,
            path,
            connection: &self.facts,
            route: None,
            number: worker.next_request.get(),
        };
        Ok(pinned.snapshot.router.find(&lookup, &VariablesOf(&facts)))
    }

    /// The fast path: the only response the route can give is written as it is.
    fn answer_prepared(&mut self, worker: &Worker, pinned: &Pinned, route: Option<u32>) -> bool {
        let Some(prepared) = &pinned.snapshot.route(route).prepared else { return false };
        if !self.is_plain(worker, pinned) {
            return false;
        }
        let to_head = self.head.method == Method::Head;
        let before = self.output.len();
        let body_sent = prepared.write(&mut self.output, &worker.date.borrow(), to_head);
        worker.counters.prepared.up();
        let answer = Answer {
            status: prepared.status,
            ingress: self.head.len as u64,
            egress: (self.output.len() - before) as u64,
            latency_ns: None,
        };
        worker.count(pinned, route, &answer);
        if pinned.snapshot.access_log.is_some() {
            self.log_unforwarded(worker, pinned, route, &answer, body_sent);
        }
        self.at += self.head.len;
        self.requests_left -= 1;
        true
    }

    /// Nothing is to be read before its answer, and the next request may follow.
    pub(super) fn is_plain(&self, worker: &Worker, pinned: &Pinned) -> bool {
        self.head.version == Version::Http11
            && self.head.keep_alive
            && self.head.body == BodyLength::None
            && self.requests_left > 1
            && !worker.closes_after(&pinned.snapshot.rules)
    }

    /// A line of the access log for a request that had no exchange.
    #[cold]
    pub(super) fn log_unforwarded(
        &self,
        worker: &Worker,
        pinned: &Pinned,
        route: Option<u32>,
        answer: &Answer,
        body_sent: usize,
    ) {
        let bytes = &self.input[self.at..];
        let received = path_of(&self.head, bytes);
        let path = if self.scratch.is_empty() { received } else { &self.scratch };
        let route = Some(&*pinned.snapshot.route(route).facts);
        let outcome = worker.outcome(answer, body_sent as u64);
        let facts = Parsed {
            head: &self.head,
            bytes,
            path,
            connection: &self.facts,
            route,
            number: outcome.number,
        };
        worker.log_access(&pinned.snapshot, &facts, &outcome);
    }

    async fn run_exchange(
        &mut self,
        worker: &Rc<Worker>,
        pinned: &Rc<Pinned>,
        route: Option<u32>,
    ) -> Served {
        let mut exchange = worker.take_exchange();
        // What is in the output already belongs to earlier requests.
        let (of_others, head) = (self.output.len() as u64, self.head.len as u64);
        self.sent = 0;
        self.begin_exchange(worker, pinned, route, &mut exchange);
        self.requests_left = self.requests_left.saturating_sub(1);
        self.at += self.head.len;
        at_work(exchange.message().request_number);
        worker.counters.running.up();
        let ending = match worker.with_cx(|cx| exchange.poll(cx)) {
            // A local response, mostly: nothing to wait for, so no operations to set up.
            Some(Command::Finish(ending)) => ending,
            first => {
                self.set_unfinished(worker, true);
                // Awaited where it is: it is large, and would be copied.
                let ending = pin!(self.drive(worker, &mut exchange, first)).await;
                self.set_unfinished(worker, false);
                ending
            }
        };
        worker.counters.running.down();
        worker.see_to_errands();
        at_work(0);
        self.output = exchange.take_output();
        self.now_ns = epoch_ns();
        let message = exchange.message();
        self.kept.inherit(&message.filter_state);
        let egress = (self.sent + self.output.len() as u64).saturating_sub(of_others);
        let answer = Answer {
            status: status_of(message, egress),
            ingress: head + message.request_bytes,
            egress,
            // How long a tunnel was open says nothing about how fast an answer came.
            latency_ns: (message.response.status != 101)
                .then(|| self.now_ns.saturating_sub(message.started_ns)),
        };
        worker.count(pinned, route, &answer);
        if pinned.snapshot.access_log.is_some() {
            let outcome = Outcome {
                number: message.request_number,
                ..worker.outcome(&answer, message.response_bytes)
            };
            worker.log_access(&pinned.snapshot, message, &outcome);
        }
        worker.give_back_exchange(exchange);
        match ending {
            Ending::KeepAlive => Served::Next,
            Ending::Close => Served::Close,
            Ending::Abort => {
                worker.counters.aborted.up();
                Served::Abort
            }
        }
    }

    fn begin_exchange(
        &mut self,
        worker: &Worker,
        pinned: &Rc<Pinned>,
        route: Option<u32>,
        exchange: &mut crate::exchange::Exchange,
    ) {
        let number = worker.next_request.get();
        worker.next_request.set(number + 1);
        let bytes = &self.input[self.at..];
        let received = path_of(&self.head, bytes);
        let arrival = Arrival {
            head: &self.head,
            bytes,
            path: if self.scratch.is_empty() { received } else { &self.scratch },
            route,
            connection: self.facts,
            kept: &self.kept,
            started_ns: if self.now_ns == 0 { epoch_ns() } else { self.now_ns },
            number,
            closing: self.requests_left <= 1 || worker.closes_after(&pinned.snapshot.rules),
        };
        let mut locals = worker.locals.borrow_mut();
        locals.now_ms = worker.clock.now_ms();
        let date = worker.date.borrow();
        let mut cx = Cx { locals: &mut locals, date: &date };
        let output = std::mem::take(&mut self.output);
        exchange.begin(pinned, &arrival, output, &mut cx);
    }

    /// An error page that ends the connection; the head alone where a HEAD is to be answered,
    /// whatever is wrong with the rest of it (RFC 9110 §9.3.2).
    pub(super) fn write_error(&mut self, worker: &Worker, status: u16, to_head: bool) {
        let (answer, page_bytes) = self.write_page(worker, status, true, !to_head);
        let pinned = worker.pinned();
        worker.count(&pinned, None, &answer);
        if pinned.snapshot.access_log.is_some() {
            let outcome = worker.outcome(&answer, page_bytes);
            worker.log_access(&pinned.snapshot, &Unread(&self.facts), &outcome);
        }
    }

    /// An error page; gives what it comes to, and how many of its bytes are its body.
    pub(super) fn write_page(
        &mut self,
        worker: &Worker,
        status: u16,
        closes: bool,
        with_body: bool,
    ) -> (Answer, u64) {
        let mut page = Vec::new();
        write_error_page(&mut page, status);
        let before = self.output.len();
        let out = &mut self.output;
        write_local_head(out, status, &Headers::new(), true, &worker.date.borrow());
        write_number_field(out, b"Content-Length", page.len() as u64);
        if closes {
            write_field(out, b"Connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        let body_bytes = if with_body { page.len() } else { 0 };
        out.extend_from_slice(&page[..body_bytes]);
        let egress = (out.len() - before) as u64;
        let ingress = self.head.len as u64;
        (Answer { status, ingress, egress, latency_ns: None }, body_bytes as u64)
    }
}

/// A request that was parsed and not yet copied, for the variables of `vars` rules.
struct Parsed<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
    path: &'a [u8],
    connection: &'a Connection,
    route: Option<&'a RouteFacts>,
    /// The one it has, or gets as the next request.
    number: u64,
}

impl RequestFacts for Parsed<'_> {
    fn connection(&self) -> &Connection {
        self.connection
    }

    fn method(&self) -> &[u8] {
        self.head.method_span.of(self.bytes)
    }

    fn target(&self) -> &[u8] {
        self.head.target.of(self.bytes)
    }

    fn path(&self) -> &[u8] {
        self.path
    }

    fn authority(&self) -> &[u8] {
        self.head.authority.of(self.bytes)
    }

    fn version(&self) -> Version {
        self.head.version
    }

    fn for_each_field<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        for field in &self.head.fields {
            visit(field.name.of(self.bytes), field.value.of(self.bytes));
        }
    }

    fn started_ns(&self) -> u64 {
        epoch_ns()
    }

    fn number(&self) -> Option<u64> {
        Some(self.number)
    }

    fn route(&self) -> Option<&RouteFacts> {
        self.route
    }
}

/// A request that could not be read: all that is known is where it came from.
struct Unread<'a>(&'a Connection);

impl RequestFacts for Unread<'_> {
    fn connection(&self) -> &Connection {
        self.0
    }

    fn method(&self) -> &[u8] {
        b""
    }

    fn target(&self) -> &[u8] {
        b""
    }

    fn path(&self) -> &[u8] {
        b""
    }

    fn authority(&self) -> &[u8] {
        b""
    }

    fn version(&self) -> Version {
        Version::Http11
    }

    fn for_each_field<'a>(&'a self, _: &mut dyn FnMut(&'a [u8], &'a [u8])) {}

    fn started_ns(&self) -> u64 {
        epoch_ns()
    }
}

/// What logs and counters call the status of a client that left before anything was sent to it, as
/// nginx does (`NGX_HTTP_CLIENT_CLOSED_REQUEST`).
const CLIENT_CLOSED: u16 = 499;

/// The status answered, of a response of which that many bytes were sent.
fn status_of(message: &Message, egress: u64) -> u16 {
    let Response { status, flags, .. } = message.response;
    let left = flags.has(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
    if left && (egress == 0 || status == 0) { CLIENT_CLOSED } else { status }
}

/// The path as it was received; an absolute-form without one means `/` (RFC 9110 §4.2.3).
fn path_of<'a>(head: &RequestHead, bytes: &'a [u8]) -> &'a [u8] {
    if head.path.len == 0 { b"/" } else { head.path.of(bytes) }
}
