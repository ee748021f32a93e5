//! `get_queue_config` and `get_egress_path_config`: what handlers may answer.

use super::*;
use crate::config::{ReconnectStrategy, ThrottleSpec};

fn on_queue(body: &str) -> Policy {
    listening(&format!(
        "kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)\n{body}\nend)"
    ))
}

fn on_path(body: &str) -> Policy {
    listening(&format!(
        "kumo.on('get_egress_path_config', function(routing_domain, source, site_name)\n{body}\nend)"
    ))
}

fn queue_error(body: &str) -> String {
    let error = on_queue(body).queue_config("d", None, None, None).unwrap_err();
    error.to_string().split_once("policy.lua").unwrap().1.to_owned()
}

fn path_error(body: &str) -> String {
    let error = on_path(body).egress_path_config("d", "s", "m").unwrap_err();
    error.to_string().split_once("policy.lua").unwrap().1.to_owned()
}

#[test]
fn a_queue_is_shaped_by_its_parts() {
    let policy = on_queue(
        "assert(campaign == nil and routing_domain == 'r')
        if tenant == 'acme' then
            return kumo.make_queue_config { retry_interval = '5m', max_retry_interval = 3600, max_age = '1 day', max_message_rate = '1,000/h' }
        end",
    );
    assert!(policy.handles_queue_config());
    let config = policy.queue_config("d", Some("acme"), None, Some("r")).unwrap().unwrap();
    assert_eq!(config.retry_interval, Duration::from_secs(300));
    assert_eq!(config.max_retry_interval, Some(Duration::from_secs(3600)));
    assert_eq!(config.max_age, Duration::from_secs(86_400));
    assert_eq!(config.max_message_rate, Some("1,000/h".parse::<ThrottleSpec>().unwrap()));
    assert!(policy.queue_config("d", None, None, Some("r")).unwrap().is_none());
}

#[test]
fn the_first_handler_that_answers_shapes_the_queue() {
    let policy = listening(
        "kumo.on('get_queue_config', function(domain) if domain == 'a' then return { max_age = 1 } end end)
        kumo.on('get_queue_config', function(domain) if domain ~= 'c' then return { max_age = 2 } end end)",
    );
    let age = |domain| {
        policy.queue_config(domain, None, None, None).unwrap().map(|config| config.max_age.as_secs())
    };
    assert_eq!([age("a"), age("b"), age("c")], [Some(1), Some(2), None]);
}

#[test]
fn a_path_is_shaped_by_site_and_source() {
    let policy = on_path(
        "if site_name == 'mx.example' then
            return kumo.make_egress_path { connection_limit = '1,000', max_ready = 10, max_deliveries_per_connection = 5,
                prohibited_hosts = {}, enable_tls = 'Disabled', max_connection_rate = '5/s' }
        end",
    );
    assert!(policy.handles_egress_path_config());
    let config = policy.egress_path_config("d", "unspecified", "mx.example").unwrap().unwrap();
    assert_eq!(
        (config.connection_limit.0, config.max_ready, config.max_deliveries_per_connection),
        (1000, 10, 5)
    );
    assert!(config.prohibited_hosts.unwrap().is_empty());
    assert!(policy.egress_path_config("d", "unspecified", "other").unwrap().is_none());
}

#[test]
fn a_path_has_all_words_of_kumomta() {
    let policy = on_path(
        "return kumo.make_egress_path { reconnect_strategy = 'ReconnectSameHost', use_lmtp = true, data_dot_timeout = '5m',
            refresh_strategy = 'Epoch', smtp_auth_plain_username = 'u', smtp_auth_plain_password = { key_data = 'p' },
            smtp_auth_mechanism = 'login', dispatcher_wakeup_strategy = 'Relaxed', no_memory_reduction_policy = 'ShrinkData',
            low_memory_reduction_policy = 'NoShrink', maintainer_wakeup_strategy = 'Aggressive', readyq_pool_name = 'x',
            tls_prefer_openssl = false, provider_name = 'big', additional_source_selection_rates = { all = '5/s' } }",
    );
    let config = policy.egress_path_config("d", "s", "m").unwrap().unwrap();
    assert_eq!(config.reconnect_strategy, ReconnectStrategy::ReconnectSameHost);
    assert!(config.use_lmtp && config.smtp_auth_plain_password.unwrap().read().unwrap() == b"p");
    assert_eq!((config.data_dot_timeout.as_secs(), config.provider_name.as_deref()), (300, Some("big")));
    assert_eq!(config.smtp_auth_mechanism.unwrap().0.name(), "LOGIN");
}

