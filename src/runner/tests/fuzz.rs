//! Frames of a hostile runner, made by chance: they are refused or read, and never more.

use super::{Changes, asks, refused, response, rewrite, stop, token};
use crate::runner::{Ask, Kind, decode, fuzz, write_frame};
use std::time::Instant;

const ROUNDS: usize = 60_000;

fn samples() -> Vec<(Kind, Vec<u8>)> {
    let pairs = [("x-a", Some("1")), ("X-B", None), ("x-a", Some("")), ("host", Some("h"))];
    let all = Changes {
        path: Some("/a?b"),
        headers: &pairs,
        args: &pairs,
        resp_headers: &pairs,
        body: b"abc",
    };
    vec![
        (Kind::Error, refused(2)),
        (Kind::PrepareConf, token(7)),
        (Kind::RequestCall, stop(201, &pairs, b"hello")),
        (Kind::RequestCall, rewrite(all)),
        (Kind::ExtraInfo, asks(Ask::Var(b"route_id"))),
        (Kind::ExtraInfo, asks(Ask::RequestBody)),
        (Kind::ResponseCall, response(304, &pairs, b"x")),
    ]
}

#[test]
fn mutated_frames() {
    let seed = std::env::var("RINGGATE_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("RINGGATE_FUZZ_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let samples = samples();
    for _ in 0..ROUNDS {
        let (kind, mut payload) = samples[random.usize(..samples.len())].clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..payload.len());
            match random.u8(..6) {
                0 => payload[at] = random.u8(..),
                1 => payload[at] ^= 1 << random.u8(..8),
                2 => payload.truncate(at.max(1)),
                3 => payload.insert(at, random.u8(..)),
                4 => {
                    let word = [0, 1, 4, 0x7f, 0xff, 0xfe][random.usize(..6)];
                    payload[at..].iter_mut().take(4).for_each(|byte| *byte = word);
                }
                _ => {
                    let from = random.usize(..payload.len());
                    let bytes: Vec<u8> = payload[from..].iter().copied().take(8).collect();
                    payload[at..].iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
                }
            }
        }
        let mut frame = Vec::new();
        let kind = if random.u8(..10) == 0 { Kind::Error } else { kind };
        write_frame(&mut frame, kind, &payload).expect("short");
        fuzz::read(&frame);
        // Behind the choice of whom it talks to, and a token where one is asked for.
        let mut talk = vec![random.u8(..0x80)];
        if random.bool() {
            write_frame(&mut talk, Kind::PrepareConf, &token(1)).expect("short");
        }
        talk.extend_from_slice(&frame);
        fuzz::runner(&talk);
    }
}

/// Good tables with texts that must not get into a head.
#[test]
fn hostile_texts() {
    const PIECES: [&str; 12] =
        ["\r\n", "x-a", "=", "\n", "host", "/a b", "?", "%", "\0", "\u{e9}", "200", "connection="];
    let mut random = fastrand::Rng::new();
    println!("seed {}", random.get_seed());
    for _ in 0..ROUNDS / 20 {
        let mut data = vec![0x80 | random.u8(..)];
        for _ in 0..random.usize(..12) {
            data.extend_from_slice(PIECES[random.usize(..PIECES.len())].as_bytes());
        }
        fuzz::runner(&data);
    }
}

/// A table whose vectors all point to the same entries: small on the wire, endless when expanded.
#[test]
fn a_frame_that_points_to_itself_is_refused_soon() {
    use crate::runner::schema::a6;
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let long = builder.create_vector(&vec![b'x'; 1024 * 1024]);
    let args = a6::TextEntryArgs { name: Some(long), value: Some(long) };
    let entry = a6::TextEntry::create(&mut builder, &args);
    let headers = builder.create_vector(&vec![entry; 1_000_000]);
    let args = a6::httpresp_call::RespArgs { headers: Some(headers), ..Default::default() };
    let root = a6::httpresp_call::Resp::create(&mut builder, &args);
    builder.finish_minimal(root);
    let start = Instant::now();
    assert!(decode(4, builder.finished_data(), Kind::ResponseCall).is_err());
    assert!(start.elapsed().as_millis() < 250, "{:?}", start.elapsed());
}
