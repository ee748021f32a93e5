//! Several hosts in network namespaces of their own, each with addresses of its own: which address mail comes from, IPv6, a source whose
//! address is not there and comes back, and a first host that swallows every connection.
//!
//! The host of kumod has a wire to each of the others. It takes root and `ip`; without them the tests say so.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::authority::Authority;
use crate::support::client::Client;
use crate::support::home::{Home, Kumod};
use crate::support::policy::{LISTENERS, LOOPBACK_ALLOWED};
use crate::support::scripted::{Answer, MODERN, Scripted};
use crate::support::until;

/// How long a connection to an idle port of the same host may take before its backlog counts as full.
const BACKLOG_PATIENCE: Duration = Duration::from_millis(500);
/// Networks made by this process.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Hosts, the first of which is kumod's: 10.77.N.1 and fd77:N::1, towards host N. Host N is 10.77.N.2 and fd77:N::2.
struct Network {
    name: String,
    hosts: usize,
}

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("ip {words}: {said}")) }
}

impl Network {
    /// With so many hosts beside kumod's.
    ///
    /// # Errors
    /// Why this host cannot have it.
    fn new(hosts: usize) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("not root".to_owned());
        }
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let network = Self { name: format!("kumod-{}-{number}", std::process::id()), hosts };
        for host in 0..=hosts {
            let namespace = network.namespace(host);
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        let own = network.namespace(0);
        for host in 1..=hosts {
            let other = network.namespace(host);
            ip(&format!("-n {own} link add to{host} type veth peer name wire netns {other}"))?;
            for (namespace, device, end) in [(&own, format!("to{host}"), 1), (&other, "wire".to_owned(), 2)] {
                ip(&format!("-n {namespace} addr add 10.77.{host}.{end}/24 dev {device}"))?;
                // Without the search for duplicates, during which the address cannot be used.
                ip(&format!("-n {namespace} addr add fd77:{host}::{end}/64 dev {device} nodad"))?;
                ip(&format!("-n {namespace} link set {device} up"))?;
            }
        }
        Ok(network)
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    /// Adds an address to kumod's host, towards another.
    fn add(&self, address: &str, host: usize) {
        ip(&format!("-n {} addr add {address} dev to{host} nodad", self.namespace(0))).unwrap();
    }

    /// Does something on a host; sockets that it makes stay there.
    fn on<T: Send>(&self, host: usize, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(host))).unwrap();
        let there = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(there).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A server that takes everything, on an address of a host.
    fn server(&self, host: usize, address: &str) -> Scripted {
        let address: IpAddr = address.parse().unwrap();
        self.on(host, || Scripted::start_at(SocketAddr::new(address, 25), MODERN, |_, _| Answer::Accept))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..=self.hosts {
            let _ = ip(&format!("netns del {}", self.namespace(host)));
        }
    }
}

/// Runs a test on kumod's host of a network, or says why it cannot.
fn with_network(hosts: usize, test: impl FnOnce(&Network) + Send) {
    match Network::new(hosts) {
        Ok(network) => network.on(0, || test(&network)),
        Err(reason) => eprintln!("skipped: {reason}"),
    }
}

/// Sources by name and address, in one pool, and all mail for the domain `hostN` to the address given for it.
fn policy(sources: &[(&str, &str)], hops: &[(&str, &str)]) -> String {
    let entries: String = sources.iter().map(|(name, _)| format!("{{ name = '{name}' }}, ")).collect();
    let addresses: String =
        sources.iter().map(|(name, address)| format!("['{name}'] = '{address}', ")).collect();
    let hops: String = hops.iter().map(|(domain, hop)| format!("['{domain}'] = '[{hop}]', ")).collect();
    format!(
        "{LISTENERS}{LOOPBACK_ALLOWED}
kumo.on('get_queue_config', function()
  return kumo.make_queue_config {{ egress_pool = 'all', retry_interval = '1s', max_retry_interval = '1s' }}
end)
kumo.on('get_egress_pool', function(name)
  if name == 'all' then return kumo.make_egress_pool {{ name = name, entries = {{ {entries} }} }} end
end)
local addresses = {{ {addresses} }}
kumo.on('get_egress_source', function(name)
  return kumo.make_egress_source {{
    name = name, source_address = addresses[name], suspend_when_unplumbed = {{ duration = '1s' }},
  }}
end)
local hops = {{ {hops} }}
kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('queue', hops[msg:recipient().domain])
end)
"
    )
}

fn send(kumod: &Kumod, domain: &str, count: usize) {
    let mut client = Client::greeted(kumod.smtp());
    for number in 0..count {
        let reply = client.send(&[&format!("b{number}@{domain}")], b"Subject: from afar\r\n\r\n");
        assert!(reply.starts_with("250 "), "{reply}");
    }
}

/// The addresses that a server saw, as texts.
fn clients(server: &Scripted) -> BTreeSet<String> {
    server.accepted().iter().map(|arrival| arrival.client.to_string()).collect()
}

