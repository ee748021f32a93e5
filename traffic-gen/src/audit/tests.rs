//! What the audit makes of reports and ledgers, good and bad.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::content::PerMessage;

fn ranges(list: &[(u64, u64)]) -> Ranges {
    list.to_vec().into()
}

fn sent(sent: u64, unknown: u64, unknown_sequences: Option<Ranges>) -> Sent {
    Sent { sent, unknown, unknown_sequences, ..Sent::default() }
}

fn ledger(had: &[(u64, u64)]) -> Ledger {
    let had = ranges(had);
    Ledger { distinct: had.count(), had, ..Ledger::default() }
}

#[test]
fn all_there_is_clean() {
    let audit = Audit::of(&sent(100, 0, None), &ledger(&[(0, 99)]));
    assert_eq!(audit, Audit { promised: 100, delivered: 100, ..Audit::default() });
    assert!(audit.is_sound() && audit.is_clean());
}

#[test]
fn a_missing_number_is_lost_and_named_with_the_times_around_it() {
    let ledger = Ledger {
        missing: vec![(50, 50)],
        missing_between_ns: vec![(Some(7), 9)],
        last_ns: Some(20),
        ..ledger(&[(0, 49), (51, 98)])
    };
    let audit = Audit::of(&sent(100, 0, None), &ledger);
    assert_eq!(audit.lost, 2);
    assert!(!audit.is_sound() && !audit.is_clean());
    assert_eq!(audit.remarks, ["Lost sequence numbers: 50, 99."]);
    assert_eq!(
        audit.lost_messages,
        [
            Lost { first: 50, last: 50, after_ns: Some(7), before_ns: Some(9) },
            Lost { first: 99, last: 99, after_ns: Some(20), before_ns: None }
        ]
    );
}

#[test]
fn an_unanswered_message_may_arrive_or_not() {
    let unknown = Some(ranges(&[(90, 92)]));
    for (had, arrived) in [(&[(0_u64, 89_u64)][..], 0), (&[(0, 92)], 3), (&[(0, 90)], 1)] {
        let audit = Audit::of(&sent(90, 3, unknown.clone()), &ledger(had));
        assert_eq!((audit.lost, audit.delivered_though_unknown.count), (0, arrived));
        assert!(audit.is_clean());
    }
    assert_eq!(Audit::of(&sent(90, 3, unknown), &ledger(&[(0, 88), (90, 92)])).lost, 1);
}

#[test]
fn a_refused_message_that_arrived_is_told_and_no_loss() {
    let sent = Sent { sent: 8, failed: 2, failed_sequences: Some(ranges(&[(3, 4)])), ..Sent::default() };
    let audit = Audit::of(&sent, &ledger(&[(0, 3), (5, 9)]));
    assert_eq!((audit.lost, audit.delivered_though_failed.sequences), (0, vec![(3, 3)]));
}

#[test]
fn without_numbers_the_least_is_told_and_said() {
    let audit = Audit::of(&sent(90, 3, None), &ledger(&[(0, 85)]));
    assert_eq!(audit.lost, 4);
    let sentence = "Refused and unanswered messages are not known one by one: lost is from 4 to 7.";
    assert_eq!(
        (&audit.remarks[..], &audit.uncertain[..]),
        (&[sentence.to_owned()][..], &[sentence.to_owned()][..])
    );
    // When everything arrived, there is nothing to be in doubt about.
    assert!(Audit::of(&sent(90, 3, None), &ledger(&[(0, 92)])).is_clean());
}

#[test]
fn numbers_from_nowhere_are_remarked() {
    let audit = Audit::of(&sent(10, 0, None), &ledger(&[(0, 11)]));
    assert_eq!(audit.remarks, ["Sink has numbers that were never sent: 10-11."]);
    assert!(audit.is_sound() && !audit.is_clean());
}

#[test]
fn a_second_delivery_is_sound_and_not_clean() {
    let audit = Audit::of(&sent(10, 0, None), &Ledger { duplicated: 1, ..ledger(&[(0, 9)]) });
    assert!(audit.is_sound() && !audit.is_clean());
    let overtaken = Audit::of(&sent(10, 0, None), &Ledger { reordered: 1, ..ledger(&[(0, 9)]) });
    assert!(overtaken.is_clean());
}

/// A report of messages for so many recipients each.
fn sent_to(min: usize, max: usize, sent: u64) -> Sent {
    Sent { sent, recipients_per_message: Some(PerMessage { min, max }), ..Sent::default() }
}

fn lost_ranges(audit: &Audit) -> Vec<(u64, u64)> {
    audit.lost_messages.iter().map(|lost| (lost.first, lost.last)).collect()
}

