//! Addresses from arbitrary text. What must hold stands in `bodies/address.rs`, which the ordinary tests run too.

#![no_main]

#[path = "../bodies/address.rs"]
mod address;

libfuzzer_sys::fuzz_target!(|data: &[u8]| address::run(data));
