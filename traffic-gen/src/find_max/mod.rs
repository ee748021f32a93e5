//! The highest rate at which a server keeps the promises asked of it.
//!
//! [`search`] decides which rate is tried next, [`steady`] whether a try was in a steady state. Neither runs
//! anything.

pub mod search;
pub mod steady;
