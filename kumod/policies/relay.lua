-- A relay for the programs of this host: safe as it stands, and meant to be copied and changed.
--
--   kumod --policy relay.lua
--
-- SMTP on 127.0.0.1:2025 and HTTP on 127.0.0.1:8000, mail from this host only, next hop by DNS.

local kumo = require 'kumo'

-- Name a host to send all mail there instead of asking DNS: 'mail.example.com', or an address with a port,
-- '[192.0.2.10]:2525'.
local next_hop = nil

-- Limits of single sites, by the domain that mail is routed to. What is not named here keeps the defaults.
local site_limits = {
  ['example.com'] = { connection_limit = 4, max_message_rate = '100/s' },
  ['example.net'] = { connection_limit = 10, max_deliveries_per_connection = 100 },
}

kumo.on('init', function()
  -- Accepted mail. The folder must be on a real disk, and writable for the user that kumod runs as.
  kumo.define_spool { name = 'data', path = '/var/spool/kumod/data' }

  -- One record for each message received and for each attempt to deliver it.
  kumo.configure_local_logs { log_dir = '/var/log/kumod' }

  -- Liveness and metrics.
  kumo.start_http_listener {
    listen = '127.0.0.1:8000',
    trusted_hosts = { '127.0.0.1', '::1' },
  }

  -- Whoever is in relay_hosts may send to anywhere; everybody else is refused. Widen it with care: a network that strangers
  -- can reach makes this an open relay.
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:2025',
    relay_hosts = { '127.0.0.1', '::1' },
    -- hostname = 'mail.example.com',
    max_message_size = 20 * 1024 * 1024,
  }
end)

-- How often a message that could not be delivered is tried again, and for how long.
kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  return kumo.make_queue_config {
    retry_interval = '20 minutes',
    max_retry_interval = '4 hours',
    max_age = '5 days',
  }
end)

-- How mail travels to one site. A site without an entry above gets kumod's defaults.
kumo.on('get_egress_path_config', function(routing_domain, source, site_name)
  local limits = site_limits[routing_domain]
  if limits then
    return kumo.make_egress_path(limits)
  end
end)

-- Without a handler for it, no message waits for this file.
if next_hop then
  kumo.on('smtp_server_message_received', function(msg)
    msg:set_meta('queue', next_hop)
  end)
end
