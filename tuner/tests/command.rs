//! The verbs that look, as a user sees them, on trees that look like hosts of several ages.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod trees;

use std::fs;

use trees::{KERNELS, KUMOMTA, finding, host, report, set, told, tuner, verdict, write};

/// Whether every part of `new` is at least the part of `old` in its place.
fn is_no_less(old: &str, new: &str) -> bool {
    let numbers =
        |text: &str| text.split_whitespace().map(|part| part.parse::<u128>().unwrap()).collect::<Vec<_>>();
    let (old, new) = (numbers(old), numbers(new));
    old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| new >= old)
}

#[test]
fn on_no_kernel_is_a_value_made_worse() {
    for kernel in KERNELS {
        for extra in [&[][..], &["--eager"]] {
            let root = host(kernel);
            let arguments = [&["plan", "--json", "-", "--connections", "200000"], extra].concat();
            let report = report(&tuner(&root, &arguments));
            let mut changes = 0;
            for finding in report["findings"].as_array().unwrap() {
                let (key, current) = (finding["key"].as_str().unwrap(), finding["current"].as_str().unwrap());
                let Some(target) = finding["target"].as_str() else { continue };
                changes += 1;
                match key {
                    "net.ipv4.ip_local_port_range" => assert_eq!(target, "10240 65535"),
                    "net.ipv4.ip_local_reserved_ports" => assert_eq!(target, "11211"),
                    "net.ipv4.tcp_slow_start_after_idle" => assert_eq!(target, "0"),
                    "net.ipv4.tcp_tw_reuse" => assert_eq!(target, "1"),
                    "vm.swappiness" => assert_eq!(target, "10"),
                    _ if key.starts_with("RLIMIT") => {}
                    _ => assert!(is_no_less(current, target), "{kernel}: {key}: {current} -> {target}"),
                }
            }
            assert!(changes >= 5, "{kernel}: {changes} changes");
        }
    }
}

#[test]
fn the_defaults_of_each_age_are_judged_by_what_they_are() {
    let verdicts = |kernel: &str| {
        let report = report(&tuner(&host(kernel), &["--json", "-"]));
        let keys = [
            "net.core.somaxconn",
            "net.core.rmem_max",
            "net.ipv4.tcp_rmem",
            "kernel.io_uring_disabled",
            "io_uring",
        ];
        keys.map(|key| verdict(&report, key).to_owned())
    };
    assert_eq!(verdicts(KERNELS[0]), ["low", "not_needed", "ok", "absent", "unknown"]);
    assert_eq!(verdicts(KERNELS[1]), ["low", "not_needed", "ok", "absent", "unknown"]);
    assert_eq!(verdicts(KERNELS[2]), ["ok", "not_needed", "kept", "absent", "unknown"]);
    assert_eq!(verdicts(KERNELS[3]), ["ok", "not_needed", "kept", "absent", "unknown"]);
    assert_eq!(verdicts(KERNELS[4]), ["ok", "ok", "kept", "info", "ok"]);
}

#[test]
fn kumomtas_values_are_raised_where_they_hurt() {
    for kernel in KERNELS {
        let root = host(kernel);
        for (key, value) in KUMOMTA {
            set(&root, key, value);
        }
        let report = report(&tuner(&root, &["plan", "--json", "-"]));
        let target = |key: &str| finding(&report, key)["target"].as_str().map(str::to_owned);
        assert_eq!(target("net.core.rmem_default").as_deref(), Some("212992"), "{kernel}");
        assert_eq!(target("net.core.wmem_default").as_deref(), Some("212992"), "{kernel}");
        assert_eq!(target("net.core.somaxconn").as_deref(), Some("4096"), "{kernel}");
        assert_eq!(target("fs.file-max").as_deref(), Some("1048576"), "{kernel}");
        assert_eq!(target("net.ipv4.ip_local_port_range").as_deref(), Some("5000 65535"), "{kernel}");
        assert_eq!(verdict(&report, "vm.max_map_count"), "kept", "{kernel}");
        let newest = kernel.starts_with("6.18");
        assert_eq!(target("net.core.rmem_max").as_deref(), newest.then_some("4194304"), "{kernel}");
    }
}

