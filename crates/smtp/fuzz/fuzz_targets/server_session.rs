//! The server session under arbitrary bytes. What must hold stands in `bodies/server_session.rs`, which the ordinary tests run too.

#![no_main]

#[path = "../bodies/server_session.rs"]
mod server_session;

libfuzzer_sys::fuzz_target!(|data: &[u8]| server_session::run(data));
