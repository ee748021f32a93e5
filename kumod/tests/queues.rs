//! What waits in kumod's queues, for how long, and which way it takes out of them.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::client::Client;
use support::home::Home;
use support::policy::LISTENERS;
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