#[test]
fn kumomtas_values_are_refused_as_wishes_where_they_would_lower() {
    let root = host(KERNELS[4]);
    // Newer distributions set more than the page asks for.
    set(&root, "vm.max_map_count", "1048576");
    let page: String = KUMOMTA.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    write(&root, "page.conf", &page);
    let file = root.path().join("page.conf");
    let output = tuner(&root, &["plan", "--json", "-", "--wishes", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(5));
    let report = report(&output);
    for (key, _) in KUMOMTA {
        let wish = &finding(&report, key)["wish"];
        assert_eq!(wish["taken"], key == "kernel.shmmni", "{key}: {wish}");
        assert!(!wish["reason"].as_str().unwrap().is_empty(), "{key}");
    }
    assert_eq!(verdict(&report, "fs.file-max"), "kept");
}

#[test]
fn every_report_follows_the_committed_schema() {
    let root = host(KERNELS[3]);
    let schema = tuner(&root, &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let runs: [&[&str]; 4] = [
        &["check", "--json", "-"],
        &["plan", "--json", "-", "--eager", "--set", "net.core.somaxconn=1"],
        &["explain", "fs.file-max", "--json", "-"],
        &["check", "--profile", "sink", "--json", "-"],
    ];
    for arguments in runs {
        let report = report(&tuner(&root, arguments));
        let problems: Vec<_> = validator.iter_errors(&report).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{arguments:?}: {problems:?}");
    }
}

#[test]
fn exit_codes_tell_whether_something_is_to_be_done() {
    let root = host(KERNELS[3]);
    let code = |arguments: &[&str]| tuner(&root, arguments).status.code();
    assert_eq!(code(&["check"]), Some(3));
    assert_eq!(code(&["check", "--only", "net.core.somaxconn"]), Some(0));
    assert_eq!(code(&["check", "--only", "net.ipv4", "--skip", "net.ipv4"]), Some(0));
    assert_eq!(code(&["check", "--only", "net.core.somaxcon"]), Some(2));
    assert_eq!(code(&["check", "--profile", "router"]), Some(2));
    assert_eq!(code(&["check", "--spool", "/no/such"]), Some(2));
    assert_eq!(code(&["check", "--set", "net.core.somaxconn=1", "--only", "net.core.somaxconn"]), Some(5));
    assert_eq!(code(&["check", "--json", "/proc/no-such-directory/report.json"]), Some(1));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(tuner(&empty, &["check"]).status.code(), Some(2));
}

#[test]
fn a_plan_says_what_one_should_know_before_a_change() {
    let root = host(KERNELS[0]);
    let text = told(&tuner(&root, &["plan", "--only", "net.core.somaxconn"]));
    for line in [
        "net.core.somaxconn: 128 -> 4096\n",
        "  source:   https://docs.kernel.org/",
        "  reaches:  the network namespace; can be changed from here\n",
        "  evidence: listen_overflows 0, listen_drops 0\n",
        "1 to change, 0 stay as they are\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn explain_tells_the_source_and_names_what_it_knows() {
    let root = host(KERNELS[3]);
    let text = told(&tuner(&root, &["explain", "fs.file-max"]));
    assert!(text.contains("source:   https://docs.kernel.org/"), "{text}");
    assert!(text.contains("KumoMTA:  250000, elsewhere 65535: a lowering"), "{text}");
    let output = tuner(&root, &["explain", "net.core.somaxcon"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("no rule is called `net.core.somaxcon`; there are: RLIMIT_NOFILE, "));
}

#[test]
fn io_uring_gives_its_reason_and_asks_for_no_change() {
    let root = host(KERNELS[4]);
    set(&root, "kernel.io_uring_disabled", "1");
    set(&root, "kernel.io_uring_group", "105");
    let output = tuner(&root, &["check", "--only", "io_uring"]);
    assert_eq!(output.status.code(), Some(0));
    let text = told(&output);
    assert!(text.contains("if you want it: "), "{text}");
    let text = told(&tuner(&root, &["explain", "io_uring"]));
    assert!(text.contains("only processes with CAP_SYS_ADMIN or of group id 105"), "{text}");
    set(&root, "kernel.io_uring_disabled", "0");
    write(&root, "proc/self/status", "Name:\ttuner\nSeccomp:\t2\n");
    let text = told(&tuner(&root, &["explain", "io_uring"]));
    assert!(text.contains("a seccomp filter is in force"), "{text}");
}

#[test]
fn profiles_have_rules_of_their_own() {
    let root = host(KERNELS[3]);
    let list = told(&tuner(&root, &["profile", "list"]));
    assert!(["mta", "sink", "traffic-gen", "proxy"].iter().all(|name| list.contains(name)), "{list}");
    let range = "net.ipv4.ip_local_port_range";
    assert!(told(&tuner(&root, &["profile", "show", "mta"])).contains(range));
    assert!(!told(&tuner(&root, &["profile", "show", "sink"])).contains(range));
    let large = told(&tuner(&root, &["profile", "show", "mta", "--connections", "600000"]));
    assert!(large.contains("at least 4194304"), "{large}");
}

#[test]
fn the_report_goes_to_a_file_beside_the_table() {
    let root = host(KERNELS[3]);
    let file = root.path().join("report.json");
    let output = tuner(&root, &["check", "--json", file.to_str().unwrap()]);
    assert!(told(&output).starts_with("condition "));
    assert!(!told(&output).contains('\x1b'), "colour without a terminal");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(report["changes_needed"], true);
}

#[test]
fn a_terminal_gets_colour_unless_it_is_refused() {
    let root = host(KERNELS[3]);
    let on_terminal = |variables: &[(&str, &str)]| {
        let tuner = format!("{} check --root {}", env!("CARGO_BIN_EXE_tuner"), root.path().display());
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &tuner, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm");
        command.envs(variables.iter().copied()).stdin(std::process::Stdio::null()).output()
    };
    let Ok(output) = on_terminal(&[]) else {
        eprintln!("skipped: script (bsdutils) is not installed");
        return;
    };
    assert!(told(&output).contains("\x1b[31mlow"), "{}", told(&output));
    for refusal in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let output = on_terminal(&[refusal]).unwrap();
        assert!(told(&output).contains("  low") && !told(&output).contains('\x1b'), "{}", told(&output));
    }
    let output = on_terminal(&[("NO_COLOR", "")]).unwrap();
    assert!(told(&output).contains("\x1b[31mlow"), "an empty NO_COLOR asks for nothing");
}

#[test]
fn a_short_measurement_follows_its_schema_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tuner"));
    command.args(["measure", "--seconds", "0.02", "--body-size", "1000,20000", "--json", "-", "--spool"]);
    command.arg(directory.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let measured = report(&output);
    let schema = tuner(&host(KERNELS[3]), &["schema", "--measure"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<_> = validator.iter_errors(&measured).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
    assert!(
        measured["ceilings"].as_array().unwrap().iter().all(|ceiling| ceiling["mmh"].as_f64().unwrap() > 0.0)
    );
    let sizes: Vec<_> = measured["ceilings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ceiling| ceiling["body_bytes"].as_u64())
        .collect();
    assert_eq!(sizes, [Some(1000), Some(20_000)]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_look_at_the_running_host_starts_no_process() {
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("log");
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=execve,execveat,fork,vfork,clone,clone3", "-o"]).arg(&log);
    let output = command.args([env!("CARGO_BIN_EXE_tuner"), "check", "--all"]).output();
    let calls = fs::read_to_string(&log).unwrap_or_default();
    if output.is_err() || !calls.contains("execve(") {
        eprintln!("skipped: strace is missing or may not trace here");
        return;
    }
    assert_eq!(calls.matches("execve").count(), 1, "{calls}");
    // A thread is no process.
    let processes =
        |line: &&str| line.contains("fork(") || (line.contains("clone") && !line.contains("CLONE_THREAD"));
    let started: Vec<&str> = calls.lines().filter(processes).collect();
    assert!(started.is_empty(), "{started:?}");
}

#[test]
fn measure_refuses_what_it_cannot_measure() {
    let root = host(KERNELS[3]);
    assert_eq!(tuner(&root, &["measure"]).status.code(), Some(2));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tuner"));
    let output = command.args(["measure", "--seconds", "900", "--spool", "/tmp"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("900 is not between"), "{}", told(&output));
    for (sizes, complaint) in
        [("0", "0 is not between 1 and"), ("2000000", "2000000 is not"), ("1,2,3,4,5,6,7", "at most 6")]
    {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tuner"));
        let output = command.args(["measure", "--body-size", sizes, "--spool", "/tmp"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(told(&output).contains(complaint), "{}", told(&output));
    }
}

#[test]
fn the_manual_knows_every_rule_and_nothing_that_is_none() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tuning.md");
    let manual = fs::read_to_string(manual).unwrap();
    let table = manual.split("## Rules").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut documented: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut known: Vec<&str> = tuner::rule::built_in().iter().map(|rule| rule.key.as_str()).collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
}
