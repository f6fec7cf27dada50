//! Foreign functions on a guest without an instance.

use super::super::abi::Phase;
use super::super::fuzz::midway;
use super::super::guest::{Ending, Frame, Guest, Root, StreamContext};
use super::super::pairs::encode_exact;
use super::super::property;
use super::super::protobuf::{Fields, Value, Writer};
use super::{BYTES_MAX, Status, call};
use crate::plugin::{LifeSpan, PropertyTraits};
use rsa::pkcs8::Document;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A guest in a callback of a stream below a root.
fn stream() -> Guest {
    let mut guest = midway(Phase::RequestHeaders, false);
    guest.roots.push(Root {
        id: 7,
        conf_index: 0,
        conf: Arc::default(),
        tick_ms: 0,
        armed: 0,
        ending: Ending::Live,
        declared: FxHashMap::default(),
    });
    guest.streams.insert(1, StreamContext { root: 7, key: None });
    guest
}

fn run(guest: &mut Guest, name: &str, args: &[u8]) -> Result<Vec<u8>, Status> {
    let mut out = Vec::new();
    call(guest, name.as_bytes(), args, &mut out).map(|()| out)
}

#[test]
fn names_are_known_or_not_found() {
    for name in ["", "compres", "compress\0", "resolve_lua"] {
        assert_eq!(run(&mut stream(), name, b""), Err(Status::NotFound), "{name:?}");
    }
    let level = run(&mut stream(), "get_log_level", b"").expect("a level");
    assert!(u32::from_le_bytes(level.try_into().expect("a word")) <= 5);
}

#[test]
fn what_is_compressed_is_uncompressed() {
    let mut guest = stream();
    for text in [&b""[..], b"hello hello hello hello", &[0; 100_000]] {
        let compressed = run(&mut guest, "compress", text).expect("compressed");
        assert_eq!(compressed[0], 0x78, "a zlib header");
        assert_eq!(run(&mut guest, "uncompress", &compressed), Ok(text.to_vec()));
        let more = [&compressed[..], b"more"].concat();
        assert_eq!(run(&mut guest, "uncompress", &more), Ok(text.to_vec()));
        let cut = &compressed[..compressed.len() - 1];
        assert_eq!(run(&mut guest, "uncompress", cut), Err(Status::SerializationFailure));
    }
    // Made by zlib's own compress().
    let known = b"\x78\x9c\xcb\x48\xcd\xc9\xc9\x57\x28\xcf\x2f\xca\x49\x01\x00\x1a\x0b\x04\x5d";
    assert_eq!(run(&mut guest, "uncompress", known), Ok(b"hello world".to_vec()));
    for bad in [&b""[..], b"hello", b"\x78\x9c"] {
        assert_eq!(run(&mut guest, "uncompress", bad), Err(Status::SerializationFailure));
    }
}

#[test]
fn nothing_grows_without_bound() {
    let mut guest = stream();
    let large = vec![0; BYTES_MAX];
    let compressed = run(&mut guest, "compress", &large).expect("just fits");
    assert_eq!(run(&mut guest, "uncompress", &compressed).map(|out| out.len()), Ok(BYTES_MAX));
    let larger = vec![0; BYTES_MAX + 1];
    assert_eq!(run(&mut guest, "compress", &larger), Err(Status::SerializationFailure));
    let bomb = {
        use std::io::Read;
        let mut out = Vec::new();
        let encoder = flate2::bufread::ZlibEncoder::new(&larger[..], Default::default());
        std::io::BufReader::new(encoder).read_to_end(&mut out).expect("compressed");
        out
    };
    assert_eq!(run(&mut guest, "uncompress", &bomb), Err(Status::SerializationFailure));
}

/// What OpenSSL made: `openssl dgst -HASH -sign KEY` of this text.
const TEXT: &[u8] = b"hello world";
const SIGNATURES: &str = include_str!("keys/signatures.txt");

struct Pems {
    public: &'static str,
    private: &'static str,
    /// In its older form.
    old: &'static str,
}

