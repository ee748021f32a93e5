//! Paths and mailboxes of the envelope (RFC 5321 4.1.2).
//!
//! Owns the grammar of `<local@domain>`: dot-atoms, quoted local parts, host names and address
//! literals, with UTF-8 where SMTPUTF8 was asked for (RFC 6531 3.3). Refuses everything else with an
//! [`AddressError`] that names the rule; never rewrites what it accepts, except that a source route
//! is dropped (RFC 5321 3.6.1, appendix C). Borrows from the input and allocates nothing, save for the owned
//! [`Address`].

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

/// Longest local part in bytes (RFC 5321 4.5.3.1.1).
pub const LOCAL_BYTES_MAX: usize = 64;
/// Longest domain in bytes (RFC 5321 4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Longest path in bytes, angle brackets included, source route left out (RFC 5321 4.5.3.1.3).
pub const PATH_BYTES_MAX: usize = 256;
/// Longest label of a host name in bytes (RFC 1035 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// A reverse or forward path, borrowed from the command line. The local part stands as written,
/// quotes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path<'a> {
    /// `<>`: the sender of notifications (RFC 5321 4.5.5).
    Null,
    /// `<local@domain>`; `<postmaster>` has an empty domain (RFC 5321 4.5.1).
    Mailbox {
        /// As written, quotes included.
        local: &'a str,
        /// As written; empty for `<postmaster>` only.
        domain: &'a str,
    },
}

/// A mailbox that owns its text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The part before the `@`, as written, quotes included.
    pub local: String,
    /// The part after the `@`; empty for `postmaster` only.
    pub domain: String,
}

/// The rule that an address breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AddressError {
    /// There is nothing where an address is needed.
    #[error("address is empty")]
    Empty,
    /// The path does not stand between `<` and `>`.
    #[error("path must stand between < and >")]
    Brackets,
    /// The local part is not a dot-atom and not a quoted string.
    #[error("local part is malformed; quote what is not a dot-atom")]
    Local,
    /// The local part is longer than [`LOCAL_BYTES_MAX`].
    #[error("local part is longer than {LOCAL_BYTES_MAX} bytes")]
    LocalTooLong,
    /// There is no `@domain`, and the local part is not postmaster.
    #[error("domain is missing")]
    DomainMissing,
    /// The domain is neither a host name nor an address literal.
    #[error("domain is malformed")]
    Domain,
    /// The domain is longer than [`DOMAIN_BYTES_MAX`].
    #[error("domain is longer than {DOMAIN_BYTES_MAX} bytes")]
    DomainTooLong,
    /// The path is longer than [`PATH_BYTES_MAX`].
    #[error("path is longer than {PATH_BYTES_MAX} bytes")]
    PathTooLong,
    /// The source route does not end in `:` or names a malformed domain.
    #[error("source route is malformed")]
    SourceRoute,
    /// The address is not ASCII and SMTPUTF8 was not asked for (RFC 6531 3.2).
    #[error("address is not ASCII; ask for SMTPUTF8 in MAIL")]
    Utf8Needed,
}

impl<'a> Path<'a> {
    /// Parses a complete path with its angle brackets; `smtputf8` admits UTF-8.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &'a str, smtputf8: bool) -> Result<Self, AddressError> {
        match Self::parse_prefix(text, smtputf8)? {
            (path, "") => Ok(path),
            _ => Err(AddressError::Brackets),
        }
    }

    /// Parses the path that `text` begins with, and returns it with what follows the `>`.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse_prefix(text: &'a str, smtputf8: bool) -> Result<(Self, &'a str), AddressError> {
        let inner = text.strip_prefix('<').ok_or(AddressError::Brackets)?;
        if let Some(rest) = inner.strip_prefix('>') {
            return Ok((Self::Null, rest));
        }
        let inner = skip_source_route(inner, smtputf8)?;
        let (path, rest) = parse_mailbox(inner, smtputf8)?;
        let rest = rest.strip_prefix('>').ok_or(AddressError::Brackets)?;
        Ok((path, rest))
    }

    /// Parses `local@domain` without angle brackets; the empty string is the null path.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse_bare(text: &'a str, smtputf8: bool) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Ok(Self::Null);
        }
        match parse_mailbox(text, smtputf8)? {
            (path, "") => Ok(path),
            _ => Err(AddressError::Domain),
        }
    }

    /// Whether this is the null reverse path.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The domain; empty for the null path and for `<postmaster>`.
    #[must_use]
    pub fn domain(&self) -> &'a str {
        match self {
            Self::Null => "",
            Self::Mailbox { domain, .. } => domain,
        }
    }

    /// The local part; empty for the null path.
    #[must_use]
    pub fn local(&self) -> &'a str {
        match self {
            Self::Null => "",
            Self::Mailbox { local, .. } => local,
        }
    }

    /// Whether the path holds bytes over 127.
    #[must_use]
    pub fn needs_utf8(&self) -> bool {
        !(self.local().is_ascii() && self.domain().is_ascii())
    }

    /// The owned form; `None` for the null path.
    #[must_use]
    pub fn to_address(&self) -> Option<Address> {
        match *self {
            Self::Null => None,
            Self::Mailbox { local, domain } => Some(Address { local: local.into(), domain: domain.into() }),
        }
    }
}

