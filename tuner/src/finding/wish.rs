//! Values that an operator would like, such as those of a page found on the way.
//!
//! A wish is taken when it is at least as good as what the host has and as what the rule would give. One that would make a
//! setting worse, or that the rule leaves alone, is refused with the reason; then the rule decides as if it had not been.

use std::cmp::Ordering;

use super::compare::{Context, compare, with_values};
use super::{Finding, Question, Verdict, Wish};
use crate::facts::{Observed, normal};
use crate::rule::{Rule, Wanted};

pub(super) fn weigh(
    finding: &mut Finding,
    rule: &Rule,
    observed: &Observed,
    question: &Question,
    context: Context<'_>,
) {
    let Some(wish) = question.wishes.get(&rule.key) else { return };
    let value = normal(wish);
    let current = match observed {
        Observed::Value(reading) if rule.is_sysctl() => Ok(reading.value.clone()),
        Observed::Value(_) => Err("only a sysctl can be wished for".to_owned()),
        _ => Err("its current value is not known, so nobody can say whether it would get worse".to_owned()),
    };
    let answer = current.and_then(|current| worth(rule, &value, &current, finding, context));
    let (taken, reason) = match answer {
        Ok(reason) => (true, reason),
        Err(reason) => (false, reason),
    };
    if taken && finding.current != value {
        finding.verdict = if matches!(rule.wanted, Wanted::AtMost(_)) { Verdict::High } else { Verdict::Low };
        finding.target = Some(value.clone());
        finding.reason = Some("wished for".into());
    }
    finding.wish = Some(Wish { value, taken, reason });
}

/// Why a wish is taken, or why not.
fn worth(
    rule: &Rule,
    value: &str,
    current: &str,
    finding: &Finding,
    context: Context<'_>,
) -> Result<String, String> {
    if value == current {
        return Ok("the host has it already".into());
    }
    if matches!(rule.wanted, Wanted::Equal(_)) {
        let wanted = finding.target.as_deref() == Some(value);
        return if wanted {
            Ok("as the rule".into())
        } else {
            let reason = finding.reason.as_deref().unwrap_or("the rule wants another value");
            Err(rule.kumomta.clone().unwrap_or_else(|| format!("{} stays: {reason}", rule.key)))
        };
    }
    let values: Vec<String> = value.split(' ').map(str::to_owned).collect();
    let Some(as_rule) = with_values(&rule.wanted, &values) else {
        return Err(rule
            .kumomta
            .clone()
            .unwrap_or_else(|| format!("not a value for this rule: {}", rule.why)));
    };
    if let Wanted::Superset(first, last) = as_rule
        && first % 2 == last % 2
    {
        return Err("both ends are even or both are odd; the kernel asks for one of each".into());
    }
    let against = |have: &str| compare(&as_rule, have, context).map(|found| (found.order, found.target));
    match (against(current), finding.target.as_deref().map(against)) {
        (Some((Ordering::Less, target)), _) if target != value => {
            Err(format!("it would make a part of {current} worse"))
        }
        (Some((Ordering::Less, _)), None | Some(Some((Ordering::Less | Ordering::Equal, _)))) => {
            Ok(format!("better than {current}"))
        }
        (Some((Ordering::Less, _)), Some(_)) => Err(format!("the rule gives {}", finding.wanted)),
        (Some(_), _) => Err(format!("it would make {current} worse")),
        (None, _) => Err("the current value is not understood".into()),
    }
}
