//! The verb that compares: what may be tried, the laboratory, and what becomes of the change.
//!
//! Everything that can be refused is refused before the first change. Whatever happens after it, the values end as they were,
//! unless a gain was proved.

mod outcome;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use reports::metrics::{self, Metric};
use reports::results::Entry;
use tuner::ab::judge::decide;
use tuner::ab::lab::{self, Lab, LabError};
use tuner::ab::runtime;
use tuner::ab::{self, AbError, Measured, Plan, Step};
use tuner::apply::trial::{Setting, Trial};
use tuner::apply::{self, Changes, Place};
use tuner::rule::built_in;
use tuner::{Finding, Question, Verdict};

use super::change::{conflicting, failure, place, refused_wishes, unreachable_here};
use super::look::{Seen, line};
use super::selection::{is_within, known_key};
use super::{Common, EXIT_ERROR, EXIT_INTERRUPTED, Failure};
use outcome::{Outcome, Value, shown};

/// What to try, how to measure, and what to do then.
#[derive(Args)]
pub(crate) struct AbArguments {
    /// Settings to try, all of them together; a name before a dot takes all below it. May be repeated, or a list.
    #[arg(long, value_name = "KEY", value_delimiter = ',', num_args = 1.., required = true)]
    keys: Vec<String>,

    /// The laboratory's program; otherwise `lab` beside this one.
    #[arg(long, value_name = "PATH")]
    lab: Option<PathBuf>,

    /// Pairs of runs, one with the values as they are and one with those on trial.
    #[arg(long, value_name = "N", default_value_t = ab::PAIRS, value_parser = clap::value_parser!(u32).range(i64::from(ab::PAIRS_MIN)..=i64::from(ab::PAIRS_MAX)))]
    pairs: u32,

    /// Length of each run.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=ab::SECONDS_MAX))]
    seconds: u64,

    /// Size of the bodies that are sent, as `lab` reads it.
    #[arg(long, value_name = "BYTES", default_value = "10k")]
    body_size: String,

    /// What decides: a metric of `reports compare`. May be repeated, or a list.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = metric, default_values = ab::METRICS)]
    metric: Vec<&'static Metric>,

    /// The gain that has to be proved.
    #[arg(long, value_name = "PERCENT", default_value_t = ab::GAIN_PERCENT)]
    gain: f64,

    /// Folder that gets a folder with all runs; on a disk, the spool lies there too.
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,

    /// Leave a proved gain in force (the default).
    #[arg(long, overrides_with = "no_keep")]
    keep: bool,

    /// Put back in any case, and only tell.
    #[arg(long)]
    no_keep: bool,

    /// Leave files alone: the next boot forgets a change that is kept.
    #[arg(long)]
    runtime_only: bool,

    /// Keep although another file wins at boot, and replace a drop-in that was edited.
    #[arg(long)]
    force: bool,
}

fn metric(name: &str) -> Result<&'static Metric, String> {
    Metric::named(name).ok_or_else(|| {
        let known: Vec<_> = metrics::ALL.iter().map(|metric| metric.name).collect();
        format!("the metrics are {}", known.join(", "))
    })
}

pub(super) fn run(common: &Common, arguments: &AbArguments) -> Result<u8, Failure> {
    let program = program(common, arguments)?;
    if !(0.0..=100.0).contains(&arguments.gain) {
        return Err(Failure::usage(format!("--gain: {} is not between 0 and 100 percent", arguments.gain)));
    }
    let place = place(common, arguments.runtime_only, false)?;
    for told in apply::recover(&place).map_err(failure)? {
        common.tell(&format!("{told}\n"));
    }
    let (seen, settings) = chosen(common, arguments)?;
    if settings.is_empty() {
        common.tell("nothing to try: everything is as wanted\n");
        return Ok(0);
    }
    refuse(common, arguments, &seen, &settings)?;
    let started_utc = jiff::Timestamp::now().to_string();
    let folder = lab::make_folder(&arguments.results).map_err(Failure::error)?;
    let body_size = arguments.body_size.clone();
    let mut lab = Lab::new(program, folder.clone(), arguments.seconds, body_size).map_err(Failure::error)?;
    let Some(mut trial) = Trial::begin(&place, &settings).map_err(failure)? else {
        common.tell("nothing to try: everything is as wanted\n");
        return Ok(0);
    };
    let mut values: Vec<Value> = trial
        .values()
        .map(|(key, before, after)| Value { key: key.into(), before, after: after.into() })
        .collect();
    // A setting that every processor has is one setting.
    values.dedup();
    announce(arguments, &folder, &values);
    let measured = match measure(arguments, &mut trial, &mut lab) {
        Ok(measured) => measured,
        Err(error) => return Err(gone_wrong(trial, error)),
    };
    let decision = match decide(&plan(arguments), &measured) {
        Ok(decision) => decision,
        Err(error) => return Err(put_back_after(trial, EXIT_ERROR, &error.to_string())),
    };
    let kept = decision.is_gain && !arguments.no_keep;
    let end = if kept { keep(trial, arguments, place, &seen)? } else { put_back(trial)? };
    let outcome = Outcome { started_utc, folder, values, measured, decision, kept };
    common.tell(&(outcome.text(arguments) + &end));
    common.record(&outcome.json(arguments))?;
    Ok(0)
}

