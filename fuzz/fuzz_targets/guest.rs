//! A guest with hostile pointers and lengths at every host call, in every callback.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::proxy_wasm::fuzz::guest(data));
