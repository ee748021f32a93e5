//! The verbs that only look: check, plan, explain, profile.

use std::fmt::Write as _;

use tuner::finding::Reach;
use tuner::report::Report;
use tuner::table::{harmless, render_in};
use tuner::{Finding, Rule, finding, rule, sizing};

use super::selection::{named_profile, unknown_key};
use super::{Common, EXIT_CHANGES_NEEDED, EXIT_CONFLICT, Failure, output};

pub(super) fn check(common: &Common) -> Result<u8, Failure> {
    let facts = common.host()?.facts();
    let question = common.question(&facts)?;
    let findings = common.selected(tuner::judge(&facts, &question));
    common.tell(&render_in(&findings, common.style()));
    end(common, &facts, &question, findings)
}

pub(super) fn plan(common: &Common) -> Result<u8, Failure> {
    let facts = common.host()?.facts();
    let question = common.question(&facts)?;
    let findings = common.selected(tuner::judge(&facts, &question));
    common.tell(&planned(&findings));
    end(common, &facts, &question, findings)
}

pub(super) fn explain(common: &Common, key: &str) -> Result<u8, Failure> {
    let rule = rule::built_in().iter().find(|rule| rule.key == key).ok_or_else(|| unknown_key(key))?;
    let facts = common.host()?.facts();
    let question = common.question(&facts)?;
    let finding = finding::judge(rule, &facts, &question);
    common.tell(&explanation(rule, &finding));
    end(common, &facts, &question, vec![finding])
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
    let question =
        tuner::Question { profile: profile.name.clone(), sizing: size, ..tuner::Question::of(&facts) };
    for finding in common.selected(tuner::judge(&facts, &question)) {
        line(&mut text, &format!("{:<36}  {}", finding.key, finding.wanted));
    }
    common.tell(&text);
    common.record(&serde_json::json!({"profile": profile.name, "about": profile.about, "sizing": size}))?;
    Ok(0)
}

/// Writes the report and finds the code to end with.
fn end(
    common: &Common,
    facts: &tuner::facts::Facts,
    question: &tuner::Question,
    findings: Vec<Finding>,
) -> Result<u8, Failure> {
    let strictly = common.strict && findings.iter().any(|finding| finding.verdict.asks_for_change());
    let needed = strictly || tuner::changes_needed(&findings);
    let refused = findings.iter().filter_map(|finding| finding.wish.as_ref()).any(|wish| !wish.taken);
    common.record(&Report::new(facts, question, findings, needed))?;
    Ok(match (refused, needed) {
        (true, _) => EXIT_CONFLICT,
        (false, true) => EXIT_CHANGES_NEEDED,
        (false, false) => 0,
    })
}

/// Every change with what one should know before it is made.
fn planned(findings: &[Finding]) -> String {
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

fn line(text: &mut String, told: &str) {
    writeln!(text, "{}", harmless(told)).expect("a String takes every write");
}
