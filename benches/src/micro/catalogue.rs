//! The operations by name, in the order of the table.
//!
//! It owns what each is called and described as. Making one may fail, as where the disk is full; the error says why.

use std::path::Path;

use spool::{Backend, WriteMode};

use super::bodies::{Body, Pass, Passes};
use super::end_to_end::EndToEnd;
use super::header::Headers;
use super::protocol::Transactions;
use super::queue::Queues;
use super::spools::{Appends, Recoveries};
use super::{Counted, Operation};
use crate::error::Result;

/// Messages in the spool that is opened; `spool_recovery` does the same with a million.
pub const RECOVERED_MESSAGES: u64 = 20_000;

/// What an operation is made with.
#[derive(Debug, Clone, Copy)]
pub struct Making<'p> {
    /// Where folders are made.
    pub place: &'p Path,
    /// Messages in the spool that is opened.
    pub recovered_messages: u64,
}

type Make = fn(Making<'_>) -> Result<Box<dyn Operation>>;

/// One row of the table.
pub struct Entry {
    /// Its name: lower case, underscores, a size behind a slash.
    pub name: &'static str,
    /// What one operation is.
    pub what: &'static str,
    /// Whose allocations are counted.
    pub counted: Counted,
    /// Makes it.
    pub make: Make,
}

/// All of them. The end to end one is the last, because kumod takes the process's signals.
pub const ENTRIES: [Entry; 14] = [
    entry("smtp_parse/bdat", "a transaction with BDAT, 1 KB", Counted::Caller, |_| {
        Ok(Box::new(Transactions::by_bdat()))
    }),
    entry("smtp_parse/data", "a transaction with DATA, 1 KB", Counted::Caller, |_| {
        Ok(Box::new(Transactions::by_data()))
    }),
    entry("data_check/1k", "line ends and lengths of a body", Counted::Caller, |_| pass(1000, Pass::Check)),
    entry("data_check/100k", "the same", Counted::Caller, |_| pass(100_000, Pass::Check)),
    entry("data_unstuff/1k", "doubled dots taken out of a body", Counted::Caller, |_| {
        pass(1000, Pass::Unstuff)
    }),
    entry("data_unstuff/100k", "the same", Counted::Caller, |_| pass(100_000, Pass::Unstuff)),
    entry("data_stuff/1k", "dots doubled", Counted::Caller, |_| pass(1000, Pass::Stuff)),
    entry("data_stuff/100k", "the same", Counted::Caller, |_| pass(100_000, Pass::Stuff)),
    entry("header_prepend", "a trace header, and the envelope encoded with it", Counted::Caller, |_| {
        Ok(Box::new(Headers::default()))
    }),
    entry("queue_cycle", "on the wheel, due, claimed, ready, taken", Counted::Caller, |_| {
        Ok(Box::new(Queues::default()))
    }),
    entry("spool_append/1k", "a durable append and its delete, 64 tasks", Counted::Process, |making| {
        appends(making, 1000)
    }),
    entry("spool_append/100k", "the same", Counted::Process, |making| appends(making, 100_000)),
    entry("spool_recover", "a message found at opening, 1 KB", Counted::Process, |making| {
        Ok(Box::new(Recoveries::of(making.place, making.recovered_messages)?))
    }),
    entry("end_to_end", "a message from generator to sink, 1 KB", Counted::Kumod, |making| {
        Ok(Box::new(EndToEnd::start(making.place, 1000)?))
    }),
];

/// The entry with that name.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

const fn entry(name: &'static str, what: &'static str, counted: Counted, make: Make) -> Entry {
    Entry { name, what, counted, make }
}

fn pass(bytes: usize, pass: Pass) -> Result<Box<dyn Operation>> {
    Ok(Box::new(Passes { body: Body::of(bytes), pass }))
}

fn appends(making: Making<'_>, body_bytes: u64) -> Result<Box<dyn Operation>> {
    Ok(Box::new(Appends::open(making.place, body_bytes, Backend::Auto, WriteMode::Auto)?))
}
