//! What waits in kumod's queues, for how long, and which way it takes out of them.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::client::Client;
use support::home::{Home, Kumod};
use support::policy::{LISTENERS, LOOPBACK_ALLOWED};
use support::scripted::{Answer, At, MODERN, Scripted};
use support::until;

/// One connection to the site, which is taken, and one place in the ready queue.
fn narrow(max_age: &str, next_hop: &Scripted) -> String {
    let queue = format!("[127.0.0.1]:{}", next_hop.address.port());
    format!(
        "{LISTENERS}
kumo.on('get_queue_config', function() return kumo.make_queue_config {{ max_age = '{max_age}' }} end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {{ prohibited_hosts = {{}}, connection_limit = 1, max_ready = 1 }}
end)
kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', '{queue}') end)
"
    )
}

/// A pool of two sources for mail to `hop`, the second of which connects to another port.
fn pool(first: &str, second: &str, hop: &Scripted, other_port: u16) -> String {
    let queue = format!("[127.0.0.1]:{}", hop.address.port());
    format!(
        "{LISTENERS}{LOOPBACK_ALLOWED}
kumo.on('get_queue_config', function() return kumo.make_queue_config {{ egress_pool = 'both', retry_interval = '1s' }} end)
kumo.on('get_egress_pool', function(name)
  if name == 'both' then
    return kumo.make_egress_pool {{ name = name, entries = {{ {{ name = 'first', weight = 3 }}, {{ name = 'second' }} }} }}
  end
end)
local sources = {{
  first = {{ name = 'first', source_address = '{first}', ehlo_domain = 'first.mx.test' }},
  second = {{ name = 'second', source_address = '{second}', remote_port = {other_port} }},
}}
kumo.on('get_egress_source', function(name) return kumo.make_egress_source(sources[name]) end)
kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', '{queue}') end)
"
    )
}

fn send_eight(kumod: &Kumod) {
    let mut client = Client::greeted(kumod.smtp());
    for number in 0..8 {
        let recipient = format!("b{number}@there.test");
        assert!(client.send(&[&recipient], b"Subject: from two sources\r\n\r\n").starts_with("250 "));
    }
}

#[test]
fn the_sources_of_a_pool_share_its_mail_by_weight() {
    let (home, hop, other) = (Home::new(), Scripted::good(), Scripted::good());
    let policy = pool("127.0.0.11", "127.0.0.12", &hop, other.address.port());
    let kumod = home.start_policy(&policy);
    send_eight(&kumod);
    kumod.drained();
    kumod.stop();
    for (hop, count, from, ehlo) in
        [(&hop, 6, "127.0.0.11", "first.mx.test"), (&other, 2, "127.0.0.12", "mx.test")]
    {
        let arrivals = hop.accepted();
        assert_eq!(arrivals.len(), count, "from {from}");
        for arrival in arrivals {
            assert_eq!((arrival.client.to_string().as_str(), arrival.ehlo.as_str()), (from, ehlo));
            let record = home.record("Delivery", &arrival.recipients[0]);
            let source = if from.ends_with("11") { "first" } else { "second" };
            assert_eq!((&record["egress_pool"], &record["egress_source"]), (&"both".into(), &source.into()));
            let address = record["source_address"]["address"].as_str().unwrap();
            assert_eq!(address.split_once(':').unwrap().0, from);
        }
    }
}

