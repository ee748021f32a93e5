//! Where a policy sends mail, and where mail must not go.

use serde_json::Value;

use crate::support::client::Client;
use crate::support::home::Home;
use crate::support::policy::{LISTENERS, LOOPBACK_ALLOWED};
use crate::support::scripted::Scripted;
use crate::support::until;

fn send(home: &Home, policy: &str, flags: &[&str], recipients: &[&str]) -> String {
    let policy = home.policy(policy);
    let mut all = vec!["--policy", policy.to_str().unwrap()];
    all.extend(flags);
    let kumod = home.start(&all);
    let mut client = Client::greeted(kumod.smtp());
    let reply = client.send(recipients, b"Subject: routed\r\n\r\n");
    client.quit();
    kumod.drained();
    kumod.stop();
    reply
}

#[test]
fn the_null_queue_discards_and_says_so_in_the_log() {
    let home = Home::new();
    let policy = "kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', 'null') end)\n";
    let reply = send(&home, &[LISTENERS, policy].concat(), &[], &["b@there.test", "c@there.test"]);
    assert!(reply.starts_with("250 2.0.0 OK ids="), "{reply}");
    let records = home.records();
    assert_eq!(records.len(), 2, "{records:?}");
    for record in records {
        assert_eq!((&record["type"], &record["queue"]), (&Value::from("Reception"), &Value::from("null")));
    }
}

/// The policy of KumoMTA's page on testing, for a host that is here.
#[test]
fn all_mail_goes_to_the_host_that_meta_queue_names() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let policy = "kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', 'my.sink.localhost') end)\n";
    let port = next_hop.address.port().to_string();
    let recipients = ["b@there.test", "c@example.com"];
    send(&home, &[LISTENERS, policy].concat(), &["--smtp-port", &port], &recipients);
    assert_eq!(next_hop.accepted().len(), 2);
    for recipient in recipients {
        assert_eq!(home.record("Delivery", recipient)["queue"], "my.sink.localhost");
    }
}

#[test]
fn routing_domain_decides_where_and_the_other_names_decide_the_queue() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let literal = format!("[127.0.0.1]:{}", next_hop.address.port());
    let handler = format!(
        "kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('campaign', 'spring')
  msg:set_meta('tenant', 'acme')
  msg:set_meta('routing_domain', '{literal}')
end)\n"
    );
    send(&home, &[LISTENERS, LOOPBACK_ALLOWED, &handler].concat(), &[], &["b@there.test"]);
    assert_eq!(next_hop.accepted().len(), 1);
    let record = home.record("Delivery", "b@there.test");
    assert_eq!(record["queue"], format!("spring:acme@there.test!{literal}"));
    assert_eq!(
        (&record["meta"]["campaign"], &record["meta"]["tenant"]),
        (&Value::from("spring"), &Value::from("acme"))
    );
}

#[test]
fn loopback_is_prohibited_where_nobody_allowed_it() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let port = next_hop.address.port();
    let handler = format!(
        "kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('queue', msg:recipient().user == 'six' and '[::1]:{port}' or '[127.0.0.1]:{port}')
end)\n"
    );
    send(&home, &[LISTENERS, &handler].concat(), &[], &["four@there.test", "six@there.test"]);
    for recipient in ["four@there.test", "six@there.test"] {
        let record = home.record("Bounce", recipient);
        assert_eq!(record["response"]["code"], 550, "{record}");
        assert!(record["response"]["content"].as_str().unwrap().contains("prohibited"), "{record}");
    }
    assert_eq!(next_hop.connections(), 0);
}

#[test]
fn a_queue_that_is_none_defers_the_message() {
    let home = Home::new();
    let handler =
        "kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', 'a b@@c') end)\n";
    let reply = send(&home, &[LISTENERS, handler].concat(), &[], &["b@there.test"]);
    assert!(reply.starts_with("451 4.3.5"), "{reply}");
    assert!(home.records().is_empty());
}

/// RFC 5321 3.8: a server that says 421 closes the connection.
#[test]
fn a_policy_that_fails_costs_the_client_its_connection_and_no_mail() {
    let home = Home::new();
    let handler = "kumo.on('smtp_server_message_received', function(msg)\n  local nothing = nil\n  nothing.x = 1\nend)\n";
    let kumod = home.start_policy(&[LISTENERS, handler].concat());
    let mut client = Client::greeted(kumod.smtp());
    let reply = client.send(&["b@there.test"], b"Subject: unlucky\r\n\r\n");
    assert!(reply.starts_with("421 4.3.0"), "{reply}");
    assert_eq!(client.line(), None);
    until("the reason in the diagnostic log", || kumod.said().contains("policy.lua:8: "));
    kumod.stop();
    assert!(home.records().is_empty());
}
