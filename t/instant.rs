//! Exchanges without I/O, for the allocation test and the bench: a snapshot with one route, and a
//! driver whose operations all end at once.

use ringgate::exchange::{Arrival, Command, Cx, Ending, Exchange};
use ringgate::http::{HeadLimits, RequestHead};
use ringgate::plugin::{Connection, Locals, Properties};
use ringgate::route::Router;
use ringgate::snapshot::{Chain, ConsumerPlugins, Pinned, Route, Rules, Snapshot, Target};
use ringgate::time::HttpDate;
use ringgate::upstream::{Address, Balancer, Board, Peer, Upstream};
use std::rc::Rc;
use std::sync::Arc;

/// One route, number 0, to an upstream with two nodes.
pub(crate) fn snapshot(chain: Chain, consumers: ConsumerPlugins, balancer: Balancer) -> Rc<Pinned> {
    let route = |chain, target| Route {
        facts: Arc::default(),
        chain,
        target,
        prepared: None,
        timeouts: None,
        upgrades: false,
    };
    let board = Board::new("u");
    let peer = |last| {
        let node = board.node(&format!("10.0.0.{last}"), 80);
        node.set_addresses(&[Address::from(([10, 0, 0, last], 80))]);
        Peer { node, host: b"node".to_vec(), weight: 1, priority: 0 }
    };
    let peers = vec![peer(1), peer(2)];
    let upstream = Upstream { retries: 1, ..Upstream::new(board, peers, balancer) };
    let snapshot = Snapshot {
        number: 1,
        router: Router::build(vec![]),
        routes: [Some(Arc::new(route(chain, Target::Upstream(0))))].into_iter().collect(),
        unmatched: route(Chain::default(), Target::NoRoute),
        consumers: Arc::new(consumers),
        upstreams: [Some(Arc::new(upstream))].into_iter().collect(),
        upkeep: Arc::default(),
        upstream_names: Arc::default(),
        plugins: Arc::default(),
        rules: Rules::default(),
        listen: None,
        access_log: None,
    };
    Pinned::new(Arc::new(snapshot), None)
}

/// A driver whose operations all end at once and whole.
pub(crate) struct Driver {
    exchange: Exchange,
    head: RequestHead,
    locals: Locals,
    date: HttpDate,
    output: Vec<u8>,
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self {
            exchange: Exchange::default(),
            head: RequestHead::default(),
            locals: Locals::new(0),
            date: HttpDate::new(0),
            output: Vec::new(),
        }
    }

    /// Runs one exchange; the body follows the head in `request`, the upstream gives `pieces`.
    pub(crate) fn run(&mut self, pinned: &Rc<Pinned>, request: &[u8], pieces: &[&[u8]]) {
        let Self { exchange, head, locals, date, output } = self;
        let mut cx = Cx { locals, date };
        assert_eq!(head.parse(request, HeadLimits::default()), Ok(true));
        let arrival = Arrival {
            head,
            bytes: request,
            path: b"/a",
            route: Some(0),
            connection: Connection::default(),
            kept: &Properties::default(),
            started_ns: 0,
            number: 1,
            closing: false,
        };
        output.clear();
        exchange.begin(pinned, &arrival, std::mem::take(output), &mut cx);
        let (mut at, mut pieces) = (head.len, pieces.iter());
        let mut reading = false;
        loop {
            match exchange.poll(&mut cx) {
                Some(Command::ReadDownstream) => {
                    at += exchange.on_downstream(&request[at..], &mut cx);
                }
                Some(Command::SendDownstream(bytes)) => {
                    exchange.on_downstream_sent(bytes, true, &mut cx);
                }
                Some(Command::Connect { .. }) => exchange.on_connected(true, None, &mut cx),
                Some(Command::SendUpstream(bytes)) => {
                    exchange.on_upstream_sent(bytes, true, &mut cx);
                }
                Some(Command::ReadUpstream) => reading = true,
                // Nothing else is left to do: the upstream has the request, and answers.
                None if std::mem::take(&mut reading) => {
                    let piece = pieces.next().expect("the response is whole");
                    assert_eq!(exchange.on_upstream(piece, &mut cx), piece.len());
                }
                Some(Command::ReleaseUpstream) => {}
                Some(Command::Finish(ending)) => {
                    assert_eq!(ending, Ending::KeepAlive);
                    break;
                }
                other => panic!("{other:?} was not expected"),
            }
        }
        *output = exchange.take_output();
    }
}