/// Without angle brackets; the null path is the empty string.
impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox { local, domain: "" } => f.write_str(local),
            Self::Mailbox { local, domain } => write!(f, "{local}@{domain}"),
        }
    }
}

impl Address {
    /// Parses `local@domain` without angle brackets; UTF-8 is admitted.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Path::parse_bare(text, true)?.to_address().ok_or(AddressError::Empty)
    }

    /// The borrowed form.
    #[must_use]
    pub fn as_path(&self) -> Path<'_> {
        Path::Mailbox { local: &self.local, domain: &self.domain }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_path().fmt(f)
    }
}

/// `@one,@two:` before the mailbox is accepted and ignored (RFC 5321 4.1.1.3).
fn skip_source_route(text: &str, smtputf8: bool) -> Result<&str, AddressError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let mut rest = text;
    loop {
        let hop = rest.strip_prefix('@').ok_or(AddressError::SourceRoute)?;
        let end = domain_end(hop);
        check_domain(&hop[..end], smtputf8).map_err(|_| AddressError::SourceRoute)?;
        rest = &hop[end..];
        if let Some(mailbox) = rest.strip_prefix(':') {
            return Ok(mailbox);
        }
        rest = rest.strip_prefix(',').ok_or(AddressError::SourceRoute)?;
    }
}

/// Parses `local@domain`, or `postmaster` alone; the rest begins at the byte that cannot belong to it.
fn parse_mailbox(text: &str, smtputf8: bool) -> Result<(Path<'_>, &str), AddressError> {
    let local_bytes = if text.starts_with('"') { quoted_end(text)? } else { dot_atom_end(text)? };
    let (local, rest) = text.split_at(local_bytes);
    if local.len() > LOCAL_BYTES_MAX {
        return Err(AddressError::LocalTooLong);
    }
    let Some(after_at) = rest.strip_prefix('@') else {
        if local.eq_ignore_ascii_case("postmaster") {
            return Ok((Path::Mailbox { local, domain: "" }, rest));
        }
        return Err(if local.is_empty() { AddressError::Empty } else { AddressError::DomainMissing });
    };
    if local.is_empty() {
        return Err(AddressError::Local);
    }
    let (domain, rest) = after_at.split_at(domain_end(after_at));
    check_domain(domain, smtputf8)?;
    if !smtputf8 && !local.is_ascii() {
        return Err(AddressError::Utf8Needed);
    }
    // Two angle brackets and the `@` belong to the path.
    if local.len() + domain.len() + 3 > PATH_BYTES_MAX {
        return Err(AddressError::PathTooLong);
    }
    Ok((Path::Mailbox { local, domain }, rest))
}

/// Where the dot-atom ends; dots only between atoms (RFC 5321 4.1.2, `Dot-string`).
fn dot_atom_end(text: &str) -> Result<usize, AddressError> {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|&byte| !is(byte, ATOM | DOT)).unwrap_or(bytes.len());
    let atom = &bytes[..end];
    let dot_at_edge = atom.first() == Some(&b'.') || atom.last() == Some(&b'.');
    if dot_at_edge || atom.windows(2).any(|pair| pair == b"..") {
        return Err(AddressError::Local);
    }
    Ok(end)
}

