//! RFC 9110 §7: hosts, connections, Max-Forwards, Via, Upgrade.

use super::{Expect, Row, answered, get, post, row};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = hop_by_hop();
    rows.extend(max_forwards());
    rows.extend(via());
    rows.extend(upgrade());
    rows.extend(upgrade_required());
    rows
}

fn hop_by_hop() -> Vec<Row> {
    const S: &str = "9110 §7.6.1";
    let own = |rule, name: &'static str, value: &str| {
        row(S, rule, get(&format!("{name}: {value}\r\n"))).served().misses(name)
    };
    let theirs = |rule, name: &'static str| {
        row(S, rule, get("")).answer(answered(&format!("{name}: x\r\n"))).served().lacks(name)
    };
    vec![
        row("9110 §7.2", "Host goes upstream as the client said it", get(""))
            .served()
            .sees("host: a"),
        row(
            S,
            "Connection and what it names stay here",
            get("Connection: x-hop, y-hop\r\nX-Hop: 1\r\nY-Hop: 2\r\nZ: 3\r\n"),
        )
        .served()
        .misses("connection")
        .misses("x-hop")
        .misses("y-hop")
        .sees("z: 3"),
        row(S, "in every line of it", get("X: 1\r\nConnection: a\r\nconnection: b, X\r\n"))
            .served()
            .misses("x"),
        row(
            S,
            "what the gateway says is not taken away by it",
            get("Connection: x-real-ip, x-forwarded-for, host, via, content-length\r\n"),
        )
        .served()
        .sees("x-real-ip: 127.0.0.1")
        .sees("x-forwarded-for: 127.0.0.1")
        .sees("host: a")
        .sees("via: 1.1 ringgate"),
        row(S, "nor is framing", post("Connection: content-length\r\nContent-Length: 2\r\n", "hi"))
            .served()
            .sees("content-length: 2")
            .expect(Expect::SeesBody("hi")),
        own("Keep-Alive stays here", "keep-alive", "timeout=9"),
        own("Proxy-Connection stays here", "proxy-connection", "keep-alive"),
        own("TE stays here", "te", "gzip"),
        own("Upgrade stays here", "upgrade", "foo/2"),
        own("HTTP2-Settings stays here", "http2-settings", "AAMAAABkAAQAAP__"),
        own("Proxy-Authorization stays here", "proxy-authorization", "Basic eA=="),
        theirs("Keep-Alive of an upstream stays here", "keep-alive"),
        theirs("Proxy-Connection of an upstream stays here", "proxy-connection"),
        theirs("Upgrade of an upstream stays here", "upgrade"),
        row(S, "what an upstream's Connection names stays here", get(""))
            .answer(answered("Connection: x-hop\r\nX-Hop: 1\r\n"))
            .served()
            .lacks("x-hop")
            .lacks("connection"),
    ]
}

