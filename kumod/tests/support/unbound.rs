//! A real recursive resolver (unbound) on loopback, in front of the test's own authority.
//!
//! It validates: a zone that the test vouches for and that is not signed is bogus, and answered with SERVFAIL. Without the program
//! there is no resolver, and the test says so.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::eventually;

/// Where Debian puts it, which is not on every user's path.
const PROGRAM: &str = "/usr/sbin/unbound";

/// A running resolver.
pub(crate) struct Unbound {
    child: Child,
    address: SocketAddr,
}

impl Unbound {
    /// Asks the authority about these zones; `bogus` ones are to be signed, which they are not. `None`: it is not installed.
    pub(crate) fn start(
        folder: &Path,
        authority: SocketAddr,
        zones: &[&str],
        bogus: &[&str],
    ) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: {PROGRAM} is not there; scripts/setup installs it");
            return None;
        }
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = format!(
            "server:\n interface: 127.0.0.1\n port: {}\n username: \"\"\n chroot: \"\"\n directory: \"{}\"\n pidfile: \"\"\n\
             \x20use-syslog: no\n do-daemonize: no\n do-not-query-localhost: no\n local-zone: \"test.\" nodefault\n\
             \x20access-control: 127.0.0.0/8 allow\n num-threads: 1\n",
            address.port(),
            folder.display()
        );
        for zone in zones.iter().filter(|zone| !bogus.contains(zone)) {
            config.push_str(&format!(" domain-insecure: \"{zone}\"\n"));
        }
        for zone in bogus {
            let digest = "0".repeat(64);
            config.push_str(&format!(" trust-anchor: \"{zone} 3600 IN DS 12345 13 2 {digest}\"\n"));
        }
        for zone in zones {
            config.push_str(&format!(
                "stub-zone:\n name: \"{zone}\"\n stub-addr: {}@{}\n",
                authority.ip(),
                authority.port()
            ));
        }
        config.push_str("remote-control:\n control-enable: no\n");
        let path = folder.join("unbound.conf");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["-d", "-c"]).arg(&path).stdin(Stdio::null()).stderr(Stdio::null());
        let resolver = Self { child: command.spawn().unwrap(), address };
        eventually("unbound to answer", || TcpStream::connect(address).ok());
        Some(resolver)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
