//! Postfix as a client: it sends through kumod in the clear, and through TLS as it does by default.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::home::Home;
use support::scripted::Scripted;

/// Ends Postfix with the test.
struct Postfix<'a>(&'a Path);

impl Drop for Postfix<'_> {
    fn drop(&mut self) {
        let _ = Command::new("postfix")
            .arg("-c")
            .arg(self.0.join("etc"))
            .arg("stop")
            .stderr(Stdio::null())
            .status();
    }
}

/// A null client in a folder of its own: no listener, everything to kumod.
fn configure(dir: &Path, relay: &str, security: &str) {
    let (etc, spool, data) = (dir.join("etc"), dir.join("queue"), dir.join("data"));
    for folder in [&etc, &spool, &data] {
        fs::create_dir_all(folder).unwrap();
    }
    let chown = Command::new("chown").arg("postfix").arg(&data).status().unwrap();
    assert!(chown.success());
    let main = format!(
        "compatibility_level = 3.6
queue_directory = {}
data_directory = {}
myhostname = postfix.test
mydestination =
relayhost = {relay}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_tls_security_level = {security}
smtp_host_lookup = native
smtp_connect_timeout = 30s
maillog_file = {}
maillog_file_prefixes = {}
multi_instance_enable = no
alternate_config_directories =
",
        spool.display(),
        data.display(),
        dir.join("maillog").display(),
        dir.display()
    );
    fs::write(etc.join("main.cf"), main).unwrap();
    let services = "postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 5 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
";
    fs::write(etc.join("master.cf"), services).unwrap();
}

#[test]
fn postfix_sends_through_it_in_the_clear_and_through_tls() {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/sbin/postfix").exists() {
        eprintln!("skipped: Postfix is not here, or we are not root");
        return;
    }
    for (security, protocol) in [("none", "ESMTP"), ("encrypt", "ESMTPS")] {
        let (home, next_hop) = (Home::new(), Scripted::good());
        let kumod = home.start(&["--relay-to", &next_hop.address.to_string()]);
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        Command::new("chmod").args(["755"]).arg(dir).status().unwrap();
        configure(dir, &format!("[127.0.0.1]:{}", kumod.smtp().port()), security);
        let etc = dir.join("etc");
        let started = Command::new("postfix").arg("-c").arg(&etc).arg("start").output().unwrap();
        let _running = Postfix(dir);
        let log = || fs::read_to_string(dir.join("maillog")).unwrap_or_default();
        assert!(started.status.success(), "{}{}", String::from_utf8_lossy(&started.stderr), log());
        let mut sendmail = Command::new("sendmail")
            .args(["-C", etc.to_str().unwrap(), "-f", "a@client.test", "b@there.test"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(
            &mut sendmail.stdin.take().unwrap(),
            b"Subject: from Postfix\n\nhello\n.dot\n",
        )
        .unwrap();
        assert!(sendmail.wait().unwrap().success());
        support::until("Postfix to send", || {
            assert!(!log().contains("status=deferred") && !log().contains("fatal"), "{}", log());
            next_hop.arrivals().len() == 1
        });
        let raw = String::from_utf8_lossy(&next_hop.arrivals()[0].raw).into_owned();
        assert!(raw.contains("Subject: from Postfix\r\n") && raw.contains("hello\r\n.dot\r\n"), "{raw}");
        assert_eq!(home.record("Reception", "b@there.test")["reception_protocol"], protocol);
    }
}
