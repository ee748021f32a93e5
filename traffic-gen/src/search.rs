//! The search for the highest rate, as the command shows and reports it.
//!
//! Exit codes: 0 found, 1 none (also where the generator was the limit), 130 ended by a signal.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use traffic_gen::find_max::search::{Outcome, Purpose, Verdict};
use traffic_gen::find_max::{FindMax, Goal, Runner, Try, find_max};
use traffic_gen::{Control, Observer, Plan, Report, Second};

use crate::INTERRUPTED;
use crate::agents::Senders;
use crate::agents::fleet::{FleetReport, nothing};
use crate::outputs::Outputs;
use crate::summary::{grouped, latency};
use crate::tui::picture::Facts;

/// Looks, prints what was found, writes the report, and returns the exit code.
pub(crate) fn run(
    plan: &Plan,
    goal: &Goal,
    senders: &Senders,
    control: &Control,
    mut outputs: Outputs,
) -> Result<u8, String> {
    let mut stage = Stage { outputs: &mut outputs, senders, control, tries: 0, broken: None };
    let found = find_max(plan, goal, &mut stage);
    let broken = stage.broken;
    outputs.leave_screen();
    print!("{}", text(plan, goal, &found));
    let code = match found.outcome {
        Some(Outcome::Found { .. }) => 0,
        Some(_) => 1,
        None => INTERRUPTED,
    };
    let target = plan.targets.iter().map(|target| &target.name[..]).collect::<Vec<_>>().join(",");
    let objectives = goal.objectives.iter().map(|objective| objective.text().to_owned()).collect();
    let precision = goal.settings.precision;
    let document =
        Document { target, objectives, precision, labels: outputs.take_labels(), find_max: &found };
    outputs.finish_with(&document)?;
    broken.map_or(Ok(code), Err)
}

/// The JSON report of a search.
#[derive(Serialize)]
struct Document<'a> {
    target: String,
    objectives: Vec<String>,
    precision: f64,
    labels: BTreeMap<String, String>,
    find_max: &'a FindMax,
}

/// Runs the tries where everybody can see them.
struct Stage<'a> {
    outputs: &'a mut Outputs,
    senders: &'a Senders,
    control: &'a Control,
    tries: u32,
    /// Why a try could not be made, or was not worth anything.
    broken: Option<String>,
}

impl Runner for Stage<'_> {
    fn begin(&mut self, plan: &Plan, purpose: Purpose) {
        self.tries += 1;
        let mut facts = Facts::of(plan, self.senders.cores());
        facts.load = format!("try {} ({}): {}", self.tries, purpose_text(purpose), facts.load);
        self.outputs.begin(facts);
    }

    fn run(&mut self, plan: Plan, watch: &mut dyn Observer) -> Report {
        let nothing = || Report { interrupted: true, ..nothing(&plan) };
        match self.senders.run(plan.clone(), self.control, &mut Both(self.outputs, watch)) {
            Ok(FleetReport { report, parts }) => match parts.into_iter().find_map(|part| part.lost) {
                Some(why) => {
                    self.broken = Some(format!("an agent was lost: {why}"));
                    nothing()
                }
                None => report,
            },
            Err(error) => {
                self.broken = Some(error);
                nothing()
            }
        }
    }

    fn tried(&mut self, tried: &Try) {
        self.outputs.say(&line(tried));
    }
}

/// Two who watch the same run.
struct Both<'a>(&'a mut Outputs, &'a mut dyn Observer);

impl Observer for Both<'_> {
    fn second(&mut self, second: &Second<'_>) {
        self.0.second(second);
        self.1.second(second);
    }
}

fn purpose_text(purpose: Purpose) -> String {
    match purpose {
        Purpose::Bracket => "bracket".to_owned(),
        Purpose::Bisect => "bisect".to_owned(),
        Purpose::Confirm { percent } => format!("confirm {percent} %"),
    }
}

fn text(plan: &Plan, goal: &Goal, found: &FindMax) -> String {
    let mut text = String::new();
    let target = plan.targets.iter().map(|target| &target.name[..]).collect::<Vec<_>>().join(",");
    let objectives = goal.objectives.iter().map(|objective| objective.text()).collect::<Vec<_>>().join(", ");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "looking for     the highest rate to {target} with {objectives}");
    for tried in &found.tries {
        let _ = writeln!(text, "{}", line(tried));
    }
    let _ = match found.outcome {
        None => writeln!(text, "ended           by a signal; nothing is claimed"),
        Some(Outcome::None { met_once_per_s: None }) => writeln!(text, "none            no rate was met"),
        Some(Outcome::None { met_once_per_s: Some(per_s) }) => {
            writeln!(text, "none            {}/s was met once and not confirmed", grouped(per_s))
        }
        Some(Outcome::GeneratorLimited { at_per_s, met_per_s }) => {
            let _ = writeln!(text, "none            generator-limited at {}/s", grouped(at_per_s));
            let met = met_per_s.map_or_else(|| "nothing".to_owned(), |per_s| format!("{}/s", grouped(per_s)));
            writeln!(text, "                the server met {met}; its maximum is not known")
        }
        Some(Outcome::Found { rate_per_s, more_was_met }) => {
            confirmation(&mut text, found, rate_per_s, more_was_met)
        }
    };
    text
}

fn confirmation(text: &mut String, found: &FindMax, rate_per_s: f64, more_was_met: bool) -> std::fmt::Result {
    let mmh = rate_per_s * 3600.0 / 1e6;
    writeln!(text, "found           {} msg/s, {mmh:.2} MMH", grouped(rate_per_s))?;
    if more_was_met {
        writeln!(
            text,
            "                120 % was met, too: the server was noisy, and this is a careful claim"
        )?;
    }
    writeln!(
        text,
        "confirmed       {:>6}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}  objectives",
        "load", "offered", "accepted", "p50", "p99", "max", "errors"
    )?;
    for tried in found.confirmation() {
        let Purpose::Confirm { percent } = tried.purpose else { continue };
        let [p50, p99, max] = [tried.latency_us.p50, tried.latency_us.p99, tried.latency_us.max].map(latency);
        writeln!(
            text,
            "                {:>6}{:>12}{:>12}{p50:>10}{p99:>10}{max:>10}{:>10}  {}",
            format!("{percent} %"),
            format!("{}/s", grouped(tried.rate_per_s)),
            format!("{}/s", grouped(tried.reached_per_s)),
            format!("{:.3} %", tried.errors_percent),
            verdict(tried),
        )?;
    }
    Ok(())
}

/// One try in a line.
fn line(tried: &Try) -> String {
    format!(
        "{:<16}{:>11}/s  accepted {:>11}/s  p99 {:>8}  {}",
        purpose_text(tried.purpose),
        grouped(tried.rate_per_s),
        grouped(tried.reached_per_s),
        latency(tried.latency_us.p99),
        verdict(tried)
    )
}

fn verdict(tried: &Try) -> String {
    let word = match tried.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::GeneratorLimited => "generator-limited",
    };
    if tried.reasons.is_empty() { word.to_owned() } else { format!("{word}: {}", tried.reasons.join(", ")) }
}
