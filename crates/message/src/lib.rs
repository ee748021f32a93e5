//! What a message contains: headers, trace fields, notifications, the laboratory's own header.
//!
//! The crate works on bytes that somebody else read. It owns the syntax of RFC 5322 as far as the project
//! needs it and the layout of `X-Traffic-Gen`. It refuses nothing that a peer may send: what cannot be
//! understood is reported as absent, never as a panic. No clock, no socket, no file: the time comes in as a
//! number.

pub mod date;
pub mod header;
pub mod notification;
pub mod received;
pub mod traffic;
