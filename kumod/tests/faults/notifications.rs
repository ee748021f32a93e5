//! Who is told what became of a message: its sender, once, if it wants to know, and nobody else.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::home::{Home, Kumod};
use crate::support::policy;
use crate::support::scripted::{Answer, Arrival, At, MODERN, Scripted};

const NO_SUCH_USER: Answer = Answer::Say("550 5.1.1 no such user\r\n");
const LATER: Answer = Answer::Say("450 4.2.1 later\r\n");
const WITH_DSN: &[&str] = &["PIPELINING", "CHUNKING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE", "DSN"];
const MESSAGE: &str = "Subject: hello\r\n\r\nprivate\r\n";

/// Gives the first recipient that answer, and takes all others.
fn first_gets(answer: Answer) -> Scripted {
    let asked = AtomicUsize::new(0);
    Scripted::start(MODERN, move |_, at| {
        let first = at == At::Rcpt && asked.fetch_add(1, Ordering::Relaxed) == 0;
        if first { answer } else { Answer::Accept }
    })
}

/// kumod with `options` for its queues, that sends everything to one next hop.
fn start(home: &Home, options: &str, next_hop: &Scripted) -> Kumod {
    let config = format!(
        "kumo.on('get_queue_config', function() return kumo.make_queue_config {{ {options} }} end)\n"
    );
    let policy = home.policy(&[policy::LISTENERS, &config, policy::LOOPBACK_ALLOWED].concat());
    let port = next_hop.address.port().to_string();
    home.start(&["--policy", policy.to_str().unwrap(), "--smtp-port", &port])
}

/// Sends [`MESSAGE`] with parameters for MAIL and RCPT.
fn send(kumod: &Kumod, mail: &str, rcpt: &str) {
    let mut client = Client::greeted(kumod.smtp());
    let message = format!(
        "MAIL FROM:<sender@client.localhost>{mail}\r\nRCPT TO:<b@there.localhost>{rcpt}\r\nBDAT {} LAST\r\n{MESSAGE}",
        MESSAGE.len()
    );
    client.write(message.as_bytes());
    for _ in 0..3 {
        assert_eq!(client.code(), 250);
    }
    client.quit();
}

/// Waits until all is sent, and gives what arrived.
fn arrived(kumod: Kumod, next_hop: &Scripted) -> Vec<Arrival> {
    kumod.drained();
    kumod.stop();
    next_hop.accepted()
}

fn assert_lines(arrival: &Arrival, lines: &[&str]) -> String {
    let text = String::from_utf8(arrival.message()).unwrap();
    for line in lines {
        assert!(text.lines().any(|have| have == *line), "{line:?} is missing in\n{text}");
    }
    text
}

#[test]
fn the_sender_of_refused_mail_is_told_who_was_not_reached() {
    let (home, server) = (Home::new(), first_gets(NO_SUCH_USER));
    let kumod = start(&home, "dsn = 'Failure'", &server);
    send(&kumod, "", "");
    server.wait_for(1);
    let notification = &arrived(kumod, &server)[0];
    assert_eq!(
        (notification.sender.as_str(), notification.recipients.as_slice()),
        ("", &["sender@client.localhost".to_owned()][..])
    );
    let lines = [
        "Auto-Submitted: auto-replied",
        "Final-Recipient: rfc822; b@there.localhost",
        "Action: failed",
        "Status: 5.1.1",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user",
        "Subject: hello",
    ];
    let text = assert_lines(notification, &lines);
    assert!(!text.contains("private") && text.contains("Received: from client.test"), "{text}");
    home.record("Bounce", "b@there.localhost");
    let delivery = home.record("Delivery", "sender@client.localhost");
    assert_eq!(delivery["queue"], "null-sender:@client.localhost");
    let reception = home.record("Reception", "sender@client.localhost");
    assert_eq!(
        (&reception["sender"], &reception["reception_protocol"]),
        (&Value::from(""), &Value::from("LOCAL"))
    );
}

/// RFC 3461 4.1: who asks for nothing is told of failures.
#[test]
fn without_an_option_all_are_told_of_failures_but_those_who_ask_for_something_else() {
    for (rcpt, told) in [("", 1), (" NOTIFY=NEVER", 0), (" NOTIFY=SUCCESS", 0), (" NOTIFY=FAILURE,DELAY", 1)]
    {
        let (home, server) = (Home::new(), first_gets(NO_SUCH_USER));
        let kumod = home.start(&["--smtp-port", &server.address.port().to_string()]);
        send(&kumod, "", rcpt);
        home.record("Bounce", "b@there.localhost");
        assert_eq!(arrived(kumod, &server).len(), told, "{rcpt:?}");
    }
}

/// As with KumoMTA, for those who want it: who asks for nothing finds it in the log alone.
#[test]
fn a_queue_may_tell_only_those_who_ask() {
    for (rcpt, told) in [("", 0), (" NOTIFY=FAILURE,DELAY", 1)] {
        let (home, server) = (Home::new(), first_gets(NO_SUCH_USER));
        let kumod = start(&home, "dsn = 'Requested'", &server);
        send(&kumod, "", rcpt);
        home.record("Bounce", "b@there.localhost");
        assert_eq!(arrived(kumod, &server).len(), told, "{rcpt:?}");
    }
}

#[test]
fn what_a_sender_asked_for_stands_in_the_report() {
    let (home, server) = (Home::new(), first_gets(NO_SUCH_USER));
    let kumod = start(&home, "", &server);
    send(&kumod, " RET=FULL ENVID=QQ+2B1", " NOTIFY=FAILURE ORCPT=rfc822;old+2Bb@there.localhost");
    server.wait_for(1);
    let lines = [
        "Original-Envelope-Id: QQ+1",
        "Original-Recipient: rfc822; old+b@there.localhost",
        "Content-Type: message/rfc822",
        "private",
    ];
    assert_lines(&arrived(kumod, &server)[0], &lines);
}