#[test]
fn limits_that_are_shared_have_names() {
    let policy = on_path(
        "return { additional_connection_limits = { provider = 'local:20', all = 5 }, additional_message_rate_throttles = {} }",
    );
    let config = policy.egress_path_config("d", "unspecified", "mx").unwrap().unwrap();
    let limits: Vec<_> =
        config.additional_connection_limits.iter().map(|(name, n)| (name.as_str(), n.0)).collect();
    assert_eq!(limits, [("all", 5), ("provider", 20)]);
    assert!(config.additional_message_rate_throttles.is_empty());
    let error = queue_error("return { additional_message_rate_throttles = { spring = '5/parsec' } }");
    assert!(error.contains("throttle \"5/parsec\""), "{error}");
}

#[test]
fn no_handler_is_no_answer() {
    for policy in [Policy::none(), listening("")] {
        assert!(!policy.handles_queue_config() && !policy.handles_egress_path_config());
        assert!(policy.queue_config("d", None, None, None).unwrap().is_none());
        assert!(policy.egress_path_config("d", "s", "m").unwrap().is_none());
    }
}

#[test]
fn shapes_are_checked_where_they_are_made() {
    let queue = ":3: in event 'get_queue_config': kumo.make_queue_config: ";
    let known = "egress_pool, retry_interval, max_retry_interval, max_age, priority, dsn, dsn_delay, max_message_rate, overall_max_message_rate, \
                 additional_message_rate_throttles";
    for (options, reason) in [
        ("retry = 1", format!("there is no option 'retry'; known are: {known}")),
        (
            "shrink_policy = {}",
            format!("option 'shrink_policy' is not available in this version; available are: {known}"),
        ),
        ("max_age = 0", "option 'max_age' = 0 would stop all mail".to_owned()),
    ] {
        let error = queue_error(&format!("return kumo.make_queue_config {{ {options} }}"));
        assert_eq!(error, format!("{queue}{reason}; correct the policy"));
    }
    let path = ":3: in event 'get_egress_path_config': kumo.make_egress_path: ";
    for (options, reason) in [
        (
            "connection_limits = 1",
            "there is no option 'connection_limits' (is 'connection_limit' meant?); known are: connection_limit, "
                .to_owned(),
        ),
        (
            "openssl_options = 'x'",
            "option 'openssl_options' is not available: TLS is rustls here, and has no settings of OpenSSL; leave it out; \
             correct the policy"
                .to_owned(),
        ),
        (
            "tls_prefer_openssl = true",
            "option 'tls_prefer_openssl' = true: there is no OpenSSL here: TLS is rustls; write false".to_owned(),
        ),
        ("max_recipients_per_batch = 0", "option 'max_recipients_per_batch' = 0 would stop all mail".to_owned()),
        (
            "smtp_auth_plain_username = 'u'",
            "option 'smtp_auth_plain_username' needs smtp_auth_plain_password".to_owned(),
        ),
        (
            "smtp_auth_mechanism = 'CRAM-MD5'",
            "option 'smtp_auth_mechanism' = 'CRAM-MD5': there is no mechanism \"CRAM-MD5\"; known are: SCRAM-SHA-256, PLAIN, LOGIN"
                .to_owned(),
        ),
        (
            "connection_limit = 0",
            "option 'connection_limit' = 0: a limit of 0 would stop all mail".to_owned(),
        ),
        (
            "enable_tls = 'Sometimes'",
            "option 'enable_tls' = 'Sometimes': unknown variant `Sometimes`, expected one of `Opportunistic`, `OpportunisticInsecure`, \
             `Required`, `RequiredInsecure`, `Disabled`"
                .to_owned(),
        ),
        (
            "tls_certificate = '/x'",
            "options 'tls_certificate' and 'tls_private_key' belong together; give both or neither".to_owned(),
        ),
        (
            "rustls_cipher_suites = { 'RC4' }",
            "option 'rustls_cipher_suites' = [\"RC4\"]: there is no cipher suite \"RC4\"; known are: TLS13_AES_256_GCM_SHA384, \
             TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, \
             TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, \
             TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
                .to_owned(),
        ),
        ("max_ready = 0", "option 'max_ready' = 0 would stop all mail".to_owned()),
        (
            "ehlo_domain = 'a b'",
            "option 'ehlo_domain' must be a host name such as 'mail.example.com'".to_owned(),
        ),
    ] {
        let error = path_error(&format!("local made = kumo.make_egress_path {{ {options} }}\nreturn made"));
        assert!(error.starts_with(&format!("{path}{reason}")), "{error}");
        assert!(error.ends_with("; correct the policy"), "{error}");
    }
}

