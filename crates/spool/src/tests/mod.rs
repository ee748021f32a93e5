//! The spool against a plain map, under power cuts, faults and reuse of segments. Everything here is deterministic: a
//! failure names its seed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

mod deferred;
mod faults;
mod host;
mod model;
mod power;
mod random;
mod reads;
mod recovery;
mod ring;
mod rules;
mod world;
