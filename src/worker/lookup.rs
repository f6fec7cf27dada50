//! Addresses of names that plugins call directly. Whoever resolves names for upstreams answers, on
//! another thread; here are the questions that are open.

use super::letters::{Letter, Postbox};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Questions of one worker that may be open; more fail at once.
const QUESTIONS_MAX: usize = 1_000;

/// Answers questions for addresses, off the workers.
pub trait Resolve: Send + Sync + Debug {
    /// Answers at some time; never blocks.
    fn ask(&self, question: Question);
}

/// What one worker wants to know.
#[derive(Debug)]
pub struct Question {
    host: String,
    port: u16,
    ticket: u64,
    answer_to: Postbox,
}

impl Question {
    /// The name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its address, if it has one.
    pub fn answer(self, ip: Option<IpAddr>) {
        let address = ip.map(|ip| SocketAddr::new(ip, self.port));
        self.answer_to.send(Letter::Resolved { ticket: self.ticket, address });
    }
}

/// One worker's open questions.
#[derive(Debug)]
pub(super) struct Lookups {
    resolver: Arc<dyn Resolve>,
    next: Cell<u64>,
    open: RefCell<FxHashMap<u64, Open>>,
}

#[derive(Debug)]
enum Open {
    Waiting(Option<Waker>),
    Answered(Option<SocketAddr>),
}

impl Lookups {
    pub(super) fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, next: Cell::new(0), open: RefCell::default() }
    }

    /// The address of `host:port` or `host`, which means port 80.
    pub(super) async fn find(&self, target: &[u8], answer_to: &Postbox) -> Option<SocketAddr> {
        let target = std::str::from_utf8(target).ok()?;
        if let Ok(address) = target.parse::<SocketAddr>() {
            return Some(address);
        }
        let literal = target.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = literal.parse() {
            return Some(SocketAddr::new(ip, 80));
        }
        let (host, port) = match target.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (target, 80),
        };
        self.ask(host.to_owned(), port, answer_to.clone()).await
    }

    async fn ask(&self, host: String, port: u16, answer_to: Postbox) -> Option<SocketAddr> {
        if self.open.borrow().len() >= QUESTIONS_MAX {
            return None;
        }
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        self.open.borrow_mut().insert(ticket, Open::Waiting(None));
        let _forgets = Forgets(self, ticket);
        self.resolver.ask(Question { host, port, ticket, answer_to });
        poll_fn(|cx| match self.open.borrow_mut().get_mut(&ticket) {
            Some(Open::Waiting(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Open::Answered(address)) => Poll::Ready(*address),
            None => Poll::Ready(None),
        })
        .await
    }

    pub(super) fn answer(&self, ticket: u64, address: Option<SocketAddr>) {
        let mut open = self.open.borrow_mut();
        let Some(question) = open.get_mut(&ticket) else { return };
        if let Open::Waiting(Some(waker)) = std::mem::replace(question, Open::Answered(address)) {
            waker.wake();
        }
    }
}

/// Whoever asked may be gone before the answer comes.
struct Forgets<'a>(&'a Lookups, u64);

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.0.open.borrow_mut().remove(&self.1);
    }
}
