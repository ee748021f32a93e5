//! Writes a made-up results folder, to look at the page without a laboratory.
//!
//! `cargo run -p reports --example made_up_run -- FOLDER [troubled]`, then `reports render FOLDER`. It refuses
//! nothing but a missing argument; the numbers measure nothing.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: made_up_run FOLDER [troubled]")?);
    std::fs::create_dir_all(&folder)?;
    let troubled = arguments.next().is_some();
    let record = if troubled { fixture::troubled(&folder) } else { fixture::record(&folder) };
    record.write(&folder.join("run.json"))?;
    Ok(())
}
