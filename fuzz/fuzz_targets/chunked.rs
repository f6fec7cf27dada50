//! Chunked bodies: cut anywhere, they decode to the same bytes and trailers.
#![no_main]

use ringgate::http::{Chunked, Headers};

/// What a body decodes to when it comes in pieces of that size: the bytes, how much was used up,
/// its trailers; or what is wrong with it.
fn decode(data: &[u8], piece: usize) -> Result<(Vec<u8>, usize, String), &'static str> {
    let (mut chunked, mut out, mut at) = (Chunked::default(), Vec::new(), 0);
    let mut trailers = Headers::default();
    while at < data.len() {
        let end = data.len().min(at + piece);
        let progress = chunked.decode(&data[at..end], &mut out)?;
        at += progress.consumed;
        if progress.done {
            chunked.trailers(&mut trailers)?;
            break;
        }
        assert_eq!(at, end, "all of a piece is used up while the body goes on");
    }
    Ok((out, at, format!("{:?}", trailers.iter().collect::<Vec<_>>())))
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((piece, data)) = data.split_first() else { return };
    let whole = decode(data, data.len().max(1));
    let pieces = decode(data, usize::from(*piece % 16) + 1);
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (whole, pieces) => assert_eq!(whole.is_err(), pieces.is_err()),
    }
});
