//! Limits at the door, as those meet them who reach them: floods, slow clients, too little memory.

#![allow(clippy::unwrap_used)]

mod support;

use support::client::Client;
use support::home::{Home, Kumod};
use support::policy;
use support::scripted::Scripted;
use support::until;

fn start(home: &Home, options: &str) -> Kumod {
    home.start_policy(&format!(
        "local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener {{ listen = '127.0.0.1:0' }}
  kumo.start_esmtp_listener {{ listen = '127.0.0.1:0', hostname = 'mx.test', {options} }}
end)
kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', 'null') end)
"
    ))
}

fn rejections(kumod: &Kumod, reason: &str) -> u64 {
    kumod.metric_of("smtp_server_rejections", reason)
}

/// Bytes of memory that the process has now.
fn memory_bytes(kumod: &Kumod) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", kumod.pid())).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn one_client_has_so_many_connections_and_gets_a_place_back() {
    let home = Home::new();
    let kumod = start(&home, "max_connections_per_client = 2, relay_hosts = {}");
    let first = Client::greeted(kumod.smtp());
    let _second = Client::greeted(kumod.smtp());
    let mut third = Client::connect(kumod.smtp());
    assert_eq!(third.reply(), "421 4.7.0 mx.test too many connections from this client");
    assert_eq!(third.line(), None);
    assert_eq!(rejections(&kumod, "too many connections from this client"), 1);
    first.quit();
    until("a free place", || Client::try_greeted(kumod.smtp()).is_some());
}

#[test]
fn those_who_may_relay_have_no_limit_of_their_own() {
    let home = Home::new();
    let kumod = start(&home, "max_connections_per_client = 1");
    let _all: Vec<_> = (0..3).map(|_| Client::greeted(kumod.smtp())).collect();
}

#[test]
fn a_flood_of_connections_is_refused_and_costs_little_memory() {
    let home = Home::new();
    let kumod = start(&home, "max_connections = 200");
    let held: Vec<_> = (0..200).map(|_| Client::greeted(kumod.smtp())).collect();
    let before = memory_bytes(&kumod);
    for _ in 0..1000 {
        let mut refused = Client::connect(kumod.smtp());
        assert_eq!(refused.code(), 421);
    }
    assert_eq!(kumod.metric_of("total_connections_denied", "esmtp_listener"), 1000);
    let grown = memory_bytes(&kumod).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
    drop(held);
    until("the flood to end", || Client::try_greeted(kumod.smtp()).is_some());
}

/// The limit of the issue; measured here at what a test may open.
#[test]
fn an_idle_connection_costs_at_most_twelve_kibibytes() {
    const CONNECTIONS: u64 = 2000;
    const BYTES_MAX: u64 = 12 << 10;
    let home = Home::new();
    let kumod = start(&home, "client_timeout = '10 minutes'");
    drop((0..20).map(|_| Client::greeted(kumod.smtp())).collect::<Vec<_>>());
    let before = memory_bytes(&kumod);
    let _held: Vec<_> = (0..CONNECTIONS).map(|_| Client::greeted(kumod.smtp())).collect();
    let each = memory_bytes(&kumod).saturating_sub(before) / CONNECTIONS;
    println!("{each} bytes each");
    assert!(each <= BYTES_MAX, "{each} bytes each");
}

/// A byte now and then gains a slow client nothing: a command has to be complete in time, and a body to come at its least rate.
#[test]
fn who_sends_too_slowly_is_told_to_go() {
    let home = Home::new();
    let kumod = start(&home, "client_timeout = '1s', min_data_rate = 1000000");
    for opening in ["", "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@there.test>\r\nDATA\r\n"] {
        let mut client = Client::greeted(kumod.smtp());
        client.write(opening.as_bytes());
        for _ in opening.lines() {
            assert!(client.code() < 400);
        }
        // Each byte comes well within the time that a client may be silent.
        let reply = support::eventually("the end of patience", || {
            let _ = client.try_write(b"x");
            client.try_line()
        });
        assert!(reply.starts_with("421 4.4.2"), "{reply}");
    }
}

