//! HAProxy, microsocks and Dante take connections on for a source: mail arrives from the address that the proxy chose, and its record names
//! the proxy.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use crate::jail::{Jail, free_address, package};
use crate::support::client::Client;
use crate::support::home::Home;
use crate::support::policy::{LISTENERS, LOOPBACK_ALLOWED};
use crate::support::scripted::Scripted;

/// All mail goes to `hop` from a source with these options.
fn policy(hop: &Scripted, source: &str) -> String {
    format!(
        "{LISTENERS}{LOOPBACK_ALLOWED}
kumo.on('get_queue_config', function() return kumo.make_queue_config {{ egress_pool = 'far' }} end)
kumo.on('get_egress_pool', function(name)
  return kumo.make_egress_pool {{ name = name, entries = {{ {{ name = 'far' }} }} }}
end)
kumo.on('get_egress_source', function(name) return kumo.make_egress_source {{ name = name, {source} }} end)
kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', '[127.0.0.1]:{}') end)
",
        hop.address.port()
    )
}

/// Mail through a proxy comes from `client`, and the record says by which protocol and server.
fn carries_mail(source: &str, client: &str, protocol: &str, server: SocketAddr) {
    let (home, hop) = (Home::new(), Scripted::good());
    let kumod = home.start_policy(&policy(&hop, source));
    let message = [&b"Subject: by proxy\r\n\r\n"[..], &b"a line of the body\r\n".repeat(20_000)].concat();
    assert!(Client::greeted(kumod.smtp()).send(&["b@there.test"], &message).starts_with("250 "));
    kumod.drained();
    kumod.stop();
    let arrivals = hop.accepted();
    assert_eq!(arrivals.len(), 1, "{:?}", home.records());
    assert_eq!(arrivals[0].client, client.parse::<IpAddr>().unwrap());
    assert!(arrivals[0].original() == message, "the message was changed on its way");
    let address = home.record("Delivery", "b@there.test")["source_address"].clone();
    assert_eq!((&address["protocol"], &address["server"]), (&json!(protocol), &json!(server.to_string())));
}

#[test]
fn mail_leaves_through_haproxy_from_the_address_of_its_source() {
    let package = match package("haproxy") {
        Ok(package) => package,
        Err(reason) => return eprintln!("skipped: HAProxy: {reason}"),
    };
    let (folder, address) = (Jail::folder(), free_address());
    let config = format!(
        "defaults
  mode tcp
  timeout connect 1m
  timeout client 1m
  timeout server 1m
frontend in
  bind {address} accept-proxy
  default_backend out
backend out
  source 0.0.0.0 usesrc clientip
  server as-asked 0.0.0.0:0
"
    );
    fs::write(folder.path().join("haproxy.cfg"), config).unwrap();
    let _proxy = Jail::start(folder, Some(&package), "", "haproxy -db -f /srv/haproxy.cfg").answers(address);
    let source = format!("ha_proxy_server = '{address}', ha_proxy_source_address = '127.0.0.21'");
    carries_mail(&source, "127.0.0.21", "haproxy", address);
}

#[test]
fn mail_leaves_through_microsocks_to_which_kumod_shows_its_password() {
    let package = match package("microsocks") {
        Ok(package) => package,
        Err(reason) => return eprintln!("skipped: microsocks: {reason}"),
    };
    let address = free_address();
    let command =
        format!("microsocks -i {} -p {} -u kumod -P secret -b 127.0.0.22", address.ip(), address.port());
    let _proxy = Jail::start(Jail::folder(), Some(&package), "", &command).answers(address);
    let source = format!(
        "socks5_proxy_server = '{address}', socks5_proxy_username = 'kumod', socks5_proxy_password = {{ key_data = 'secret' }}"
    );
    carries_mail(&source, "127.0.0.22", "socks5", address);
}

#[test]
fn mail_leaves_through_dante() {
    let package = match package("dante-server") {
        Ok(package) => package,
        Err(reason) => return eprintln!("skipped: Dante: {reason}"),
    };
    let (folder, address) = (Jail::folder(), free_address());
    let config = format!(
        "logoutput: stderr
internal: {} port = {}
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
",
        address.ip(),
        address.port()
    );
    fs::write(folder.path().join("danted.conf"), config).unwrap();
    let _proxy = Jail::start(folder, Some(&package), "", "danted -f /srv/danted.conf").answers(address);
    carries_mail(&format!("socks5_proxy_server = '{address}'"), "127.0.0.1", "socks5", address);
}