fn max_forwards() -> Vec<Row> {
    const S: &str = "9110 §7.6.2";
    let with =
        |method: &str, fields: &str| format!("{method} /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    vec![
        row(
            S,
            "OPTIONS has one fewer when it is passed on",
            with("OPTIONS", "Max-Forwards: 9\r\n"),
        )
        .served()
        .sees("max-forwards: 8"),
        row(S, "so has TRACE", with("TRACE", "Max-Forwards: 1\r\n"))
            .served()
            .sees("max-forwards: 0"),
        row(S, "at 0 OPTIONS is answered here", with("OPTIONS", "Max-Forwards: 0\r\n"))
            .status(200)
            .expect(Expect::Forwarded(0))
            .expect(Expect::Persists)
            .gets("content-length: 0")
            .gets("allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),
        row(
            S,
            "at 0 TRACE is answered here, and reflects nothing",
            with("TRACE", "Max-Forwards: 0\r\n"),
        )
        .status(405)
        .expect(Expect::Forwarded(0))
        .gets("allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),
        row(
            S,
            "a number beyond numbers is a large one",
            with("OPTIONS", "Max-Forwards: 99999999999\r\n"),
        )
        .served()
        .sees("max-forwards: 4294967294"),
        row(S, "what is no number is refused", with("OPTIONS", "Max-Forwards: -1\r\n"))
            .status(400)
            .expect(Expect::Forwarded(0)),
        row(S, "so are two", with("TRACE", "Max-Forwards: 1\r\nMax-Forwards: 2\r\n"))
            .status(400)
            .expect(Expect::Forwarded(0)),
        row(S, "without it they are passed on", with("OPTIONS", ""))
            .served()
            .misses("max-forwards"),
        row(S, "other methods have no use for it", with("GET", "Max-Forwards: 0\r\n"))
            .served()
            .sees("max-forwards: 0"),
    ]
}

fn via() -> Vec<Row> {
    const S: &str = "9110 §7.6.3";
    vec![
        row(S, "a forwarded request says where it went through", get(""))
            .served()
            .sees("via: 1.1 ringgate"),
        row(S, "behind those before", get("Via: 1.0 fred, 1.1 p.example\r\nX: y\r\n"))
            .served()
            .sees("via: 1.0 fred, 1.1 p.example|1.1 ringgate"),
        row(S, "with the version it came in", "GET / HTTP/1.0\r\n\r\n")
            .status(200)
            .sees("via: 1.0 ringgate"),
        row(S, "a forwarded response, too", get(""))
            .answer(answered("Via: 1.1 x\r\n"))
            .served()
            .gets("via: 1.1 x|1.1 ringgate"),
        row(S, "with the upstream's version", get(""))
            .answer("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .served()
            .gets("via: 1.0 ringgate"),
        row(
            S,
            "a response of the gateway's own went through nothing",
            "GET /local HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .status(200)
        .lacks("via"),
    ]
}

fn upgrade() -> Vec<Row> {
    const S: &str = "9110 §7.8";
    let asks = |path: &str, version: &str, fields: &str| {
        format!("GET {path} HTTP/{version}\r\nHost: a\r\n{fields}\r\n")
    };
    let offers = |protocols: &str| format!("Connection: Upgrade\r\nUpgrade: {protocols}\r\n");
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: A\r\nUpgrade: h2c\r\n";
    let body = "Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n";
    let both = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let switches = "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    vec![
        row(S, "an offer goes on where the route allows it", asks("/ws", "1.1", both))
            .served()
            .sees("upgrade: websocket")
            .sees("connection: Upgrade"),
        row(S, "and nowhere else", asks("/", "1.1", both)).served().misses("upgrade"),
        row(
            S,
            "an Upgrade that Connection does not name is none",
            asks("/ws", "1.1", "Upgrade: websocket\r\n"),
        )
        .served()
        .misses("upgrade"),
        row(S, "HTTP/1.0 has none", asks("/ws", "1.0", both)).status(200).misses("upgrade"),
        row(S, "h2c is not passed on", asks("/ws", "1.1", h2c))
            .served()
            .misses("upgrade")
            .misses("http2-settings"),
        row(S, "not among others either", asks("/ws", "1.1", &offers("h2c, websocket")))
            .served()
            .sees("upgrade: websocket"),
        row(S, "nor is HTTP/2.0, nor TLS", asks("/ws", "1.1", &offers("HTTP/2.0, TLS/1.0")))
            .served()
            .misses("upgrade"),
        row(
            S,
            "a body comes before an upgrade, which is left out",
            format!("{}hi", asks("/ws", "1.1", body)),
        )
        .served()
        .misses("upgrade"),
        row(S, "an upstream must not switch unasked", get("")).answer(switches).status(502),
        row(S, "nor to what was not offered", asks("/ws", "1.1", both))
            .answer("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
            .status(502),
        row(S, "nor without saying to what", asks("/ws", "1.1", both))
            .answer("HTTP/1.1 101 S\r\nConnection: Upgrade\r\n\r\n")
            .status(502),
        row(S, "an accepted offer is a 101 with both fields", asks("/ws", "1.1", both))
            .answer(switches)
            .then_closes()
            .expect(Expect::Interim(vec![101]))
            .expect(Expect::Forwarded(1)),
    ]
}

/// What a 426 must say although it is of one hop.
fn upgrade_required() -> Vec<Row> {
    let required = "HTTP/1.1 426 U\r\nConnection: Upgrade, x-hop\r\nX-Hop: 1\r\n\
        Upgrade: foo/2, websocket\r\nContent-Length: 2\r\n\r\nno";
    let old = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
    vec![
        row("9110 §15.5.22", "a 426 says which protocols would do", get(""))
            .answer(required)
            .status(426)
            .gets("upgrade: foo/2, websocket")
            .gets("connection: Upgrade")
            .expect(Expect::Persists),
        row("9110 §15.5.22", "beside what it says of the connection", old)
            .answer(required)
            .status(426)
            .gets("upgrade: foo/2, websocket")
            .gets("connection: close, Upgrade"),
        row("9110 §7.8", "what is no 426 names none", get(""))
            .answer(answered("Connection: Upgrade\r\nUpgrade: foo/2\r\n"))
            .served()
            .lacks("upgrade")
            .lacks("connection"),
    ]
}
