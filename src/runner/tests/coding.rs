//! What is written can be read, and what is read is checked.

use super::{Changes, asks, refused, response, rewrite, stop, token, unchanged};
use crate::http::Headers;
use crate::plugin::Message;
use crate::runner::schema::a6;
use crate::runner::{
    Ask, Encoder, Entries, Frame, Kind, Refusal, Reply, Unsayable, Wrong, decode, first_frame,
};

fn payload(frame: &[u8], wanted: Kind) -> &[u8] {
    let Frame::Whole { kind, payload } = first_frame(frame) else { panic!("a whole frame") };
    assert_eq!(kind, wanted as u8);
    assert_eq!(frame.len(), payload.len() + 4);
    payload
}

fn text(bytes: flatbuffers::Vector<'_, u8>) -> String {
    String::from_utf8_lossy(bytes.bytes()).into_owned()
}

type Read = Vec<(String, Option<String>)>;

fn read(
    entries: Option<flatbuffers::Vector<'_, flatbuffers::ForwardsUOffset<a6::TextEntry<'_>>>>,
) -> Read {
    let pair =
        |entry: a6::TextEntry<'_>| (text(entry.name().expect("a name")), entry.value().map(text));
    entries.map(|entries| entries.iter().map(pair).collect()).unwrap_or_default()
}

fn pairs(pairs: &[(&str, Option<&str>)]) -> Read {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
}

fn message(target: &str, path: &str) -> Message {
    let mut message = Message::default();
    message.connection.peer = "10.0.0.1:5000".parse().expect("an address");
    message.request.method = b"PUT".to_vec();
    message.request.target = target.into();
    message.request.path = path.into();
    message.request.authority = b"localhost".to_vec();
    for (name, value) in [("X-Resp", "foo"), ("X-Req", "foo"), ("x-req", "bar")] {
        message.request.headers.append(name.as_bytes(), value.as_bytes());
    }
    message
}

