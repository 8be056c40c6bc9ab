//! The libFuzzer entry point of ../targets/http.rs.
#![no_main]

#[path = "../targets/http.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::run(bytes));
