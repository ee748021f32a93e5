//! What goes wrong outside of kumod, and what kumod makes of it: bad next hops, bad clients, bad input from the operator, a host that
//! has run out of something. Each has a clear reply or message, and no mail is lost.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod damage;
mod host;
mod next_hops;
mod notifications;
mod quota;
mod routing;
mod start;
