//! From MX records to the hosts of a domain and the name of their site. No network and no clock.
//!
//! What a domain is written as is checked here, before anybody is asked: an address literal and a name under `.localhost` are answered
//! at once. Host names that are not host names are left out, so that a site name can be taken for what it shows.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use hickory_resolver::proto::rr::Name;

use super::DnsError;

/// Hosts of one domain that are tried; the ones with the highest preference values are left out.
pub const MX_HOSTS_MAX: usize = 32;
/// RFC 1035 2.3.4, without the root's trailing dot.
const NAME_BYTES_MAX: usize = 253;
/// RFC 1035 2.3.4.
const LABEL_BYTES_MAX: usize = 63;

/// The hosts that take the mail of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailHosts {
    /// One name for the set of hosts: domains that share their hosts share it, and with it their ready queue.
    pub site_name: String,
    /// The hosts, lowest preference value first, in random order within one value (RFC 5321 5.1). Not empty.
    pub hosts: Vec<MailHost>,
    /// When this has to be asked again.
    pub expires: Instant,
    /// The domain itself lies under `.localhost`, so that loopback is where its mail belongs. Not set for a domain elsewhere whose MX
    /// points there.
    pub loopback_by_name: bool,
    /// MX records name the hosts; otherwise the domain itself does.
    pub is_mx: bool,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailHost {
    /// Its name; for a literal the address in brackets.
    pub name: String,
    /// Lower is tried first.
    pub preference: u16,
    /// The address, where the domain was a literal: nothing is asked then.
    pub address: Option<IpAddr>,
    /// The port, where the literal carried one.
    pub port: Option<u16>,
}

impl MailHosts {
    /// The hosts in an order in which to try them: shuffled anew within each preference, so that connections spread.
    pub fn attempt_order(&self) -> Vec<&MailHost> {
        let mut hosts: Vec<&MailHost> = self.hosts.iter().collect();
        fastrand::shuffle(&mut hosts);
        hosts.sort_by_key(|host| host.preference);
        hosts
    }

    /// The same with some of the hosts only; `None` where that is nobody. The site is named for those that are left.
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Option<Self> {
        let hosts: Vec<MailHost> = self.hosts.iter().filter(|host| keep(&host.name)).cloned().collect();
        let site_name = match hosts.len() {
            0 => return None,
            all if all == self.hosts.len() => self.site_name.clone(),
            _ => site_name(hosts.iter().map(|host| host.name.as_str())),
        };
        Some(Self { site_name, hosts, ..*self })
    }

    /// Hosts for MX records: null MX (RFC 7505) and nonsense sorted out, ordered, cut to [`MX_HOSTS_MAX`], shuffled.
    pub(super) fn from_records(
        domain: &str,
        records: Vec<(u16, String)>,
        expires: Instant,
    ) -> Result<Self, DnsError> {
        let named: BTreeSet<(u16, String)> = records.iter().filter_map(usable).collect();
        let mut hosts: Vec<MailHost> = Vec::with_capacity(named.len().min(MX_HOSTS_MAX));
        for (preference, name) in named {
            let known = hosts.iter().any(|host| host.name == name);
            if !known && hosts.len() < MX_HOSTS_MAX {
                hosts.push(MailHost { name, preference, address: None, port: None });
            }
        }
        if hosts.is_empty() {
            let domain = domain.to_owned();
            let null = records.iter().any(|(_, name)| name.trim_end_matches('.').is_empty());
            return Err(if null {
                DnsError::NullMx { domain }
            } else {
                DnsError::NoAddress { host: domain }
            });
        }
        let site_name = site_name(hosts.iter().map(|host| host.name.as_str()));
        fastrand::shuffle(&mut hosts);
        hosts.sort_by_key(|host| host.preference);
        Ok(Self { site_name, hosts, expires, loopback_by_name: false, is_mx: true })
    }

    /// The domain as its own host: implicit MX (RFC 5321 5.1), or a name under `.localhost`.
    pub(super) fn itself(domain: &str, expires: Instant, loopback_by_name: bool) -> Self {
        let host = MailHost { name: domain.to_owned(), preference: 0, address: None, port: None };
        Self { site_name: domain.to_owned(), hosts: vec![host], expires, loopback_by_name, is_mx: false }
    }

