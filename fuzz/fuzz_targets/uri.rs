//! Paths: normalising is done once, and what is normal stays as it is.
#![no_main]

use ringgate::http::uri;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = uri::split(data);
    let query = target.query.map_or(0, |query| query.len() + 1);
    assert!(target.path.len() + query <= data.len());
    let mut normal = Vec::new();
    let done = uri::normalise(target.path, &mut normal);
    if uri::is_normal(target.path) {
        assert!(done.is_ok() && normal == target.path, "{normal:?}");
    }
    if done.is_ok() {
        assert!(normal.starts_with(b"/") && !normal.contains(&0), "{normal:?}");
        let mut segments = normal[1..].split(|byte| *byte == b'/').peekable();
        while let Some(segment) = segments.next() {
            assert!(segment != b"." && segment != b"..", "{normal:?}");
            assert!(!segment.is_empty() || segments.peek().is_none(), "{normal:?}");
        }
    }
    assert!(uri::percent_decode(data).len() <= data.len());
    assert!(uri::decode_component(data).len() <= data.len());
    assert!(uri::host_of(data).len() <= data.len());
});
