//! `reports`: draws, compares, merges, follows and exports the results of laboratory runs.
//!
//! It owns what the verbs do with files and exit codes. It refuses paths without a record and says which file or field is
//! wrong; drawing, merging, exporting and history go on with the others and end with code 1, a comparison does not begin.
//! Exit codes: 0 ok, 1 failed, 2 usage, 99 a comparison found a regression.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

mod cli;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use cli::{Arguments, Compare, CompareFormat, ExportFormat, History, Output, Verb};
use reports::ceiling::Ceilings;
use reports::compare::{self, Form, Options, Verdict};
use reports::export::{self, Format};
use reports::history;
use reports::metrics::Better;
use reports::results::Results;
use reports::stats::{Bootstrap, Changes};

/// The code of a threshold that was missed.
const EXIT_REGRESSION: u8 = 99;

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Render { paths, ceiling, output } => draw(&paths.paths, ceiling.as_deref(), &output),
        Verb::Compare(arguments) => judge(&arguments),
        Verb::Merge { paths, output } => of_results(&paths.paths, &output, Results::merged),
        Verb::History(arguments) => follow(&arguments),
        Verb::Export { paths, format, bigger, output } => {
            let format = export_format(format, bigger);
            of_results(&paths.paths, &output, |results| export::export(&results.entries, format))
        }
        Verb::Serve { folder, listen } => serve(&folder, listen),
        Verb::Schema { output } => write(&output, reports::schema()).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("reports: {error}");
        ExitCode::FAILURE
    })
}

/// The page; with a ceiling, if one is given, and with nothing written where that does not fit.
fn draw(paths: &[PathBuf], ceiling: Option<&Path>, output: &Output) -> Result<ExitCode, String> {
    let ceiling = ceiling.map(Ceilings::load).transpose().map_err(|error| error.to_string())?;
    let mut results = Results::gather(paths);
    if let Some(ceiling) = ceiling.filter(|_| !results.entries.is_empty()) {
        ceiling.apply(&mut results.entries).map_err(|error| error.to_string())?;
    }
    tell(&results, output, |results| reports::render::page_of(&results.entries))
}

/// Writes what `of` makes of the results, if there are any; what was refused is told and ends with code 1.
fn of_results(
    paths: &[PathBuf],
    output: &Output,
    of: impl Fn(&Results) -> String,
) -> Result<ExitCode, String> {
    tell(&Results::gather(paths), output, of)
}

fn tell(results: &Results, output: &Output, of: impl Fn(&Results) -> String) -> Result<ExitCode, String> {
    results.refused.iter().for_each(|refused| eprintln!("reports: {refused}"));
    if results.entries.is_empty() {
        return Err("nothing was written, because there is no record".to_owned());
    }
    write(output, &of(results))?;
    Ok(if results.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(arguments: &Compare) -> Result<ExitCode, String> {
    let (base, head) = match (arguments.sets.as_slice(), arguments.base.as_slice()) {
        ([base, head], []) => (vec![base.clone()], vec![head.clone()]),
        ([], [_, ..]) => (arguments.base.clone(), arguments.head.clone()),
        _ => {
            let message = "two paths are compared: BASE HEAD, or --base PATH... --head PATH...";
            Arguments::command().error(ErrorKind::WrongNumberOfValues, message).exit()
        }
    };
    let (base, head) = (whole(&base)?, whole(&head)?);
    let mut options = Options {
        limit: arguments.limit / 100.0,
        runs_min: arguments.runs_min,
        bootstrap: Bootstrap { seed: arguments.seed, ..Bootstrap::default() },
        ..Options::default()
    };
    if !arguments.gate.is_empty() {
        options.gates.clone_from(&arguments.gate);
    }
    let comparison =
        compare::compare(&base.entries, &head.entries, &options).map_err(|error| error.to_string())?;
    let form = match arguments.format {
        CompareFormat::Text => Form::Text,
        CompareFormat::Markdown => Form::Markdown,
        CompareFormat::Json => Form::Json,
    };
    write(&arguments.output, &comparison.render(form))?;
    Ok(match comparison.verdict {
        Verdict::Regression => ExitCode::from(EXIT_REGRESSION),
        Verdict::Undecided => {
            eprintln!("reports: undecided, so nothing failed; more interleaved pairs would tell");
            ExitCode::SUCCESS
        }
        Verdict::Ok => ExitCode::SUCCESS,
    })
}

/// A set of which nothing may be missing: a part of it would be compared as if it were all.
fn whole(paths: &[PathBuf]) -> Result<Results, String> {
    let results = Results::gather(paths);
    results.refused.first().map_or(Ok(()), |refused| Err(refused.to_string()))?;
    Ok(results)
}

fn follow(arguments: &History) -> Result<ExitCode, String> {
    let rule = Changes { change_min: arguments.change_min / 100.0, ..Changes::default() };
    of_results(&arguments.paths.paths, &arguments.output, |results| {
        let series =
            arguments.metric.iter().flat_map(|metric| history::series(&results.entries, metric, &rule));
        let series: Vec<_> = series.collect();
        if arguments.json {
            return format!("{}\n", serde_json::to_string_pretty(&series).unwrap_or_default());
        }
        history::render(&series)
    })
}

fn export_format(format: ExportFormat, bigger: bool) -> Format {
    match format {
        ExportFormat::Bmf => Format::Bmf,
        ExportFormat::GithubAction if bigger => Format::GithubAction(Better::Larger),
        ExportFormat::GithubAction => Format::GithubAction(Better::Smaller),
        ExportFormat::Junit => Format::Junit,
        ExportFormat::Csv => Format::Csv,
        ExportFormat::Prometheus => Format::Prometheus,
        ExportFormat::Markdown => Format::Markdown,
    }
}

fn serve(folder: &Path, listen: std::net::SocketAddr) -> Result<ExitCode, String> {
    if !listen.ip().is_loopback() {
        eprintln!("reports: {listen} is no loopback address: whoever reaches it can read these results");
    }
    let told = |address| println!("http://{address}/");
    reports::serve::run(folder, listen, told).map_err(|error| format!("{listen}: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

fn write(output: &Output, text: &str) -> Result<(), String> {
    match &output.output {
        Some(path) => std::fs::write(path, text)
            .map_err(|error| format!("{}: {error}; -o needs a place that can be written to", path.display())),
        None => match io::stdout().lock().write_all(text.as_bytes()) {
            // Whoever reads only the beginning (`| head`) has what it wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| format!("standard output: {error}")),
        },
    }
}
