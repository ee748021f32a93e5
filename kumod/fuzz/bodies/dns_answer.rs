//! Whatever a name server answers: no panic, hosts that can be asked for again and named in a log, within the limits, and the same site name
//! for the same answer.

use std::collections::BTreeSet;
use std::time::Instant;

use kumod::dns::{ADDRESSES_MAX, DnsError, MX_HOSTS_MAX, read_answer};

/// `message` is what came over the wire. Whether hosts were found in it.
pub(crate) fn run(message: &[u8]) -> bool {
    let read = || read_answer("domain.example", message, Instant::now());
    let (hosts, addresses) = match read() {
        Ok(found) => found,
        Err(error) => {
            let is_known = matches!(
                error,
                DnsError::NullMx { .. } | DnsError::NoAddress { .. } | DnsError::Temporary { .. }
            );
            assert!(is_known, "{error}");
            return false;
        }
    };
    assert!((1..=MX_HOSTS_MAX).contains(&hosts.hosts.len()), "{hosts:?}");
    assert!(addresses.len() <= 2 * ADDRESSES_MAX, "{addresses:?}");
    assert!(hosts.hosts.is_sorted_by_key(|host| host.preference), "{hosts:?}");
    assert!(!hosts.loopback_by_name, "an answer does not make loopback a place for mail: {hosts:?}");
    let names: BTreeSet<&str> = hosts.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names.len(), hosts.hosts.len(), "a host is tried twice: {hosts:?}");
    let is_host_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    for name in &names {
        assert!((1..=253).contains(&name.len()) && name.bytes().all(is_host_byte), "{name:?}");
        assert!(name.split('.').all(|label| (1..=63).contains(&label.len())), "{name:?}");
    }
    assert!(hosts.hosts.iter().all(|host| host.address.is_none() && host.port.is_none()), "{hosts:?}");
    let is_site_byte = |byte: u8| is_host_byte(byte) || b"(|)?".contains(&byte);
    assert!(!hosts.site_name.is_empty() && hosts.site_name.bytes().all(is_site_byte), "{hosts:?}");
    assert_eq!(read().map(|(again, _)| again.site_name).ok(), Some(hosts.site_name));
    true
}
