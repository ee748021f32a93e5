//! Prints how long it takes to read 200 run folders and to draw their page.
//!
//! `cargo run --release -p reports --example render_time`. The made-up runs are written to a temporary folder first, which is not
//! counted. It refuses nothing; the page should take under a second.

#![expect(clippy::print_stdout, reason = "an example answers on standard output")]

#[path = "../tests/fixture/mod.rs"]
#[allow(dead_code, reason = "the example uses its part of the fixture")]
mod fixture;

use std::time::Instant;

use reports::results::Results;

const RUNS: u32 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let first = folder.path().join("first");
    std::fs::create_dir(&first)?;
    let mut record = fixture::record(&first);
    record.runs.retain(|run| run.kind == reports::run::Kind::Kumod && run.body_bytes == 10_000);
    for index in 0..RUNS {
        let own = folder.path().join(format!("run-{index:03}"));
        std::fs::create_dir(&own)?;
        record.run_id = format!("run-{index:03}");
        record.runs[0].tier.cpus = f64::from(1 + index % 16);
        for file in [&record.runs[0].hlog.inject, &record.runs[0].hlog.end_to_end].into_iter().flatten() {
            std::fs::copy(first.join(file), own.join(file))?;
        }
        record.write(&own.join("run.json"))?;
    }
    std::fs::remove_dir_all(&first)?;

    let begun = Instant::now();
    let results = Results::gather(&[folder.path()]);
    let read = begun.elapsed();
    let page = reports::render::page_of(&results.entries);
    let drawn = begun.elapsed();
    println!(
        "{} records read in {:.0} ms, {} KiB drawn in {:.0} ms more",
        results.entries.len(),
        read.as_secs_f64() * 1e3,
        page.len() >> 10,
        (drawn - read).as_secs_f64() * 1e3
    );
    Ok(())
}
