//! What a hostile plugin runner sends, and what becomes of the message it is asked about.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::runner::fuzz::runner(data));
