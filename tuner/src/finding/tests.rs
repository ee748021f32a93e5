//! Hosts written down as facts, and what the rules make of them.

use super::*;
use crate::rule::built_in;

const FULL: Sizing = Sizing { connections: 20_000, rate: 2000, ram_bytes: 8 << 30, cores: 2 };

fn host(kernel: &str, values: &[(&str, &str)], counters: &[(&str, u64)]) -> Facts {
    let reading = |value: &str| Observed::Value(Reading { writable: true, ..Reading::plain(value) });
    Facts {
        kernel: Some(kernel.into()),
        readings: values.iter().map(|(key, value)| ((*key).to_owned(), reading(value))).collect(),
        counters: counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        ..Facts::default()
    }
}

fn ask(facts: &Facts, key: &str, eager: bool, wish: Option<&str>) -> Finding {
    let rule = built_in().iter().find(|rule| rule.key == key).unwrap();
    let wishes = wish.map(|wish| (key.to_owned(), wish.to_owned())).into_iter().collect();
    let question = Question { profile: "mta".into(), sizing: FULL, eager, wishes };
    judge(rule, facts, &question)
}

fn outcome(finding: &Finding) -> (Verdict, Option<&str>) {
    (finding.verdict, finding.target.as_deref())
}

#[test]
fn evidence_comes_before_a_change() {
    let key = "net.core.netdev_max_backlog";
    let calm = host("6.1.0", &[(key, "1000")], &[("softnet_dropped", 0)]);
    assert_eq!(outcome(&ask(&calm, key, false, None)), (Verdict::NotNeeded, None));
    assert_eq!(outcome(&ask(&calm, key, true, None)), (Verdict::Low, Some("5000")));
    let dropping = host("6.1.0", &[(key, "1000")], &[("softnet_dropped", 3)]);
    let finding = ask(&dropping, key, false, None);
    assert_eq!(outcome(&finding), (Verdict::Low, Some("5000")));
    assert_eq!(finding.reason.as_deref(), Some("softnet_dropped is 3, above 0"));
}

#[test]
fn what_was_lowered_below_the_kernels_default_is_raised_to_it_without_evidence() {
    let key = "net.core.rmem_max";
    let quiet = [("udp_receive_buffer_errors", 0)];
    let on = |kernel, value| host(kernel, &[(key, value)], &quiet);
    assert_eq!(outcome(&ask(&on("6.1.0", "212992"), key, false, None)), (Verdict::NotNeeded, None));
    assert_eq!(outcome(&ask(&on("6.18.1", "262144"), key, false, None)), (Verdict::Low, Some("4194304")));
    assert_eq!(outcome(&ask(&on("6.1.0", "65536"), key, false, None)), (Verdict::Low, Some("212992")));
}

#[test]
fn a_switch_that_differs_from_the_default_is_not_a_lowering() {
    let key = "net.ipv4.tcp_tw_reuse";
    let share = "time_wait_to_one_destination_percent_of_ports";
    assert_eq!(
        outcome(&ask(&host("6.1", &[(key, "0")], &[(share, 3)]), key, false, None)).0,
        Verdict::NotNeeded
    );
    let full = ask(&host("6.1", &[(key, "2")], &[(share, 80)]), key, false, None);
    assert_eq!(outcome(&full), (Verdict::Differs, Some("1")));
}

#[test]
fn wishes_that_lower_are_refused_and_better_ones_are_taken() {
    let key = "net.core.somaxconn";
    let modern = host("6.1.0", &[(key, "4096")], &[]);
    let lowered = ask(&modern, key, false, Some("1024"));
    assert_eq!(outcome(&lowered), (Verdict::Ok, None));
    assert!(!lowered.wish.unwrap().taken);
    let raised = ask(&modern, key, false, Some("16384"));
    assert_eq!(outcome(&raised), (Verdict::Low, Some("16384")));
    assert!(raised.wish.unwrap().taken);
    // On an old host the wish would be an improvement, and the rule's value a larger one.
    let old = ask(&host("3.10.0", &[(key, "128")], &[]), key, false, Some("1024"));
    assert_eq!(outcome(&old), (Verdict::Low, Some("4096")));
    assert_eq!(old.wish.unwrap().reason, "the rule gives at least 4096");
}

#[test]
fn a_wish_that_raises_one_part_and_lowers_another_is_refused() {
    let key = "net.ipv4.tcp_rmem";
    let modern = host("6.18.0", &[(key, "4096 131072 33554432")], &[]);
    let wish = ask(&modern, key, false, Some("8192 131072 16777216")).wish.unwrap();
    assert!(!wish.taken, "{wish:?}");
    assert!(ask(&modern, key, false, Some("8192 131072 33554432")).wish.unwrap().taken);
}

#[test]
fn a_container_is_told_who_can_change_what() {
    let mut facts = host("6.1.0", &[("net.core.somaxconn", "128"), ("fs.nr_open", "1024")], &[]);
    facts.machine.system.container = Some("docker".into());
    for observed in facts.readings.values_mut() {
        if let Observed::Value(reading) = observed {
            reading.writable = false;
        }
    }
    let own = ask(&facts, "net.core.somaxconn", false, None);
    assert_eq!(own.reach, Reach::Runtime);
    assert!(own.remedy.unwrap().contains("docker run --sysctl net.core.somaxconn='4096'"));
    assert_eq!(ask(&facts, "fs.nr_open", false, None).reach, Reach::Host);
    facts.machine.system.container = None;
    assert_eq!(ask(&facts, "fs.nr_open", false, None).reach, Reach::Root);
}

#[test]
fn what_is_not_there_says_since_when_it_is() {
    let mut facts = host("3.10.0-1160.el7.x86_64", &[], &[]);
    facts.readings.insert("kernel.io_uring_disabled".into(), Observed::Absent);
    let finding = ask(&facts, "kernel.io_uring_disabled", false, None);
    assert_eq!((finding.verdict, finding.reason.as_deref()), (Verdict::Absent, Some("came with Linux 6.6")));
}
