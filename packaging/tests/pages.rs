//! Man pages and completion, made from the programs and read by the programs that they are made for.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use packaging::{completion, help, package};
use support::{binaries, folder, have, order, run, said};

/// All man pages, in a folder.
fn manuals(binaries: &Path) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = folder();
    let out = folder.path().join("man");
    package::write_manuals(&order(binaries, &out)).unwrap();
    let sections = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let pages =
        sections.flat_map(|section| fs::read_dir(section).unwrap()).map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = pages.collect();
    pages.sort();
    (folder, pages)
}

#[test]
fn there_is_a_page_for_each_program_and_for_the_policy() {
    let Some(binaries) = binaries() else { return };
    let (_folder, pages) = manuals(binaries);
    let names: Vec<&str> = pages.iter().map(|page| page.file_name().unwrap().to_str().unwrap()).collect();
    let expected = [
        "lab.1",
        "reports.1",
        "traffic-gen.1",
        "kumod.lua.5",
        "kumo-proxy.8",
        "kumod.8",
        "sink.8",
        "tuner.8",
    ];
    assert_eq!(names, expected);
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        assert!(text.starts_with(".TH ") && text.contains("\n.SH \"NAME\"\n"), "{}", page.display());
    }
    let kumod = fs::read_to_string(&pages[5]).unwrap();
    for part in ["\\-\\-policy", "kumod spool inspect", "EXIT STATUS", "SIGNALS", "/etc/kumod/init.lua"] {
        assert!(kumod.contains(part), "{part} is missing in kumod(8)");
    }
    let policy = fs::read_to_string(&pages[3]).unwrap();
    assert!(policy.contains("\\fBrelay_hosts\\fR (default "), "options are missing in kumod.lua(5)");
}

#[test]
fn groff_and_man_have_nothing_to_say_against_them() {
    let Some(binaries) = binaries() else { return };
    let (_folder, pages) = manuals(binaries);
    let judges: [(&str, &[&str]); 3] = [
        ("groff", &["-ww", "-Kutf8", "-man", "-Tutf8", "-z"]),
        ("mandoc", &["-Tlint", "-Wwarning"]),
        ("lexgrog", &[]),
    ];
    for (judge, arguments) in judges {
        if !have(&[judge]) {
            continue;
        }
        for page in &pages {
            let output = run(judge, &[arguments, &[page.to_str().unwrap()]].concat());
            let said = said(&output);
            assert!(output.status.success(), "{judge}: {said}");
            // lexgrog says what `apropos` will know; the others say nothing where nothing is wrong.
            let stem = page.file_stem().unwrap().to_str().unwrap();
            let is_good =
                if judge == "lexgrog" { said.contains(&format!("{stem} - ")) } else { said.is_empty() };
            assert!(is_good, "{judge}: {said}");
        }
    }
}

#[test]
fn a_page_says_what_the_help_says() {
    let Some(binaries) = binaries() else { return };
    if !have(&["man"]) {
        return;
    }
    let (_folder, pages) = manuals(binaries);
    let mut man = Command::new("man");
    man.args(["--warnings", "-E", "UTF-8", "-l"])
        .arg(&pages[5])
        .env("MANWIDTH", "20000")
        .env("LC_ALL", "C.UTF-8");
    let output = man.output().unwrap();
    assert!(output.stderr.is_empty(), "{}", said(&output));
    let page = said(&output);
    let kumod = help::ask(&binaries.join("kumod"), "kumod").unwrap();
    for option in kumod.options() {
        assert!(page.contains(&option.name), "{} is missing", option.name);
        for text in &option.text {
            assert!(page.contains(text.as_str()), "{text} is missing below {}", option.name);
        }
    }
}

/// What bash offers behind these words.
fn offered(file: &Path, program: &str, words: &[&str]) -> Vec<String> {
    let function = format!("_kumod_{}", program.replace('-', "_"));
    let script = "source \"$1\"; shift; function=$1; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); $function; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-euc", script, "bash"]).arg(file).arg(function).args(words);
    let output = bash.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_subcommands_options_and_their_values() {
    let Some(binaries) = binaries() else { return };
    if !have(&["bash"]) {
        return;
    }
    let folder = folder();
    let complete = |program: &str, words: &[&str]| {
        let file = folder.path().join(program);
        let page = help::ask(&binaries.join(program), program).unwrap();
        fs::write(&file, completion::of(&page)).unwrap();
        offered(&file, program, words)
    };
    assert_eq!(complete("kumod", &["kumod", "--spool-"]), ["--spool-backend", "--spool-mode"]);
    assert_eq!(complete("kumod", &["kumod", "spool", "ins"]), ["inspect"]);
    assert_eq!(complete("kumod", &["kumod", "spool", "inspect", "--js"]), ["--json"]);
    assert_eq!(complete("kumod", &["kumod", "--durability", ""]), ["commit", "written", "deferred"]);
    assert_eq!(complete("traffic-gen", &["traffic-gen", "au"]), ["audit"]);
    assert!(complete("sink", &["sink", "-"]).contains(&"-4".to_owned()));
}
