//! Local parts that say what they want to hear: `tempfail@`, `permfail@`, `450-x@`.
//!
//! As in the sink that KumoMTA's users know: a local part that contains `tempfail` or `permfail`, or that
//! begins with a reply code and a hyphen. The answer is given to RCPT, so that a message with several
//! recipients may fail for some of them. Made of ordinary rules: off, they cost nothing.

use smtp::reply::Reply;

use super::meant::Rule;
use super::written::RuleSet;

const TEMPFAIL_AND_PERMFAIL: &str = r#"
[[rule]]
name = "magic/tempfail"
stage = "rcpt"
match.local_part = "*tempfail*"
action.reply = "450 4.2.0 The address asks for a temporary failure"

[[rule]]
name = "magic/permfail"
stage = "rcpt"
match.local_part = "*permfail*"
action.reply = "550 5.2.0 The address asks for a permanent failure"
"#;

/// The rules of `--magic`.
pub(super) fn rules() -> Vec<Rule> {
    let mut rules = vec![Rule::as_addressed("magic/code")];
    // A constant of ours that a test reads; were it wrong, there would be less magic.
    let set = RuleSet::from_toml(TEMPFAIL_AND_PERMFAIL).unwrap_or_default();
    rules.extend(set.rules().iter().filter_map(|rule| Rule::new(rule).ok()));
    rules
}

/// What a local part such as `450-x` asks for. Codes that refuse nothing, `250-x` among them, ask for no
/// more than the usual reply.
pub(crate) fn asked_for(local: &str) -> Option<Reply> {
    let (code, _) = local.split_once('-')?;
    let digits = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let code: u16 = code.parse().ok().filter(|code| digits && (400..=599).contains(code))?;
    let class = if code < 500 { 4 } else { 5 };
    Some(Reply::owned(code, (class, 0, 0), "The address asks for this reply".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_codes_that_refuse_are_obeyed() {
        let code = |local| asked_for(local).map(|reply| reply.code);
        assert_eq!(code("450-x"), Some(450));
        assert_eq!(code("550-"), Some(550));
        for local in ["250-x", "450", "4500-x", "+45-x", "650-x", "x450-x", "ä45-x"] {
            assert_eq!(code(local), None, "{local}");
        }
    }

    #[test]
    fn all_its_rules_are_there() {
        assert_eq!(rules().len(), 3);
    }
}
