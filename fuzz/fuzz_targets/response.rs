//! Response heads of upstreams.
#![no_main]

use ringgate::http::{HeadLimits, ResponseHead, is_field_value, is_token};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = HeadLimits::default();
    for to_head in [false, true] {
        // One after the other: what was read before changes nothing.
        let mut read = ResponseHead::default();
        for head in data.split(|byte| *byte == 0xff).chain([data, data]) {
            assert_ne!(read.reads_alike(head, limits, to_head), Some(false));
        }
        let mut head = ResponseHead::default();
        let Ok(true) = head.parse(data, limits, to_head) else { continue };
        let input = &data[..head.len];
        assert!((100..=999).contains(&head.status));
        assert!(head.fields.iter().all(|f| is_token(f.name.of(input)) && is_field_value(f.value.of(input))));
        let mut again = ResponseHead::default();
        assert_eq!(again.parse(input, limits, to_head), Ok(true));
        assert_eq!(format!("{head:?}"), format!("{again:?}"));
    }
});