/// A thousand clients that have begun a command, and a thousand that have begun a body, hold what they have sent and little more; when
/// they are gone, the next thousand find the memory that they had, so that it does not grow from wave to wave.
#[test]
fn a_thousand_slow_clients_cost_little_memory_and_give_it_back() {
    const CLIENTS: u64 = 1000;
    const WAVES: u32 = 6;
    /// A buffer for the command that has begun; with a body, one for that too.
    const BYTES_EACH_MAX: [(&str, u64); 2] = [
        ("NOOP\r\nMAIL FROM:<", 20 << 10),
        ("MAIL FROM:<a@client.test>\r\nRCPT TO:<b@there.test>\r\nDATA\r\nSubject: ", 40 << 10),
    ];
    let home = Home::new();
    for (opening, bytes_max) in BYTES_EACH_MAX {
        let kumod = start(&home, "client_timeout = '10 minutes', data_buffer_size = 4096");
        drop((0..20).map(|_| Client::greeted(kumod.smtp())).collect::<Vec<_>>());
        let before = memory_bytes(&kumod);
        for wave in 1..=WAVES {
            let each = memory_with(&kumod, CLIENTS, opening).saturating_sub(before) / CLIENTS;
            assert!(each <= bytes_max, "wave {wave} of {opening:?}: {each} bytes each");
        }
        kumod.stop();
    }
}

/// Memory while so many clients have said the same; they are gone afterwards.
fn memory_with(kumod: &Kumod, clients: u64, opening: &str) -> u64 {
    let mut held: Vec<_> = (0..clients).map(|_| Client::greeted(kumod.smtp())).collect();
    for client in &mut held {
        client.write(opening.as_bytes());
        // What stands behind the last line has come with it.
        for _ in opening.matches("\r\n") {
            assert!(client.code() < 400);
        }
    }
    let bytes = memory_bytes(kumod);
    drop(held);
    until("the clients to be gone", || kumod.metric_of("connection_count", "esmtp_listener") == 0);
    bytes
}

/// The client hears 451 and may send it again; what the store has meanwhile is delivered all the same, because nobody else answers for it.
#[test]
fn a_message_that_takes_too_long_to_take_is_put_off_and_not_lost() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let listeners = "local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', hostname = 'mx.test', data_processing_timeout = 0.01 }
end)
";
    let policy = policy::hops_behind(listeners, &[("there.test", next_hop.address)]);
    let slowly = "kumo.on('smtp_server_message_received', function(msg)
  local began = os.clock()
  while os.clock() - began < 0.1 do end";
    let kumod =
        home.start_policy(&policy.replace("kumo.on('smtp_server_message_received', function(msg)", slowly));
    let mut client = Client::greeted(kumod.smtp());
    let reply = client.send(&["b@there.test"], b"Subject: 1\r\n\r\n");
    assert!(reply.starts_with("451 4.4.5"), "{reply}");
    client.quit();
    next_hop.wait_for(1);
    kumod.drained();
}

/// Less memory than the program itself needs: everything is refused with the reason, and the reason is where a balancer looks.
#[test]
fn too_little_memory_refuses_at_the_door_and_shows_in_liveness() {
    let home = Home::new();
    let kumod = home.start(&["--memory-limit", "1000000"]);
    until("the first look", || kumod.get("/api/check-liveness/v1").0 == 503);
    let (_, reason) = kumod.get("/api/check-liveness/v1");
    assert!(reason.contains("memory is short"), "{reason}");
    assert_eq!(
        Client::connect(kumod.smtp()).reply(),
        "421 4.3.2 mx.test Service not available; try again later"
    );
    assert!(kumod.metric("memory_usage") > kumod.metric("memory_limit"));
    assert_eq!(kumod.metric("memory_over_limit_count"), 1);
}
