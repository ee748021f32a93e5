-- A sink: takes mail from this host and discards all of it.
--
--   kumod --policy sink.lua
--
-- SMTP on 127.0.0.1:2026, HTTP (liveness and metrics) on 127.0.0.1:8002. Nothing is delivered anywhere; each message leaves
-- a Reception record in the log folder and nothing else. Made to stand behind a relay that is being measured.

local kumo = require 'kumo'

kumo.on('init', function()
  -- Folders of its own, so that a sink and a relay can run side by side.
  kumo.define_spool { name = 'data', path = '/var/tmp/kumod-sink/spool' }
  kumo.configure_local_logs { log_dir = '/var/tmp/kumod-sink/log' }

  kumo.start_http_listener { listen = '127.0.0.1:8002' }
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:2026',
    relay_hosts = { '127.0.0.1', '::1' },
  }
end)

kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('queue', 'null')
end)