#[test]
fn a_message_for_several_is_lost_for_each_who_lacks_it() {
    let ledger = Ledger { several: vec![(0, 1, 3), (2, 2, 2)], distinct: 8, ..ledger(&[(0, 2)]) };
    let audit = Audit::of(&sent_to(3, 3, 4), &ledger);
    assert_eq!((audit.lost, audit.delivered), (1 + 3, 8));
    assert_eq!(lost_ranges(&audit), [(2, 2), (3, 3)]);
}

#[test]
fn a_message_refused_for_some_of_its_recipients_is_owed_to_the_others() {
    let sent = Sent { partial: 2, refused_recipients: vec![(1, 0), (2, 0), (2, 2)], ..sent_to(3, 3, 2) };
    let full = Ledger { several: vec![(0, 0, 3), (1, 1, 2), (3, 3, 3)], ..ledger(&[(0, 3)]) };
    let audit = Audit::of(&sent, &full);
    assert_eq!((audit.promised, audit.lost, audit.is_clean()), (4, 0, true));
    let short = Ledger { several: vec![(0, 0, 3), (3, 3, 3)], ..ledger(&[(0, 1), (3, 3)]) };
    let audit = Audit::of(&sent, &short);
    assert_eq!((audit.lost, lost_ranges(&audit)), (2, vec![(1, 1), (2, 2)]));
    let unlisted = Sent { refused_recipients: Vec::new(), ..sent };
    assert!(!Audit::of(&unlisted, &short).is_clean());
}

#[test]
fn where_messages_had_different_numbers_of_recipients_the_sum_is_judged() {
    let sent = Sent { recipients_accepted: Some(9), ..sent_to(2, 4, 3) };
    let all = Ledger { several: vec![(0, 0, 2), (1, 1, 3), (2, 2, 4)], ..ledger(&[(0, 2)]) };
    assert!(Audit::of(&sent, &all).is_clean());
    let short = Ledger { several: vec![(0, 0, 2), (1, 1, 3), (2, 2, 2)], ..ledger(&[(0, 2)]) };
    let audit = Audit::of(&sent, &short);
    assert_eq!((audit.lost, audit.lost_messages.len(), audit.is_clean()), (2, 0, false));
    assert!(audit.uncertain[0].contains("of 2 of them it cannot be told"), "{:?}", audit.uncertain);
}

#[test]
fn what_a_ledger_left_out_cannot_be_told() {
    let cut = Audit::of(&sent(100, 0, None), &Ledger { cut: true, ..ledger(&[(0, 9), (11, 59)]) });
    assert_eq!(cut.lost, 1);
    assert!(cut.uncertain[0].contains("whether 40 messages arrived cannot be told"), "{:?}", cut.uncertain);
    let untracked = Audit::of(&sent(10, 0, None), &Ledger { untracked: 5, ..ledger(&[(0, 9)]) });
    assert!(untracked.is_sound() && !untracked.is_clean());
}

#[test]
fn reports_are_read_with_fields_that_are_not_needed() {
    let sent: Sent = serde_json::from_str(
        r#"{"run_id":"r","sent":2,"failed":0,"unknown":1,"elapsed_s":1.5,"mmh":null,"mmh_observed":0.1,
            "generator_limited":["it was busy"],"first_sent_ns":7,"more":true,"latency_us":null,"unknown_sequences":[[1,1]]}"#,
    )
    .unwrap();
    assert_eq!((sent.accepted().unwrap(), sent.mmh_observed), (ranges(&[(0, 0), (2, 2)]), 0.1));
    let ledger: Ledger = serde_json::from_str(
        r#"{"run":"r","had":[[0,0],[2,2]],"missing":[[1,1]],"distinct":2,"duplicated":0,"corrupted":0,"last_ns":9}"#,
    )
    .unwrap();
    assert!(Audit::of(&sent, &ledger).is_clean());
}

#[test]
fn the_verdict_in_words_names_each_message() {
    let ledger = Ledger {
        first_ns: Some(1_000_000_000),
        missing: vec![(5, 5)],
        missing_between_ns: vec![(Some(1_500_000_000), 1_600_000_000)],
        duplicated: 25,
        duplicates: vec![Duplicate {
            seq: 7,
            recipient: "0badcafe".to_owned(),
            first_ns: 1_700_000_000,
            first_connection: Some(3),
            again_ns: 1_900_000_000,
            again_connection: None,
        }],
        ..ledger(&[(0, 4), (6, 9)])
    };
    let text = Audit::of(&sent(10, 0, None), &ledger).to_string();
    for line in [
        "message 5, its neighbours arrived at 0.500000 s and 0.600000 s",
        "message 7 for 0badcafe: first at 0.700000 s by connection 3, again at 0.900000 s",
        "and 24 that the sink counted and did not list",
    ] {
        assert!(text.lines().any(|written| written.trim() == line), "{line} is not in\n{text}");
    }
}