macro_rules! pems {
    ($name:literal) => {
        Pems {
            public: include_str!(concat!("keys/", $name, ".pub.pem")),
            private: include_str!(concat!("keys/", $name, ".pem")),
            old: include_str!(concat!("keys/", $name, ".old.pem")),
        }
    };
}

fn pems(name: &str) -> Pems {
    match name {
        "rsa" => pems!("rsa"),
        "p256" => pems!("p256"),
        "p384" => pems!("p384"),
        "p521" => pems!("p521"),
        other => panic!("no key {other}"),
    }
}

fn der(pem: &str) -> Vec<u8> {
    let (_, document) = Document::from_pem(pem).expect("PEM");
    document.as_bytes().to_vec()
}

fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::default();
    fields.iter().for_each(|(number, bytes)| writer.bytes(*number, bytes));
    writer.into_bytes()
}

/// Whether a result says true, and its field 2.
fn result(message: &[u8]) -> (bool, Vec<u8>) {
    let (mut fields, mut result) = (Fields::of(message), (false, vec![]));
    while let Some(field) = fields.next().expect("well-formed") {
        match field {
            (1, Value::Varint(1)) => result.0 = true,
            (2, Value::Bytes(bytes)) => result.1 = bytes.to_vec(),
            (3, Value::Bytes(error)) => result.1 = error.to_vec(),
            other => panic!("{other:?}"),
        }
    }
    result
}

fn verify(key: (u64, &[u8]), hash: &str, signature: &[u8], text: &[u8]) -> bool {
    let args = message(&[(1, hash.as_bytes()), key, (3, signature), (4, text)]);
    let out = run(&mut stream(), "verify_signature", &args).expect("a good key");
    result(&out).0
}

fn sign(key: (u64, &[u8]), hash: &str) -> Vec<u8> {
    let args = message(&[(1, hash.as_bytes()), key, (3, TEXT)]);
    let (signed, signature) = result(&run(&mut stream(), "sign", &args).expect("a good key"));
    assert!(signed, "{hash}");
    signature
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn signatures_of_all_keys_and_hashes() {
    let mut rows = 0;
    for line in SIGNATURES.lines() {
        let [name, hash, signature] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let (pems, signature) = (pems(name), hex(signature));
        let public = der(pems.public);
        for key in [(2, &public[..]), (5, pems.public.as_bytes())] {
            assert!(verify(key, hash, &signature, TEXT), "{name} {hash}");
            assert!(verify(key, &hash.to_uppercase(), &signature, TEXT), "{name} {hash}");
            assert!(!verify(key, hash, &signature, b"other"), "{name} {hash}");
            assert!(!verify(key, hash, &signature[1..], TEXT), "{name} {hash}");
            assert!(!verify(key, hash, b"", TEXT), "{name} {hash}");
        }
        let (private, comment) = (der(pems.private), format!("a comment\n{}\n\n", pems.private));
        for key in [(2, &private[..]), (4, comment.as_bytes()), (4, pems.old.as_bytes())] {
            let ours = sign(key, hash);
            assert!(verify((2, &public), hash, &ours, TEXT), "{name} {hash}");
            assert!(name != "rsa" || ours == signature, "RSA signs in one way");
        }
        rows += 1;
    }
    assert_eq!(rows, 20);
}

#[test]
fn unknown_hashes_are_results_and_bad_keys_are_arguments() {
    let pem = pems("p256").public.as_bytes();
    let args = message(&[(1, b"md5"), (5, pem), (4, TEXT)]);
    let out = run(&mut stream(), "verify_signature", &args).expect("a good key");
    assert_eq!(result(&out), (false, b"md5 is not supported.".to_vec()));
    let private = pems("p256").private.as_bytes();
    let args = message(&[(1, b"md5"), (4, private), (3, TEXT)]);
    let out = run(&mut stream(), "sign", &args).expect("a good key");
    assert_eq!(result(&out), (false, b"md5 is not supported.".to_vec()));
    let public = der(pems("p256").public);
    for (name, args) in [
        ("verify_signature", message(&[(1, b"sha256")])),
        ("verify_signature", message(&[(2, b"no key")])),
        ("verify_signature", message(&[(2, &public), (5, pem)])),
        ("verify_signature", message(&[(5, private)])),
        ("verify_signature", message(&[(1, b"\xff"), (2, &public)])),
        ("verify_signature", b"\x0a\x05".to_vec()),
        ("sign", message(&[(4, pem)])),
        ("sign", message(&[(2, &public)])),
        ("sign", b"\x0b".to_vec()),
    ] {
        assert_eq!(run(&mut stream(), name, &args), Err(Status::BadArgument), "{name} {args:?}");
    }
}

#[test]
fn no_key_panics() {
    let mut random = fastrand::Rng::with_seed(6);
    for name in ["rsa", "p256", "p384", "p521"] {
        let keys =
            [("verify_signature", der(pems(name).public)), ("sign", der(pems(name).private))];
        for round in 0..60 {
            let (function, mut key) = keys[round % 2].clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..key.len());
                key[at] = random.u8(..);
            }
            key.truncate(random.usize(key.len() / 2..key.len() * 4).max(1));
            let args = message(&[(1, b"sha256"), (2, &key), (3, b"12345678"), (4, TEXT)]);
            let _ = run(&mut stream(), function, &args);
        }
    }
}

