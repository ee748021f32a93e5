//! What kumod says of the way that mail would take.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::authority::Authority;
use support::home::{Home, Kumod};

fn policy(authority: &Authority) -> String {
    format!(
        "kumo.on('init', function()
  kumo.start_http_listener {{ listen = '127.0.0.1:0' }}
  kumo.start_esmtp_listener {{ listen = '127.0.0.1:0', hostname = 'mx.test' }}
  kumo.dns.configure_resolver {{ name_servers = {{ '{}' }} }}
end)
kumo.on('get_egress_source', function(name)
  if name == 'ip-1' then
    return kumo.make_egress_source {{ name = name, source_address = '192.0.2.5', ehlo_domain = 'one.mx.test', remote_port = 2525 }}
  end
end)
kumo.on('get_egress_path_config', function(domain, source, site)
  return kumo.make_egress_path {{
    connection_limit = 7, max_message_rate = '10/s', skip_hosts = {{ '198.51.100.0/24' }},
    additional_connection_limits = {{ provider = 3 }},
  }}
end)
",
        authority.address()
    )
}

fn ask(kumod: &Kumod, query: &str) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let address = format!("http://{}/api/admin/resolve-egress-path/v1{query}", kumod.http);
    let mut response = agent.get(address).call().unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap())
}

#[test]
fn each_value_is_told_with_where_it_comes_from() {
    let zone = "two MX 10 mx1.two\ntwo MX 20 mx2.two\nnull MX 0 .\n";
    let authority = Authority::start(&[("world.test.", zone)]);
    let home = Home::new();
    let kumod = home.start_policy(&policy(&authority));
    let (status, answer) = ask(&kumod, "?domain=two.world.test&source=ip-1");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["site_name"], "(mx1|mx2).two.world.test");
    assert_eq!(answer["ready_queue"], "ip-1->(mx1|mx2).two.world.test@smtp_client");
    assert_eq!(answer["hosts"][0]["name"], "mx1.two.world.test");
    for (name, value, from) in [
        ("connection_limit", json!(7), "get_egress_path_config"),
        ("max_ready", json!(1024), "default"),
        ("skip_hosts", json!(["198.51.100.0/24"]), "get_egress_path_config"),
        ("smtp_port", json!(2525), "remote_port of get_egress_source"),
        ("ehlo_domain", json!("one.mx.test"), "get_egress_source"),
        ("source_address", json!("192.0.2.5"), "get_egress_source"),
        ("connect_timeout", json!("60s"), "default"),
    ] {
        assert_eq!(answer["values"][name], json!({ "value": value, "from": from }), "{name}");
    }
    assert_eq!(answer["limits"][0], json!({ "connections": 3, "counted_as": "named:provider" }));
    let (_, of_host) = ask(&kumod, "?domain=two.world.test");
    assert_eq!(of_host["values"]["smtp_port"], json!({ "value": 25, "from": "command line" }));
    for (query, status, words) in [
        ("?domain=gone.world.test", 404, "does not exist"),
        ("?domain=null.world.test", 404, "accepts no mail"),
        ("?domain=two.world.test&source=nobody", 503, "no egress pool or source"),
        ("", 400, "say which domain"),
    ] {
        let (answered, reason) = ask(&kumod, query);
        let reason = reason["error"].as_str().unwrap().to_owned();
        assert!(answered == status && reason.contains(words), "{query}: {answered} {reason}");
    }
    kumod.stop();
}
