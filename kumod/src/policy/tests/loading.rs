//! Loading: what is recorded into the configuration, and what stops the start.

use super::*;

#[test]
fn every_ready_made_policy_loads() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let (_, config) = load_path(&path).unwrap();
        assert!(config.smtp_listeners.iter().all(|listener| listener.listen.ip().is_loopback()), "{path:?}");
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["relay.lua", "sink.lua"]);
}

#[test]
fn the_ready_made_sink_discards_and_the_relay_leaves_mail_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let (sink, config) = load_path(&folder.join("sink.lua")).unwrap();
    assert_eq!(config.smtp_listeners[0].listen.to_string(), "127.0.0.1:2026");
    assert_eq!(config.http_listeners[0].listen.to_string(), "127.0.0.1:8002");
    let mut message = message();
    assert_eq!(sink.message_received(&mut message), super::super::Verdict::Accept);
    assert_eq!(message.meta["queue"], "null");

    let (relay, config) = load_path(&folder.join("relay.lua")).unwrap();
    assert_eq!(config.smtp_listeners[0].listen.to_string(), "127.0.0.1:2025");
    assert_eq!(config.http_listeners[0].listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.spool.dir, Path::new("/var/spool/kumod/data"));
    assert!(!relay.handles_message_received());
    let path = relay.egress_path_config("example.com", "unspecified", "mx.example.com").unwrap().unwrap();
    assert_eq!(path.connection_limit.0, 4);
    assert!(relay.egress_path_config("other.example", "unspecified", "mx").unwrap().is_none());
    assert_eq!(
        relay.queue_config("a", None, None, None).unwrap().unwrap().max_age,
        Duration::from_secs(5 * 86_400)
    );
}

#[test]
fn what_init_names_replaces_the_flags() {
    let source = "
        kumo.on('init', function()
            kumo.define_spool { name = 'data', path = '/spool/data', kind = 'RocksDB', flush = true,
                rocks_params = { increase_parallelism = 4 } }
            kumo.define_spool { name = 'meta', path = '/spool/meta', kind = 'LocalDisk' }
            kumo.configure_local_logs { log_dir = '/logs', max_file_size = 1e9, max_segment_duration = '1 minute' }
            kumo.start_esmtp_listener { listen = '127.0.0.1:2525', hostname = 'mail.example.com', relay_hosts = {},
                max_message_size = 20e6, client_timeout = '30s', meta = { x_site = 'berlin' },
                trace_headers = { supplemental_header = true },
                peer = { ['10.0.0.0/8'] = { max_message_size = 1e6 } }, via = {} }
            kumo.start_esmtp_listener { listen = '[::1]:2525' }
        end)";
    let (policy, config) = load(source).unwrap();
    assert_eq!(config.spool.dir, Path::new("/spool/data"));
    assert_eq!(config.log_dir, Path::new("/logs"));
    assert_eq!(config.smtp_listeners.len(), 2);
    assert_eq!(config.smtp_listeners[0].hostname.as_deref(), Some("mail.example.com"));
    assert_eq!(config.smtp_listeners[0].max_message_size, 20_000_000);
    assert_eq!(config.smtp_listeners[0].client_timeout, Duration::from_secs(30));
    assert!(config.smtp_listeners[0].relay_hosts.is_empty(), "an empty table is an empty list");
    assert_eq!(config.smtp_listeners[0].meta["x_site"], "berlin");
    assert!(config.smtp_listeners[0].trace_headers.supplemental_header);
    let changes = config.smtp_listeners[0].overrides_for([10, 1, 1, 1].into(), [127, 0, 0, 1].into());
    assert_eq!(config.smtp_listeners[0].with(&changes).max_message_size, 1_000_000);
    assert!(config.http_listeners.is_empty(), "only what the policy starts is started");
    assert!(
        !policy.handles_message_received()
            && !policy.handles_queue_config()
            && !policy.handles_egress_path_config()
    );
}

#[test]
fn deferred_spool_is_the_promise_of_all_listeners_or_of_none() {
    let init = |listeners: &str| format!("kumo.on('init', function()\n{listeners}\nend)");
    let (_, config) = load(&init(
        "kumo.start_esmtp_listener { listen = '127.0.0.1:25', deferred_spool = true }
         kumo.start_esmtp_listener { listen = '127.0.0.1:26', deferred_spool = true }",
    ))
    .unwrap();
    assert_eq!(config.spool.durability, spool::Durability::Deferred);
    let (_, config) = load(&init("kumo.start_esmtp_listener { deferred_spool = false }")).unwrap();
    assert_eq!(config.spool.durability, spool::Durability::Commit, "the flag's");
    let error = error_of(&init(
        "kumo.start_esmtp_listener { listen = '127.0.0.1:25', deferred_spool = true }
         kumo.start_esmtp_listener { listen = '127.0.0.1:26' }",
    ));
    assert!(error.contains("'deferred_spool' = false and the listener on 127.0.0.1:25 has true"), "{error}");
}