fn set(guest: &mut Guest, path: &str, value: &str) -> Result<(), Status> {
    property::set(guest, path.as_bytes(), value.as_bytes())
}

#[test]
fn declared_properties() {
    let mut guest = stream();
    let declare = |guest: &mut Guest, name: &str, numbers: &[u8]| {
        let fields = message(&[(1, name.as_bytes())]);
        run(guest, "declare_property", &[&fields, numbers].concat())
    };
    // Read-only; text; kept by the connection.
    assert_eq!(declare(&mut guest, "once", &[2 << 3, 1]), Ok(vec![]));
    assert_eq!(declare(&mut guest, "once", &[]), Err(Status::BadArgument), "declared already");
    assert_eq!(declare(&mut guest, "words", &[3 << 3, 1]), Ok(vec![]));
    assert_eq!(declare(&mut guest, "stays", &[5 << 3, 2]), Ok(vec![]));
    assert_eq!(set(&mut guest, "once", "1"), Ok(()));
    assert_eq!(set(&mut guest, "once", "2"), Err(Status::BadArgument));
    for path in ["words", "stays", "plain"] {
        assert_eq!(set(&mut guest, path, "1"), Ok(()));
        assert_eq!(set(&mut guest, path, "2"), Ok(()));
    }
    let traits = |name: &str| guest.message.filter_state.get(name.as_bytes()).expect(name).traits;
    assert_eq!(traits("wasm.plain"), PropertyTraits::default());
    assert_eq!(traits("wasm.stays").span, LifeSpan::Connection);
    for bad in [&b"\x0a"[..], b"\x0a\x01\xff", b"\x0b"] {
        assert_eq!(run(&mut guest, "declare_property", bad), Err(Status::BadArgument), "{bad:?}");
    }
    guest.frame = Frame::START;
    assert_eq!(declare(&mut guest, "nobody", &[]), Err(Status::NotFound));
}

#[test]
fn filter_state_under_names_of_its_own() {
    let mut guest = stream();
    let args = message(&[(1, b"envoy.key"), (2, b"value")]);
    assert_eq!(run(&mut guest, "set_envoy_filter_state", &args), Ok(vec![]));
    let mut out = Vec::new();
    property::get(&guest, b"filter_state\0envoy.key", &mut out).expect("set");
    assert_eq!(out, b"value");
    assert!(property::get(&guest, b"envoy.key", &mut out).is_err());
    assert_eq!(run(&mut guest, "set_envoy_filter_state", b"\x0a"), Err(Status::BadArgument));
    assert_eq!(run(&mut guest, "set_envoy_filter_state", b""), Err(Status::BadArgument));
    guest.frame = Frame::root(Phase::Root, 7);
    assert_eq!(run(&mut guest, "set_envoy_filter_state", &args), Err(Status::NotFound));
}

