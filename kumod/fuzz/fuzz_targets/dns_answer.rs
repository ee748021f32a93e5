//! Answers of name servers. What must hold stands in `bodies/dns_answer.rs`, which the ordinary tests run too.

#![no_main]

#[path = "../bodies/dns_answer.rs"]
mod dns_answer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dns_answer::run(data);
});
