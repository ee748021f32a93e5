//! The costs as a table in Markdown and as JSON.
//!
//! It owns the columns. What is unknown has a dash in the table and its reason below it.

use std::path::Path;

use reports::machine::Machine;
use reports::software::Software;
use serde::{Deserialize, Serialize};

use super::Counted;
use super::measure::Cost;
use super::plan::Plan;
use crate::error::{During, Error, Result};
use crate::figures::{dash, heading, plain};

/// Stands above a table in a document.
const BEGIN: &str = "<!-- cost_per_operation -->";
/// Stands below it.
const END: &str = "<!-- end of cost_per_operation -->";

/// What one operation costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What it is.
    pub what: String,
    /// Whose allocations were counted.
    pub counted: Counted,
    /// Time and allocations.
    #[serde(flatten)]
    pub cost: Cost,
    /// Instructions of one, outside of the kernel; null where they are unknown.
    pub instructions: Option<f64>,
    /// Why they are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions_unknown: Option<String>,
}

/// A measurement as it is kept.
#[derive(Debug, Serialize)]
pub struct Report {
    started_utc: String,
    command: String,
    machine: Machine,
    software: Software,
    rounds: u32,
    round_seconds: f64,
    #[serde(flatten)]
    table: Table,
}

/// The part of it that is shown, and read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The lines above the table: commit, machine, command.
    pub heading: String,
    /// In the order of the catalogue.
    pub costs: Vec<Row>,
}

impl Report {
    /// Looks at the machine and the checkout, which is the current folder.
    ///
    /// # Errors
    /// [`Error::Host`] when there is no current folder.
    pub fn of(costs: Vec<Row>, plan: &Plan, started: jiff::Timestamp) -> Result<Self> {
        let checkout = std::env::current_dir().during(|| "find the current folder".into())?;
        let mut software = Software::probe(&checkout);
        software.profile = Some(if cfg!(debug_assertions) { "dev" } else { "release" }.into());
        let arguments: Vec<String> =
            std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        let command = format!("./scripts/bench cost_per_operation {}", arguments.join(" "));
        let command = command.trim_end().to_owned();
        let machine = Machine::probe(&plan.place);
        let started_utc = started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (rounds, round_seconds) = (plan.effort.rounds, plan.effort.round.as_secs_f64());
        let what = format!("{rounds} rounds of {round_seconds} s, {started_utc}");
        let heading = heading(&what, &machine, &software, &command);
        let table = Table { heading, costs };
        Ok(Self { started_utc, command, machine, software, rounds, round_seconds, table })
    }

    /// What is shown of it.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`Error::Host`] with the path.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).during(|| "write JSON".into())?;
        std::fs::write(path, text + "\n").during(|| format!("write {}", path.display()))
    }
}

impl Table {
    /// Reads what [`Report::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Host`] when the file cannot be read, [`Error::Operator`] when it holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).during(|| format!("read {shown}"))?;
        serde_json::from_str(&text).map_err(|error| {
            Error::Operator(format!(
                "{shown}: {error}; a file is expected that cost_per_operation --json wrote"
            ))
        })
    }

    /// The whole text; ends with a line break.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}\n| operation | what it is | ns | lowest to highest | allocations | bytes allocated | instructions |\n\
             |---|---|---:|---:|---:|---:|---:|\n",
            self.heading
        );
        for Row { name, what, cost, instructions, .. } in &self.costs {
            let Cost { ns, allocations, bytes, .. } = cost;
            text.push_str(&format!(
                "| {name} | {what} | {} | {} to {} | {} | {} | {} |\n",
                plain(ns.median),
                plain(ns.min),
                plain(ns.max),
                plain(allocations.median),
                plain(bytes.median),
                instructions.map_or_else(dash, plain),
            ));
        }
        for (reason, names) in self.reasons() {
            // A reason of the host is that of nearly every row, and naming them all would be noise.
            let of = if 2 * names.len() > self.costs.len() {
                String::new()
            } else {
                format!(" of {}", names.join(", "))
            };
            text.push_str(&format!("\nInstructions{of}: unknown: {reason}.\n"));
        }
        text
    }

    /// Why instructions are unknown, with the names of the operations, in the order in which the reasons come up.
    fn reasons(&self) -> Vec<(&str, Vec<&str>)> {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for row in &self.costs {
            let Some(reason) = row.instructions_unknown.as_deref() else {
                continue;
            };
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) => names.push(&row.name),
                None => reasons.push((reason, vec![&row.name])),
            }
        }
        reasons
    }
}

