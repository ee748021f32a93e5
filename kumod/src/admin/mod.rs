//! HTTP for the operator: is it alive, and what are its numbers.
//!
//! [`server`] knows the paths and who may ask for them; [`connection`] sees to it that a client that is slow, greedy or silent costs
//! little and not for long. Nothing here changes anything: all requests are questions.

mod connection;
mod server;

pub use server::{AdminState, Liveness, ResolveEgressPath, serve};