/// Where the quoted string ends, closing quote included (RFC 5321 4.1.2, `Quoted-string`).
fn quoted_end(text: &str) -> Result<usize, AddressError> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at + 1),
            b'\\' if bytes.get(at + 1).is_some_and(|&next| (32..=126).contains(&next)) => at += 2,
            b'\\' | 0..=31 | 127 => return Err(AddressError::Local),
            _ => at += 1,
        }
    }
    Err(AddressError::Local)
}

/// Where the domain or the address literal ends, judged by its bytes alone.
fn domain_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes.first() == Some(&b'[') {
        return memchr::memchr(b']', bytes).map_or(bytes.len(), |at| at + 1);
    }
    bytes.iter().position(|&byte| !is(byte, HOST | DOT)).unwrap_or(bytes.len())
}

fn check_domain(domain: &str, smtputf8: bool) -> Result<(), AddressError> {
    if domain.is_empty() {
        return Err(AddressError::DomainMissing);
    }
    if domain.len() > DOMAIN_BYTES_MAX {
        return Err(AddressError::DomainTooLong);
    }
    if let Some(literal) = domain.strip_prefix('[') {
        return check_literal(literal);
    }
    if !smtputf8 && !domain.is_ascii() {
        return Err(AddressError::Utf8Needed);
    }
    if domain.as_bytes().split(|&byte| byte == b'.').all(is_label) {
        Ok(())
    } else {
        Err(AddressError::Domain)
    }
}

/// A label of a host name. The underscore is no host name by RFC 952, but is seen in live domains.
fn is_label(label: &[u8]) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && label.first() != Some(&b'-')
        && label.last() != Some(&b'-')
}

/// `1.2.3.4]` or `IPv6:::1]` (RFC 5321 4.1.3); general tagged literals have no registered tag.
fn check_literal(text: &str) -> Result<(), AddressError> {
    let inner = text.strip_suffix(']').ok_or(AddressError::Domain)?;
    let tag = inner.get(..5).unwrap_or("");
    let valid = if tag.eq_ignore_ascii_case("IPv6:") {
        inner[5..].parse::<Ipv6Addr>().is_ok()
    } else {
        inner.parse::<Ipv4Addr>().is_ok()
    };
    if valid { Ok(()) } else { Err(AddressError::Domain) }
}

/// May stand in an atom (RFC 5321 4.1.2 `atext`); bytes over 127 too (RFC 6531 3.3).
const ATOM: u8 = 1;
/// May stand in a label of a host name; bytes over 127 too.
const HOST: u8 = 2;
/// The dot between atoms or labels.
const DOT: u8 = 4;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 255")]
        let value = byte as u8;
        table[byte] = match value {
            b'.' => DOT,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | 128..=255 => ATOM | HOST,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'/' | b'=' | b'?' | b'^' | b'`'
            | b'{' | b'|' | b'}' | b'~' => ATOM,
            _ => 0,
        };
        byte += 1;
    }
    table
}