fn sent(message: &Message, look: impl FnOnce(a6::httpreq_call::Req<'_>)) {
    let mut out = Vec::new();
    Encoder::default().request_call(&mut out, message, 233, 7).expect("it can be said");
    look(
        flatbuffers::root::<a6::httpreq_call::Req<'_>>(payload(&out, Kind::RequestCall))
            .expect("a table"),
    );
}

#[test]
fn requests_are_shown_as_apisix_shows_them() {
    sent(&message("/hello?xx=y&xx=z&&y=&&z&=no&a%20b=c+d%26", "/hello"), |call| {
        assert_eq!((call.id(), call.conf_token()), (7, 233));
        assert_eq!(call.src_ip().map(|ip| ip.bytes().to_vec()), Some(vec![10, 0, 0, 1]));
        assert_eq!(call.method(), a6::Method::PUT);
        assert_eq!(call.path().map(text).as_deref(), Some("/hello"));
        let args = [("xx", Some("y")), ("xx", Some("z")), ("y", Some("")), ("z", None)];
        let args = [&args[..], &[("a b", Some("c d&"))]].concat();
        assert_eq!(read(call.args()), pairs(&args));
        let headers = [("host", Some("localhost")), ("x-resp", Some("foo"))];
        let headers = [&headers[..], &[("x-req", Some("foo")), ("x-req", Some("bar"))]].concat();
        assert_eq!(read(call.headers()), pairs(&headers));
    });
}

#[test]
fn paths_are_normal_unless_a_plugin_rewrote_them() {
    let table = [
        ("/a%20b/../c", "/c", "/c"),
        ("/new%20path?x=1", "/old", "/new%20path"),
        ("/", "/", "/"),
        ("*", "*", "*"),
    ];
    for (target, path, shown) in table {
        sent(&message(target, path), |call| {
            assert_eq!(call.path().map(text).as_deref(), Some(shown), "{target}");
            assert_eq!(call.args().is_some(), target.contains('?'));
        });
    }
}

#[test]
fn addresses_have_four_or_sixteen_bytes() {
    let mut message = message("/", "/");
    for (peer, bytes) in [("[::ffff:1.2.3.4]:1", 4), ("[::1]:1", 16)] {
        message.connection.peer = peer.parse().expect("an address");
        sent(&message, |call| assert_eq!(call.src_ip().map(|ip| ip.len()), Some(bytes)));
    }
}

#[test]
fn what_the_protocol_can_not_say() {
    let mut message = message("/", "/");
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    for method in ["PURGE", "CONNECT", "get"] {
        message.request.method = method.into();
        let refused = encoder.request_call(&mut out, &message, 1, 1);
        assert_eq!(refused, Err(Unsayable::Method(method.to_owned())));
    }
    let long = vec![b'x'; (1 << 24) - 1];
    assert!(encoder.extra_info(&mut out, Some(&long)).is_err());
    assert!(out.is_empty());
    encoder.extra_info(&mut out, Some(b"still works")).expect("short");
    let answer = flatbuffers::root::<a6::extra_info::Resp<'_>>(payload(&out, Kind::ExtraInfo));
    let answer = answer.expect("a table");
    assert_eq!(answer.result().map(text).as_deref(), Some("still works"));
}

#[test]
fn configurations_and_responses() {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    let conf = [("say".to_owned(), r#"{"body":"hi"}"#.to_owned())];
    encoder.prepare_conf(&mut out, "route#1#x#1", &conf).expect("short");
    let prepare = flatbuffers::root::<a6::prepare_conf::Req<'_>>(payload(&out, Kind::PrepareConf));
    let prepare = prepare.expect("a table");
    assert_eq!(prepare.key().map(text).as_deref(), Some("route#1#x#1"));
    assert_eq!(read(prepare.conf()), pairs(&[("say", Some(r#"{"body":"hi"}"#))]));
    out.clear();
    encoder.prepare_conf(&mut out, "k", &[]).expect("short");
    let prepare = flatbuffers::root::<a6::prepare_conf::Req<'_>>(payload(&out, Kind::PrepareConf));
    assert!(prepare.expect("a table").conf().is_none());

    let mut headers = Headers::new();
    headers.append(b"Content-Type", b"caf\xe9");
    headers.append(b"X-Many", b"1");
    headers.append(b"X-Many", b"2");
    out.clear();
    encoder.response_call(&mut out, 502, &headers, 9, 8).expect("short");
    let call = flatbuffers::root::<a6::httpresp_call::Req<'_>>(payload(&out, Kind::ResponseCall));
    let call = call.expect("a table");
    assert_eq!((call.id(), call.status(), call.conf_token()), (8, 502, 9));
    let names: Vec<String> = read(call.headers()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Content-Type", "X-Many", "X-Many"]);
    let first = call.headers().expect("headers").get(0).value().expect("a value");
    assert_eq!(first.bytes(), b"caf\xe9", "values need not be UTF-8");
}

fn shown(entries: Entries<'_>) -> Read {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    entries.iter().map(|(name, value)| (text(name), value.map(text))).collect()
}

#[test]
fn replies_are_read() {
    use Kind::{PrepareConf, RequestCall, ResponseCall};
    let (refused, token) = (refused(2), token(233));
    let reply = decode(0, &refused, RequestCall);
    assert!(matches!(reply, Ok(Reply::Refused(Refusal::TokenNotFound))));
    assert!(matches!(decode(1, &token, PrepareConf), Ok(Reply::Token(233))));
    assert!(matches!(decode(2, &unchanged(5), RequestCall), Ok(Reply::Unchanged { id: 5 })));

    let of = Changes {
        path: Some("/x y"),
        headers: &[("X-A", None), ("X-B", Some(""))],
        args: &[("a", Some("1"))],
        ..Changes::default()
    };
    let bytes = rewrite(of);
    let Ok(Reply::Rewrite(read)) = decode(2, &bytes, RequestCall) else { panic!("a rewrite") };
    assert_eq!((read.path, read.body), (Some(&b"/x y"[..]), None));
    assert_eq!(shown(read.headers), pairs(of.headers));
    assert_eq!(shown(read.args), pairs(of.args));
    assert!(read.resp_headers.is_empty());

    let bytes = stop(0, &[("X-Same", Some("one")), ("X-Same", Some("two"))], b"body");
    let Ok(Reply::Stop(read)) = decode(2, &bytes, RequestCall) else { panic!("a stop") };
    assert_eq!((read.status, read.body), (200, Some(&b"body"[..])));
    assert_eq!(shown(read.headers).len(), 2);

    let bytes = response(0, &[], b"");
    let Ok(Reply::Response(read)) = decode(4, &bytes, ResponseCall) else { panic!("a response") };
    assert!(read.status.is_none() && read.headers.is_empty() && read.body.is_none());

    for ask in [Ask::Var(b"arg_x"), Ask::RequestBody, Ask::ResponseBody] {
        let bytes = asks(ask);
        for sent in [RequestCall, ResponseCall] {
            assert!(matches!(decode(3, &bytes, sent), Ok(Reply::Asks(read)) if read == ask));
        }
        assert_eq!(decode(3, &bytes, PrepareConf).err(), Some(Wrong::Type(3)));
    }
}

#[test]
fn wrong_replies_are_refused() {
    use Kind::{PrepareConf, RequestCall, ResponseCall};
    let table: [(u8, Vec<u8>, Kind, Wrong); 11] = [
        (2, token(1), PrepareConf, Wrong::Type(2)),
        (1, token(1), RequestCall, Wrong::Type(1)),
        (4, response(0, &[], b""), RequestCall, Wrong::Type(4)),
        (77, token(1), PrepareConf, Wrong::Type(77)),
        (1, Vec::new(), PrepareConf, Wrong::Table),
        (1, b"garbage".to_vec(), PrepareConf, Wrong::Table),
        (2, stop(101, &[], b""), RequestCall, Wrong::Status(101)),
        (2, stop(1000, &[], b""), RequestCall, Wrong::Status(1000)),
        (4, response(99, &[], b""), ResponseCall, Wrong::Status(99)),
        (2, stop(200, &[("X\r\nY", Some("z"))], b""), RequestCall, Wrong::Field),
        (4, response(0, &[("X", Some("a\r\nSet-Cookie: b"))], b""), ResponseCall, Wrong::Field),
    ];
    for (kind, payload, sent, wrong) in table {
        assert_eq!(decode(kind, &payload, sent).err(), Some(wrong));
    }
    let codes = [
        (0, "bad request"),
        (1, "service unavailable"),
        (2, "conf token not found"),
        (9, "unknown err 9"),
    ];
    for (code, words) in codes {
        let bytes = refused(code);
        let Ok(Reply::Refused(why)) = decode(0, &bytes, RequestCall) else { panic!("{code}") };
        assert_eq!(why.to_string(), words);
    }
}

#[test]
fn truncated_tables_are_refused() {
    let whole = stop(418, &[("X-A", Some("b"))], b"a longer body, in case");
    for len in 0..whole.len() {
        // A cut table may still be whole if only padding went; it never reads past its end.
        let _ = decode(2, &whole[..len], Kind::RequestCall);
    }
    assert_eq!(decode(2, &whole[..whole.len() / 2], Kind::RequestCall).err(), Some(Wrong::Table));
}
