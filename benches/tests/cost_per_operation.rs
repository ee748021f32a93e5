//! The table of costs, measured for as short as it can be: every operation works, and what it counts is what was done.
//!
//! It owns no measurement: a debug build on a shared machine proves only that nothing is missing. kumod takes the signals of the
//! process and allocations are counted for all of it, so there is one test.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;

use benches::allocator::CountingByThread;
use benches::micro::catalogue::ENTRIES;
use benches::micro::plan::Plan;
use benches::micro::report::Row;
use benches::micro::run::measure;

#[global_allocator]
static ALLOCATOR: CountingByThread = CountingByThread;

#[test]
fn every_operation_is_measured() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let rows = measure(&Plan::quick(place.to_owned())).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ENTRIES.each_ref().map(|entry| entry.name));
    for row in &rows {
        assert!(row.cost.ns.min > 0.0 && row.cost.operations > 0, "{row:?}");
        assert!(row.instructions.is_none() && row.instructions_unknown.is_some(), "{row:?}");
    }
    let allocations = |name: &str| find(&rows, name).cost.allocations.median;
    // The protocol and the passes over a body work in memory that is there already.
    for name in ["smtp_parse/bdat", "data_check/1k", "data_unstuff/100k", "data_stuff/100k"] {
        assert!(allocations(name) < 10.0, "{name}: {}", allocations(name));
    }
    // An id as text, a header and an envelope cannot be had for nothing, and are no great matter.
    assert!((2.0..20.0).contains(&allocations("header_prepend")), "{}", allocations("header_prepend"));
    assert!((1.0..1000.0).contains(&allocations("end_to_end")), "{}", allocations("end_to_end"));
    // Every message is found by its envelope, which is kept.
    assert!(find(&rows, "spool_recover").cost.bytes.median > 100.0);
}

fn find<'r>(rows: &'r [Row], name: &str) -> &'r Row {
    rows.iter().find(|row| row.name == name).unwrap()
}
