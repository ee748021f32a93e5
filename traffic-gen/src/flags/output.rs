//! Flags that say what is shown and written.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct OutputFlags {
    /// Write the report to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write latencies to this file, an HdrHistogram interval log with one interval per second
    #[arg(long, value_name = "FILE.hlog")]
    pub(crate) hdr: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
