//! Comparisons as a user sees them, with a fake laboratory: a script that answers by the value in force on a tree.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod trees;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use reports::machine::Machine;
use reports::run::{Kind, ProcessUse, Record, Run, SCHEMA_VERSION, counter};
use reports::software::Software;
use tempfile::TempDir;
use trees::{KERNELS, host, report, told, tuner, write};

const KEY: &str = "net.core.somaxconn";
const DROP_IN: &str = "etc/sysctl.d/60-kumod.conf";
const HUGE_PAGES: &str = "sys/kernel/mm/transparent_hugepage/enabled";

/// What the fake laboratory does: shell, with the value in force in `$value`, the number of the run from 1 in `$n`, and
/// a little noise that differs from run to run in `$noise`. It sets the rate in hundredths of an MMH, `$rate`.
struct FakeLab {
    tree: TempDir,
    files: TempDir,
}

impl FakeLab {
    fn on(tree: TempDir, value_file: &str, answer: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let lab = Self { tree, files };
        fs::write(lab.files.path().join("record.json"), record()).unwrap();
        let script = format!(
            r#"#!/bin/sh
# lab --once --seconds S --body-size B --results DIR
files={files}
echo "$@" >> "$files/asked"
n=$(wc -l < "$files/asked")
value=$(cat {tree}/{value_file})
noise=$((n * 7919 % 41))
results=$7
stolen=0; lost=0
{answer}
folder="$results/run-$n"
mkdir -p "$folder"
sed -e "s/11.11/$((rate / 100)).$(printf %02d $((rate % 100)))/" -e "s/22.22/$stolen/" \
    -e "s/\"run-id\"/\"run-$n\"/" -e "s/\"lost\": 0/\"lost\": $lost/" "$files/record.json" > "$folder/run.json"
echo "a table"
echo "$folder"
test $lost = 0
"#,
            files = lab.files.path().display(),
            tree = lab.tree.path().display(),
        );
        fs::write(lab.program(), script).unwrap();
        fs::set_permissions(lab.program(), fs::Permissions::from_mode(0o755)).unwrap();
        lab
    }

    /// On a host whose accept queue has the short default of an old kernel.
    fn of(answer: &str) -> Self {
        Self::on(host(KERNELS[0]), "proc/sys/net/core/somaxconn", answer)
    }

    fn program(&self) -> std::path::PathBuf {
        self.files.path().join("lab")
    }

    fn ab(&self, arguments: &[&str]) -> Output {
        let (program, results) = (self.program(), self.files.path().join("results"));
        let own = ["ab", "--lab", program.to_str().unwrap(), "--results", results.to_str().unwrap()];
        tuner(&self.tree, &[&own, arguments].concat())
    }

    fn value(&self) -> String {
        fs::read_to_string(self.tree.path().join("proc/sys/net/core/somaxconn")).unwrap()
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.files.path().join("asked")).unwrap_or_default().lines().count()
    }

    /// No drop-in, no trace of a change in `etc`, and the value as it was.
    fn is_as_before(&self) -> bool {
        self.value() == "128\n" && fs::read_dir(self.tree.path().join("etc/sysctl.d")).unwrap().count() == 0
    }
}

/// A record with marks where the script puts its numbers.
fn record() -> String {
    let mut run = Run {
        name: "kumod-10k".into(),
        kind: Kind::Kumod,
        body_bytes: 10_000,
        durability: Some("commit".into()),
        delivered: 100_000,
        accepted: 100_000,
        elapsed_s: 10.0,
        mmh_delivered: 11.11,
        ..Run::default()
    };
    run.tier.cpus = 2.0;
    run.processes.kumod = Some(ProcessUse { cpu_s: 5.0, ..ProcessUse::default() });
    run.counters.insert(counter::STEAL_S.into(), 22.22);
    let record = Record {
        schema_version: SCHEMA_VERSION,
        run_id: "run-id".into(),
        suite: "once".into(),
        started_utc: String::new(),
        finished_utc: None,
        command: String::new(),
        machine: Machine::default(),
        software: Software::default(),
        tuner: Vec::new(),
        runs: vec![run],
        skipped: Vec::new(),
        notes: Vec::new(),
    };
    serde_json::to_string_pretty(&record).unwrap()
}

const BETTER: &str = "rate=$((4000 + noise)); if [ $value = 4096 ]; then rate=$((rate + 400)); fi";

