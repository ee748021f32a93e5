//! Everything that measures: the laboratory (`lab`), the floor, and the criterion benches.
//!
//! It owns the order of an experiment: which programs run, for how long, in which turn, and what is asked of them afterwards.
//! It measures nothing inside another program; every number is read from outside, or from a report that the program writes.
//! It never talks to anything but loopback and never leaves a process behind. When a measurement cannot be trusted, or mail was
//! lost, the record and the exit code say so.

pub mod calls;
pub mod compare;
pub mod crash;
pub mod once;
pub mod suite;
pub mod traffic;

pub mod client;
pub mod destinations;
pub mod gate;
pub mod micro;
pub mod pair;
pub mod queues;
pub mod writers;

pub mod floor;
pub mod table;
pub mod tiers;
pub mod verdict;

pub mod allocator;
pub mod cgroup;
pub mod counters;
pub mod error;
pub mod figures;
pub mod placement;
pub mod processes;
pub mod progress;
pub mod promise;
pub mod scratch;
pub mod size;
pub mod stop;
pub mod survey;

mod direct;
mod http;
