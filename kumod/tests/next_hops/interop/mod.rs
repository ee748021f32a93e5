//! Mail servers and proxies of others, from Debian, as kumod's next hops.

mod mail_servers;
mod proxies;