/// The laboratory that is meant.
fn program(common: &Common, arguments: &AbArguments) -> Result<PathBuf, Failure> {
    if common.root.is_some() && arguments.lab.is_none() {
        return Err(Failure::usage(
            "--root: the laboratory measures this host, not a tree; name with --lab PATH what measures the host that the tree is of",
        ));
    }
    let beside = || std::env::current_exe().map(|own| own.with_file_name("lab"));
    let program = match &arguments.lab {
        Some(program) => program.clone(),
        None => beside().map_err(Failure::error)?,
    };
    if program.is_file() {
        return Ok(program);
    }
    let path = program.display();
    Err(Failure::usage(format!(
        "{path} is not there: build it (cargo build --release -p benches), or name it with --lab PATH"
    )))
}

/// What is to be tried. Measuring is the evidence, so the rules ask for none.
fn chosen(common: &Common, arguments: &AbArguments) -> Result<(Seen, Vec<Setting>), Failure> {
    for key in &arguments.keys {
        known_key(key)?;
    }
    let host = common.host()?;
    let facts = host.facts();
    let question = Question { eager: true, ..common.question(&facts)? };
    let mut findings = common.selected(tuner::judge(&facts, &question));
    findings.retain(|finding| arguments.keys.iter().any(|name| is_within(&finding.key, name)));
    let seen = Seen::of(&host, facts, question, findings);
    let (mut settings, mut refused) = (Vec::new(), Vec::new());
    for finding in &seen.findings {
        let by_name = arguments.keys.contains(&finding.key);
        match files(common, host.root(), finding, &seen) {
            Ok(found) => settings.extend(found),
            // Of a family of keys only those are meant that can be tried.
            Err(reason) if by_name => refused.push(format!("{}: {reason}", finding.key)),
            Err(_) => {}
        }
    }
    if !refused.is_empty() {
        return Err(Failure::usage(format!("{}\nnothing was tried", refused.join("\n"))));
    }
    // Ports are reserved before the range grows.
    settings.sort_by_key(|setting| setting.key != "net.ipv4.ip_local_reserved_ports");
    Ok((seen, settings))
}

/// The files of one setting; none where it is as wanted.
fn files(common: &Common, root: &Path, finding: &Finding, seen: &Seen) -> Result<Vec<Setting>, String> {
    let rule = built_in().iter().find(|rule| rule.key == finding.key).ok_or("no rule knows it")?;
    match finding.verdict {
        verdict if verdict.asks_for_change() => runtime::settings(root, rule, finding, &seen.facts),
        Verdict::Ok | Verdict::Kept => {
            common.tell(&format!("{} is {}, which is {}\n", finding.key, finding.current, finding.verdict));
            Ok(Vec::new())
        }
        Verdict::Info => Err("no value is wanted of it; it is for information".into()),
        verdict => Err(finding.reason.clone().unwrap_or_else(|| verdict.to_string())),
    }
}

