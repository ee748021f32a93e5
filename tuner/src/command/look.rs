//! The verbs that only look: check, plan, explain, export, profile.

use std::fmt::Write as _;

use tuner::conflicts::{self, Conflict};
use tuner::export::{self, FORMATS, Format};
use tuner::facts::Facts;
use tuner::finding::{Reach, Wish};
use tuner::report::Report;
use tuner::table::{harmless, render_in};
use tuner::{Finding, Question, Rule, finding, rule, sizing};

use super::selection::{named_profile, unknown_key};
use super::{Common, EXIT_CHANGES_NEEDED, EXIT_CONFLICT, Failure, output};

pub(super) fn check(common: &Common) -> Result<u8, Failure> {
    let seen = Seen::by(common)?;
    common.tell(&render_in(&seen.findings, common.style()));
    if !seen.conflicts.is_empty() {
        common.tell(&format!("\n{}", seen.others(common)?));
    }
    seen.end(common)
}

pub(super) fn plan(common: &Common) -> Result<u8, Failure> {
    let seen = Seen::by(common)?;
    common.tell(&planned(&seen.findings));
    common.tell(&seen.others(common)?);
    let code = seen.clone().end(common)?;
    Ok(if code == EXIT_CHANGES_NEEDED && !seen.conflicts.is_empty() { EXIT_CONFLICT } else { code })
}

pub(super) fn explain(common: &Common, key: &str) -> Result<u8, Failure> {
    let rule = rule::built_in().iter().find(|rule| rule.key == key).ok_or_else(|| unknown_key(key))?;
    let host = common.host()?;
    let facts = host.facts();
    let question = common.question(&facts)?;
    let finding = finding::judge(rule, &facts, &question);
    common.tell(&explanation(rule, &finding));
    Seen::of(&host, facts, question, vec![finding]).end(common)
}

/// A format by its name.
pub(super) fn format(name: &str) -> Result<Format, String> {
    let found = FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format);
    found.ok_or_else(|| {
        let known: Vec<_> = FORMATS.iter().map(|(name, _)| *name).collect();
        format!("the formats are {}", known.join(", "))
    })
}

pub(super) fn export(common: &Common, format: Format) -> Result<u8, Failure> {
    let seen = Seen::by(common)?;
    let host = common.host()?;
    let text = export::export(format, &seen.findings, &seen.facts, &seen.question, host.unit());
    output::say(&text);
    Ok(0)
}

pub(super) fn profiles() -> Result<u8, Failure> {
    for profile in sizing::profiles() {
        output::say(&format!("{:<12}  {}\n", profile.name, profile.about));
    }
    Ok(0)
}

pub(super) fn profile(common: &Common, name: &str) -> Result<u8, Failure> {
    let profile = named_profile(name)?;
    let facts = common.host()?.facts();
    let size = profile.sizing(&facts.machine, common.connections, common.rate);
    let mut text = format!(
        "{}: {}\nfor {} connections and {} messages/s on {} processors and {} MiB\n\n",
        profile.name,
        profile.about,
        size.connections,
        size.rate,
        size.cores,
        size.ram_bytes >> 20
    );
    let question = Question { profile: profile.name.clone(), sizing: size, ..Question::of(&facts) };
    for finding in common.selected(tuner::judge(&facts, &question)) {
        line(&mut text, &format!("{:<36}  {}", finding.key, finding.wanted));
    }
    common.tell(&text);
    common.record(&serde_json::json!({"profile": profile.name, "about": profile.about, "sizing": size}))?;
    Ok(0)
}

/// A host, what was asked of it, and what came out.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) facts: Facts,
    pub(super) question: Question,
    pub(super) findings: Vec<Finding>,
    pub(super) conflicts: Vec<Conflict>,
}

impl Seen {
    /// Looks at the host that the flags mean.
    pub(super) fn by(common: &Common) -> Result<Self, Failure> {
        let host = common.host()?;
        let facts = host.facts();
        let question = common.question(&facts)?;
        let findings = common.selected(tuner::judge(&facts, &question));
        Ok(Self::of(&host, facts, question, findings))
    }

    /// What came out of these findings.
    pub(super) fn of(host: &tuner::Host, facts: Facts, question: Question, findings: Vec<Finding>) -> Self {
        let conflicts = conflicts::of(host.root(), &findings, &facts, &question);
        Self { facts, question, findings, conflicts }
    }

