//! A comparison as people and machines read it.
//!
//! It owns the forms: aligned text, Markdown for a comment, JSON. It refuses nothing; names from records cannot break a
//! Markdown table.

use super::{Comparison, Row, Verdict};
use crate::words;

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Aligned columns.
    Text,
    /// A table for a comment.
    Markdown,
    /// All numbers.
    Json,
}

const HEADINGS: [&str; 8] = ["what", "base", "head", "ratio", "95 % interval", "p", "runs", "verdict"];

pub(super) fn render(comparison: &Comparison, form: Form) -> String {
    if form == Form::Json {
        let mut text = serde_json::to_string_pretty(comparison).unwrap_or_default();
        text.push('\n');
        return text;
    }
    let mut text = format!("{}\n", headline(comparison, form));
    let mut cells: Vec<&str> = comparison.rows.iter().map(|row| row.cell.as_str()).collect();
    cells.dedup();
    for cell in cells {
        let rows: Vec<[String; 8]> =
            comparison.rows.iter().filter(|row| row.cell == cell).map(fields).collect();
        let title =
            if form == Form::Markdown { format!("**{}**", words::markdown(cell)) } else { cell.to_owned() };
        text.push_str(&format!("\n{title}\n\n"));
        text.push_str(&table(&rows, form));
    }
    let lists = [
        ("Mail was lost or damaged", &comparison.unsound),
        ("Thrown away", &comparison.thrown_away),
        ("Remarks", &comparison.remarks),
    ];
    for (title, sentences) in lists.iter().filter(|(_, sentences)| !sentences.is_empty()) {
        text.push_str(&format!("\n{title}:\n\n"));
        for sentence in *sentences {
            let sentence =
                if form == Form::Markdown { words::markdown(sentence) } else { words::one_line(sentence) };
            text.push_str(&format!("- {sentence}\n"));
        }
    }
    text
}

fn headline(comparison: &Comparison, form: Form) -> String {
    let bad: Vec<String> = comparison
        .rows
        .iter()
        .filter(|row| row.verdict == Some(Verdict::Regression))
        .map(|row| format!("{} {}", row.title, percent(row.ratio)))
        .collect();
    let sentence = match comparison.verdict {
        Verdict::Ok => "ok: no cost grew by more than the limit".to_owned(),
        Verdict::Undecided => "undecided: these runs cannot tell; measure more pairs".to_owned(),
        Verdict::Regression if bad.is_empty() => "regression: mail was lost or damaged".to_owned(),
        Verdict::Regression => format!("regression: {}", bad.join(", ")),
    };
    if form == Form::Markdown { format!("### {}", words::markdown(&sentence)) } else { sentence }
}

fn fields(row: &Row) -> [String; 8] {
    let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
    let interval = match (row.low, row.high) {
        (Some(low), Some(high)) => format!("{} to {}", percent(Some(low)), percent(Some(high))),
        _ => words::NOTHING.to_owned(),
    };
    let runs = match (row.is_paired, row.base_runs == row.head_runs) {
        (true, _) => format!("{} pairs", row.base_runs),
        (false, true) => row.base_runs.to_string(),
        (false, false) => format!("{} and {}", row.base_runs, row.head_runs),
    };
    let verdict = match (row.verdict, &row.reason) {
        (Some(verdict), Some(reason)) => format!("{}: {reason}", verdict.as_str()),
        (Some(verdict), None) => verdict.as_str().to_owned(),
        (None, _) => "shown only".to_owned(),
    };
    [
        format!("{}{unit}", row.title),
        words::digits(row.base),
        words::digits(row.head),
        percent(row.ratio),
        interval,
        format!("{:.4}", row.corrected.unwrap_or(row.probability)),
        runs,
        verdict,
    ]
}

/// `+4.9 %` for a ratio of 1.049.
fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| words::NOTHING.to_owned(), |ratio| format!("{:+.1} %", (ratio - 1.0) * 100.0))
}

fn table(rows: &[[String; 8]], form: Form) -> String {
    if form == Form::Markdown {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&HEADINGS.map(str::to_owned));
        text.push_str("|---|--:|--:|--:|--:|--:|--:|---|\n");
        rows.iter().for_each(|row| text.push_str(&line(&row.each_ref().map(|cell| words::markdown(cell)))));
        return text;
    }
    words::aligned(&HEADINGS, rows, &[0, 7])
}