#[test]
fn what_init_does_not_name_stays() {
    let (_, config) = load(LISTEN).unwrap();
    assert_eq!(config.spool.dir, Path::new("flag-spool"));
    assert_eq!(config.log_dir, Path::new("flag-log"));
}

#[test]
fn the_module_is_a_global_and_can_be_required() {
    load(&format!(
        "{LISTEN}local k = require 'kumo'; assert(k == kumo and k.version == '{}')",
        env!("CARGO_PKG_VERSION")
    ))
    .unwrap();
}

#[test]
fn a_file_beside_the_policy_can_be_required() {
    let (dir, path) = written(&format!("{LISTEN}assert(require('beside').answer == 42)"));
    std::fs::write(dir.path().join("beside.lua"), "return { answer = 42 }").unwrap();
    load_path(&path).unwrap();
}

#[test]
fn pre_init_handlers_run_before_init() {
    let source = "local order = {}
        kumo.on('pre_init', function() table.insert(order, 1) end)
        kumo.on('pre_init', function() table.insert(order, 2) end)
        kumo.on('init', function() assert(#order == 2); kumo.start_esmtp_listener {} end)";
    load(source).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_path_reason_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.lua");
    let error = load_path(&missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: there is no such file; check the path given with --policy", missing.display())
    );
    assert_eq!((error.file(), error.line()), (missing.as_path(), None));
    let error = load_path(dir.path()).unwrap_err().to_string();
    let wanted =
        format!("{}: this is a directory; give the policy file itself with --policy", dir.path().display());
    assert_eq!(error, wanted);
    let through = written("").1.join("deeper.lua");
    assert!(load_path(&through).is_err());
}

#[test]
fn a_file_of_absurd_size_is_refused() {
    let source = vec![b'-'; usize::try_from(super::super::lua::POLICY_BYTES_MAX).unwrap() + 1];
    let error = error_of(std::str::from_utf8(&source).unwrap());
    assert_eq!(error, ": the file is larger than 4 MiB; check that it is the policy");
}

#[test]
fn a_file_that_does_not_parse_is_told_with_its_line() {
    assert_eq!(error_of("\n\nlocal = 1"), ":3: <name> expected near '='; correct the policy");
    let error = load("\n\nlocal = 1").unwrap_err();
    assert_eq!(error.line(), Some(3));
    // Compiled code could do anything to a state: only text is taken.
    assert!(error_of("\u{1b}Lua garbage").contains("binary"), "{}", error_of("\u{1b}Lua garbage"));
}

#[test]
fn an_error_while_loading_or_in_init_has_file_and_line() {
    assert_eq!(
        error_of("\nlocal a\na.b = 1"),
        ":3: attempt to index a nil value (local 'a'); correct the policy"
    );
    let error = load("kumo.on('init', function()\n  error('no disk')\nend)").unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("policy.lua:2: in event 'init': no disk; correct the policy"), "{text}");
    assert!(error.traceback().unwrap().contains("policy.lua:2: in function"), "{:?}", error.traceback());
    assert!(
        error_of("kumo.on('pre_init', function() x() end)")
            .starts_with(":1: in event 'pre_init': attempt to call")
    );
    assert_eq!(
        error_of("kumo.on('init', function() kumo.reject(550, 'no') end)"),
        ": in event 'init': kumo.reject answers a client, and no client is waiting here; \
         it was given '550 5.0.0 no'; correct the policy"
    );
}

#[test]
fn a_long_file_name_does_not_hide_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("{}.lua", "long".repeat(40)));
    std::fs::write(&path, "\nerror('here')").unwrap();
    assert_eq!(load_path(&path).unwrap_err().line(), Some(2));
}

#[test]
fn a_failed_load_leaves_the_configuration_alone() {
    let mut config = flag_defaults();
    let (_dir, path) =
        written("kumo.on('init', function() kumo.start_esmtp_listener { listen = '[::1]:1' }; x() end)");
    Policy::load(&path, &mut config).unwrap_err();
    assert_eq!(config.smtp_listeners[0].listen, SmtpListener::default().listen);
}

