//! Faults as their users meet them: over HTTP, by flags, by persona.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use serde_json::{Value, json};
use sink::faults::{Persona, RuleSet};
use sink::{Auth, Config, Login, Server};
use tempfile::tempdir;

mod support;

use support::{Client, message};

const MAIL: &[u8] = b"MAIL FROM:<s@a.test>\r\n";
const RCPT: &[u8] = b"RCPT TO:<r@b.test>\r\n";

struct Running {
    child: Child,
    _errors: BufReader<ChildStderr>,
    smtp: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sink"));
    command.args(arguments).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A sink on free ports with these flags.
fn start(arguments: &[&str]) -> Running {
    let mut child = command(&[&["--http", "127.0.0.1:0"], arguments].concat()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    let smtp = line.trim_end().strip_prefix("smtp listener on ").unwrap_or_else(|| panic!("{line}"));
    Running { child, smtp: smtp.parse().unwrap(), _errors: errors }
}

/// A command that ends at once: its exit code and what it said.
fn ended(arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = command(arguments).output().unwrap();
    let said = [stdout, stderr].concat();
    (status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn server(rules: &str) -> Server {
    let rules = RuleSet::from_toml(rules).unwrap();
    Server::start(Config { rules, ..Config::on_free_ports() }).unwrap()
}

/// Status and body of a request to change the rules.
fn send(server: &Server, method: &str, content_type: &str, body: &str) -> (u16, Value) {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://{}/rules", server.http_addr))
        .header("content-type", content_type)
        .body(body.to_owned())
        .unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.run(request).unwrap();
    (response.status().as_u16(), response.body_mut().read_json().unwrap())
}

fn rules_of(server: &Server) -> Value {
    ureq::get(format!("http://{}/rules", server.http_addr)).call().unwrap().body_mut().read_json().unwrap()
}

const BUSY: &str = "[[rule]]\nname = \"busy\"\nstage = \"rcpt\"\naction.reply = \"450 4.2.1 Busy\"\n";

#[test]
fn rules_are_shown_replaced_and_merged_while_mail_passes() {
    let server = server(BUSY);
    let mut client = Client::new(server.smtp_addr);
    assert_eq!(client.codes(&[MAIL, RCPT].concat(), 2), [250, 450]);
    let shown = rules_of(&server);
    assert_eq!(shown["hits"]["busy"], 1);
    assert_eq!(shown["rule"][0]["action"]["reply"], "450 4.2.1 Busy");

    let patch = json!({ "rule": [{ "name": "busy", "match": { "local_part": "x*" } }] }).to_string();
    let (status, merged) = send(&server, "PATCH", "application/json", &patch);
    assert_eq!((status, &merged["hits"]["busy"]), (200, &json!(1)));
    assert_eq!(merged["rule"][0]["action"]["reply"], "450 4.2.1 Busy", "what is left out stays");
    assert_eq!(client.codes(b"RCPT TO:<r@b.test>\r\nRCPT TO:<x1@b.test>\r\n", 2), [250, 450]);

    let toml = BUSY.replace("450 4.2.1", "550 5.2.1");
    let (status, replaced) = send(&server, "PUT", "application/toml; charset=utf-8", &toml);
    assert_eq!((status, &replaced["hits"]["busy"]), (200, &json!(0)));
    assert_eq!(client.codes(RCPT, 1), [550]);
    // What is shown may be sent back as it is.
    assert_eq!(send(&server, "PUT", "application/json", &rules_of(&server).to_string()).0, 200);
    assert_eq!(send(&server, "PUT", "application/json", "{}").0, 200);
    assert_eq!(client.codes(RCPT, 1), [250]);
}

#[test]
fn wrong_rules_are_422_with_their_name_and_change_nothing() {
    let server = server(BUSY);
    let table = [
        (
            "PUT",
            "application/json",
            json!({ "rule": [{ "name": "x", "stage": "mail", "action": "dorp" }] }).to_string(),
            "x",
        ),
        (
            "PATCH",
            "application/json",
            json!({ "rule": [{ "name": "busy", "stage": "quite" }] }).to_string(),
            "busy",
        ),
        (
            "PUT",
            "application/toml",
            "[[rule]]\nname = \"y\"\nstage = \"body\"\naction = \"lose\"".to_owned(),
            "y",
        ),
        (
            "PUT",
            "application/json",
            json!({ "rule": [{ "name": "z", "stage": "final_dot", "action": { "bounce": {} } }] })
                .to_string(),
            "z",
        ),
    ];
    for (method, content_type, body, rule) in table {
        let (status, error) = send(&server, method, content_type, &body);
        assert_eq!((status, error["rule"].as_str()), (422, Some(rule)), "{body}: {error}");
        assert!(error["error"].as_str().unwrap().contains(rule), "{error}");
    }
    let (status, error) = send(&server, "PUT", "application/json", "{");
    assert_eq!((status, &error["rule"]), (422, &Value::Null));
    assert_eq!(rules_of(&server)["rule"].as_array().unwrap().len(), 1);
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let server = server(BUSY);
    // What a browser sends without asking first (Fetch standard, "CORS-safelisted request-header").
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        assert_eq!(send(&server, "PUT", content_type, "{}").0, 415, "{content_type}");
    }
    let url = format!("http://{}/rules", server.http_addr);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let asked = agent.options(&url).header("origin", "http://evil.test").call().unwrap();
    assert!(!asked.headers().contains_key("access-control-allow-origin"));
    let posted = agent.post(&url).header("content-type", "application/json").send("{}").unwrap();
    assert_eq!(posted.status().as_u16(), 405);
    assert_eq!(rules_of(&server)["rule"].as_array().unwrap().len(), 1);
}

#[test]
fn each_persona_answers_its_special_addresses() {
    for persona in Persona::all() {
        let mut config = Config::on_free_ports();
        persona.apply(&mut config).unwrap();
        // What is slow, put off by dice or by a greylist is not what this test is about.
        let server = Server::start(config).unwrap();
        let quiet: Vec<Value> = rules_of(&server)["rule"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| {
                rule["probability"].is_null()
                    && rule["action"]["delay"].is_null()
                    && rule["action"]["greylist"].is_null()
            })
            .cloned()
            .collect();
        assert_eq!(send(&server, "PUT", "application/json", &json!({ "rule": quiet }).to_string()).0, 200);
        let name = persona.name();
        let mut client = Client::new(server.smtp_addr);
        assert_eq!(client.codes(b"EHLO c.test\r\nMAIL FROM:<s@a.test>\r\n", 2), [250, 250], "{name}");
        let codes = client
            .codes(b"RCPT TO:<unknown1@b.test>\r\nRCPT TO:<disabled@b.test>\r\nRCPT TO:<joe@b.test>\r\n", 3);
        assert!(codes[0] / 100 == 5 && codes[1] / 100 == 5 && codes[2] == 250, "{name}: {codes:?}");
        let blocked = client.codes(b"RSET\r\nMAIL FROM:<blocked@a.test>\r\n", 2);
        assert!(blocked[1] / 100 == 5, "{name}: {blocked:?}");
        let whole = b"MAIL FROM:<spam@a.test>\r\nRCPT TO:<joe@b.test>\r\nDATA\r\n";
        assert_eq!(client.codes(whole, 3), [250, 250, 354], "{name}");
        let spam = client.codes(b"Subject: x\r\n\r\n.\r\n", 1);
        assert!(spam[0] / 100 == 5, "{name}: {spam:?}");
        let full = client.codes(b"MAIL FROM:<s@a.test>\r\nRCPT TO:<full@b.test>\r\n", 2);
        let full = if full[1] == 250 {
            assert_eq!(client.codes(b"DATA\r\n", 1), [354], "{name}");
            client.codes(b"Subject: x\r\n\r\n.\r\n", 1)[0]
        } else {
            full[1]
        };
        assert!(full >= 400, "{name}: {full}");
        assert_eq!(server.stop().accepted, 0, "{name}");
    }
}

#[test]
fn personas_are_listed_and_a_wrong_name_is_told_the_nearest() {
    let (code, listed) = ended(&["personas"]);
    assert_eq!(code, 0);
    assert!(Persona::all().iter().all(|persona| listed.contains(persona.name())), "{listed}");
    let (code, said) = ended(&["--persona", "gmail_like"]);
    assert!(code == 2 && said.contains("gmail-like"), "{said}");
}

#[test]
fn files_of_rules_are_checked() {
    let folder = tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.toml"), folder.path().join("bad.toml"));
    std::fs::write(&good, BUSY).unwrap();
    std::fs::write(&bad, BUSY.replace("stage", "stag")).unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let (code, said) = ended(&["rules", "check", good]);
    assert!(code == 0 && said.contains("1 rules are good"), "{said}");
    for arguments in [&["rules", "check", bad][..], &["--rules", bad], &["--rules", bad, "--check-rules"]] {
        let (code, said) = ended(arguments);
        assert!(code == 2 && said.contains(bad) && said.contains("did you mean `stage`?"), "{said}");
    }
    assert_eq!(ended(&["--rules", good, "--check-rules"]).0, 0);
    let bounces = BUSY.replace("rcpt", "final_dot").replace("reply = \"450 4.2.1 Busy\"", "bounce = {}");
    std::fs::write(good, bounces).unwrap();
    let (code, said) = ended(&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--rules", good]);
    assert!(code == 2 && said.contains("--bounce-to"), "{said}");
    let (code, said) = ended(&["--bounce-to", "8.8.8.8:25"]);
    assert!(code == 2 && said.contains("private address"), "{said}");
}

#[test]
fn smtp_sinks_command_lines_do_what_they_did() {
    let at = "inet:127.0.0.1:0";
    let sink = start(&["-r", "RCPT", "-b", "451 4.0.0 Soon", "-f", "VRFY", "-Q", "RSET", at, "100"]);
    let mut client = Client::new(sink.smtp);
    assert_eq!(client.codes(&[MAIL, RCPT, b"VRFY x\r\n", b"RSET\r\n"].concat(), 4), [250, 451, 500, 421]);
    assert_eq!(client.line(), "");

    let sink = start(&["-e", "-p", "-h", "mx.test", at, "100"]);
    let mut client = Client::of(std::net::TcpStream::connect(sink.smtp).unwrap());
    let banner = client.line();
    assert!(banner.starts_with("220 mx.test") && !banner.contains("ESMTP"), "{banner}");
    assert_eq!(client.codes(b"EHLO c.test\r\nHELO c.test\r\n", 2), [502, 250]);

    let sink = start(&["-8", "-p", "-E", at, "100"]);
    let mut client = Client::new(sink.smtp);
    client.write(b"EHLO c.test\r\n");
    let mut listed = String::new();
    while !listed.contains("250 ") {
        listed.push_str(&client.line());
    }
    assert!(listed.contains("SIZE"), "{listed}");
    for absent in ["8BITMIME", "PIPELINING", "ENHANCEDSTATUSCODES", "AUTH"] {
        assert!(!listed.contains(absent), "{absent} in {listed}");
    }

    let sink = start(&["-q", "CONNECT", at, "100"]);
    let mut client = Client::of(std::net::TcpStream::connect(sink.smtp).unwrap());
    assert_eq!(client.line(), "");
}

#[test]
fn magic_is_off_unless_asked_for() {
    let ask = |arguments: &[&str]| {
        let sink = start(&[&["--listen", "127.0.0.1:0"], arguments].concat());
        let commands =
            b"MAIL FROM:<>\r\nRCPT TO:<tempfail@b.test>\r\nRCPT TO:<550-x@b.test>\r\nRCPT TO:<250-x@b.test>\r\n";
        Client::new(sink.smtp).codes(commands, 4)
    };
    assert_eq!(ask(&[]), [250, 250, 250, 250]);
    assert_eq!(ask(&["--magic"]), [250, 450, 550, 250]);
}

#[test]
fn auth_lets_in_whom_it_knows() {
    // PLAIN: user "a", passwords "b" and "c"; LOGIN: the same user and "b".
    let (right, wrong) = (b"AUTH PLAIN AGEAYg==\r\n", b"AUTH PLAIN AGEAYw==\r\n");
    let users = Auth::Users(vec![Login { user: "a".to_owned(), password: "b".to_owned() }]);
    let table = [(Auth::None, [500, 500]), (Auth::Any, [235, 235]), (users.clone(), [535, 235])];
    for (auth, expected) in table {
        let server = Server::start(Config { auth, ..Config::on_free_ports() }).unwrap();
        let codes = [wrong, right].map(|login| {
            let mut client = Client::new(server.smtp_addr);
            client.codes(&[b"EHLO c.test\r\n", &login[..]].concat(), 2)[1]
        });
        assert_eq!(codes, expected);
    }
    let server = Server::start(Config { auth: users, ..Config::on_free_ports() }).unwrap();
    let mut client = Client::new(server.smtp_addr);
    assert_eq!(client.codes(b"EHLO c.test\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\n", 4), [250, 334, 334, 235]);
}

#[test]
fn lmtp_answers_each_recipient() {
    let server = Server::start(Config { lmtp: true, ..Config::on_free_ports() }).unwrap();
    let mut client = Client::new(server.smtp_addr);
    assert_eq!(client.codes(b"LHLO c.test\r\n", 1), [250]);
    let commands = b"MAIL FROM:<>\r\nRCPT TO:<a@b.test>\r\nRCPT TO:<c@b.test>\r\nDATA\r\n";
    assert_eq!(client.codes(commands, 4), [250, 250, 250, 354]);
    let whole = message("lmtp", 0, b"x\r\n");
    assert_eq!(client.codes(&[&whole[..], b".\r\n"].concat(), 2), [250, 250]);
    assert_eq!(server.stop().distinct, 2);
}
