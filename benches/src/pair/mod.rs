//! The load pair under measurement: what one core of traffic-gen sends into one core of sink, beside Postfix's smtp-source.
//!
//! All contenders take turns within a round, into the same kind of sink, with the same size and connections, so that a ratio is taken
//! between runs that were seconds apart. Generator and sink have a core each, where the machine has two. A run counts only if sink
//! took exactly what was asked for.

pub mod plan;
pub mod report;
pub mod run;
