//! `--user`: what is left of root once kumod runs.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::client::Client;
use support::home::Home;
use support::scripted::Scripted;

/// The bit of CAP_NET_BIND_SERVICE (capabilities(7)).
const NET_BIND_SERVICE: u64 = 1 << 10;

#[test]
fn nothing_of_root_is_left_but_binding_low_ports() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let (home, next_hop) = (Home::new(), Scripted::good());
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let hop = next_hop.address.to_string();
    let kumod = home.start(&["--user", "nobody", "--relay-to", &hop]);
    // Every thread: the kernel keeps users and capabilities for each of them.
    for task in fs::read_dir(format!("/proc/{}/task", kumod.pid())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().to_owned()
        };
        let set = |name: &str| u64::from_str_radix(&field(name), 16).unwrap();
        assert!(!field("Uid:").split_whitespace().any(|uid| uid == "0"), "{status}");
        assert!(!field("Gid:").split_whitespace().any(|gid| gid == "0"), "{status}");
        assert_eq!((set("CapEff:"), set("CapPrm:")), (NET_BIND_SERVICE, NET_BIND_SERVICE), "{status}");
        assert_eq!((set("CapInh:"), set("CapAmb:")), (0, 0), "{status}");
    }
    let mut client = Client::greeted(kumod.smtp());
    let reply = client.send(&["b@there.test"], b"Subject: 1\r\n\r\n");
    assert!(reply.starts_with("250 2.0.0 OK ids="), "{reply}");
    client.quit();
    kumod.drained();
}
