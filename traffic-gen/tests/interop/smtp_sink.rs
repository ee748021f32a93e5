//! Into Postfix's `smtp-sink`, which keeps every message in a file of its own: all that was counted is there, once, whole.

use std::path::Path;
use std::process::Command;

use message::traffic::{body_crc, find_in};
use tempfile::TempDir;
use traffic_gen::{Auth, AuthType, ContentPlan, Plan, Report, run};

use crate::program::{Program, find, free_address, open_to_all};

const MESSAGES: u64 = 96;

/// A message as `smtp-sink` kept it.
struct Kept {
    sequence: u64,
    recipients: usize,
    intact: bool,
}

/// A run into `smtp-sink` with these options; `None` where it is not installed.
fn into_smtp_sink(options: &[&str], change: impl FnOnce(&mut Plan)) -> Option<(Report, Vec<Kept>)> {
    let smtp_sink = find("smtp-sink")?;
    let folder = TempDir::new().unwrap();
    open_to_all(folder.path());
    let address = free_address();
    let mut command = Command::new(smtp_sink);
    // It insists on another name where it is started by root.
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "nobody"]);
    }
    command.args(options).arg("-d").arg(folder.path().join("m.")).arg(address.to_string()).arg("64");
    let _program = Program::start(&mut command).listens(address);
    let mut plan = Plan::messages(address, MESSAGES);
    plan.concurrency = 8;
    plan.workers = 2;
    change(&mut plan);
    let report = run(plan);
    Some((report, kept_in(folder.path())))
}

fn kept_in(folder: &Path) -> Vec<Kept> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            // It writes lines as files have them, and an empty one behind the message.
            let text = text.strip_suffix('\n').unwrap().replace('\n', "\r\n");
            let (header, body) = find_in(text.as_bytes()).unwrap();
            Kept {
                sequence: header.seq,
                recipients: text.matches("X-Rcpt-Args: ").count(),
                intact: body_crc(&text.as_bytes()[body..]) == header.crc,
            }
        })
        .collect()
}

fn assert_all_there(report: &Report, kept: &[Kept], options: &[&str]) {
    let counts = (report.sent, report.failed, report.unknown, report.connections_lost);
    assert_eq!(counts, (MESSAGES, 0, 0, 0), "{options:?}: {:?}", report.errors);
    let mut sequences: Vec<u64> = kept.iter().map(|kept| kept.sequence).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (0..MESSAGES).collect::<Vec<_>>(), "{options:?}");
    assert!(kept.iter().all(|kept| kept.intact), "{options:?}: a body is damaged");
}

#[test]
fn every_message_is_there_whatever_is_on_offer() {
    let sets: [&[&str]; 5] = [
        &[],
        // No PIPELINING.
        &["-p"],
        // HELO only.
        &["-e"],
        // PIPELINING and nothing else.
        &["-8", "-a", "-C", "-E", "-F", "-N"],
        // A firewall in front that blanks the greeting.
        &["-P"],
    ];
    for options in sets {
        for pipelining in [true, false] {
            let Some((report, kept)) = into_smtp_sink(options, |plan| plan.transport.pipelining = pipelining)
            else {
                return;
            };
            assert_all_there(&report, &kept, options);
        }
    }
}

#[test]
fn large_messages_and_several_recipients() {
    let Some((report, kept)) = into_smtp_sink(&[], |plan| {
        plan.content = ContentPlan::fixed(100_000);
        (plan.recipients.per_message.min, plan.recipients.per_message.max) = (3, 3);
    }) else {
        return;
    };
    assert_all_there(&report, &kept, &[]);
    assert!(kept.iter().all(|kept| kept.recipients == 3));
    assert_eq!(report.recipients_accepted, 3 * MESSAGES);
}

#[test]
fn lmtp_with_a_reply_for_each_recipient() {
    for options in [&["-L"][..], &["-L", "-p"]] {
        let Some((report, kept)) = into_smtp_sink(options, |plan| {
            plan.transport.lmtp = true;
            (plan.recipients.per_message.min, plan.recipients.per_message.max) = (1, 4);
        }) else {
            return;
        };
        assert_all_there(&report, &kept, options);
        let recipients: usize = kept.iter().map(|kept| kept.recipients).sum();
        assert_eq!(report.recipients_accepted, recipients as u64, "{options:?}");
        assert!(recipients > kept.len());
    }
    // Who speaks SMTP where LMTP is spoken, and the other way round, sends nothing.
    for (options, lmtp) in [(&["-L"][..], false), (&[], true)] {
        let (report, kept) = into_smtp_sink(options, |plan| plan.transport.lmtp = lmtp).unwrap();
        assert_eq!(
            (report.sent, kept.len(), report.exit_code()),
            (0, 0, 1),
            "{options:?}: {:?}",
            report.errors
        );
    }
}

#[test]
fn who_has_to_log_in_does_or_sends_nothing() {
    let auth = |mechanism| Auth { mechanism, user: "user".into(), password: "password".into() };
    for mechanism in [None, Some(AuthType::Plain)] {
        let Some((report, kept)) = into_smtp_sink(&[], |plan| plan.transport.auth = Some(auth(mechanism)))
        else {
            return;
        };
        assert_all_there(&report, &kept, &[]);
    }
    // It offers LOGIN, too, and says yes before it has heard who it is: that is no login.
    let table: [(&[&str], _, _); 2] = [
        (&["-a"], None, "does not offer AUTH"),
        (&[], Some(AuthType::Login), "reply 250 does not answer any command"),
    ];
    for (options, mechanism, error) in table {
        let (report, kept) =
            into_smtp_sink(options, |plan| plan.transport.auth = Some(auth(mechanism))).unwrap();
        assert_eq!((report.sent, kept.len(), report.exit_code()), (0, 0, 1));
        assert!(report.errors.keys().any(|kind| kind.contains(error)), "{:?}", report.errors);
    }
}

#[test]
fn a_delay_of_the_server_is_in_the_latency_and_in_its_phase() {
    // A second before the reply to DATA: two messages for each connection.
    let Some((report, kept)) = into_smtp_sink(&["-w", "1"], |plan| {
        plan.message_count = Some(16);
    }) else {
        return;
    };
    assert_eq!((report.sent, kept.len()), (16, 16), "{:?}", report.errors);
    let second_us = 1e6;
    assert!(report.latency_us.p50 >= second_us, "{:?}", report.latency_us);
    assert!(report.phases_us["data"].p50 >= second_us, "{:?}", report.phases_us);
    assert!(report.phases_us["connect"].p50 < second_us);
}

#[test]
fn refusals_and_lost_connections_are_counted_as_what_they_are() {
    let table: [(&[&str], u64, u64); 4] = [
        (&["-f", "RCPT"], MESSAGES, 0),
        (&["-r", "DATA"], MESSAGES, 0),
        (&["-f", "."], MESSAGES, 0),
        // The connection ends where the reply to the message is due: nobody knows, and nothing is sent again.
        (&["-q", "."], 0, MESSAGES),
    ];
    for (options, failed, unknown) in table {
        let Some((report, _)) = into_smtp_sink(options, |plan| plan.keep_going = true) else {
            return;
        };
        assert_eq!(
            (report.sent, report.failed, report.unknown),
            (0, failed, unknown),
            "{options:?}: {:?} {:?}",
            report.errors,
            report.reply_codes
        );
        let codes: u64 = report.reply_codes.values().sum();
        assert_eq!(codes, failed, "{options:?}");
    }
}