#[test]
fn a_gain_that_is_proved_is_kept_now_and_at_boot_and_revert_takes_it_back() {
    let lab = FakeLab::of(BETTER);
    let output = lab.ab(&["--keys", KEY]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(lab.runs(), 20);
    assert_eq!(lab.value(), "4096\n");
    let drop_in = fs::read_to_string(lab.tree.path().join(DROP_IN)).unwrap();
    assert!(drop_in.contains("net.core.somaxconn = 4096\n"), "{drop_in}");
    let text = told(&output);
    assert!(text.contains("pair 10 of 10: "), "{text}");
    assert!(text.contains("net.core.somaxconn  128     4096   kept\n"), "{text}");
    assert!(text.contains("\nkept: Delivered is better: +"), "{text}");
    assert_eq!(tuner(&lab.tree, &["verify"]).status.code(), Some(0));
    assert_eq!(tuner(&lab.tree, &["revert"]).status.code(), Some(0));
    assert!(lab.is_as_before());
}

#[test]
fn the_runs_of_a_comparison_are_where_reports_reads_them() {
    let lab = FakeLab::of(BETTER);
    let output = lab.ab(&["--keys", KEY, "--json", "-", "--seconds", "3", "--body-size", "1k"]);
    let result = report(&output);
    let asked = fs::read_to_string(lab.files.path().join("asked")).unwrap();
    let sides: Vec<&str> = asked.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(sides[..6], ["before", "after", "after", "before", "before", "after"]);
    assert!(asked.starts_with("--once --seconds 3 --body-size 1k --results "), "{asked}");
    let folder = std::path::Path::new(result["folder"].as_str().unwrap());
    for side in ["before", "after"] {
        let read = reports::results::Results::gather(&[folder.join(side)]);
        let pairs: Vec<_> = read.runs().map(|(_, run)| run.labels["pair"].parse::<u32>().unwrap()).collect();
        assert_eq!(pairs.iter().sum::<u32>(), 55, "{side}: {pairs:?}");
    }
}

#[test]
fn a_result_follows_the_committed_schema() {
    let lab = FakeLab::of(BETTER);
    let result = report(&lab.ab(&["--keys", KEY, "--json", "-"]));
    let schema = tuner(&lab.tree, &["schema", "--ab"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<_> = validator.iter_errors(&result).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(result["kept"], true);
    assert_eq!(result["metrics"][0]["metric"], "mmh");
    assert_eq!(result["metrics"][0]["judgement"], "better");
}

#[test]
fn what_is_worse_the_same_or_undecided_is_put_back_with_the_reason() {
    let worse = "rate=$((4000 + noise)); if [ $value = 4096 ]; then rate=$((rate - 400)); fi";
    let wild = "rate=$((4000 + n * 7919 % 41 * 50)); if [ $value = 4096 ]; then rate=$((rate + 100)); fi";
    for (answer, reason) in [
        (worse, "put back: Delivered is worse: -"),
        ("rate=$((40000 + noise))", "put back: it makes no difference that matters"),
        (wild, "put back: undecided: interval and rank test do not prove it together; more pairs"),
    ] {
        let lab = FakeLab::of(answer);
        let output = lab.ab(&["--keys", KEY, "--metric", "mmh"]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert!(told(&output).contains(reason), "{reason}\n{}", told(&output));
        assert!(lab.is_as_before(), "{reason}");
        assert_eq!(
            tuner(&lab.tree, &["revert"]).status.code(),
            Some(1),
            "there is nothing left to take back"
        );
    }
}

#[test]
fn a_gain_is_only_told_where_that_was_asked_for() {
    let lab = FakeLab::of(BETTER);
    let text = told(&lab.ab(&["--keys", KEY, "--no-keep"]));
    assert!(text.contains("put back: as asked, although Delivered is better"), "{text}");
    assert!(lab.is_as_before());
    let output = lab.ab(&["--keys", KEY, "--runtime-only"]);
    assert!(told(&output).contains("the next boot forgets it"), "{}", told(&output));
    assert_eq!(lab.value(), "4096\n");
    assert!(!lab.tree.path().join(DROP_IN).exists());
}

#[test]
fn a_gain_smaller_than_asked_for_is_not_kept() {
    let lab = FakeLab::of(BETTER);
    let text = told(&lab.ab(&["--keys", KEY, "--gain", "20"]));
    assert!(text.contains("put back: "), "{text}");
    assert!(lab.is_as_before());
}

#[test]
fn a_laboratory_that_fails_ends_the_comparison_and_everything_is_put_back() {
    let broken = "rate=1; if [ $n = 6 ]; then echo 'lab: the disk is full' >&2; exit 1; fi";
    let nowhere = "rate=1; if [ $n = 5 ]; then echo done; exit 0; fi";
    let lossy = "rate=4000; if [ $value = 4096 ]; then lost=7; fi";
    for (answer, reason) in [
        (broken, "lab: the disk is full"),
        (nowhere, "named no folder with a run.json"),
        (lossy, "with the values on the trial, 7 messages were lost and 0 damaged"),
    ] {
        let lab = FakeLab::of(answer);
        let output = lab.ab(&["--keys", KEY]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        let text = told(&output);
        assert!(text.contains(reason) && text.contains("everything was put back"), "{text}");
        assert!(lab.is_as_before(), "{reason}");
    }
}

#[test]
fn an_interrupted_comparison_puts_everything_back() {
    for signal in ["INT", "TERM", "HUP"] {
        // The laboratory itself waits for ever: it is ended with tuner.
        let answer = format!("rate=1; if [ $n = 6 ]; then kill -{signal} $PPID; exec sleep 1000000; fi");
        let lab = FakeLab::of(&answer);
        let output = lab.ab(&["--keys", KEY]);
        assert_eq!(output.status.code(), Some(130), "{}", told(&output));
        assert!(told(&output).contains("interrupted\neverything was put back"), "{}", told(&output));
        assert!(lab.is_as_before(), "{signal}");
    }
}

#[test]
fn a_killed_comparison_is_taken_back_by_the_next_run() {
    let killed = "rate=1; if [ $n = 6 ]; then kill -KILL $PPID; exit 1; fi";
    for verb in [&["revert"][..], &["apply", "--only", "net.ipv4.tcp_syncookies"]] {
        let lab = FakeLab::of(killed);
        let output = lab.ab(&["--keys", KEY]);
        assert_eq!(output.status.signal(), Some(9), "{}", told(&output));
        assert_eq!(lab.value(), "4096\n", "it was killed with the values on trial in force");
        assert_eq!(tuner(&lab.tree, &["verify"]).status.code(), Some(4), "verify sees it");
        let output = tuner(&lab.tree, verb);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert!(told(&output).contains("was not finished; it was taken back"), "{}", told(&output));
        assert!(lab.is_as_before(), "{verb:?}");
    }
}

#[test]
fn a_value_that_somebody_else_changes_ends_the_comparison_and_stays() {
    let tree = host(KERNELS[0]);
    let file = "proc/sys/net/core/somaxconn";
    let foreign = format!("rate=4000; if [ $n = 4 ]; then echo 9000 > {}/{file}; fi", tree.path().display());
    let lab = FakeLab::on(tree, file, &foreign);
    let output = lab.ab(&["--keys", KEY]);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains("somebody else changes it"), "{}", told(&output));
    assert_eq!(lab.value(), "9000\n");
    // The journal knows that it was not finished; only force goes over somebody's value.
    let output = tuner(&lab.tree, &["revert"]);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains("tuner revert --force"), "{}", told(&output));
    assert_eq!(tuner(&lab.tree, &["revert", "--force"]).status.code(), Some(0));
    assert!(lab.is_as_before());
}

#[test]
fn disturbed_runs_are_measured_again_up_to_a_limit() {
    let lab = FakeLab::of(&format!("{BETTER}\nif [ $n = 3 ]; then stolen=5; fi"));
    let text = told(&lab.ab(&["--keys", KEY]));
    assert!(text.contains("measured again: pair 2: after, the host took 25.0 %"), "{text}");
    assert!(text.contains("kept: Delivered is better"), "{text}");
    assert!(text.contains("bodies of 10k, 1 measured again\n"), "{text}");
    assert_eq!(lab.runs(), 21, "the pair begins anew");
    let lab = FakeLab::of(&format!("{BETTER}\nstolen=5"));
    let output = lab.ab(&["--keys", KEY]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("no pair was left undisturbed"), "{}", told(&output));
    assert_eq!(lab.runs(), 11);
    assert!(lab.is_as_before());
}

#[test]
fn huge_pages_governors_and_schedulers_are_tried_as_well() {
    let tree = host(KERNELS[3]);
    write(&tree, HUGE_PAGES, "[always] madvise never\n");
    for processor in ["cpu0", "cpu1"] {
        let path = format!("sys/devices/system/cpu/{processor}/cpufreq/scaling_governor");
        write(&tree, &path, "powersave\n");
    }
    fs::create_dir_all(tree.path().join("var/spool/kumod")).unwrap();
    write(&tree, "proc/self/mountinfo", "1 0 8:16 / / rw,noatime - ext4 /dev/sdb rw\n");
    write(&tree, "sys/dev/block/8:16/queue/scheduler", "mq-deadline none [bfq]\n");
    write(&tree, "sys/dev/block/8:16/queue/rotational", "0\n");
    let answer = "rate=$((4000 + noise)); case $value in *'[madvise]'*) rate=$((rate + 400));; esac";
    let lab = FakeLab::on(tree, HUGE_PAGES, answer);
    let output = lab.ab(&["--keys", "transparent_hugepage,cpu_governor", "io_scheduler"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let read = |path: &str| fs::read_to_string(lab.tree.path().join(path)).unwrap();
    assert_eq!(read(HUGE_PAGES), "always [madvise] never\n");
    assert_eq!(read("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor"), "performance\n");
    assert_eq!(read("sys/dev/block/8:16/queue/scheduler"), "mq-deadline [none] bfq\n");
    let text = told(&output);
    assert!(
        text.contains("left to you for the next boot: transparent_hugepage: Now: echo madvise"),
        "{text}"
    );
    assert!(!lab.tree.path().join(DROP_IN).exists(), "a drop-in of sysctl.d cannot hold them");
    assert_eq!(tuner(&lab.tree, &["revert"]).status.code(), Some(0));
    assert_eq!(read(HUGE_PAGES), "[always] madvise never\n");
    assert_eq!(read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "powersave\n");
    assert_eq!(read("sys/dev/block/8:16/queue/scheduler"), "mq-deadline none [bfq]\n");
}

#[test]
fn what_cannot_be_switched_is_refused_with_the_reason_and_nothing_is_tried() {
    let lab = FakeLab::of(BETTER);
    write(&lab.tree, "lib/systemd/system/kumod.service", "[Service]\nExecStart=/bin/true\n");
    for (keys, code, reason) in [
        ("RLIMIT_NOFILE", 2, "RLIMIT_NOFILE: a process gets its limits when it starts"),
        ("unit.LimitNOFILE", 2, "unit.LimitNOFILE: a limit of a unit holds from the next start"),
        ("kernel.shmmax", 2, "kernel.shmmax: "),
        ("net.ipv4.tcp_fin_timeout", 2, "net.ipv4.tcp_fin_timeout: no value is wanted of it"),
        ("net.core.somaxcon", 2, "no rule is called `net.core.somaxcon`"),
        ("fs.nr_open", 0, "fs.nr_open is 1048576, which is ok\nnothing to try"),
    ] {
        let output = lab.ab(&["--keys", keys]);
        assert_eq!(output.status.code(), Some(code), "{keys}: {}", told(&output));
        assert!(told(&output).contains(reason), "{keys}: {}", told(&output));
    }
    for (flags, reason) in [
        (&["--pairs", "7"][..], "7 is not in 8..=200"),
        (&["--metric", "speed"], "the metrics are cpu"),
        (&["--gain", "-1"], "--gain: -1 is not between 0 and 100 percent"),
        (&["--lab", "/no/such/lab"], "/no/such/lab is not there"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuner"));
        command.args(["ab", "--keys", KEY, "--root"]).arg(lab.tree.path());
        if flags[0] != "--lab" {
            command.arg("--lab").arg(lab.program());
        }
        let joined = format!("{}={}", flags[0], flags[1]);
        let output = command.arg(joined).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", told(&output));
        assert!(told(&output).contains(reason), "{flags:?}: {}", told(&output));
    }
    let output = tuner(&lab.tree, &["ab", "--keys", KEY]);
    assert_eq!(output.status.code(), Some(2), "a tree has no laboratory of its own");
    assert_eq!(lab.runs(), 0);
    assert!(lab.is_as_before());
}

#[test]
fn a_file_that_would_win_at_boot_and_a_refused_wish_are_told_before_anything_is_tried() {
    let lab = FakeLab::of(BETTER);
    let output = lab.ab(&["--keys", KEY, "--set", "net.core.somaxconn=64"]);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    write(&lab.tree, "etc/sysctl.conf", "net.core.somaxconn = 128\n");
    let output = lab.ab(&["--keys", KEY]);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains("etc/sysctl.conf:1 sets net.core.somaxconn = 128"), "{}", told(&output));
    assert_eq!(lab.runs(), 0);
    assert_eq!(lab.ab(&["--keys", KEY, "--runtime-only"]).status.code(), Some(0));
    assert_eq!(lab.value(), "4096\n");
}

#[test]
fn without_rights_nothing_is_tried_and_the_way_is_told() {
    let can = Command::new("setpriv").args(["--reuid", "65534", "--clear-groups", "true"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: setpriv cannot become another user here");
        return;
    }
    let lab = FakeLab::of(BETTER);
    let program = lab.files.path().join("tuner");
    fs::copy(env!("CARGO_BIN_EXE_tuner"), &program).unwrap();
    for path in [lab.tree.path(), lab.files.path()] {
        Command::new("chmod").args(["-R", "a+rX"]).arg(path).status().unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups"]).arg(program);
    command.args(["ab", "--keys", KEY, "--lab"]).arg(lab.program()).arg("--root").arg(lab.tree.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", told(&output));
    let text = told(&output);
    assert!(
        text.contains("nothing was changed") && text.contains("sysctl -w net.core.somaxconn='4096'"),
        "{text}"
    );
    assert_eq!(lab.runs(), 0);
}
