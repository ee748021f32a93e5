//! Tiers: the suite once for each amount of processors and memory, cut out of this machine.
//!
//! It owns the notation (`0.5x1` is half a processor and 1 GiB), the division of the machine between the relay and its load, and
//! the series of measurements under each limit. A tier that the machine is too small for is skipped with its reason, never
//! estimated. Where no processor is left for generator and sink, the numbers are marked as shared. A limit that does not hold
//! ends the tier; a program that dies of its limit is told as such.

pub mod flags;
pub mod plan;
pub mod wanted;

pub(crate) mod series;
