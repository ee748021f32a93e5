//! `smtp_server_message_received`: what handlers see, change and refuse, and how they fail.

use std::sync::Arc;

use proptest::prelude::*;
use smtp::reply::Reply;

use super::super::{FAILED, Verdict};
use super::*;

/// A policy whose handler does this, from line 3 on.
fn on_message(body: &str) -> Policy {
    listening(&format!("kumo.on('smtp_server_message_received', function(msg, connection)\n{body}\nend)"))
}

/// What the handler answers, and the message after it.
fn answer(body: &str) -> (Verdict, PolicyMessage) {
    let mut message = message();
    (on_message(body).message_received(&mut message), message)
}

fn assert_accepts(body: &str) -> PolicyMessage {
    let (verdict, message) = answer(body);
    assert_eq!(verdict, Verdict::Accept, "{body}");
    message
}

/// The failure that stands behind a 421.
fn failure_of(body: &str) -> String {
    let policy = on_message(body);
    let mut message = message();
    let error =
        super::super::state::message_received(policy.program.as_ref().unwrap(), &mut message).unwrap_err();
    assert_eq!(policy.message_received(&mut message), Verdict::Reject(FAILED));
    error.to_string().split_once("policy.lua").unwrap().1.to_owned()
}

#[test]
fn the_snippet_of_kumomta_routes_all_mail_to_the_named_host() {
    let source = "kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('queue', 'my.sink.server')
end)";
    let policy = listening(source);
    assert!(policy.handles_message_received());
    let mut message = message();
    assert_eq!(policy.message_received(&mut message), Verdict::Accept);
    assert_eq!(message.meta["queue"], "my.sink.server");
}

#[test]
fn no_policy_and_no_handler_accept_everything() {
    for policy in [Policy::none(), listening("")] {
        assert!(!policy.handles_message_received());
        let mut message = message();
        assert_eq!(policy.message_received(&mut message), Verdict::Accept);
        assert!(message.meta.is_empty());
    }
}

