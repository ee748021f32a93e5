//! What keeps kumod from starting: it exits with 1 and one line that names the input, the reason and the remedy.

use std::fs;
use std::net::TcpListener;

use crate::support::home::{Home, Refusal};

fn assert_refused(refusal: &Refusal, parts: &[&str]) {
    assert_eq!(refusal.code, Some(1), "{}", refusal.said);
    let line = refusal
        .said
        .lines()
        .find(|line| line.starts_with("kumod: "))
        .unwrap_or_else(|| panic!("{}", refusal.said));
    for part in parts {
        assert!(line.contains(part), "{part} is missing in: {line}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--smtp-listen", "--http-listen"] {
        let refusal = Home::new().refused(&[flag, &address]);
        assert_refused(
            &refusal,
            &[&format!("cannot listen on {address}"), "another process has it", "choose another port"],
        );
    }
}

#[test]
fn a_policy_that_cannot_be_read_is_named() {
    let home = Home::new();
    let missing = home.path().join("no-such.lua").display().to_string();
    assert_refused(&home.refused(&["--policy", &missing]), &[&missing, "there is no such file"]);
    let folder = home.path().display().to_string();
    assert_refused(&home.refused(&["--policy", &folder]), &[&folder, "directory"]);
}

#[test]
fn a_mistake_in_the_policy_is_named_with_its_line() {
    for (policy, line, parts) in [
        ("local kumo = require 'kumo'\nkumo.on('init' function() end)\n", 2, &["')' expected"][..]),
        (
            "kumo.on('init', function()\n\n  kumo.start_esmtp_listener { listne = '127.0.0.1:0' }\nend)\n",
            3,
            &["listne", "listen"],
        ),
        (
            "kumo.on('init', function()\n  kumo.start_esmtp_listener { relay_hosts = { 'here' } }\nend)\n",
            2,
            &["relay_hosts", "here"],
        ),
        ("kumo.on('no_such_event', function() end)\n", 1, &["no_such_event"]),
        ("kumo.no_such_function()\n", 1, &["no_such_function"]),
    ] {
        let home = Home::new();
        let file = home.policy(policy).display().to_string();
        let refusal = home.refused(&["--policy", &file]);
        assert_refused(&refusal, &[&format!("{file}:{line}: ")]);
        assert_refused(&refusal, parts);
    }
}

#[test]
fn a_spool_in_use_is_refused_with_the_pid_of_its_holder() {
    let home = Home::new();
    let mut kumod = home.start(&[]);
    let pid = kumod.pid().to_string();
    let spool = home.path().join("spool").display().to_string();
    assert_refused(&home.refused(&[]), &[&spool, &pid]);
    assert!(kumod.is_running());
    assert_eq!(kumod.get("/api/check-liveness/v1").0, 200);
    kumod.stop();
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = Home::new();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let below = file.join("spool");
    let refusal = Home::with_spool(&below).refused(&[]);
    assert_refused(&refusal, &[&below.display().to_string()]);
}

#[test]
fn an_unknown_user_is_named() {
    assert_refused(&Home::new().refused(&["--user", "no-such-user-here"]), &["no-such-user-here"]);
}
