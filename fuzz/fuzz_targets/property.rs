//! Paths of properties, read and set in all phases.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::proxy_wasm::fuzz::property(data));
