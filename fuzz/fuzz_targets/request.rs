//! Request heads: whatever comes, and however it is cut, the answer is the same.
#![no_main]

use ringgate::http::{HeadLimits, RequestHead, is_field_value, is_token};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = HeadLimits::default();
    // One after the other: what was read before changes nothing.
    let mut read = RequestHead::default();
    for head in data.split(|byte| *byte == 0xff).chain([data, data]) {
        assert_ne!(read.reads_alike(head, limits), Some(false));
    }
    let mut head = RequestHead::default();
    let Ok(true) = head.parse(data, limits) else { return };
    let input = &data[..head.len];
    assert!(is_token(head.method_span.of(input)));
    assert!(head.fields.iter().all(|f| is_token(f.name.of(input)) && is_field_value(f.value.of(input))));
    // The head alone gives the same, and less of it is not a head.
    let mut again = RequestHead::default();
    assert_eq!(again.parse(input, limits), Ok(true));
    assert_eq!(format!("{head:?}"), format!("{again:?}"));
    assert_ne!(again.parse(&input[..head.len - 1], limits), Ok(true));
});
