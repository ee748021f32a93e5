//! Next hops of all kinds: those of Debian, those that fail in every way there is, and those on hosts of their own.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod failures;
mod interop;
mod jail;
mod namespaces;