/// Puts a table into a document in the place of the one between its two marks.
///
/// # Errors
/// [`Error::Host`] when the document cannot be read or written, [`Error::Operator`] when it lacks a mark.
pub fn replace_table(document: &Path, table: &str) -> Result<()> {
    let shown = document.display();
    let text = std::fs::read_to_string(document).during(|| format!("read {shown}"))?;
    let split = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = split else {
        return Err(Error::Operator(format!(
            "{shown}: a line {BEGIN} and below it a line {END} are expected"
        )));
    };
    let text = format!("{before}{BEGIN}\n{table}{END}{after}");
    std::fs::write(document, text).during(|| format!("write {shown}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::writers::limits::Spread;

    fn row(name: &str, instructions: std::result::Result<f64, &str>) -> Row {
        let spread = |value| Spread { median: value, min: value / 2.0, max: value * 2.0 };
        let cost =
            Cost { operations: 1000, ns: spread(250.0), allocations: spread(3.0), bytes: spread(64.5) };
        Row {
            name: name.into(),
            what: "something".into(),
            counted: Counted::Caller,
            cost,
            instructions: instructions.ok(),
            instructions_unknown: instructions.err().map(Into::into),
        }
    }

    #[test]
    fn what_is_unknown_has_a_reason_below_the_table() {
        let costs = vec![
            row("known", Ok(1234.0)),
            row("lost", Err("no counter")),
            row("other", Ok(1.0)),
            row("gone", Err("no counter")),
        ];
        let text = Table { heading: "On some machine.\n".into(), costs }.markdown();
        assert!(text.starts_with("On some machine.\n\n| operation |"), "{text}");
        assert!(text.contains("| known | something | 250 | 125 to 500 | 3.00 | 64.5 | 1234 |\n"), "{text}");
        assert!(text.contains("| lost | something | 250 | 125 to 500 | 3.00 | 64.5 | - |\n"), "{text}");
        assert!(text.ends_with("\n\nInstructions of lost, gone: unknown: no counter.\n"), "{text}");
    }

    #[test]
    fn a_report_is_read_again_as_its_table() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("costs.json");
        let plan = Plan::quick(folder.path().to_owned());
        let report = Report::of(vec![row("known", Ok(1.5))], &plan, jiff::Timestamp::UNIX_EPOCH).unwrap();
        report.write(&file).unwrap();
        assert_eq!(Table::read(&file).unwrap(), *report.table());
        assert!(report.table().heading.contains("1 rounds of 0.004 s"), "{}", report.table().heading);
        std::fs::write(&file, "{}").unwrap();
        let refused = Table::read(&file).unwrap_err().to_string();
        assert!(refused.contains("costs.json") && refused.contains("--json"), "{refused}");
    }

    #[test]
    fn a_table_takes_the_place_of_the_last_one_and_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("document.md");
        std::fs::write(&file, format!("above\n{BEGIN}\nold\n{END}\nbelow\n")).unwrap();
        replace_table(&file, "new\n").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("above\n{BEGIN}\nnew\n{END}\nbelow\n"));
        std::fs::write(&file, format!("{END} {BEGIN}")).unwrap();
        let refused = replace_table(&file, "new\n").unwrap_err().to_string();
        assert!(refused.contains("document.md") && refused.contains(END), "{refused}");
    }

    #[test]
    fn the_table_in_the_documents_is_that_of_the_data() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let table = Table::read(&docs.join("data/cost-per-operation.json")).unwrap().markdown();
        let text = std::fs::read_to_string(docs.join("measuring.md")).unwrap();
        let remedy = "cost_per_operation --table docs/data/cost-per-operation.json --into docs/measuring.md";
        assert!(text.contains(&format!("{BEGIN}\n{table}{END}")), "run ./scripts/bench {remedy}");
    }
}