#[test]
fn a_handler_sees_the_envelope_and_the_body() {
    assert_accepts(
        r#"
        assert(msg:id() == '30313233343536373839616263646566')
        assert(msg:sender().user == 'news' and msg:sender().domain == 'sender.example')
        assert(msg:sender().email == 'news@sender.example' and tostring(msg:sender()) == 'news@sender.example')
        assert(msg:recipient().user == '"a@b"' and msg:recipient().domain == 'one.example')
        local all = msg:recipient_list()
        assert(#all == 2 and all[2].email == 'two@two.example')
        assert(msg:get_data() == 'Subject: hi\r\n\r\nbody \xff\r\n')
        assert(connection:get_meta('received_from') == '192.0.2.7:4321')
        assert(connection:get_meta('received_via') == '192.0.2.1:25')
        assert(connection:get_meta('reception_protocol') == 'ESMTP')
        assert(connection:get_meta('hostname') == 'mx.example')
        assert(connection:get_meta('ehlo_domain') == 'client.example')
        assert(connection:get_meta('x_site') == 'berlin')
        assert(connection:get_meta('other') == nil)
        assert(msg:get_meta('queue') == nil)
        "#,
    );
}

#[test]
fn the_null_sender_is_empty_in_every_part() {
    let policy =
        on_message("local s = msg:sender(); assert(s.user == '' and s.domain == '' and s.email == '')");
    let mut message = PolicyMessage { sender: String::new(), ..message() };
    assert_eq!(policy.message_received(&mut message), Verdict::Accept);
}

#[test]
fn metadata_keeps_what_json_can_hold() {
    let message = assert_accepts(
        "msg:set_meta('tenant', 'acme')
        msg:set_meta('count', 3)
        msg:set_meta('ratio', 0.5)
        msg:set_meta('urgent', true)
        msg:set_meta('tags', { 'a', { b = {} } })
        msg:set_meta('gone', 1)
        msg:set_meta('gone', nil)
        assert(msg:get_meta('tags')[2].b[1] == nil and msg:get_meta('tags')[1] == 'a')
        assert(msg:get_meta('count') == 3 and msg:get_meta('gone') == nil)",
    );
    let json = serde_json::to_string(&message.meta).unwrap();
    assert_eq!(json, r#"{"count":3,"ratio":0.5,"tags":["a",{"b":[]}],"tenant":"acme","urgent":true}"#);
}

#[test]
fn a_handler_may_refuse() {
    for (call, reply) in [
        ("kumo.reject(550, '5.7.1 Not here')", Reply::new(550, (5, 7, 1), "Not here")),
        ("return kumo.reject(451, 'Later')", Reply::new(451, (4, 0, 0), "Later")),
        ("local ok, e = pcall(kumo.reject, 550, 'no'); error(e)", Reply::new(550, (5, 0, 0), "no")),
        ("coroutine.wrap(function() kumo.reject(550, 'no') end)()", Reply::new(550, (5, 0, 0), "no")),
    ] {
        assert_eq!(answer(call).0, Verdict::Reject(reply), "{call}");
    }
}

#[test]
fn a_handler_that_fails_costs_a_421_and_says_where() {
    assert_eq!(FAILED.to_string(), "421 4.3.0 The server's policy failed; try again later");
    for (body, error) in [
        ("error('broken')", ":3: in event 'smtp_server_message_received': broken"),
        (
            "\nlocal a = nil + 1",
            ":4: in event 'smtp_server_message_received': attempt to perform arithmetic on a nil value",
        ),
        (
            "msg:set_meta('queue', 7)",
            ":3: in event 'smtp_server_message_received': msg:set_meta: the value of 'queue' must be text; a integer was given",
        ),
        (
            "msg:set_meta('x', print)",
            ":3: in event 'smtp_server_message_received': msg:set_meta: the value of 'x' is a function, which cannot be kept",
        ),
        (
            "msg:set_meta('x', '\\xff')",
            ":3: in event 'smtp_server_message_received': msg:set_meta: the value of 'x' has text that is not UTF-8",
        ),
        (
            "msg:set_meta({}, 1)",
            ":3: in event 'smtp_server_message_received': msg:set_meta: the name must be text (UTF-8); a table was given",
        ),
        (
            "msg:set_meta(('n'):rep(300), 1)",
            ":3: in event 'smtp_server_message_received': msg:set_meta: a name may have 256 bytes at most",
        ),
        (
            "for i = 1, 1000 do msg:set_meta('n' .. i, i) end",
            ":3: in event 'smtp_server_message_received': msg:set_meta: a message may have 256 values at most",
        ),
        (
            "kumo.reject(250, 'fine')",
            ":3: in event 'smtp_server_message_received': kumo.reject: the code must be from 400 to 599",
        ),
        (
            "kumo.reject('550', 'x')",
            ":3: in event 'smtp_server_message_received': kumo.reject: the code must be a whole number; a string was given",
        ),
        (
            "kumo.start_http_listener {}",
            ":3: in event 'smtp_server_message_received': kumo.start_http_listener: \
             may be called in the 'init' handler only: kumo.on('init', function() ... end)",
        ),
    ] {
        assert_eq!(failure_of(body), format!("{error}; correct the policy"), "{body}");
    }
    assert!(failure_of("error({})").starts_with(": in event 'smtp_server_message_received': "));
    assert!(failure_of("msg:no_such_method()").contains("no_such_method"));
}

#[test]
fn xpcall_gives_its_handler_the_error() {
    assert_accepts(
        "local ok, a, b = xpcall(function(...) return ... end, error, 1, 2)
        assert(ok and a == 1 and b == 2)
        local ok, said = xpcall(function() error('bad', 0) end, function(e) return 'it was ' .. e end)
        assert(not ok and said == 'it was bad')",
    );
}

#[test]
fn a_message_kept_for_later_is_no_longer_there() {
    let policy = listening(
        "kumo.on('smtp_server_message_received', function(msg, connection) kept, line = msg, connection end)
        kumo.on('get_queue_config', function(domain)
            if domain == 'line' then line:get_meta('received_from') end
            kept:id()
        end)",
    );
    assert_eq!(policy.message_received(&mut message()), Verdict::Accept);
    for (domain, method) in [("d", "msg:id"), ("line", "connection:get_meta")] {
        let error = policy.queue_config(domain, None, None, None).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{method}: the message is there only while its handler runs")),
            "{error}"
        );
    }
}

#[test]
fn a_handler_that_fails_gives_the_message_back() {
    let (verdict, after) = answer("msg:set_meta('x', 1); error('no')");
    assert_eq!(verdict, Verdict::Reject(FAILED));
    let before = message();
    assert_eq!((after.sender, after.recipients, after.body), (before.sender, before.recipients, before.body));
}

#[test]
fn a_handler_that_does_not_end_is_stopped_whatever_it_catches() {
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function f() while true do pcall(f) end end f()",
        "while true do coroutine.wrap(function() while true do pcall(function() while true do end end) end end)() end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
    ] {
        let policy = hurried(&format!("kumo.on('smtp_server_message_received', function(msg)\n{body}\nend)"));
        let program = policy.program.as_ref().unwrap();
        let error = super::super::state::message_received(program, &mut message()).unwrap_err().to_string();
        assert!(error.contains("stopped after running for 0 s"), "{body}: {error}");
        assert!(error.contains("in event 'smtp_server_message_received'"), "{error}");
    }
}

#[test]
fn the_next_message_finds_a_fresh_state_after_time_ran_out() {
    let body =
        "count = (count or 0) + 1; msg:set_meta('count', count); if count == 2 then while true do end end";
    let policy = hurried(&format!("kumo.on('smtp_server_message_received', function(msg)\n{body}\nend)"));
    let counts = [1, 2, 1].map(|_| {
        let mut message = message();
        policy.message_received(&mut message);
        message.meta["count"].as_i64().unwrap()
    });
    assert_eq!(counts, [1, 2, 1]);
}

