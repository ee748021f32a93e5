//! A whole inbound session under arbitrary bytes. What must hold stands in `bodies/inbound_session.rs`, which the ordinary tests run too.

#![no_main]

#[path = "../bodies/inbound_session.rs"]
mod inbound_session;

libfuzzer_sys::fuzz_target!(|data: &[u8]| inbound_session::run(data));