    /// The host that a literal names.
    pub(super) fn literal(address: IpAddr, port: Option<u16>, expires: Instant) -> Self {
        let name = format!("[{address}]");
        let site_name = port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        let host = MailHost { name, preference: 0, address: Some(address), port };
        Self { site_name, hosts: vec![host], expires, loopback_by_name: false, is_mx: false }
    }
}

fn usable((preference, name): &(u16, String)) -> Option<(u16, String)> {
    normalize(name).ok().map(|name| (*preference, name.into_owned()))
}

/// What stands after the `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 4.1.3), `[::1]:2526`.
    Literal(IpAddr, Option<u16>),
    /// `localhost` or a name under it (RFC 6761 6.3).
    Loopback(Cow<'a, str>),
    /// A name to ask for.
    Domain(Cow<'a, str>),
}

impl<'a> Target<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, DnsError> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = literal(rest).ok_or_else(|| DnsError::Invalid {
                domain: text.to_owned(),
                reason: "an address literal is [192.0.2.1] or [IPv6:2001:db8::1], with :PORT after it if need be",
            })?;
            return Ok(Self::Literal(address, port));
        }
        let name = normalize(text).map_err(|reason| DnsError::Invalid { domain: text.to_owned(), reason })?;
        Ok(if is_localhost(&name) { Self::Loopback(name) } else { Self::Domain(name) })
    }
}

fn literal(rest: &str) -> Option<(IpAddr, Option<u16>)> {
    let (address, after) = rest.split_once(']')?;
    let port = match after {
        "" => None,
        _ => Some(after.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?),
    };
    let tagged = address.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("ipv6:"));
    let address = if tagged { IpAddr::V6(address[5..].parse().ok()?) } else { address.parse().ok()? };
    Some((address, port))
}