#[test]
fn a_policy_without_a_listener_is_refused() {
    for source in ["", "kumo.on('init', function() kumo.start_http_listener {} end)"] {
        assert_eq!(
            error_of(source),
            ": the policy starts no SMTP listener; call kumo.start_esmtp_listener { listen = '127.0.0.1:2025' } \
             in its 'init' handler"
        );
    }
}

#[test]
fn listeners_spool_and_logs_belong_in_init() {
    for call in [
        "start_esmtp_listener {}",
        "start_http_listener {}",
        "define_spool { name = 'data', path = '/x' }",
        "configure_local_logs { log_dir = '/x' }",
    ] {
        let function = call.split_once(' ').unwrap().0;
        let error = format!(
            "kumo.{function}: may be called in the 'init' handler only: kumo.on('init', function() ... end); correct the policy"
        );
        assert_eq!(error_of(&format!("\nkumo.{call}")), format!(":2: {error}"));
        let inside = error_of(&format!("kumo.on('pre_init', function() kumo.{call} end)"));
        assert_eq!(inside, format!(":1: in event 'pre_init': {error}"));
    }
}

/// Each mistake in `init`, and what is said of it.
const MISTAKES: [(&str, &str); 21] = [
    (
        "start_esmtp_listener { relay_host = {} }",
        "there is no option 'relay_host' (is 'relay_hosts' meant?); known are: listen, hostname, banner, relay_hosts, ",
    ),
    (
        "start_esmtp_listener { peer = { ['10.0.0.0/8'] = { via = { ['::1'] = { banners = 'x' } } } } }",
        "option 'peer', '10.0.0.0/8': option 'via', '::1': there is no option 'banners' (is 'banner' meant?); known are: hostname, ",
    ),
    (
        "start_esmtp_listener { peer = { ['10.0.0.0/8'] = { listen = '[::1]:25' } } }",
        "option 'peer', '10.0.0.0/8': option 'listen' is the same for all clients; set it on the listener",
    ),
    (
        "start_esmtp_listener { via = { lan = { banner = 'x' } } }",
        "option 'via': \"lan\" is not an address or a network such as 10.0.0.0/8",
    ),
    (
        "start_esmtp_listener { peer = { ['10.0.0.0/8'] = { banner = 'a\\nb' } } }",
        "option 'peer', '10.0.0.0/8': option 'banner' has a control character",
    ),
    (
        "start_http_listener { use_tls = true }",
        "option 'use_tls' is not available in this version; available are: listen, hostname, trusted_hosts",
    ),
    ("start_esmtp_listener { listen = '2025' }", "option 'listen' = '2025': invalid socket address syntax"),
    (
        "start_esmtp_listener { relay_hosts = { 'lan' } }",
        "option 'relay_hosts' = [\"lan\"]: \"lan\" is not an address or a network such as 10.0.0.0/8",
    ),
    (
        "start_esmtp_listener { relay_hosts = '::1' }",
        "option 'relay_hosts' = '::1': a list of strings is wanted, such as { '127.0.0.1', '::1' }",
    ),
    ("start_esmtp_listener { max_connections = 0 }", "option 'max_connections' = 0 would stop all mail"),
    (
        "start_esmtp_listener { hostname = 'a\\r\\nb' }",
        "option 'hostname' must be a host name such as 'mail.example.com'",
    ),
    ("start_esmtp_listener { banner = 'a\\nb' }", "option 'banner' has a control character"),
    ("start_esmtp_listener 'all'", "a table of options is wanted; a string was given"),
    ("start_esmtp_listener()", "a table of options is wanted; a nil was given"),
    ("define_spool { path = '/x' }", "option 'name' is missing: 'data' or 'meta'"),
    ("define_spool { name = 'data' }", "option 'path' is missing: a folder"),
    (
        "define_spool { name = 'other', path = '/x' }",
        "option 'name' = 'other': unknown variant `other`, expected `data` or `meta`",
    ),
    (
        "define_spool { name = 'data', path = '/x', kind = 'Tape' }",
        "option 'kind' = 'Tape': unknown variant `Tape`, expected `LocalDisk` or `RocksDB`",
    ),
    (
        "define_spool { name = 'data', path = '/x', min_free_space = '10%' }",
        "option 'min_free_space' is not available in this version; available are: name, path, kind, flush, rocks_params",
    ),
    (
        "configure_local_logs { log_dir = '/x', headers = { 'Subject' } }",
        "option 'headers' is not available in this version; available are: log_dir, max_file_size, max_segment_duration",
    ),
    ("configure_local_logs {}", "option 'log_dir' is missing: a folder"),
];