#[test]
fn mail_comes_from_the_addresses_of_its_sources_over_both_protocols() {
    with_network(2, |network| {
        network.add("10.77.1.11/24", 1);
        network.add("10.77.1.12/24", 1);
        network.add("fd77:2::11/64", 2);
        let (four, six) = (network.server(1, "10.77.1.2"), network.server(2, "fd77:2::2"));
        let sources = [("a", "10.77.1.11"), ("b", "10.77.1.12")];
        for (sources, domain, hop, server, wanted) in [
            (&sources[..], "four.test", "10.77.1.2", &four, &["10.77.1.11", "10.77.1.12"][..]),
            (&[("c", "fd77:2::11")][..], "six.test", "IPv6:fd77:2::2", &six, &["fd77:2::11"][..]),
        ] {
            let home = Home::new();
            let kumod = home.start_policy(&policy(sources, &[(domain, hop)]));
            send(&kumod, domain, 10);
            kumod.drained();
            kumod.stop();
            assert_eq!(server.accepted().len(), 10);
            assert!(clients(server).iter().eq(wanted), "{:?}", clients(server));
            for arrival in server.accepted() {
                let record = home.record("Delivery", &arrival.recipients[0]);
                let said: SocketAddr = record["source_address"]["address"].as_str().unwrap().parse().unwrap();
                assert_eq!(said.ip(), arrival.client, "{record}");
                assert_eq!(record["peer_address"]["addr"], hop.trim_start_matches("IPv6:"));
            }
        }
    });
}

#[test]
fn a_source_without_its_address_leaves_the_mail_to_the_others_until_it_is_back() {
    with_network(1, |network| {
        network.add("10.77.1.11/24", 1);
        let server = network.server(1, "10.77.1.2");
        let home = Home::new();
        let sources = [("here", "10.77.1.11"), ("away", "10.77.1.12")];
        let kumod = home.start_policy(&policy(&sources, &[("host.test", "10.77.1.2")]));
        send(&kumod, "host.test", 20);
        kumod.drained();
        assert_eq!((server.accepted().len(), clients(&server).len()), (20, 1));
        let failed = home.records().iter().filter(|record| record["type"] == "TransientFailure").count();
        assert!((1..20).contains(&failed), "{failed} of 20 were tried by the source that is not there");
        network.add("10.77.1.12/24", 1);
        until("mail from the source that is back", || {
            send(&kumod, "host.test", 4);
            clients(&server).contains("10.77.1.12")
        });
        kumod.drained();
        kumod.stop();
        assert_eq!(server.accepted().len(), server.arrivals().len());
    });
}

/// A port that answers nobody: its backlog is full, so that the kernel drops every SYN, and counts them.
fn swallow(address: SocketAddr) -> (socket2::Socket, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let fill = || TcpStream::connect_timeout(&address, BACKLOG_PATIENCE).ok();
    let filling = std::iter::from_fn(fill).collect();
    (socket, filling)
}

/// SYNs that found no room in the backlog of a socket of this host.
fn swallowed() -> u64 {
    let counts = fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = counts.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
    let (mut names, mut values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.position(|name| name == "ListenDrops").unwrap();
    values.nth(at).unwrap().parse().unwrap()
}

/// A connection for each message, and each would come to the dead host first.
#[test]
fn a_first_mx_that_swallows_connections_is_asked_a_few_times_and_not_for_each_message() {
    const MESSAGES: usize = 60;
    /// Four connections may ask before the first knows, and the kernel repeats each question; without memory there would be one for each
    /// message at least.
    const ASKED_MAX: u64 = 30;
    with_network(2, |network| {
        let dead = SocketAddr::from(([10, 77, 1, 2], 25));
        let (_full, asked_before) = network.on(1, || (swallow(dead), swallowed()));
        let server = network.server(2, "10.77.2.2");
        let zone = "@ MX 10 dead\n@ MX 20 alive\ndead A 10.77.1.2\nalive A 10.77.2.2\n";
        let names = Authority::start(&[("there.test.", zone)]);
        let policy = format!(
            "local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener {{ listen = '127.0.0.1:0' }}
  kumo.start_esmtp_listener {{ listen = '127.0.0.1:0', hostname = 'mx.test' }}
  kumo.dns.configure_resolver {{ name_servers = {{ '{}' }} }}
end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {{ connection_limit = 4, max_deliveries_per_connection = 1 }}
end)
",
            names.address()
        );
        let home = Home::new();
        let kumod = home.start_policy(&policy);
        send(&kumod, "there.test", MESSAGES);
        kumod.drained();
        kumod.stop();
        assert_eq!((server.accepted().len(), server.connections()), (MESSAGES, MESSAGES));
        assert!(home.records().iter().all(|record| record["type"] != "TransientFailure"));
        let asked = network.on(1, swallowed) - asked_before;
        assert!((1..=ASKED_MAX).contains(&asked), "the dead host was asked {asked} times");
    });
}
