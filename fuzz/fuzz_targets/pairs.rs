//! The ABI's encoding of maps: what a guest hands over as headers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::proxy_wasm::fuzz::pairs(data));
