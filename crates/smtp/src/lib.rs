//! SMTP, both sides, without I/O: bytes and answers in, events and bytes out.
//!
//! This crate owns the wire: command lines, replies, addresses, the dot and the chunk. It refuses to
//! know sockets, clocks, files, runtimes and mail policy: [`server::Session`] turns the bytes of a
//! client into [`server::Event`]s and the answers of its caller into replies, and
//! [`client::Session`] turns a [`client::Transaction`] into commands and the replies into a
//! [`client::TransactionResult`]. Every state has a deadline in a table ([`server::DEADLINES`],
//! [`client::DEADLINES`]); the caller holds the clock.
//!
//! When something fails, the error first says who is to blame ([`error::Blame`]): a peer that
//! misbehaves is answered on the server side and becomes a [`client::PeerError`] on the client side;
//! a caller that uses a session in the wrong order meets an error value or a debug assertion.

#![forbid(unsafe_code)]

pub mod server;

pub mod client;

pub mod command;

pub mod reply;

pub mod address;

pub mod data;

pub mod dsn;

pub mod extension;

pub mod auth;

pub mod scram;

pub mod error;
