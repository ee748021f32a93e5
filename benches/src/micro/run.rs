//! The measurement from its first operation to its last.
//!
//! It owns the order and what is said on the way. The first operation that cannot be done ends it with an error that names it.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use super::catalogue::{Entry, find};
use super::instructions::{Counter, Unknown};
use super::measure::cost;
use super::plan::{Plan, Task};
use super::report::{Report, Row, Table, replace_table};
use super::{Counted, Operation};
use crate::error::{During, Error, Result};

/// How many times fewer operations than in a round are enough to count instructions: they hardly differ.
const INSTRUCTIONS_PART: u64 = 8;

/// Does what is asked and writes what is to be read to `out`.
///
/// # Errors
/// What could not be measured, read or written.
pub fn run(task: Task, out: &mut impl Write) -> Result<()> {
    let (text, into) = match task {
        Task::Once(plan, name, operations) => return once(&plan, &name, operations),
        Task::Table(path, into) => (Table::read(&path)?.markdown(), into),
        Task::Measure(plan, into) => {
            let started = jiff::Timestamp::now();
            let report = Report::of(measure(&plan)?, &plan, started)?;
            if let Some(path) = &plan.json {
                report.write(path)?;
            }
            (report.table().markdown(), into)
        }
    };
    if let Some(path) = into {
        replace_table(&path, &text)?;
    }
    out.write_all(text.as_bytes()).during(|| "write the table".into())
}

/// All that was asked for.
///
/// # Errors
/// The first operation that fails, with its name.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let counter = match &plan.program {
        Some(program) => Counter::find(&plan.place)?.map(|counter| (counter, program.as_path())),
        None => Err(Unknown("nobody asked for them".into())),
    };
    if let Err(Unknown(reason)) = &counter {
        eprintln!("instructions: unknown: {reason}");
    }
    plan.entries().map(|entry| row(plan, entry, &counter).map_err(|error| named(entry.name, error))).collect()
}

fn row(plan: &Plan, entry: &Entry, counter: &std::result::Result<(Counter, &Path), Unknown>) -> Result<Row> {
    eprintln!("{}", entry.name);
    let cost = cost((entry.make)(plan.making())?.as_mut(), plan.effort)?;
    let instructions = match counter {
        _ if entry.counted == Counted::Kumod => {
            Err(Unknown("generator and sink are in the same process".into()))
        }
        Ok((counter, program)) => {
            let operations = (cost.operations / INSTRUCTIONS_PART).max(1);
            counter.each(operations, |operations| command(program, plan, entry.name, operations))?
        }
        Err(unknown) => Err(unknown.clone()),
    };
    Ok(Row {
        name: entry.name.into(),
        what: entry.what.into(),
        counted: entry.counted,
        cost,
        instructions: instructions.as_ref().ok().copied(),
        instructions_unknown: instructions.err().map(|Unknown(reason)| reason),
    })
}

fn command(program: &Path, plan: &Plan, name: &str, operations: u64) -> Vec<OsString> {
    crate::arguments![
        program,
        "--bench",
        "--dir",
        &plan.place,
        "--once",
        name,
        "--operations",
        operations.to_string()
    ]
}

fn once(plan: &Plan, name: &str, operations: u64) -> Result<()> {
    let entry = find(name).ok_or_else(|| Error::Operator(format!("no operation is called {name:?}")))?;
    let mut operation: Box<dyn Operation> = (entry.make)(plan.making())?;
    operation.run(operations).map(drop)
}

/// The error, with the operation in front of it.
fn named(name: &str, error: Error) -> Error {
    match error {
        Error::Peer(text) => Error::Peer(format!("{name}: {text}")),
        Error::Operator(text) => Error::Operator(format!("{name}: {text}")),
        Error::Host { what, source } => Error::Host { what: format!("{name}: {what}"), source },
        Error::Unable(text) => Error::Unable(format!("{name}: {text}")),
        Error::Interrupted => Error::Interrupted,
    }
}
