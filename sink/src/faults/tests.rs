//! The language as its writers meet it, and the asking.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use message::traffic::{RunId, TrafficHeader};
use serde_json::{Value, json};

use super::live::Live;
use super::meant::ACTIONS;
use super::written::{RuleSet, json_value, toml_value};
use super::{Dialogue, RULES_MAX, Stage};

/// A good value of each action.
fn example(kind: &str) -> Value {
    match kind {
        "reply" => json!({ "reply": "450 4.2.1 Busy" }),
        "delay" => json!({ "delay": "10ms" }),
        "stall" => json!({ "stall": "forever" }),
        "tarpit" | "slow_reader" => json!({ kind: { "bytes_per_s": 10 } }),
        "garbage" => json!({ "garbage": { "bytes": 10 } }),
        "say" => json!({ "say": { "text": "250-x" } }),
        "bad_tls" => json!({ "bad_tls": "expired" }),
        "greylist" => json!({ "greylist": { "seconds": 10 } }),
        "messages_max" => json!({ "messages_max": { "messages": 10 } }),
        "connections_max" => json!({ "connections_max": { "connections": 10 } }),
        "rate_limit" => json!({ "rate_limit": { "per_minute": 10, "burst": 10 } }),
        "bounce" => json!({ "bounce": {} }),
        _ => json!(kind),
    }
}

fn read(rule: Value) -> Result<RuleSet, String> {
    let file = serde_json::to_vec(&json!({ "rule": [rule] })).unwrap();
    RuleSet::from_json(&file).map_err(|error| error.to_string())
}

fn live(toml: &str, seed: u64) -> Arc<Live> {
    Arc::new(Live::new(RuleSet::from_toml(toml).unwrap(), false, seed, None).unwrap())
}

fn dialogue(live: &Arc<Live>, connection: u64) -> Dialogue {
    Dialogue::new(live, IpAddr::from([192, 0, 2, 7]), connection)
}

#[test]
fn an_action_is_accepted_where_the_table_says_and_nowhere_else() {
    for (kind, accepted) in ACTIONS {
        for stage in Stage::ALL {
            let result = read(json!({ "name": "here", "stage": stage, "action": example(kind) }));
            assert_eq!(result.is_ok(), accepted.contains(&stage), "{kind} at {stage}: {result:?}");
            if let Err(error) = result {
                for part in ["rule \"here\"", &format!("action {kind}"), &format!("stage {stage}")] {
                    assert!(error.contains(part), "{error} does not name {part}");
                }
                assert!(error.contains(accepted[0].name()), "{error} does not say what would do");
            }
        }
    }
}

#[test]
fn what_is_wrong_is_named_with_its_rule_and_what_would_do() {
    let table = [
        (json!({ "stage": "mail", "action": "drop" }), &["#1", "name"][..]),
        (
            json!({ "name": "n", "stage": "mial", "action": "drop" }),
            &["\"n\"", "mial", "did you mean `mail`?"],
        ),
        (
            json!({ "name": "n", "stage": "mail", "action": "drop", "probabilty": 1 }),
            &["\"n\"", "did you mean `probability`?"],
        ),
        (json!({ "name": "n", "stage": "mail", "action": "dropp" }), &["did you mean `drop`?"]),
        (
            json!({ "name": "n", "stage": "mail", "action": "drop", "match": { "sendr": "x" } }),
            &["did you mean `sender`?"],
        ),
        (json!({ "name": "n", "stage": "mail", "action": "drop", "probability": 1.5 }), &["1.5", "0 to 1"]),
        (
            json!({ "name": "n", "stage": "mail", "action": "drop", "match": { "domain": "x" } }),
            &["match.domain", "stage mail", "rcpt"],
        ),
        (
            json!({ "name": "n", "stage": "mail", "action": "drop", "match": { "client": "1.2.3" } }),
            &["1.2.3", "192.0.2.0/24"],
        ),
        (json!({ "name": "n", "stage": "mail", "action": { "reply": "hello" } }), &["hello", "450 4.2.1"]),
        (json!({ "name": "n", "stage": "mail", "action": { "reply": "450 5.2.1 x" } }), &["5.2.1", "450"]),
        (json!({ "name": "n", "stage": "mail", "action": { "reply": "354 x" } }), &["354", "4xx or 5xx"]),
        (json!({ "name": "n", "stage": "data", "action": { "reply": "250 x" } }), &["250", "stage data"]),
        (json!({ "name": "n", "stage": "mail", "action": { "delay": "1" } }), &["\"1\"", "200ms"]),
        (
            json!({ "name": "n", "stage": "body", "action": { "slow_reader": { "bytes_per_s": 0 } } }),
            &["from 1"],
        ),
        (json!({ "name": "", "stage": "mail", "action": "drop" }), &["name"]),
        (
            json!({ "name": "n", "stage": "rcpt", "action": { "greylist": { "seconds": 1, "reply": "250 x" } } }),
            &["has to refuse"],
        ),
        (
            json!({ "name": "n", "stage": "mail", "action": "drop", "match": { "message": { "from": 3, "to": 2 } } }),
            &["match.message"],
        ),
        (
            json!({ "name": "n", "stage": "mail", "action": "drop", "match": { "window": { "from_s": 3, "to_s": 3 } } }),
            &["match.window"],
        ),
    ];
    for (rule, parts) in table {
        let error = read(rule.clone()).expect_err(&rule.to_string());
        for part in parts {
            assert!(error.contains(part), "{rule}: {error} lacks {part}");
        }
    }
    let toml = RuleSet::from_toml("[[rule]\nname").unwrap_err().to_string();
    assert!(toml.contains("line 1"), "{toml}");
    assert!(RuleSet::from_toml("[[rules]]\nname = \"n\"").unwrap_err().to_string().contains("`rule`"));
    let rule = json!({ "name": "n", "stage": "mail", "action": "drop" });
    let twice = serde_json::to_vec(&json!({ "rule": [rule, rule] })).unwrap();
    assert!(RuleSet::from_json(&twice).unwrap_err().to_string().contains("two rules"));
    let many: Vec<Value> = (0..=RULES_MAX)
        .map(|number| json!({ "name": number.to_string(), "stage": "mail", "action": "drop" }))
        .collect();
    let many = serde_json::to_vec(&json!({ "rule": many })).unwrap();
    assert!(RuleSet::from_json(&many).unwrap_err().to_string().contains("1024"));
}