/// More than the ready queues hold: what waits in the store is shared out, too, and each message goes once.
#[test]
fn a_deep_queue_leaves_by_all_its_sources() {
    const MESSAGES: usize = 200;
    let (home, hop, other) = (Home::new(), Scripted::good(), Scripted::good());
    let policy = pool("127.0.0.11", "127.0.0.12", &hop, other.address.port());
    let kumod =
        home.start_policy(&policy.replace("prohibited_hosts = {}", "prohibited_hosts = {}, max_ready = 2"));
    let mut client = Client::greeted(kumod.smtp());
    for number in 0..MESSAGES {
        assert!(
            client.send(&[&format!("b{number}@there.test")], b"Subject: many\r\n\r\n").starts_with("250 ")
        );
    }
    kumod.drained();
    kumod.stop();
    let (first, second) = (hop.accepted(), other.accepted());
    let recipients: std::collections::BTreeSet<_> =
        first.iter().chain(&second).flat_map(|arrival| &arrival.recipients).collect();
    assert_eq!((recipients.len(), first.len() + second.len()), (MESSAGES, MESSAGES));
    assert!(!first.is_empty() && !second.is_empty(), "{} and {}", first.len(), second.len());
}

#[test]
fn a_pool_that_nobody_knows_keeps_its_mail_waiting() {
    let (home, hop) = (Home::new(), Scripted::good());
    let policy = pool("127.0.0.11", "127.0.0.12", &hop, 25).replace("name == 'both'", "name == 'all'");
    let kumod = home.start_policy(&policy);
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: lost pool\r\n\r\n").starts_with("250 "));
    let record = home.record("TransientFailure", "b@there.test");
    let content = record["response"]["content"].as_str().unwrap();
    assert!(content.contains("egress pool or source \"both\""), "{content}");
    assert_eq!((kumod.metric("message_count"), hop.connections()), (1, 0));
    kumod.kill();
}

/// An address that no host has (RFC 5737).
const NOWHERE: &str = "203.0.113.7";

#[test]
fn a_source_whose_address_is_not_on_this_host_is_suspended_and_tried_again_later() {
    let (home, hop, other) = (Home::new(), Scripted::good(), Scripted::good());
    let policy = pool(NOWHERE, "127.0.0.12", &hop, other.address.port());
    let rule = "name = 'first', suspend_when_unplumbed = { duration = '1s' },";
    let kumod = home.start_policy(&policy.replace("name = 'first', source", &format!("{rule} source")));
    send_eight(&kumod);
    kumod.drained();
    assert_eq!((other.accepted().len(), hop.connections()), (8, 0));
    let failed = || {
        let mut records = home.records();
        records.retain(|record| record["type"] == "TransientFailure");
        records
    };
    let before = failed();
    let record = before.first().expect("one message found out");
    let content = record["response"]["content"].as_str().unwrap();
    assert!(content.contains(NOWHERE) && content.contains("not on this host"), "{content}");
    assert_eq!(record["egress_source"], "first");
    assert!(before.len() < 8, "the others were spared: {before:?}");
    until("the source to be tried again", || {
        send_eight(&kumod);
        failed().len() > before.len()
    });
    kumod.drained();
    assert!(kumod.stop().contains("an egress source is suspended"));
}

#[test]
fn a_source_that_warms_up_sends_no_more_than_its_day_allows() {
    for (plan, allowed) in [("os.date('!%Y-%m-%d')", 3), ("'2999-01-01'", 0)] {
        let (home, hop, other) = (Home::new(), Scripted::good(), Scripted::good());
        let policy = pool("127.0.0.11", "127.0.0.12", &hop, other.address.port());
        let plan = format!("name = 'first', warm_up = {{ begins = {plan}, messages_per_day = {{ 3, 3 }} }},");
        let policy = policy.replace("name = 'first', source", &format!("{plan} source"));
        let kumod = home.start_policy(&policy);
        send_eight(&kumod);
        kumod.drained();
        // Neither a death nor a new beginning gives the day more than its allowance.
        kumod.kill();
        let kumod = home.start_policy(&policy);
        send_eight(&kumod);
        kumod.drained();
        kumod.stop();
        assert_eq!((hop.accepted().len(), other.accepted().len()), (allowed, 16 - allowed));
        let records = home.records();
        assert!(
            records.iter().all(|record| record["type"] != "TransientFailure"),
            "nobody is refused for it"
        );
    }
}