#[test]
fn the_route_is_chosen_again() {
    let mut guest = stream();
    assert_eq!(run(&mut guest, "clear_route_cache", b""), Ok(vec![]));
    assert!(guest.message.clear_route);
    let mut guest = stream();
    guest.frame = Frame::root(Phase::Root, 7);
    assert_eq!(run(&mut guest, "clear_route_cache", b""), Ok(vec![]));
    assert!(!guest.message.clear_route);
}

/// A guest with something to ask for.
fn asked() -> Guest {
    let mut guest = stream();
    guest.message.request.headers.append(b"X-Many", b"1");
    guest.message.request.headers.append(b"X-Many", b"2");
    guest.message.connection.id = 7;
    guest.message.started_ns = 1_500_000_000;
    let traits = PropertyTraits::default();
    guest.message.metadata.set(b"ns\0key", b"value", traits).expect("room");
    set(&mut guest, "raw", "bytes").expect("room");
    guest
}

fn evaluate(guest: &mut Guest, text: &str) -> Result<Vec<u8>, Status> {
    let token = run(guest, "expr_create", text.as_bytes())?;
    let value = run(guest, "expr_evaluate", &token);
    assert_eq!(run(guest, "expr_delete", &token), Ok(vec![]));
    assert_eq!(run(guest, "expr_evaluate", &token), Err(Status::NotFound), "it is deleted");
    value
}

fn list(elements: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_exact(|| elements.iter().map(|element| (*element, &b""[..])), &mut out);
    out
}

#[test]
fn expressions() {
    let mut guest = asked();
    let mut named = Vec::new();
    encode_exact(|| [(&b"a"[..], &b"b"[..])].into_iter(), &mut named);
    for (text, value) in [
        ("1 + 2", 3_i64.to_le_bytes().to_vec()),
        ("3u", 3_u64.to_le_bytes().to_vec()),
        ("0.5", 0.5_f64.to_le_bytes().to_vec()),
        ("'a' + 'b'", b"ab".to_vec()),
        ("b'\\xff'", vec![0xff]),
        ("null", vec![]),
        ("request.path", b"/a?b=c".to_vec()),
        ("request['path']", b"/a?b=c".to_vec()),
        ("request.method == 'GET' && request.url_path.startsWith('/a')", vec![1]),
        ("request.headers['x-many']", b"1,2".to_vec()),
        ("'x-many' in request.headers", vec![1]),
        ("request.headers.exists(name, name.startsWith('x-'))", vec![1]),
        ("has(request.headers.missing)", vec![0]),
        ("has(request.missing) || has(response.missing)", vec![0]),
        ("has(metadata.filter_metadata.none) && metadata.filter_metadata.none.key == ''", vec![0]),
        ("has(metadata.filter_metadata.ns) && metadata.filter_metadata.ns.key == 'value'", vec![1]),
        ("metadata.filter_metadata.ns.size()", 1_i64.to_le_bytes().to_vec()),
        ("connection.id == 7u && !connection.mtls", vec![1]),
        ("connection_id", 7_u64.to_le_bytes().to_vec()),
        ("request.time", 1_500_000_000_i64.to_le_bytes().to_vec()),
        ("request.time > timestamp('1970-01-01T00:00:01Z')", vec![1]),
        ("duration('1500ms')", 1_500_000_000_i64.to_le_bytes().to_vec()),
        ("filter_state['wasm.raw'] == b'bytes'", vec![1]),
        ("raw", b"bytes".to_vec()),
        ("plugin_name", b"p".to_vec()),
        ("request.path.matches('^/a[?]b=.$')", vec![1]),
        ("matches(request.path, 'z')", vec![0]),
        ("['a', 'b']", list(&[b"a", b"b"])),
        ("[1].map(x, x + 1)", list(&[&2_i64.to_le_bytes()])),
        ("{'a': 'b'}", named),
        ("size(request) > 5", vec![1]),
    ] {
        assert_eq!(evaluate(&mut guest, text), Ok(value), "{text}");
    }
    for text in ["nobody", "request.missing", "upstream.port", "1 / 0", "'a'.matches('(')", "f()"] {
        assert_eq!(evaluate(&mut guest, text), Err(Status::InternalFailure), "{text}");
    }
    for text in [
        "",
        "1 +",
        "\u{0}",
        "[1].map(x, [2].map(y, x))",
        "[1].map(x, 'a'.matches('a'))",
        "request.path.matches('a{100}{100}{100}')  +",
    ] {
        assert_eq!(evaluate(&mut guest, text), Err(Status::BadArgument), "{text}");
    }
    let large = "'a'.matches('(a{100}){100}{100}')";
    assert_eq!(evaluate(&mut guest, large), Err(Status::InternalFailure), "a huge expression");
    assert_eq!(run(&mut guest, "expr_create", b"\xff"), Err(Status::BadArgument));
    assert_eq!(run(&mut guest, "expr_evaluate", b"\0"), Err(Status::BadArgument));
    assert_eq!(run(&mut guest, "expr_delete", b"\0"), Err(Status::BadArgument));
}