/// Whether a normal name is `localhost` or lies under it.
pub(super) fn is_localhost(name: &str) -> bool {
    name.strip_suffix("localhost").is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A name in small letters, ASCII (IDNA where it was not), without a trailing dot; or the rule that it breaks.
pub(super) fn normalize(name: &str) -> Result<Cow<'_, str>, &'static str> {
    if !name.is_ascii() {
        // The conversion takes time that grows with the name, so what is hopeless is refused first.
        let short = name.len() <= 4 * NAME_BYTES_MAX;
        let ascii = Name::from_utf8(name).ok().filter(|_| short).map(|converted| converted.to_ascii());
        let ascii = ascii.ok_or("it cannot be written in ASCII (IDNA)")?;
        return normalize(&ascii).map(|name| Cow::Owned(name.into_owned()));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > NAME_BYTES_MAX {
        return Err("a domain name has at most 253 bytes");
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > LABEL_BYTES_MAX) {
        return Err("a label of a domain name has 1 to 63 bytes");
    }
    let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(host_byte) {
        return Err("a domain name has letters, digits and hyphens");
    }
    let small = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok(if small { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
}

/// One name for a set of hosts, whatever their order.
///
/// Labels are laid over each other from the right; where they differ the choices stand in parentheses, and `?` marks a label
/// that some names lack: `(alt1|alt2)?.gmail-smtp-in.l.google.com`. That is only done when the pattern stands for exactly these
/// names. Otherwise somebody could publish hosts of his own that fold to another site's name and share its queue; such a set is
/// named by all its members.
fn site_name<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: BTreeSet<&str> = names.collect();
    let labels: Vec<Vec<&str>> = names.iter().map(|name| name.rsplit('.').collect()).collect();
    let depth = labels.iter().map(Vec::len).max().unwrap_or(0);
    let places: Vec<BTreeSet<Option<&str>>> =
        (0..depth).map(|place| labels.iter().map(|name| name.get(place).copied()).collect()).collect();
    let optional = places.iter().filter(|choices| choices.contains(&None)).count();
    let meanings = places.iter().try_fold(1_usize, |product, choices| product.checked_mul(choices.len()));
    // With two optional labels a pattern also stands for names that have only the outer one.
    if meanings != Some(names.len()) || optional > 1 {
        return format!("({})", names.into_iter().collect::<Vec<_>>().join("|"));
    }
    places.iter().rev().map(place_pattern).collect::<Vec<_>>().join(".")
}

fn place_pattern(choices: &BTreeSet<Option<&str>>) -> String {
    let labels: Vec<&str> = choices.iter().flatten().copied().collect();
    match (labels.as_slice(), choices.contains(&None)) {
        ([only], false) => (*only).to_owned(),
        (_, false) => format!("({})", labels.join("|")),
        (_, true) => format!("({})?", labels.join("|")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn site(names: &[&str]) -> String {
        site_name(names.iter().copied())
    }

    #[test]
    fn sets_of_hosts_fold_to_one_name() {
        let google = [
            "gmail-smtp-in",
            "alt1.gmail-smtp-in",
            "alt2.gmail-smtp-in",
            "alt4.gmail-smtp-in",
            "alt3.gmail-smtp-in",
        ]
        .map(|name| format!("{name}.l.google.com"));
        let google: Vec<&str> = google.iter().map(String::as_str).collect();
        for (names, folded) in [
            (&google[..], "(alt1|alt2|alt3|alt4)?.gmail-smtp-in.l.google.com"),
            (&["mx.example.com"], "mx.example.com"),
            (
                &["mta7.am0.yahoodns.net", "mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net"],
                "(mta5|mta6|mta7).am0.yahoodns.net",
            ),
            (
                &["mx1.a.example", "mx2.a.example", "mx1.b.example", "mx2.b.example"],
                "(mx1|mx2).(a|b).example",
            ),
            (&["b.example", "a.b.example"], "(a)?.b.example"),
            // A pattern for these would also stand for other hosts.
            (&["mx.a.com", "mx.b.net"], "(mx.a.com|mx.b.net)"),
            (&["com", "mx.a.com"], "(com|mx.a.com)"),
        ] {
            assert_eq!(site(names), folded);
        }
    }

    #[test]
    fn a_site_that_lost_hosts_is_named_for_the_others() {
        let records = ["mx1.a.test", "mx2.a.test", "mx3.a.test"].map(|name| (10, name.to_owned()));
        let all = MailHosts::from_records("a.test", records.into(), Instant::now()).unwrap();
        assert_eq!(all.only(|_| true).unwrap(), all);
        let some = all.only(|name| name != "mx2.a.test").unwrap();
        assert_eq!((some.site_name.as_str(), some.hosts.len()), ("(mx1|mx3).a.test", 2));
        assert!(all.only(|_| false).is_none());
    }

    /// All names that a folded name stands for.
    fn unfold(folded: &str) -> BTreeSet<String> {
        if folded.starts_with('(') && folded.ends_with(')') {
            return folded[1..folded.len() - 1].split('|').map(str::to_owned).collect();
        }
        let mut names = BTreeSet::from([String::new()]);
        for place in folded.rsplit('.') {
            let (choices, optional) =
                place.strip_suffix('?').map_or((place, false), |choices| (choices, true));
            let choices = choices.trim_start_matches('(').trim_end_matches(')');
            let grown = names.iter().flat_map(|tail| {
                let join = |label: &str| {
                    if tail.is_empty() { label.to_owned() } else { format!("{label}.{tail}") }
                };
                let without = optional.then(|| tail.clone());
                choices.split('|').map(join).chain(without).collect::<Vec<_>>()
            });
            names = grown.collect();
        }
        names
    }

    proptest! {
        #[test]
        fn a_site_name_stands_for_its_hosts_and_no_others(names in proptest::collection::btree_set("[a-c]{1,2}(\\.[a-c]{1}){0,3}", 1..8)) {
            prop_assert_eq!(unfold(&site_name(names.iter().map(String::as_str))), names);
        }

        #[test]
        fn the_order_of_the_records_does_not_matter(mut records in proptest::collection::vec((0_u16..3, "[a-c]\\.[a-c]\\.example\\."), 1..8)) {
            let one = MailHosts::from_records("x.example", records.clone(), Instant::now()).unwrap();
            fastrand::shuffle(&mut records);
            let other = MailHosts::from_records("x.example", records, Instant::now()).unwrap();
            prop_assert_eq!(one.site_name, other.site_name);
            prop_assert!(other.hosts.is_sorted_by_key(|host| host.preference));
        }

        #[test]
        fn what_is_written_after_the_at_never_panics(text in ".{0,80}") {
            if let Ok(Target::Domain(name)) = Target::parse(&text) {
                prop_assert_eq!(normalize(&name).unwrap(), name.as_ref());
            }
        }
    }

    #[test]
    fn literals_are_read_with_and_without_a_port() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        for (text, address, port) in [
            ("[192.0.2.1]", "192.0.2.1".parse().unwrap(), None),
            ("[192.0.2.1]:2526", "192.0.2.1".parse().unwrap(), Some(2526)),
            ("[IPv6:2001:db8::1]", v6, None),
            ("[ipv6:2001:DB8::1]:25", v6, Some(25)),
            ("[2001:db8::1]:2526", v6, Some(2526)),
        ] {
            assert_eq!(Target::parse(text).unwrap(), Target::Literal(address, port), "{text}");
        }
        for text in [
            "[",
            "[]",
            "[192.0.2.1",
            "[192.0.2.1]25",
            "[192.0.2.1]:0",
            "[192.0.2.1]:99999",
            "[IPv6:192.0.2.1]",
            "[a.example]",
        ] {
            assert!(matches!(Target::parse(text), Err(DnsError::Invalid { .. })), "{text}");
        }
        let hosts = MailHosts::literal(v6, Some(2526), Instant::now());
        assert_eq!(
            (hosts.site_name.as_str(), hosts.hosts[0].name.as_str()),
            ("[2001:db8::1]:2526", "[2001:db8::1]")
        );
    }

    #[test]
    fn names_are_put_into_one_form_or_refused() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = ["a"; 128].join(".");
        for (text, normal) in [
            ("Example.COM.", Some("example.com")),
            ("b\u{fc}cher.example", Some("xn--bcher-kva.example")),
            ("_dmarc.a-b.example", Some("_dmarc.a-b.example")),
            ("", None),
            (".", None),
            ("a..example", None),
            (".a.example", None),
            ("a b.example", None),
            ("(a|b).example", None),
            ("a.example:25", None),
            (&long_label, None),
            (&long_name, None),
        ] {
            assert_eq!(normalize(text).ok().as_deref(), normal, "{text:?}");
        }
    }

    #[test]
    fn only_names_under_localhost_are_loopback() {
        for (text, loopback) in [
            ("localhost", true),
            ("A.LocalHost.", true),
            ("mx.sink.localhost", true),
            ("notlocalhost", false),
            ("localhost.example", false),
        ] {
            assert_eq!(matches!(Target::parse(text).unwrap(), Target::Loopback(_)), loopback, "{text}");
        }
    }

    #[test]
    fn a_null_mx_counts_only_when_it_stands_alone() {
        let hosts = |records: &[(u16, &str)]| {
            let records =
                records.iter().map(|(preference, name)| (*preference, (*name).to_owned())).collect();
            MailHosts::from_records("x.example", records, Instant::now())
        };
        assert_eq!(hosts(&[(0, ".")]), Err(DnsError::NullMx { domain: "x.example".to_owned() }));
        assert_eq!(hosts(&[(0, "."), (10, "mx.example.")]).unwrap().hosts.len(), 1);
        assert_eq!(
            hosts(&[(0, "not\\032a.host.")]),
            Err(DnsError::NoAddress { host: "x.example".to_owned() })
        );
    }

    #[test]
    fn too_many_hosts_are_cut_at_the_far_end() {
        let records = (0..100).map(|number| (number, format!("mx{number}.example."))).collect();
        let hosts = MailHosts::from_records("x.example", records, Instant::now()).unwrap().hosts;
        assert_eq!((hosts.len(), hosts[MX_HOSTS_MAX - 1].preference), (MX_HOSTS_MAX, 31));
    }

    #[test]
    fn attempts_spread_within_a_preference_and_never_across() {
        let records = (0..20).map(|number| (number / 10, format!("mx{number}.example."))).collect();
        let hosts = MailHosts::from_records("x.example", records, Instant::now()).unwrap();
        let orders: Vec<Vec<&MailHost>> = (0..10).map(|_| hosts.attempt_order()).collect();
        assert!(orders.iter().all(|order| order.is_sorted_by_key(|host| host.preference)));
        assert!(
            orders.windows(2).any(|pair| pair[0] != pair[1]),
            "ten shuffles of twenty hosts cannot all be alike"
        );
    }
}
