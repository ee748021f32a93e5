//! Bodies: stuffing, unstuffing and checking of arbitrary bytes. What must hold stands in `bodies/data.rs`, which the ordinary tests run too.

#![no_main]

#[path = "../bodies/data.rs"]
mod data;

libfuzzer_sys::fuzz_target!(|data: &[u8]| data::run(data));
