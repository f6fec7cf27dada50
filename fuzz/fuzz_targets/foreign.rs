//! Foreign functions, by any name and with any arguments.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::proxy_wasm::fuzz::foreign(data));