#[test]
fn a_mistake_in_init_is_named_with_its_line() {
    for (call, reason) in MISTAKES {
        let function = call.split([' ', '(']).next().unwrap();
        let error = error_of(&format!("kumo.on('init', function()\n  kumo.{call}\nend)"));
        let expected = format!(":2: in event 'init': kumo.{function}: {reason}");
        // What ends in the list of known options is not written out.
        let ends = error
            .strip_prefix(&expected)
            .map(|rest| rest == "; correct the policy" || reason.ends_with(", "));
        assert_eq!(ends, Some(true), "{call}: {error}");
    }
}

#[test]
fn saying_a_thing_twice_is_refused() {
    for (call, reason) in [
        ("start_esmtp_listener { listen = '127.0.0.1:25' }", "there is a listener on 127.0.0.1:25 already"),
        ("start_http_listener { listen = '127.0.0.1:25' }", "there is a listener on 127.0.0.1:25 already"),
        ("define_spool { name = 'data', path = '/x' }", "the spool 'data' is defined already"),
        ("configure_local_logs { log_dir = '/x' }", "the logs are configured already"),
    ] {
        let error = error_of(&format!("kumo.on('init', function() kumo.{call}; kumo.{call} end)"));
        assert!(error.contains(reason), "{error}");
    }
    let error = error_of("kumo.on('init', print)\nkumo.on('init', print)");
    assert_eq!(
        error,
        ":2: kumo.on: event 'init' has a handler already and takes only one; correct the policy"
    );
}

#[test]
fn kumo_on_refuses_what_would_never_be_called() {
    let known = "pre_init, init, smtp_server_message_received, get_queue_config, get_egress_path_config, get_egress_pool, get_egress_source, smtp_server_auth_plain, smtp_server_auth_scram, get_listener_domain";
    for (call, reason) in [
        (
            "kumo.on('smtp_server_ehlo', print)",
            format!("event 'smtp_server_ehlo' is not available in this version; available are: {known}"),
        ),
        ("kumo.on('innit', print)", format!("there is no event 'innit'; available are: {known}")),
        ("kumo.on('init')", "the handler of 'init' must be a function; a nil was given".to_owned()),
        ("kumo.on(print, 'init')", "the event's name must be text (UTF-8); a function was given".to_owned()),
    ] {
        assert_eq!(error_of(call), format!(":1: kumo.on: {reason}; correct the policy"));
    }
    let error = error_of("kumo.on('init', function() kumo.on('get_queue_config', print) end)");
    assert!(
        error.contains("kumo.on: may be called while the file is loaded only, not in a handler"),
        "{error}"
    );
}

#[test]
fn names_of_kumomta_that_do_nothing_here_are_errors_and_others_are_nil() {
    assert_eq!(
        error_of("\nkumo.make_throttle { name = 'a' }"),
        ":2: kumo.make_throttle: is not available in this version; correct the policy"
    );
    let error = error_of("require 'policy-extras.shaping'");
    assert!(error.contains("'policy-extras.shaping' of KumoMTA is not available in this version"), "{error}");
    assert!(error_of("os.exit(0)").contains("os.exit: a policy cannot end kumod"));
    load(&format!("{LISTEN}assert(kumo.no_such_thing == nil)")).unwrap();
}

#[test]
fn loading_is_limited_in_time_and_memory() {
    for source in ["\nwhile true do end", "kumo.on('init', function()\nwhile true do end end)"] {
        let (_dir, path) = written(source);
        let limits = Limits { start_time_max: Duration::ZERO, ..Limits::default() };
        let error = Policy::load_within(&path, &mut flag_defaults(), limits).unwrap_err();
        assert!(error.to_string().contains("stopped after running for 0 s"), "{error}");
        assert_eq!(error.line(), Some(2));
    }
    let (_dir, path) = written("local all = {}\nfor i = 1, 1e9 do all[i] = ('x'):rep(1e6) .. i end");
    let limits = Limits { memory_bytes_max: STATE_MEMORY_BYTES_MAX / 8, ..Limits::default() };
    let error = Policy::load_within(&path, &mut flag_defaults(), limits).unwrap_err().to_string();
    assert!(
        error.ends_with("a Lua state may hold 128 MiB at most; let the policy hold less at a time"),
        "{error}"
    );
}
