//! What a durable append costs by each way of writing: the spool's back ends, plain tokio files, a file per message, and the
//! disk's own ceiling.
//!
//! It owns the order of the comparison: every extent that can be written beforehand is, and within a round each contender runs
//! each cell in turn, so that ratios are between runs seconds apart. It refuses folders in memory. What a host does not allow is left
//! out with its reason; a contender that cannot write ends the comparison, and what was measured until then is kept.

pub mod limits;
pub mod plan;
pub mod report;
pub mod run;

pub mod appender;
pub mod measure;
pub mod processor;

mod ceiling;
mod contender;
mod files;
mod spools;
mod tokio_log;