/// Says for each recipient when its message may be sent.
const SCHEDULED: &str = "
local function utc(seconds) return os.date('!%Y-%m-%dT%H:%M:%SZ', os.time() + seconds) end
local other_day = ({ 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun', 'Mon' })[tonumber(os.date('!%w')) + 1]
kumo.on('smtp_server_message_received', function(msg)
  local user = msg:recipient().user
  msg:set_meta('queue', HOP)
  if user == 'soon' then msg:set_scheduling { first_attempt = utc(3) } end
  if user == 'never' then msg:set_scheduling { first_attempt = '2999-01-01T00:00:00Z' } end
  if user == 'late' then
    msg:set_scheduling { dow = other_day, tz = 'UTC', start = '12:00:00', ['end'] = '13:00:00', expires = utc(2) }
  end
  if user == 'now' then
    local set = msg:set_scheduling { dow = 'Monday', tz = 'Europe/Berlin', start = '01:00:00', ['end'] = '02:00:00' }
    assert(set.dow == 'Mon' and set['end'] == '02:00:00')
    msg:set_scheduling(nil)
  end
end)
";

#[test]
fn a_message_is_sent_when_its_sender_said() {
    let (home, hop) = (Home::new(), Scripted::good());
    let scheduled = SCHEDULED.replace("HOP", &format!("'[127.0.0.1]:{}'", hop.address.port()));
    let policy = [LISTENERS, LOOPBACK_ALLOWED, &scheduled].concat();
    let kumod = home.start_policy(&policy);
    let mut client = Client::greeted(kumod.smtp());
    for user in ["never", "soon", "late"] {
        assert!(client.send(&[&format!("{user}@there.test")], b"Subject: later\r\n\r\n").starts_with("250 "));
    }
    // What was said holds after a restart, too.
    kumod.kill();
    let kumod = home.start_policy(&policy);
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["now@there.test"], b"Subject: now\r\n\r\n").starts_with("250 "));
    home.record("Delivery", "now@there.test");
    let times = |record: &Value| (record["timestamp"].as_i64().unwrap(), record["created"].as_i64().unwrap());
    let (sent, created) = times(&home.record("Delivery", "soon@there.test"));
    assert!(sent - created >= 2, "sent at {sent}, created at {created}");
    let (expired, created) = times(&home.record("Expiration", "late@there.test"));
    assert!((1..60).contains(&(expired - created)), "expired at {expired}, created at {created}");
    assert_eq!((kumod.metric("message_count"), hop.accepted().len()), (1, 2));
    assert!(home.records_of("TransientFailure", "never@there.test").is_empty());
    kumod.stop();
}

/// KumoMTA's issue 539: a server that answers nobody keeps its one connection busy; what waits behind it expires all the same.
#[test]
fn mail_expires_where_it_waits_for_a_connection() {
    let silent =
        Scripted::start(MODERN, |_, at| if at == At::Body { Answer::Silence } else { Answer::Accept });
    let home = Home::new();
    let kumod = home.start_policy(&narrow("1s", &silent));
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["first@there.test"], b"Subject: first\r\n\r\n").starts_with("250 "));
    until("the message at the silent server", || silent.arrivals().len() == 1);
    // One for the place in the ready queue, the others wait in the store.
    for number in 0..5 {
        let recipient = format!("b{number}@there.test");
        assert!(client.send(&[&recipient], b"Subject: behind\r\n\r\n").starts_with("250 "));
    }
    for number in 0..5 {
        let record = home.record("Expiration", &format!("b{number}@there.test"));
        let code = (&record["response"]["code"], &record["response"]["enhanced_code"]["detail"]);
        assert_eq!(code, (&Value::from(551), &Value::from(7)), "{record}");
    }
    until("five to be gone", || kumod.metric("message_count") == 1);
    assert_eq!(silent.arrivals().len(), 1);
    // A stop would give the silent server its grace.
    kumod.kill();
}