fn is(byte: u8, classes: u8) -> bool {
    CLASSES[usize::from(byte)] & classes != 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn accepts() {
        let table = [
            ("<a@b>", "a", "b"),
            ("<first.last+tag@mx-1.example.org>", "first.last+tag", "mx-1.example.org"),
            ("<\"john doe\"@example.org>", "\"john doe\"", "example.org"),
            ("<\"a\\\"b>c\"@example.org>", "\"a\\\"b>c\"", "example.org"),
            ("<\"\"@example.org>", "\"\"", "example.org"),
            ("<a@[127.0.0.1]>", "a", "[127.0.0.1]"),
            ("<a@[IPv6:::1]>", "a", "[IPv6:::1]"),
            ("<a@[ipv6:2001:db8::7]>", "a", "[ipv6:2001:db8::7]"),
            ("<Postmaster>", "Postmaster", ""),
            ("<postmaster@x>", "postmaster", "x"),
            ("<@hop.example,@other.example:a@b.example>", "a", "b.example"),
            ("<a@_dmarc.example>", "a", "_dmarc.example"),
        ];
        for (text, local, domain) in table {
            assert_eq!(Path::parse(text, false), Ok(Path::Mailbox { local, domain }), "{text}");
        }
        assert_eq!(Path::parse("<>", false), Ok(Path::Null));
    }

    #[test]
    fn refuses() {
        let table = [
            ("", AddressError::Brackets),
            ("a@b", AddressError::Brackets),
            ("<a@b", AddressError::Brackets),
            ("<a@b>x", AddressError::Brackets),
            ("<a b@c>", AddressError::DomainMissing),
            ("< >", AddressError::Empty),
            ("<@b>", AddressError::SourceRoute),
            ("<@b:>", AddressError::Empty),
            ("<@b;a@c>", AddressError::SourceRoute),
            ("<.a@b>", AddressError::Local),
            ("<a.@b>", AddressError::Local),
            ("<a..b@c>", AddressError::Local),
            ("<\"a@b>", AddressError::Local),
            ("<\"a\\\u{1}\"@b>", AddressError::Local),
            ("<a>", AddressError::DomainMissing),
            ("<a@>", AddressError::DomainMissing),
            ("<a@b..c>", AddressError::Domain),
            ("<a@b.>", AddressError::Domain),
            ("<a@-b>", AddressError::Domain),
            ("<a@b->", AddressError::Domain),
            ("<a@[1.2.3]>", AddressError::Domain),
            ("<a@[1.2.3.4>", AddressError::Domain),
            ("<a@[x:1]>", AddressError::Domain),
            ("<a@b,c>", AddressError::Brackets),
            ("<ä@b>", AddressError::Utf8Needed),
            ("<a@bücher.example>", AddressError::Utf8Needed),
        ];
        for (text, error) in table {
            assert_eq!(Path::parse(text, false), Err(error), "{text}");
        }
    }

    #[test]
    fn utf8_where_asked_for() {
        let path = Path::parse("<δοκιμή@παράδειγμα.δοκιμή>", true).unwrap();
        assert!(path.needs_utf8());
        assert_eq!(path.to_string(), "δοκιμή@παράδειγμα.δοκιμή");
        assert!(!Path::parse("<a@b>", true).unwrap().needs_utf8());
    }

    #[test]
    fn limits_are_exact() {
        let fits = format!("<{}@b>", "a".repeat(LOCAL_BYTES_MAX));
        assert!(Path::parse(&fits, false).is_ok());
        let over = format!("<{}@b>", "a".repeat(LOCAL_BYTES_MAX + 1));
        assert_eq!(Path::parse(&over, false), Err(AddressError::LocalTooLong));

        let label = "d".repeat(LABEL_BYTES_MAX);
        assert!(Path::parse(&format!("<a@{label}>"), false).is_ok());
        assert_eq!(Path::parse(&format!("<a@{label}d>"), false), Err(AddressError::Domain));

        let domain = format!("{label}.{label}.{label}.{}", "d".repeat(PATH_BYTES_MAX - 4 - 3 * 64));
        assert_eq!(domain.len() + 4, PATH_BYTES_MAX);
        assert!(Path::parse(&format!("<a@{domain}>"), false).is_ok());
        assert_eq!(Path::parse(&format!("<ab@{domain}>"), false), Err(AddressError::PathTooLong));
        assert_eq!(Path::parse(&format!("<a@{domain}.{label}>"), false), Err(AddressError::DomainTooLong));
    }

    #[test]
    fn owned_form() {
        let address: Address = "a@b.example".parse().unwrap();
        assert_eq!((address.local.as_str(), address.domain.as_str()), ("a", "b.example"));
        assert_eq!(address.to_string(), "a@b.example");
        assert_eq!(Address::parse("postmaster").unwrap().to_string(), "postmaster");
        assert_eq!(Address::parse(""), Err(AddressError::Empty));
        assert_eq!(Address::parse("a@b c"), Err(AddressError::Domain));
        assert_eq!(Path::Null.to_string(), "");
    }

    #[test]
    fn prefix_leaves_the_parameters() {
        assert_eq!(
            Path::parse_prefix("<a@b> SIZE=1", false),
            Ok((Path::Mailbox { local: "a", domain: "b" }, " SIZE=1"))
        );
        assert_eq!(Path::parse_prefix("<> X", false), Ok((Path::Null, " X")));
    }
}