#[test]
fn pools_and_sources_are_read_and_checked() {
    let on = |body: &str| {
        listening(&format!(
            "kumo.on('get_egress_pool', function(name)\n{body}\nend)\nkumo.on('get_egress_source', function(name)\n{body}\nend)"
        ))
    };
    let pool = |body: &str| on(body).egress_pool("a");
    let source = |body: &str| on(body).egress_source("a");
    let both = "return kumo.make_egress_pool { name = 'a', entries = { { name = 'x', weight = 3 }, { name = 'y' } }, ttl = '5m' }";
    let read = pool(both).unwrap().unwrap();
    let entries: Vec<_> = read.entries.iter().map(|entry| (entry.name.as_str(), entry.weight)).collect();
    assert_eq!((entries, read.ttl), (vec![("x", 3), ("y", 1)], Duration::from_secs(300)));
    let read =
        source("return { name = 'a', source_address = '10.0.0.1', remote_port = 587 }").unwrap().unwrap();
    assert_eq!((read.source_address, read.remote_port), (Some([10, 0, 0, 1].into()), Some(587)));
    assert!(pool("return nil").unwrap().is_none() && source("return nil").unwrap().is_none());
    for (body, reason) in [
        ("return kumo.make_egress_pool {}", "option 'name': a name is missing"),
        ("return kumo.make_egress_pool { name = 'a->b' }", "option 'name': \"a->b\" is not a name"),
        ("return { name = 'a', entries = { { name = 'x' }, { name = 'x' } } }", "names the source 'x' twice"),
        ("return kumo.make_egress_source { name = 'a' }", "must return kumo.make_egress_pool"),
        ("return { name = 'b' }", "was asked about 'a' and answered with 'b'"),
    ] {
        let error = pool(body).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    for (body, reason) in [
        ("return { name = 'a', source_address = 'here' }", "option 'source_address' = 'here'"),
        (
            "return { name = 'a', warm_up = { begins = 'soon', messages_per_day = { 1 } } }",
            "\"soon\" is not a day",
        ),
        (
            "return { name = 'a', warm_up = { begins = '2026-11-01', messages_per_day = {} } }",
            "needs 1 to 366 days",
        ),
        ("return { name = 'a', suspend_when_unplumbed = { trigger = { Threshold = '3/5m' } } }", "duration"),
        ("return { name = 'a', remote_port = 0 }", "option 'remote_port' = 0"),
        ("return { name = 'a', ha_proxy_server = 'x' }", "names no port"),
    ] {
        let error = source(body).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn an_answer_of_another_kind_is_refused() {
    assert_eq!(
        queue_error("return 'fast'"),
        ": in event 'get_queue_config': the handler must return kumo.make_queue_config { ... } or nothing; \
         it returned a string; correct the policy"
    );
    assert!(queue_error("return kumo.make_egress_path {}").contains("must return kumo.make_queue_config"));
    assert!(path_error("return kumo.make_queue_config {}").contains("must return kumo.make_egress_path"));
    assert!(queue_error("error('x')").starts_with(":3: in event 'get_queue_config': x"));
    assert!(queue_error("kumo.reject(550, 'x')").contains("no client is waiting here"));
}
