//! The libFuzzer entry point of ../targets/tar.rs.
#![no_main]

#[path = "../targets/tar.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::run(bytes));
