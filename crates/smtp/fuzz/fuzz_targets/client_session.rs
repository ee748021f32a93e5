//! The client session under arbitrary replies. What must hold stands in `bodies/client_session.rs`, which the ordinary tests run too.

#![no_main]

#[path = "../bodies/client_session.rs"]
mod client_session;

libfuzzer_sys::fuzz_target!(|data: &[u8]| client_session::run(data));
