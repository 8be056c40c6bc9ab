//! The libFuzzer entry point of ../targets/reference.rs.
#![no_main]

#[path = "../targets/reference.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::run(bytes));
