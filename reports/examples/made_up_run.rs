//! Writes a made-up results folder, to look at the page without a laboratory.
//!
//! `cargo run -p reports --example made_up_run -- FOLDER [troubled | tiers]`, then `reports render FOLDER`. It refuses
//! nothing but a missing argument; the numbers measure nothing.

#[path = "../tests/fixture/mod.rs"]
#[allow(dead_code, reason = "the example uses its part of the fixture")]
mod fixture;

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: made_up_run FOLDER [troubled | tiers]")?);
    std::fs::create_dir_all(&folder)?;
    let word = arguments.next();
    if word.as_deref() == Some("tiers".as_ref()) {
        for record in fixture::tiers(&folder) {
            record.write(&folder.join(&record.run_id).join("run.json"))?;
        }
        return Ok(());
    }
    let record = if word.is_some() { fixture::troubled(&folder) } else { fixture::record(&folder) };
    record.write(&folder.join("run.json"))?;
    Ok(())
}