#[test]
fn memory_is_limited_and_the_next_message_is_served() {
    let source = "kumo.on('smtp_server_message_received', function(msg)
        if msg:sender().user == 'greedy' then local t = {}; for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end end
    end)";
    let (_dir, path) = written(&format!("{LISTEN}{source}"));
    let limits = Limits { memory_bytes_max: 16 << 20, ..Limits::default() };
    let policy = Policy::load_within(&path, &mut flag_defaults(), limits).unwrap();
    let mut greedy = PolicyMessage { sender: "greedy@sender.example".to_owned(), ..message() };
    assert_eq!(policy.message_received(&mut greedy), Verdict::Reject(FAILED));
    assert_eq!(policy.message_received(&mut message()), Verdict::Accept);
}

#[test]
fn a_body_larger_than_the_state_may_hold_is_an_error_not_an_end() {
    let source = "kumo.on('smtp_server_message_received', function(msg) return #msg:get_data() end)";
    let (_dir, path) = written(&format!("{LISTEN}{source}"));
    let limits = Limits { memory_bytes_max: 1 << 20, ..Limits::default() };
    let policy = Policy::load_within(&path, &mut flag_defaults(), limits).unwrap();
    let mut large = PolicyMessage { body: Bytes::from(vec![b'x'; 4 << 20]), ..message() };
    assert_eq!(policy.message_received(&mut large), Verdict::Reject(FAILED));
    assert_eq!(policy.message_received(&mut message()), Verdict::Accept);
}

#[test]
fn each_thread_has_a_state_of_its_own_and_init_runs_once() {
    let source = "kumo.on('smtp_server_message_received', function(msg)
        count = (count or 0) + 1
        msg:set_meta('count', count)
    end)";
    let (dir, path) = written("");
    let mark = dir.path().join("mark");
    let init = format!(
        "kumo.on('init', function() kumo.start_esmtp_listener {{}}; local f = assert(io.open('{}', 'a')); f:write('x'); f:close() end)\n",
        mark.display()
    );
    std::fs::write(&path, format!("{init}{source}")).unwrap();
    let policy = Arc::new(load_path(&path).unwrap().0);
    // The file is not read again, so it may be gone.
    std::fs::remove_file(&path).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let policy = Arc::clone(&policy);
            std::thread::spawn(move || {
                let mut message = message();
                (0..10).for_each(|_| assert_eq!(policy.message_received(&mut message), Verdict::Accept));
                message.meta["count"].as_i64().unwrap()
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 10));
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "x");
}

#[test]
fn several_policies_share_a_thread_without_meeting() {
    let policies: Vec<_> = (0..6).map(|n| on_message(&format!("msg:set_meta('queue', 'q{n}')"))).collect();
    for _ in 0..2 {
        for (n, policy) in policies.iter().enumerate() {
            let mut message = message();
            assert_eq!(policy.message_received(&mut message), Verdict::Accept);
            assert_eq!(message.meta["queue"], format!("q{n}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_comes_back_from_metadata_as_it_was(name in ".{0,60}", value in ".{0,200}") {
        let policy = on_message("msg:set_meta(msg:sender().email, msg:recipient().email)
            assert(msg:get_meta(msg:sender().email) == msg:recipient().email)");
        let mut message = PolicyMessage { sender: name.clone(), recipients: vec![value.clone()], ..message() };
        prop_assert_eq!(policy.message_received(&mut message), Verdict::Accept);
        prop_assert_eq!(message.meta[&name].as_str(), Some(value.as_str()));
    }
}

#[test]
fn scheduling_is_checked_where_it_is_set() {
    let message = assert_accepts(
        "local set = msg:set_scheduling { expires = '2026-11-01T00:00:00Z', dow = 'sat, Sunday', tz = 'Europe/Berlin',
            start = '09:00:00', ['end'] = '17:00:00' }
        assert(set.expires == '2026-11-01T00:00:00.000Z' and set.dow == 'Sat,Sun' and set.start == '09:00:00')",
    );
    assert!(message.scheduling.is_some());
    for body in ["msg:set_scheduling(nil)", "msg:set_scheduling {}"] {
        assert!(assert_accepts(body).scheduling.is_none(), "{body}");
    }
    for (given, reason) in [
        ("{ first_attempt = 'soon' }", "'first_attempt': \"soon\" is not a time of RFC 3339"),
        ("{ dow = 'Mon' }", "give all four or none"),
        ("{ when = 'Mon' }", "there is no option 'when'"),
        ("'Mon'", "a table or nil is wanted; a string was given"),
    ] {
        let error = failure_of(&format!("msg:set_scheduling({given})"));
        assert!(error.contains("msg:set_scheduling: ") && error.contains(reason), "{error}");
    }
}
