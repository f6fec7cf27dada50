//! What each callback has, over real connections: the guest of `plugins/any.rs` asks for every map
//! and buffer in every callback, and its log lines are compared. In process the same guest makes
//! every call there is: `src/proxy_wasm/tests/table.rs`.

use crate::any::{self, FREE, Program};
use crate::harness::{Gateway, Setup, Upstream, drivers};
use std::collections::BTreeMap;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;

/// Asks for a field that no map has, in maps 0 to 3, and for buffers 0 and 1.
fn asking() -> Program {
    let (key, out) = (FREE, FREE + 16);
    let mut program = Program::new();
    let section = program.everywhere().poke(key, b"none");
    for map in 0..4 {
        section.call("env.proxy_get_header_map_value", &[map, key, 4, out, out + 4]);
    }
    for buffer in 0..2 {
        section.call("env.proxy_get_buffer_bytes", &[buffer, 0, 9, out, out + 4]);
    }
    section.say_answers();
    program
}

/// What the guest was answered, by callback.
fn answers(gateway: &Gateway) -> BTreeMap<&'static str, Vec<u32>> {
    let mut answers = BTreeMap::new();
    for (callback, bytes) in gateway.log().lines().filter_map(any::heard) {
        let words = bytes.chunks_exact(4).map(|word| word.try_into().expect("four bytes"));
        answers.insert(callback, words.map(u32::from_le_bytes).collect());
    }
    answers
}

/// A map that is there and has no such field, one that is not there, and the same when all is over.
const HERE: u32 = NOT_FOUND;
const AWAY: u32 = BAD_ARGUMENT;
const OVER: u32 = NOT_FOUND;
const NONE: u32 = NOT_FOUND;

#[test]
fn maps_and_buffers_are_there_when_they_should() {
    let with_trailers = [
        ("root_create", [AWAY, AWAY, AWAY, AWAY, NONE, NONE]),
        ("configure", [AWAY, AWAY, AWAY, AWAY, NONE, NONE]),
        ("request_headers", [HERE, AWAY, AWAY, AWAY, NONE, NONE]),
        ("request_body", [HERE, AWAY, AWAY, AWAY, OK, NONE]),
        ("request_trailers", [HERE, HERE, AWAY, AWAY, OK, NONE]),
        ("response_headers", [HERE, HERE, HERE, AWAY, NONE, NONE]),
        ("response_body", [HERE, HERE, HERE, AWAY, NONE, OK]),
        ("response_trailers", [HERE, HERE, HERE, HERE, NONE, OK]),
        ("done", [HERE, HERE, HERE, HERE, NONE, NONE]),
        ("log", [HERE, HERE, HERE, HERE, NONE, NONE]),
        ("delete", [HERE, HERE, HERE, HERE, NONE, NONE]),
    ];
    let without_trailers = [
        ("request_headers", [HERE, AWAY, AWAY, AWAY, NONE, NONE]),
        ("request_body", [HERE, HERE, AWAY, AWAY, OK, NONE]),
        ("response_headers", [HERE, AWAY, HERE, AWAY, NONE, NONE]),
        ("response_body", [HERE, AWAY, HERE, HERE, NONE, OK]),
        ("delete", [HERE, OVER, HERE, OVER, NONE, NONE]),
    ];
    let (length, chunks) = (
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            "Content-Length: 5\r\n\r\nhello",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\nX-A: 1\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        ),
    );
    for driver in drivers() {
        for ((request, response), wanted) in
            [(length, &without_trailers[..]), (chunks, &with_trailers[..])]
        {
            let upstream = Upstream::answering(format!("HTTP/1.1 200 OK\r\n{response}"));
            let setup = Setup::new(format!(
                "routes: [{{uri: /, plugins: {{any: {{conf: c}}}}, \
                 upstream: {{nodes: {{\"{}\": 1}}}}}}]",
                upstream.node()
            ));
            let file = setup.folder().write("any.wat", any::text());
            let file = file.to_str().expect("a path of text").to_owned();
            let keys = format!("vm_config: \"{}\"", asking().text());
            let gateway = setup.wasm("any", &file, &keys).driver(*driver).start();
            assert_eq!(gateway.ask(request).text(), "hello");
            gateway.wait_for_log(&format!("any {:02x} ", any::number("delete")));
            let answers = answers(&gateway);
            for (callback, wanted) in wanted {
                assert_eq!(answers.get(callback), Some(&wanted.to_vec()), "{callback}");
            }
        }
    }
}