/// On a stack as small as any of ours.
#[test]
fn no_text_is_too_much() {
    let repeat = |before: &str, middle: &str, after: &str, count: usize| {
        format!("{}{middle}{}", before.repeat(count), after.repeat(count))
    };
    let mut texts = Vec::new();
    for count in [20, 60, 100, 250, 500, 1_000] {
        for (before, middle, after) in [
            ("", "1", "+1"),
            ("", "true", "&&true"),
            ("(", "1", ")"),
            ("!", "true", ""),
            ("-", "1", ""),
            ("[", "", "]"),
            ("", "request", ".b"),
            ("", "a", "[0]"),
            ("true?1:", "1", ""),
            ("true?", "1", ":1"),
            ("", "a", ".b()"),
            ("{1:", "1", "}"),
            ("", "1", " in a"),
            ("f(", "1", ")"),
            ("(", "", ""),
            ("'", "", ""),
            ("a ", "", ""),
            ("[1].map(x,", "1", ")"),
        ] {
            texts.push(repeat(before, middle, after, count));
        }
    }
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let running = small.spawn(move || {
        let mut guest = asked();
        for text in texts {
            let _ = evaluate(&mut guest, &text);
        }
    });
    running.expect("a thread").join().expect("no panic");
}

#[test]
fn random_texts_never_panic() {
    const WORDS: [&str; 22] = [
        "request",
        ".",
        "path",
        "(",
        ")",
        "[",
        "]",
        "'a'",
        "1",
        "+",
        "-",
        "==",
        "&&",
        "?",
        ":",
        "has(",
        "duration('1h')",
        "timestamp('2020-01-01T00:00:00Z')",
        ".map(x, x)",
        "{",
        "}",
        "9223372036854775807",
    ];
    let mut random = fastrand::Rng::with_seed(8);
    let mut guest = asked();
    for _ in 0..2_000 {
        let count = random.usize(1..9);
        let words = (0..count).map(|_| WORDS[random.usize(0..WORDS.len())]);
        let _ = evaluate(&mut guest, &words.collect::<String>());
    }
}

#[test]
fn expressions_are_bounded_in_number() {
    let mut guest = asked();
    let tokens: Vec<_> = (0..256).map(|_| run(&mut guest, "expr_create", b"1")).collect();
    assert_eq!(tokens[255], Ok(255_u32.to_le_bytes().to_vec()));
    assert_eq!(run(&mut guest, "expr_create", b"1"), Err(Status::InternalFailure));
    assert_eq!(run(&mut guest, "expr_delete", &7_u32.to_le_bytes()), Ok(vec![]));
    assert!(run(&mut guest, "expr_create", b"1").is_ok());
}
