//! Addresses of names that plugins call directly. The system's resolver blocks, so a thread of its
//! own asks it; answers are kept for a while.

use super::letters::{Letter, Postbox};
use crossbeam::channel::{Sender, bounded};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::LazyLock;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How long an answer is good for. The system's resolver does not tell the name's own time.
const KEPT: Duration = Duration::from_secs(30);

/// Names the thread remembers.
const NAMES_MAX: usize = 10_000;

/// Questions waiting for the thread; more fail at once.
const QUESTIONS_MAX: usize = 1_000;

struct Question {
    host: String,
    port: u16,
    ticket: u64,
    answer_to: Postbox,
}

/// One thread for the process, started by the first question.
static RESOLVER: LazyLock<Option<Sender<Question>>> = LazyLock::new(|| {
    let (sender, questions) = bounded::<Question>(QUESTIONS_MAX);
    let thread = std::thread::Builder::new().name("ringgate-dns".to_owned()).spawn(move || {
        let mut known = HashMap::new();
        for question in questions {
            let address = resolve(&mut known, &question.host, question.port);
            question.answer_to.send(Letter::Resolved { ticket: question.ticket, address });
        }
    });
    thread.map(|_| sender).ok()
});

fn resolve(
    known: &mut HashMap<(String, u16), (Option<SocketAddr>, Instant)>,
    host: &str,
    port: u16,
) -> Option<SocketAddr> {
    let key = (host.to_owned(), port);
    if let Some((address, since)) = known.get(&key)
        && since.elapsed() < KEPT
    {
        return *address;
    }
    if known.len() >= NAMES_MAX {
        known.clear();
    }
    let address = (host, port).to_socket_addrs().ok().and_then(|mut all| all.next());
    known.insert(key, (address, Instant::now()));
    address
}

/// One worker's open questions.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    next: Cell<u64>,
    open: RefCell<FxHashMap<u64, Open>>,
}

#[derive(Debug)]
enum Open {
    Waiting(Option<Waker>),
    Answered(Option<SocketAddr>),
}

impl Lookups {
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
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        let question = Question { host, port, ticket, answer_to };
        RESOLVER.as_ref()?.try_send(question).ok()?;
        self.open.borrow_mut().insert(ticket, Open::Waiting(None));
        let _forgets = Forgets(self, ticket);
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
