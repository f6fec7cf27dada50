//! PROXY protocol headers: cut anywhere they are the same ones, and what is read is written again.
#![no_main]

use ringgate::proxy_protocol::{Origin, Version, read, write};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let whole = read(data);
    let mut decided = None;
    for cut in 0..=data.len() {
        match (read(&data[..cut]), decided) {
            (Ok(None), None) => {}
            (verdict, None) => decided = Some(verdict),
            // What follows a header, or a mistake, changes nothing.
            (verdict, Some(first)) => assert_eq!(verdict, first),
        }
    }
    assert_eq!(whole, decided.unwrap_or(Ok(None)));
    let Ok(Some((Origin::Client { source, destination }, used))) = whole else { return };
    assert!(used <= data.len());
    for version in [Version::V1, Version::V2] {
        let mut out = Vec::new();
        write(&mut out, version, source, destination);
        let read = read(&out).expect("a header of ours");
        let Some((Origin::Client { source: from, destination: to }, length)) = read else {
            panic!("it names a client")
        };
        assert_eq!(length, out.len());
        let same = (from.ip().to_canonical(), from.port());
        assert_eq!(same, (source.ip().to_canonical(), source.port()));
        assert_eq!(to.port(), destination.port());
    }
});