/// RFC 5321 6.1: no two hosts bounce at each other for ever.
#[test]
fn a_notification_that_is_refused_causes_no_other() {
    let server = Scripted::start(MODERN, |_, at| if at == At::Rcpt { NO_SUCH_USER } else { Answer::Accept });
    let home = Home::new();
    let kumod = start(&home, "dsn = 'Failure'", &server);
    send(&kumod, "", " NOTIFY=SUCCESS,FAILURE,DELAY");
    home.record("Bounce", "sender@client.localhost");
    assert_eq!(arrived(kumod, &server).len(), 0);
    let bounces = home.records().iter().filter(|record| record["type"] == "Bounce").count();
    assert_eq!(bounces, 2);
}

#[test]
fn expired_mail_comes_back() {
    let (home, server) = (Home::new(), first_gets(LATER));
    let kumod = start(&home, "retry_interval = '1h', max_age = '1m', dsn = 'Failure'", &server);
    send(&kumod, "", "");
    // Its next attempt would come after its age: it expires with the first.
    home.record("Expiration", "b@there.localhost");
    server.wait_for(1);
    let text = assert_lines(&arrived(kumod, &server)[0], &["Status: 5.4.7", "Action: failed"]);
    assert!(text.contains("450 4.2.1 later"), "{text}");
}

#[test]
fn a_delay_is_told_to_who_asked() {
    let (home, server) = (Home::new(), first_gets(LATER));
    let kumod = start(&home, "retry_interval = '1h', dsn_delay = '10m'", &server);
    send(&kumod, "", " NOTIFY=DELAY");
    let notification = &server.wait_for(1)[0];
    let text = assert_lines(notification, &["Status: 4.2.1", "Action: delayed"]);
    assert!(text.contains("\r\nWill-Retry-Until: "), "{text}");
    home.record("TransientFailure", "b@there.localhost");
    kumod.stop();
    assert_eq!(server.accepted().len(), 1);
}

/// RFC 3461 5.2.1: a server that announces DSN is asked, and answers for it.
#[test]
fn a_next_hop_with_dsn_is_asked_in_our_place() {
    let (home, server) = (Home::new(), Scripted::start(WITH_DSN, |_, _| Answer::Accept));
    let kumod = start(&home, "", &server);
    send(&kumod, " RET=HDRS ENVID=QQ+2B1", " NOTIFY=SUCCESS ORCPT=rfc822;old+2Bb@there.localhost");
    let arrived = arrived(kumod, &server);
    assert_eq!(arrived.len(), 1, "the server tells of the delivery");
    let parameters = &arrived[0].parameters;
    assert!(parameters[0].ends_with(" RET=HDRS ENVID=QQ+2B1"), "{parameters:?}");
    assert_eq!(parameters[1], "NOTIFY=SUCCESS ORCPT=rfc822;old+2Bb@there.localhost");
}

/// RFC 3461 5.2.2: one that does not is not asked, and the sender hears that its message went there.
#[test]
fn a_next_hop_without_dsn_is_told_of_as_relayed() {
    let (home, server) = (Home::new(), Scripted::good());
    let kumod = start(&home, "", &server);
    send(&kumod, " RET=FULL", " NOTIFY=SUCCESS");
    server.wait_for(2);
    let arrived = arrived(kumod, &server);
    let own = arrived.iter().find(|arrival| arrival.sender.is_empty()).unwrap();
    let text = assert_lines(own, &["Action: relayed", "Status: 2.0.0", "Remote-MTA: dns; there.localhost"]);
    assert!(!text.contains("private"), "RET is for failures: {text}");
    let other = arrived.iter().find(|arrival| !arrival.sender.is_empty()).unwrap();
    assert!(!other.parameters.concat().contains("NOTIFY"), "{:?}", other.parameters);
}

/// Killed as soon as the log says that a message is given up: the notification is stored by then, or the message is still there.
#[test]
fn a_crash_loses_no_notification() {
    for _ in 0..3 {
        let home = Home::new();
        let server = Scripted::good();
        let refusing =
            Scripted::start(MODERN, |_, at| if at == At::Rcpt { NO_SUCH_USER } else { Answer::Accept });
        let kumod = start(&home, "dsn = 'Failure'", &refusing);
        send(&kumod, "", "");
        home.record("Bounce", "b@there.localhost");
        kumod.kill();
        let again = start(&home, "dsn = 'Failure'", &server);
        again.drained();
        again.stop();
        let arrived = server.accepted();
        assert!(!arrived.is_empty(), "neither message nor notification survived");
    }
}

/// kumod is its own next hop. The message goes round until it has been through too many hosts, its notification after it, and then it
/// is over.
#[test]
fn a_message_in_a_loop_ends_and_its_notification_too() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let home = Home::new();
    let listen = format!("127.0.0.1:{port}");
    // Nobody vouches for the certificate that it makes for itself.
    let tls = "OpportunisticInsecure";
    let kumod = home.start(&["--smtp-listen", &listen, "--smtp-port", &port, "--enable-tls", tls]);
    send(&kumod, "", " NOTIFY=FAILURE");
    home.record("Bounce", "sender@client.localhost");
    kumod.drained();
    kumod.stop();
    for recipient in ["b@there.localhost", "sender@client.localhost"] {
        let bounces = home.records_of("Bounce", recipient);
        assert_eq!(bounces.len(), 1, "{recipient}");
        assert_eq!(bounces[0]["response"]["code"], 554);
        let deliveries = home.records_of("Delivery", recipient).len();
        assert!((99..=100).contains(&deliveries), "{recipient} went round {deliveries} times");
    }
}