/// What stands in the way, before anything is touched.
fn refuse(
    common: &Common,
    arguments: &AbArguments,
    seen: &Seen,
    settings: &[Setting],
) -> Result<(), Failure> {
    refused_wishes(seen)?;
    let host = common.host()?;
    let beyond = |finding: &&Finding| {
        let own: Vec<Setting> =
            settings.iter().filter(|setting| setting.key == finding.key).cloned().collect();
        !runtime::are_writable(host.root(), &own)
    };
    let beyond: Vec<&Finding> = seen.findings.iter().filter(beyond).collect();
    unreachable_here(&beyond, "ab")?;
    let for_boot = !arguments.runtime_only && !arguments.no_keep && !arguments.force;
    if for_boot { conflicting(common, seen) } else { Ok(()) }
}

fn plan(arguments: &AbArguments) -> Plan {
    Plan { pairs: arguments.pairs, metrics: arguments.metric.clone(), gain: arguments.gain / 100.0 }
}

fn announce(arguments: &AbArguments, folder: &Path, values: &[Value]) {
    // Starting, warming up and stopping take some three seconds for each run.
    let minutes = (u64::from(arguments.pairs) * 2 * (arguments.seconds + 3)).div_ceil(60);
    let mut text = String::new();
    for Value { key, before, after } in values {
        line(&mut text, &format!("{key}: {before} against {after}"));
    }
    let (pairs, seconds) = (arguments.pairs, arguments.seconds);
    line(
        &mut text,
        &format!(
            "{pairs} pairs of runs of {seconds} s each, some {minutes} minutes; Ctrl-C puts back what was there"
        ),
    );
    line(&mut text, &folder.display().to_string());
    progress(&text);
}

fn measure(arguments: &AbArguments, trial: &mut Trial, lab: &mut Lab) -> Result<Measured, AbError> {
    let first = arguments.metric.first().copied();
    let of = |entry: &Entry| shown(first.and_then(|metric| metric.of(entry.record.runs.first()?)));
    let unit = first.map_or("", |metric| metric.unit);
    let mut tell = |step: Step<'_>| match step {
        Step::Pair(pair, before, after) => {
            let pairs = arguments.pairs;
            progress(&format!("pair {pair} of {pairs}: {} against {} {unit}\n", of(before), of(after)));
        }
        Step::Disturbed(why) => progress(&format!("measured again: {why}\n")),
    };
    ab::measure(&plan(arguments), trial, lab, &mut tell)
}

/// To whoever watches; nobody has to.
fn progress(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn gone_wrong(trial: Trial, error: AbError) -> Failure {
    match error {
        AbError::Lab(LabError::Interrupted) => put_back_after(trial, EXIT_INTERRUPTED, "interrupted"),
        AbError::Apply(cause) => {
            let cause = failure(cause);
            put_back_after(trial, cause.code, &cause.problem)
        }
        error => put_back_after(trial, EXIT_ERROR, &error.to_string()),
    }
}

fn put_back_after(trial: Trial, code: u8, cause: &str) -> Failure {
    match trial.put_back() {
        Ok(()) => Failure::new(code, format!("{cause}\neverything was put back")),
        Err(left) => Failure::new(
            code,
            format!("{cause}\nnot everything could be put back: {left}; `tuner revert` tries again"),
        ),
    }
}

fn put_back(trial: Trial) -> Result<String, Failure> {
    trial.put_back().map(|()| String::new()).map_err(failure)
}

/// Leaves the values in force, now and, for sysctls, at boot; returns what a person should know of it.
fn keep(trial: Trial, arguments: &AbArguments, place: Place, seen: &Seen) -> Result<String, Failure> {
    let mut text = String::new();
    let tried: Vec<String> = trial.values().map(|(key, ..)| key.to_owned()).collect();
    trial.keep().map_err(failure)?;
    if arguments.runtime_only {
        line(&mut text, "the next boot forgets it");
        return Ok(text);
    }
    let done =
        apply::apply(&Place { force: arguments.force, ..place }, &Changes::default()).map_err(|error| {
            let Failure { code, problem } = failure(error);
            let problem = format!("kept in the running kernel, but not for the next boot: {problem}");
            Failure::new(code, problem)
        })?;
    for path in &done.files {
        line(&mut text, &format!("for the next boot: /{}", path.display()));
    }
    for finding in seen.findings.iter().filter(|finding| tried.contains(&finding.key)) {
        if !finding.key.contains('.') {
            let remedy = finding.remedy.as_deref().unwrap_or_default();
            line(&mut text, &format!("left to you for the next boot: {}: {remedy}", finding.key));
        }
    }
    line(&mut text, "`tuner revert` takes it back");
    Ok(text)
}
