//! `kumod`, a mail transfer agent for high-volume senders.
//!
//! The modules stand in the order in which mail passes them; `ARCHITECTURE.md` says which may use which. Mail is born in
//! [`intake`] and dies in [`settle`]: whoever looks for a lost message has two places to search. [`queue`] decides without
//! a clock or a socket; everything that waits on the world lives in [`inbound`] and [`outbound`].

pub mod client;
pub mod clock;
pub mod config;
pub mod envelope;
pub mod metrics;
pub mod ports;
pub mod pressure;

pub mod inbound;

pub mod policy;

pub mod intake;

pub mod queue;
pub mod store;

pub mod dns;
pub mod outbound;

pub mod maillog;
pub mod recover;
pub mod settle;

pub mod admin;
pub mod command;
pub mod node;
