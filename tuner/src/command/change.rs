//! The verbs that change: apply, verify, revert.
//!
//! Everything that can be refused is refused before the first change, with what to do instead.

use clap::Args;
use tuner::apply::{self, ApplyError, Changes, Done, Place};
use tuner::finding::{Finding, Reach};

use super::look::{Seen, line, planned};
use super::{
    Common, EXIT_CHANGES_NEEDED, EXIT_CONFLICT, EXIT_ERROR, EXIT_NOT_PERMITTED, EXIT_VERIFY_FAILED, Failure,
};

/// How to apply.
#[derive(Args)]
pub(crate) struct ApplyArguments {
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,

    /// Leave files alone: the next boot forgets the change.
    #[arg(long)]
    runtime_only: bool,

    /// Apply although another file wins at boot, and replace a drop-in that was edited.
    #[arg(long)]
    force: bool,
}

/// How to take back.
#[derive(Args)]
pub(crate) struct RevertArguments {
    /// Take back also what somebody else has changed since.
    #[arg(long)]
    force: bool,
}

pub(super) fn apply(common: &Common, arguments: &ApplyArguments) -> Result<u8, Failure> {
    if arguments.dry_run {
        let seen = Seen::by(common)?;
        common.tell(&planned(&seen.findings));
        common.tell(&seen.others(common)?);
        return Ok(if Changes::of(&seen.findings).is_empty() { 0 } else { EXIT_CHANGES_NEEDED });
    }
    let place = place(common, arguments.runtime_only, arguments.force)?;
    let recovered = apply::recover(&Place { force: false, ..place.clone() }).map_err(failure)?;
    for line in &recovered {
        common.tell(&format!("{line}\n"));
    }
    let seen = Seen::by(common)?;
    let changes = Changes::of(&seen.findings);
    refuse(common, &seen, arguments.force)?;
    let done = apply::apply(&place, &changes).map_err(failure)?;
    let mut text = told(&done);
    line(&mut text, &format!("{} changed", done.values.len() + done.files.len()));
    if !changes.unit.is_empty() && !done.files.is_empty() {
        let unit = &place.unit;
        line(&mut text, &format!("for {unit}: systemctl daemon-reload && systemctl restart {unit}"));
    }
    left_over(&mut text, &seen, &changes);
    common.tell(&text);
    record(common, &Done { recovered, ..done })?;
    Ok(0)
}

pub(super) fn verify(common: &Common) -> Result<u8, Failure> {
    let seen = Seen::by(common)?;
    let place = place(common, false, false)?;
    let problems = apply::verify(&place, &seen.findings).map_err(failure)?;
    let mut text = String::new();
    for problem in &problems {
        line(&mut text, problem);
    }
    text += &seen.others(common)?;
    let holds = problems.is_empty();
    line(&mut text, if holds { "what was applied holds" } else { "what was applied does not hold" });
    common.tell(&text);
    common.record(&serde_json::json!({"holds": holds, "problems": problems, "conflicts": seen.conflicts}))?;
    Ok(match (holds, seen.conflicts.is_empty()) {
        (false, _) => EXIT_VERIFY_FAILED,
        (true, false) => EXIT_CONFLICT,
        (true, true) => 0,
    })
}

pub(super) fn revert(common: &Common, arguments: &RevertArguments) -> Result<u8, Failure> {
    let place = place(common, false, arguments.force)?;
    let done = apply::revert(&place).map_err(failure)?;
    let mut text = told(&done);
    line(&mut text, "everything is as it was before tuner");
    common.tell(&text);
    record(common, &done)?;
    Ok(0)
}

pub(super) fn place(common: &Common, runtime_only: bool, force: bool) -> Result<Place, Failure> {
    let host = common.host()?;
    Ok(Place {
        root: host.root().to_owned(),
        unit: host.unit().to_owned(),
        kernel: host.kernel(),
        runtime_only,
        force,
    })
}

/// What stands in the way, before anything is touched.
fn refuse(common: &Common, seen: &Seen, force: bool) -> Result<(), Failure> {
    refused_wishes(seen)?;
    unreachable_here(&apply::out_of_reach(&seen.findings), "apply")?;
    if force { Ok(()) } else { conflicting(common, seen) }
}

/// Wishes that would make something worse.
pub(super) fn refused_wishes(seen: &Seen) -> Result<(), Failure> {
    let wishes: Vec<String> = seen
        .refused()
        .map(|(finding, wish)| format!("{} = {} is refused: {}", finding.key, wish.value, wish.reason))
        .collect();
    if wishes.is_empty() {
        return Ok(());
    }
    Err(Failure::new(EXIT_CONFLICT, wishes.join("\n") + "\nnothing was changed"))
}

/// Settings that this process may not change, with what whoever may has to do.
pub(super) fn unreachable_here(beyond: &[&Finding], verb: &str) -> Result<(), Failure> {
    if beyond.is_empty() {
        return Ok(());
    }
    let mut text = String::from("nothing was changed, because this is not for this process to change:\n");
    for finding in beyond {
        line(&mut text, &format!("  {}: {}", finding.key, finding.remedy.as_deref().unwrap_or_default()));
    }
    let keys: Vec<&str> = beyond.iter().map(|finding| finding.key.as_str()).collect();
    let root = beyond.iter().any(|finding| matches!(finding.reach, Reach::Root | Reach::Hand));
    let how = if root { "run it as root" } else { "have the host do that" };
    text += &format!("{how}, or do the rest with: tuner {verb} --skip {}", keys.join(","));
    Err(Failure::new(EXIT_NOT_PERMITTED, text))
}

/// Files that would win at boot.
pub(super) fn conflicting(common: &Common, seen: &Seen) -> Result<(), Failure> {
    if seen.conflicts.is_empty() {
        return Ok(());
    }
    let others = seen.others(common)?;
    Err(Failure::new(
        EXIT_CONFLICT,
        format!(
            "{others}nothing was changed: take those lines out, or --force and live with it until the next boot"
        ),
    ))
}

fn told(done: &Done) -> String {
    let mut text = String::new();
    for recovered in &done.recovered {
        line(&mut text, recovered);
    }
    for (key, before, after) in &done.values {
        line(&mut text, &format!("{key}: {before} -> {after}"));
    }
    for path in &done.files {
        line(&mut text, &format!("/{}", path.display()));
    }
    text
}

/// What a person has to do.
fn left_over(text: &mut String, seen: &Seen, changes: &Changes) {
    let written = |key: &String| changes.sysctls.iter().chain(&changes.unit).any(|(name, _)| name == key);
    for finding in seen.findings.iter().filter(|finding| finding.verdict.asks_for_change()) {
        if !written(&finding.key) {
            let remedy = finding.remedy.as_deref().unwrap_or_default();
            line(text, &format!("left to you: {}: {remedy}", finding.key));
        }
    }
}

fn record(common: &Common, done: &Done) -> Result<(), Failure> {
    let values = done
        .values
        .iter()
        .map(|(key, before, after)| serde_json::json!({"key": key, "before": before, "after": after}));
    let values: Vec<_> = values.collect();
    common.record(&serde_json::json!({"values": values, "files": done.files, "recovered": done.recovered}))
}

pub(super) fn failure(error: ApplyError) -> Failure {
    let code = match &error {
        ApplyError::ReadBack { .. } => EXIT_VERIFY_FAILED,
        ApplyError::Conflict(_) => EXIT_CONFLICT,
        error if error.is_permission() => EXIT_NOT_PERMITTED,
        _ => EXIT_ERROR,
    };
    Failure::new(code, error)
}