    /// Wishes that are not taken.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&Finding, &Wish)> {
        let wishes = self.findings.iter().filter_map(|finding| Some((finding, finding.wish.as_ref()?)));
        wishes.filter(|(_, wish)| !wish.taken)
    }

    /// Who else has a say, as lines.
    pub(super) fn others(&self, common: &Common) -> Result<String, Failure> {
        let mut text = String::new();
        for conflict in &self.conflicts {
            let Conflict { key, place, value, wanted, reason } = conflict;
            line(&mut text, &format!("conflict: {place} sets {key} = {value}, wanted is {wanted}; {reason}"));
        }
        for program in conflicts::programs(common.host()?.root()) {
            line(&mut text, &format!("note: {program}"));
        }
        Ok(text)
    }

    /// Writes the report and finds the code to end with.
    fn end(self, common: &Common) -> Result<u8, Failure> {
        let strictly = common.strict && self.findings.iter().any(|finding| finding.verdict.asks_for_change());
        let needed = strictly || tuner::changes_needed(&self.findings);
        let refused = self.refused().next().is_some();
        common.record(&Report::new(&self.facts, &self.question, self.findings, self.conflicts, needed))?;
        Ok(match (refused, needed) {
            (true, _) => EXIT_CONFLICT,
            (false, true) => EXIT_CHANGES_NEEDED,
            (false, false) => 0,
        })
    }
}

/// Every change with what one should know before it is made.
pub(super) fn planned(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings.iter().filter(|finding| finding.verdict.asks_for_change()) {
        let target = finding.target.as_deref().unwrap_or(&finding.wanted);
        line(&mut text, &format!("{}: {} -> {target}", finding.key, finding.current));
        line(&mut text, &format!("  why:      {}", finding.why));
        if let Some(reason) = &finding.reason {
            line(&mut text, &format!("  reason:   {reason}"));
        }
        line(&mut text, &format!("  source:   {}", finding.source));
        line(&mut text, &format!("  reaches:  the {}; {}", finding.scope.name(), who(finding.reach)));
        line(&mut text, &format!("  risk:     {}", finding.risk));
        if !finding.evidence.is_empty() {
            line(&mut text, &format!("  evidence: {}", finding.evidence.join(", ")));
        }
        if let Some(remedy) = &finding.remedy {
            line(&mut text, &format!("  by hand:  {remedy}"));
        }
        text.push('\n');
    }
    for finding in findings {
        if let Some(wish) = &finding.wish {
            let word = if wish.taken { "taken" } else { "refused" };
            line(&mut text, &format!("wish {} = {} {word}: {}", finding.key, wish.value, wish.reason));
        }
    }
    let changes = findings.iter().filter(|finding| finding.verdict.asks_for_change()).count();
    let stay = findings.len() - changes;
    line(&mut text, &format!("{changes} to change, {stay} stay as they are"));
    text
}

fn who(reach: Reach) -> &'static str {
    match reach {
        Reach::Here => "can be changed from here",
        Reach::Root => "root can change it",
        Reach::Runtime => "whoever starts this container can change it",
        Reach::Host => "only the host of this container can change it",
        Reach::Hand => "to be changed by hand",
    }
}

fn explanation(rule: &Rule, finding: &Finding) -> String {
    let mut text = String::new();
    line(&mut text, &format!("{}: {}", rule.key, rule.brief));
    let mut row = |label: &str, told: Option<&str>| {
        if let Some(told) = told {
            line(&mut text, &format!("  {:<9} {told}", format!("{label}:")));
        }
    };
    row("current", Some(&finding.current));
    row("wanted", Some(&finding.wanted));
    row("verdict", Some(&finding.verdict.to_string()));
    row("reason", finding.reason.as_deref());
    row("default", finding.kernel_default.as_deref());
    row("evidence", Some(finding.evidence.join(", ").as_str()).filter(|told| !told.is_empty()));
    row("reaches", Some(&format!("the {}; {}", rule.scope.name(), who(finding.reach))));
    row("risk", Some(&rule.risk));
    row("why", Some(&rule.why));
    row("KumoMTA", rule.kumomta.as_deref());
    row("remedy", finding.remedy.as_deref().or(rule.remedy.as_deref()));
    row("source", Some(&rule.source));
    text
}

pub(super) fn line(text: &mut String, told: &str) {
    writeln!(text, "{}", harmless(told)).expect("a String takes every write");
}
