//! `kumod spool compact`: takes the spool for itself and writes living records together, until nothing more can be gained.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::table::bytes;
use super::{CommandError, Common, Verdict, say};
use crate::store;

#[derive(Args, Debug)]
pub(super) struct Compact {
    #[command(flatten)]
    common: Common,
}

impl Compact {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Verdict, CommandError> {
        let folder = self.common.folder()?;
        let compacted = store::compact(&folder)?;
        let (before, after) = (compacted.segments_before, compacted.segments_after);
        let copied = bytes(compacted.bytes_copied);
        let folder = folder.display();
        say(
            out,
            &format!("spool {folder}: {before} segments before, {after} after, {copied} written again\n"),
        )?;
        self.common.write_json(&json!({
            "spool": folder.to_string(),
            "segments_before": before,
            "segments_after": after,
            "bytes_copied": compacted.bytes_copied,
        }))?;
        Ok(Verdict::Well)
    }
}
