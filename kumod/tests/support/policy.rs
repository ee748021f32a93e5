//! Policies for the tests, in KumoMTA's Lua.

use std::fmt::Write;
use std::net::SocketAddr;

/// Listeners on free ports.
pub(crate) const LISTENERS: &str = "\
local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', hostname = 'mx.test' }
end)
";

/// Retries as soon as kumod can.
pub(crate) const RETRY_SOON: &str = "\
kumo.on('get_queue_config', function()
  return kumo.make_queue_config { retry_interval = '1s', max_retry_interval = '1s' }
end)
";

/// Lets mail go to loopback addresses that policy names.
pub(crate) const LOOPBACK_ALLOWED: &str = "\
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path { prohibited_hosts = {} }
end)
";

/// Free ports, quick retries, loopback allowed, and mail for each domain to the address beside it.
pub(crate) fn hops(hops: &[(&str, SocketAddr)]) -> String {
    hops_behind(LISTENERS, hops)
}

/// The same, with further options of all paths.
pub(crate) fn hops_with(options: &str, hops: &[(&str, SocketAddr)]) -> String {
    self::hops(hops)
        .replace("{ prohibited_hosts = {} }", &format!("{{ prohibited_hosts = {{}}, {options} }}"))
}

/// The same with other listeners.
pub(crate) fn hops_behind(listeners: &str, hops: &[(&str, SocketAddr)]) -> String {
    let mut text = [listeners, RETRY_SOON, LOOPBACK_ALLOWED, "local hops = {\n"].concat();
    for (domain, address) in hops {
        writeln!(text, "  ['{domain}'] = '[{}]:{}',", address.ip(), address.port()).unwrap();
    }
    text.push_str(
        "}
kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('queue', hops[msg:recipient().domain])
end)
",
    );
    text
}
