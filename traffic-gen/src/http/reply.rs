//! What the server's answer means.

use std::collections::BTreeSet;

use hyper::StatusCode;
use serde::Deserialize;

/// Characters of a server's reason that are kept.
const REASON_CHARACTERS_MAX: usize = 100;

/// What KumoMTA answers to an injection. Fields that are not known are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    success_count: Option<u64>,
    fail_count: u64,
    failed_recipients: Vec<String>,
    errors: Vec<String>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All recipients were accepted, or the server will look at them later.
    Accepted,
    /// None was; a reason, where the status alone does not say it.
    Refused(Option<String>),
    /// The recipients with these numbers were not.
    Partial(Vec<u32>, String),
    /// Nobody knows what happened.
    Nonsense(&'static str),
}

/// Judges the answer to a message for these recipients. `deferred` says that the server was asked to look at
/// them later.
pub(super) fn judge(status: StatusCode, body: &[u8], recipients: &[String], deferred: bool) -> Verdict {
    if !status.is_success() {
        return Verdict::Refused(None);
    }
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let Some(accepted) = answer.success_count else {
        return Verdict::Nonsense("the answer is not that of /api/inject/v1");
    };
    let all = recipients.len() as u64;
    let refused = refused(&answer, recipients);
    if refused.is_empty() && answer.fail_count == 0 && (accepted >= all || deferred) {
        return Verdict::Accepted;
    }
    let reason = match answer.errors.first() {
        Some(error) => format!("refused: {}", without_addresses(error)),
        None => "refused without a reason".to_owned(),
    };
    if accepted == 0 || refused.len() == recipients.len() {
        return Verdict::Refused(Some(reason));
    }
    if refused.len() as u64 == answer.fail_count && accepted.checked_add(answer.fail_count) == Some(all) {
        return Verdict::Partial(refused, reason);
    }
    Verdict::Nonsense("the answer does not say which recipients were refused")
}

/// The numbers of the recipients that the answer names.
fn refused(answer: &Answer, recipients: &[String]) -> Vec<u32> {
    let names: BTreeSet<&str> = answer.failed_recipients.iter().map(String::as_str).collect();
    let named = (0..).zip(recipients).filter(|(_, recipient)| names.contains(recipient.as_str()));
    named.map(|(number, _)| number).collect()
}

/// The text without the words that name somebody, so that equal reasons count as one kind.
fn without_addresses(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if word.contains('@') { "…" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(REASON_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(status: u16, body: &str) -> Verdict {
        let recipients = ["a@b", "c@d"].map(str::to_owned);
        judge(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &recipients, false)
    }

    #[test]
    fn answers_of_kumomta_are_understood() {
        let all = r#"{"success_count":2,"fail_count":0,"failed_recipients":[],"errors":[]}"#;
        assert_eq!(judged(200, all), Verdict::Accepted);
        let some = r#"{"success_count":1,"fail_count":1,"failed_recipients":["c@d"],
            "errors":["failed to inject for <c@d>: no such tenant"]}"#;
        let reason = "refused: failed to inject for … no such tenant";
        assert_eq!(judged(200, some), Verdict::Partial(vec![1], reason.to_owned()));
        let none = r#"{"success_count":0,"fail_count":2,"failed_recipients":["a@b","c@d"]}"#;
        assert_eq!(judged(200, none), Verdict::Refused(Some("refused without a reason".to_owned())));
        for status in [301, 400, 401, 413, 422, 429, 500, 503] {
            assert_eq!(judged(status, "{}"), Verdict::Refused(None), "{status}");
        }
    }

    #[test]
    fn a_server_that_looks_later_counts_nobody() {
        let body = br#"{"success_count":0,"fail_count":0,"failed_recipients":[],"errors":[]}"#;
        let recipients = ["a@b".to_owned()];
        assert_eq!(judge(StatusCode::OK, body, &recipients, true), Verdict::Accepted);
        assert!(matches!(judge(StatusCode::OK, body, &recipients, false), Verdict::Refused(_)));
    }

    #[test]
    fn what_leaves_a_recipient_open_tells_nothing() {
        for body in [
            "",
            "OK",
            "{}",
            "[]",
            r#"{"success_count":"2"}"#,
            "\u{fffd}",
            r#"{"success_count":1,"fail_count":0}"#,
            r#"{"success_count":1,"fail_count":1}"#,
            r#"{"success_count":1,"fail_count":1,"failed_recipients":["x@y"]}"#,
            r#"{"success_count":2,"fail_count":1,"failed_recipients":["a@b"]}"#,
        ] {
            let verdict = judged(200, body);
            assert!(matches!(verdict, Verdict::Nonsense(_)), "{body}: {verdict:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_more_of_a_message_than_it_says(
            success: u64,
            fail: u64,
            named in proptest::collection::vec("[a-d]@[a-d]", 0..4),
            deferred: bool,
        ) {
            let recipients: Vec<String> = ["a@a", "b@b", "c@c"].map(str::to_owned).to_vec();
            let body = serde_json::json!({
                "success_count": success % 5, "fail_count": fail % 5, "failed_recipients": named
            });
            match judge(StatusCode::OK, body.to_string().as_bytes(), &recipients, deferred) {
                Verdict::Accepted => {
                    prop_assert!(fail % 5 == 0 && !recipients.iter().any(|name| named.contains(name)));
                    prop_assert!(deferred || success % 5 >= 3);
                }
                Verdict::Partial(refused, _) => {
                    prop_assert!(!refused.is_empty() && refused.len() < recipients.len());
                    prop_assert_eq!(refused.len() as u64 + success % 5, 3);
                }
                Verdict::Refused(_) | Verdict::Nonsense(_) => {}
            }
        }
    }
}
