//! The record of a laboratory run, and the page drawn from it.
//!
//! This crate owns the format of `run.json` and of the `.hlog` files beside it, what is recorded about
//! the machine, the software and the processes, how runs are compared and followed over time, and (feature `render`)
//! the self-contained HTML page. It refuses records of a schema version that it does not know, numbers that are
//! negative or not finite, and histogram files outside the run's folder. When it fails it names the file and the field;
//! what it cannot find out about a machine it records as `null`, never as a guess.

pub mod run;

pub mod results;

pub mod ceiling;
pub mod compare;
pub mod disturbance;
pub mod export;
pub mod history;
pub mod latency;
pub mod machine;
pub mod metrics;
pub mod sample;
pub mod software;
pub mod stats;

#[cfg(feature = "render")]
pub mod render;

#[cfg(feature = "serve")]
pub mod serve;

mod files;
mod words;

/// The JSON schema (draft 2020-12) of `run.json`, schema version [`run::SCHEMA_VERSION`].
pub fn schema() -> &'static str {
    include_str!("../schema/run.schema.json")
}
