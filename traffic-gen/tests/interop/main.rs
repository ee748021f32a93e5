//! traffic-gen against other people's servers and readers: what it counts is what they have.
//!
//! A program that is not installed is said and skipped; `scripts/setup` installs them all. Every server listens on a
//! free port of 127.0.0.1, keeps its files in a folder of its own, and is ended by the number of its process.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod histograms;

mod postfix;

mod smtp_sink;

mod program;