#[test]
fn what_is_shown_can_be_read_again() {
    for (kind, accepted) in ACTIONS {
        let set = read(json!({
            "name": kind, "stage": accepted[0], "action": example(kind), "limit": 3,
            "match": { "client": ["192.0.2.0/24", "::1"], "window": { "from_s": 1, "to_s": 2 } },
        }));
        let set = set.unwrap();
        let shown = json!({ "rule": set.as_values(), "hits": {} });
        assert_eq!(RuleSet::from_value(shown).unwrap(), set);
    }
}

#[test]
fn merging_keeps_what_is_left_out() {
    let set = RuleSet::from_toml(
        r#"
        [[rule]]
        name = "a"
        stage = "rcpt"
        match = { domain = "x.test", local_part = "u*" }
        probability = 0.5
        action.rate_limit = { per_minute = 60, burst = 5 }
        [[rule]]
        name = "b"
        stage = "mail"
        action = "drop"
        "#,
    )
    .unwrap();
    let patch = br#"{ "rule": [
        { "name": "a", "match": { "local_part": null }, "action": { "rate_limit": { "burst": 9 } } },
        { "name": "b", "action": { "delay": "1s" } },
        { "name": "c", "stage": "quit", "action": "reset" }
    ] }"#;
    let merged = set.merged(json_value(patch).unwrap()).unwrap();
    assert_eq!(
        json!(merged.as_values()),
        json!([
            { "name": "a", "stage": "rcpt", "match": { "domain": "x.test" }, "probability": 0.5,
              "action": { "rate_limit": { "per_minute": 60.0, "burst": 9 } } },
            { "name": "b", "stage": "mail", "action": { "delay": "1s" } },
            { "name": "c", "stage": "quit", "action": "reset" },
        ])
    );
    let error = set.merged(json_value(br#"{ "rule": [{ "name": "b", "stage": "body" }] }"#).unwrap());
    assert!(error.is_ok());
    let error = set.merged(json_value(br#"{ "rule": [{ "name": "new" }] }"#).unwrap()).unwrap_err();
    assert_eq!(error.rule(), Some("new"));
}

#[test]
fn merging_goes_on_counting_and_replacing_does_not() {
    let file = "[[rule]]\nname = \"a\"\nstage = \"noop\"\naction = \"drop\"\nlimit = 2\n";
    let live = live(file, 1);
    let acts = |live: &Arc<Live>| dialogue(live, 1).ask(Stage::Noop).last.is_some();
    assert!(acts(&live));
    live.merge(toml_value("[[rule]]\nname = \"a\"\nprobability = 1.0").unwrap()).unwrap();
    assert_eq!(live.report()["hits"]["a"], 1);
    assert_eq!([acts(&live), acts(&live)], [true, false], "the limit counts on");
    live.replace(toml_value(file).unwrap()).unwrap();
    assert_eq!(live.report()["hits"]["a"], 0);
    assert!(acts(&live));
    let before = live.revision();
    assert!(live.replace(json!({ "rule": [{ "name": "a" }] })).is_err());
    assert!(live.revision() == before && acts(&live), "what is wrong changes nothing");
}

#[test]
fn conditions_hold_for_what_they_say() {
    let rules = r#"
        [[rule]]
        name = "client"
        stage = "mail"
        match.client = ["10.0.0.0/8", "192.0.2.7"]
        match.message = 2
        action.reply = "450 4.0.1 client"
        [[rule]]
        name = "helo"
        stage = "mail"
        match = { helo = "*.bad.test", tls = false, message = { every = 3 } }
        action.reply = "450 4.0.2 helo"
        [[rule]]
        name = "sender"
        stage = "mail"
        match.sender = "<>"
        action.reply = "450 4.0.3 sender"
        [[rule]]
        name = "domain"
        stage = "rcpt"
        match = { domain = ["A.test", "b.test"], local_part = "u*" }
        action.reply = "450 4.0.4 domain"
        [[rule]]
        name = "any recipient"
        stage = "final_dot"
        match = { domain = "b.test", local_part = "v" }
        action.reply = "450 4.0.5 recipient"
    "#;
    let live = live(rules, 1);
    let mut dialogue = dialogue(&live, 1);
    let rules = dialogue.rules();
    let name = |dialogue: &mut Dialogue, stage| {
        let reply = dialogue.ask(stage).last.and_then(|acting| acting.action(&rules).reply().cloned());
        reply.map(|reply| reply.text.into_owned())
    };
    dialogue.note_helo("mx.bad.test");
    let mut at_mail = Vec::new();
    for sender in ["s", "s", "s", "", "s"] {
        dialogue.note_mail(sender, if sender.is_empty() { "" } else { "x.test" });
        at_mail.push(name(&mut dialogue, Stage::Mail));
    }
    let expected = [None, Some("client"), Some("helo"), Some("sender"), None];
    assert_eq!(at_mail, expected.map(|name| name.map(str::to_owned)));
    dialogue.note_tls();
    dialogue.note_mail("s", "x.test");
    assert_eq!(name(&mut dialogue, Stage::Mail), None, "the sixth message, but in TLS");
    let mut at_rcpt = Vec::new();
    for (local, domain) in [("u1", "a.TEST"), ("v", "b.test"), ("u", "c.test"), ("u", "b.test")] {
        dialogue.note_recipient(local, domain);
        at_rcpt.push(name(&mut dialogue, Stage::Rcpt).is_some());
    }
    assert_eq!(at_rcpt, [true, false, false, true]);
    assert_eq!(name(&mut dialogue, Stage::FinalDot).as_deref(), Some("recipient"));
    dialogue.note_mail("s", "x.test");
    dialogue.note_recipient("u", "b.test");
    dialogue.note_recipient("v", "c.test");
    assert_eq!(name(&mut dialogue, Stage::FinalDot), None, "both have to be of one recipient");
}

#[tokio::test(start_paused = true)]
async fn a_window_opens_and_closes() {
    let rules = "[[rule]]\nname = \"a\"\nstage = \"noop\"\naction = \"drop\"\nmatch.window = { from_s = 10, to_s = 20 }\n";
    let live = live(rules, 1);
    let mut dialogue = dialogue(&live, 1);
    let mut acted = Vec::new();
    for _ in 0..3 {
        acted.push(dialogue.ask(Stage::Noop).last.is_some());
        tokio::time::advance(std::time::Duration::from_secs(10)).await;
    }
    assert_eq!(acted, [false, true, false]);
}

#[test]
fn slow_ones_add_up_and_the_first_other_ends_the_asking() {
    let rules = r#"
        [[rule]]
        name = "a"
        stage = "mail"
        action.delay = "1s"
        [[rule]]
        name = "b"
        stage = "mail"
        action.tarpit = { bytes_per_s = 5 }
        [[rule]]
        name = "c"
        stage = "mail"
        action.delay = "500ms"
        [[rule]]
        name = "d"
        stage = "mail"
        action = "drop"
        [[rule]]
        name = "e"
        stage = "mail"
        action.delay = "1h"
    "#;
    let live = live(rules, 1);
    let found = dialogue(&live, 1).ask(Stage::Mail);
    assert_eq!(found.delay, std::time::Duration::from_millis(1_500));
    assert_eq!((found.tarpit_bytes_per_s, found.last.is_some()), (Some(5), true));
    assert_eq!(live.report()["hits"], json!({ "a": 1, "b": 1, "c": 1, "d": 1, "e": 0 }));
}

/// Which of the first thousand decisions act.
fn decisions(live: &Arc<Live>, connection: u64) -> Vec<bool> {
    let mut dialogue = dialogue(live, connection);
    (0..1_000).map(|_| dialogue.ask(Stage::Noop).last.is_some()).collect()
}

#[test]
fn chance_depends_on_seed_rule_and_connection_and_on_nothing_else() {
    let rule = |name: &str| {
        format!("[[rule]]\nname = \"{name}\"\nstage = \"noop\"\nprobability = 0.1\naction = \"drop\"\n")
    };
    let first = decisions(&live(&rule("a"), 7), 1);
    let hits = first.iter().filter(|acted| **acted).count();
    assert!((70..130).contains(&hits), "{hits}");
    let with_others = format!("{}{}", rule("a"), rule("b").replace("noop", "mail"));
    let other_rules = live(&with_others, 7);
    let mut other = dialogue(&other_rules, 2);
    other.ask(Stage::Noop);
    assert_eq!(first, decisions(&other_rules, 1), "neither other rules nor other connections matter");
    assert_ne!(first, decisions(&live(&rule("a"), 8), 1), "the seed does");
    assert_ne!(first, decisions(&live(&rule("a"), 7), 2), "the connection does");
    assert_ne!(first, decisions(&live(&rule("b"), 7), 1), "the name does");
}

#[test]
fn what_an_audit_has_to_find_goes_by_the_message_whoever_brings_it() {
    let live =
        live("[[rule]]\nname = \"a\"\nstage = \"final_dot\"\nprobability = 0.01\naction = \"lose\"\n", 7);
    let lost = |connections: u64| -> BTreeSet<u64> {
        let mut dialogues: Vec<Dialogue> = (0..connections).map(|number| dialogue(&live, number)).collect();
        let lost = (0..10_000).filter(|&seq| {
            let dialogue = &mut dialogues[usize::try_from(seq % connections).unwrap()];
            let run = RunId::new("r").unwrap();
            dialogue.note_message(Some(&TrafficHeader { run, conn: 0, seq, sent_ns: 0, crc: 0 }));
            dialogue.ask(Stage::FinalDot).last.is_some()
        });
        lost.collect()
    };
    let one = lost(1);
    assert!((60..140).contains(&one.len()), "{}", one.len());
    assert_eq!(one, lost(7));
}

#[test]
fn magic_answers_what_the_address_asks_for() {
    let live = Arc::new(Live::new(RuleSet::default(), true, 1, None).unwrap());
    let mut dialogue = dialogue(&live, 1);
    let rules = dialogue.rules();
    dialogue.note_mail("s", "x.test");
    let mut code = |local: &str| {
        dialogue.note_recipient(local, "x.test");
        let acting = dialogue.ask(Stage::Rcpt).last?;
        let reply = acting.action(&rules).reply().cloned().or_else(|| super::asked_for(local))?;
        Some(reply.code)
    };
    assert_eq!(
        ["tempfail", "a-PermFail-b", "451-x", "550-no", "250-ok", "joe"].map(&mut code),
        [Some(450), Some(550), Some(451), Some(550), None, None]
    );
}

#[test]
fn the_table_in_the_documentation_is_true() {
    let page = include_str!("../../../docs/sink.md");
    for (kind, accepted) in ACTIONS {
        let row = format!("| `{kind}` | {} |", super::stage::names(accepted));
        assert!(page.lines().any(|line| line == row), "docs/sink.md lacks {row}");
    }
    for persona in super::Persona::all() {
        assert!(page.contains(&format!("| `{}` |", persona.name())), "docs/sink.md lacks {}", persona.name());
    }
    let example = page.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(RuleSet::from_toml(example).unwrap().len(), 3);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(words in proptest::collection::vec(0usize..WORDS.len(), 0..24)) {
        let text: String = words.into_iter().map(|word| WORDS[word]).collect();
        if let Ok(set) = RuleSet::from_toml(&text) {
            let shown = json!({ "rule": set.as_values() });
            proptest::prop_assert_eq!(RuleSet::from_value(shown).unwrap(), set);
        }
    }
}

/// What files of rules are made of, and some that they are not.
const WORDS: [&str; 26] = [
    "[[rule]]\n",
    "name = \"a\"\n",
    "name = \"b\"\n",
    "stage = \"rcpt\"\n",
    "stage = \"body\"\n",
    "stage = \"final_dot\"\n",
    "match.domain = \"*.x\"\n",
    "match.message = { every = 3 }\n",
    "match.message = 0\n",
    "match.window = { from_s = 1 }\n",
    "match = 1\n",
    "probability = 0.5\n",
    "probability = nan\n",
    "limit = 1\n",
    "limit = -1\n",
    "action = \"drop\"\n",
    "action.reply = \"450 4.2.1 Busy\"\n",
    "action.reply = \"45\\u00e9 x\"\n",
    "action.delay = \"pareto:1ms:0.01\"\n",
    "action.delay = \"uniform:1s-\\u00b5s\"\n",
    "action.garbage = { bytes = 99999999999 }\n",
    "action.say = { text = \"\", times = 99999999999 }\n",
    "action.say = { text = \"25\", then = \"sing\" }\n",
    "action.rate_limit = { per_minute = inf, burst = 1 }\n",
    "\"\"\"\n",
    "= [{",
];
