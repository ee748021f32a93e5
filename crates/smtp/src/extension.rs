//! Service extensions: what a server announces after EHLO, and what a client makes of it.
//!
//! Owns the list of extensions that this crate knows: PIPELINING (RFC 2920), CHUNKING (RFC 3030),
//! 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), SIZE (RFC 1870), ENHANCEDSTATUSCODES (RFC 2034),
//! STARTTLS (RFC 3207), DSN (RFC 3461), BINARYMIME (RFC 3030), REQUIRETLS (RFC 8689), LIMITS (RFC 9422), XCLIENT (Postfix) and the
//! mechanisms of AUTH (RFC 4954). Refuses nothing: keywords that it does
//! not know are skipped, as RFC 5321 4.1.1.1 asks.

use crate::reply::write_number;

/// What one server offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Commands may be sent without waiting for replies.
    pub pipelining: bool,
    /// BDAT.
    pub chunking: bool,
    /// Bodies with bytes over 127.
    pub eight_bit_mime: bool,
    /// Addresses and headers in UTF-8.
    pub smtputf8: bool,
    /// Replies carry codes of RFC 3463.
    pub enhanced_status_codes: bool,
    /// TLS can be begun.
    pub starttls: bool,
    /// SIZE was announced, with this limit in bytes; 0 stands for no fixed limit (RFC 1870 3).
    pub size: Option<u64>,
    /// Mechanisms of AUTH, in capitals (RFC 4954 3).
    pub auth: Vec<String>,
    /// Notifications can be asked for (RFC 3461).
    pub dsn: bool,
    /// Bodies without lines, by BDAT (RFC 3030 3).
    pub binary_mime: bool,
    /// REQUIRETLS is known; offered through TLS only (RFC 8689 2).
    pub require_tls: bool,
    /// Most transactions of one connection and recipients of one transaction (RFC 9422), each at least 1.
    pub limits: Option<(u32, usize)>,
    /// XCLIENT is known.
    pub xclient: bool,
}

impl Capabilities {
    /// Reads the text of a reply to EHLO; its first line, the greeting, is skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut capabilities = Self::default();
        for line in text.split('\n').skip(1) {
            capabilities.add(line);
        }
        capabilities
    }

    /// The largest message in bytes that the server takes; `None` where it named no limit.
    #[must_use]
    pub fn size_limit(&self) -> Option<u64> {
        self.size.filter(|&limit| limit > 0)
    }

    /// Appends the positive reply to EHLO with `greeting` in its first line.
    pub fn write(&self, greeting: &str, out: &mut Vec<u8>) {
        let keywords = [
            (self.pipelining, "PIPELINING"),
            (self.chunking, "CHUNKING"),
            (self.eight_bit_mime, "8BITMIME"),
            (self.smtputf8, "SMTPUTF8"),
            (self.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
            (self.starttls, "STARTTLS"),
            (self.dsn, "DSN"),
            (self.binary_mime, "BINARYMIME"),
            (self.require_tls, "REQUIRETLS"),
            (self.xclient, "XCLIENT ADDR PORT DESTADDR DESTPORT"),
        ];
        out.extend_from_slice(b"250-");
        let mut last = out.len() - 1;
        out.extend_from_slice(greeting.as_bytes());
        out.extend_from_slice(b"\r\n");
        let mut begin = |out: &mut Vec<u8>, keyword: &str| {
            out.extend_from_slice(b"250-");
            last = out.len() - 1;
            out.extend_from_slice(keyword.as_bytes());
        };
        for (_, keyword) in keywords.iter().filter(|(offered, _)| *offered) {
            begin(out, keyword);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(size) = self.size {
            begin(out, "SIZE ");
            write_number(size, out);
            out.extend_from_slice(b"\r\n");
        }
        if let Some((messages, recipients)) = self.limits {
            begin(out, "LIMITS MAILMAX=");
            write_number(u64::from(messages), out);
            out.extend_from_slice(b" RCPTMAX=");
            write_number(recipients as u64, out);
            out.extend_from_slice(b"\r\n");
        }
        if !self.auth.is_empty() {
            begin(out, "AUTH");
            for mechanism in &self.auth {
                out.push(b' ');
                out.extend_from_slice(mechanism.as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
        out[last] = b' ';
    }

    /// Limits that are not named, or not known to us, do not bind (RFC 9422 4).
    fn add_limits(&mut self, line: &str) {
        let value = |name: &str| {
            let mut words = line.split(' ').filter_map(|word| word.split_once('='));
            words
                .find(|(keyword, _)| keyword.eq_ignore_ascii_case(name))
                .and_then(|(_, value)| value.parse::<u64>().ok())
                // There is no limit of nothing (RFC 9422 4).
                .filter(|value| *value > 0)
        };
        let messages = value("MAILMAX").and_then(|value| u32::try_from(value).ok());
        let recipients = value("RCPTMAX").and_then(|value| usize::try_from(value).ok());
        if messages.is_some() || recipients.is_some() {
            self.limits = Some((messages.unwrap_or(u32::MAX), recipients.unwrap_or(usize::MAX)));
        }
    }

    fn add(&mut self, line: &str) {
        // Some old servers write AUTH=PLAIN; the form costs nothing to read.
        let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or("");
        let is = |name: &str| keyword.eq_ignore_ascii_case(name);
        if is("PIPELINING") {
            self.pipelining = true;
        } else if is("CHUNKING") {
            self.chunking = true;
        } else if is("8BITMIME") {
            self.eight_bit_mime = true;
        } else if is("SMTPUTF8") {
            self.smtputf8 = true;
        } else if is("ENHANCEDSTATUSCODES") {
            self.enhanced_status_codes = true;
        } else if is("STARTTLS") {
            self.starttls = true;
        } else if is("DSN") {
            self.dsn = true;
        } else if is("BINARYMIME") {
            self.binary_mime = true;
        } else if is("REQUIRETLS") {
            self.require_tls = true;
        } else if is("XCLIENT") {
            self.xclient = true;
        } else if is("LIMITS") {
            self.add_limits(line);
        } else if is("SIZE") {
            self.size = Some(words.next().and_then(|word| word.parse().ok()).unwrap_or(0));
        } else if is("AUTH") {
            self.auth.extend(words.map(str::to_ascii_uppercase));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reply::ReplyParser;

    #[test]
    fn reads_what_servers_write() {
        let text = "mx.example at your service\npipelining\nSIZE 52428800\n8BITMIME\nSMTPUTF8\nCHUNKING\n\
                    ENHANCEDSTATUSCODES\nSTARTTLS\ndsn\nLIMITS RCPTMAX=50 OTHER=1\nAUTH plain LOGIN\nAUTH=XOAUTH2\nX-UNKNOWN yes\n";
        let expected = Capabilities {
            pipelining: true,
            chunking: true,
            eight_bit_mime: true,
            smtputf8: true,
            enhanced_status_codes: true,
            starttls: true,
            size: Some(52_428_800),
            auth: vec!["PLAIN".into(), "LOGIN".into(), "XOAUTH2".into()],
            dsn: true,
            limits: Some((u32::MAX, 50)),
            ..Capabilities::default()
        };
        assert_eq!(Capabilities::parse(text), expected);
    }

    #[test]
    fn first_line_is_a_greeting() {
        assert_eq!(Capabilities::parse("PIPELINING"), Capabilities::default());
        assert_eq!(Capabilities::parse(""), Capabilities::default());
    }

    #[test]
    fn limits_of_nothing_do_not_bind() {
        for (line, limits) in [
            ("LIMITS RCPTMAX=0 MAILMAX=0", None),
            ("LIMITS RCPTMAX=20 MAILMAX=0", Some((u32::MAX, 20))),
            ("LIMITS MAILMAX=3 RCPTDOMAINMAX=1", Some((3, usize::MAX))),
            ("LIMITS RCPTMAX=many", None),
        ] {
            assert_eq!(Capabilities::parse(&format!("mx\n{line}")).limits, limits, "{line}");
        }
    }

    #[test]
    fn size_without_a_limit() {
        let table = [
            ("SIZE", Some(0), None),
            ("SIZE 0", Some(0), None),
            ("SIZE x", Some(0), None),
            ("SIZE 9", Some(9), Some(9)),
        ];
        for (line, size, limit) in table {
            let capabilities = Capabilities::parse(&format!("mx\n{line}"));
            assert_eq!((capabilities.size, capabilities.size_limit()), (size, limit), "{line}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let full = Capabilities {
            pipelining: true,
            chunking: true,
            eight_bit_mime: true,
            smtputf8: true,
            enhanced_status_codes: true,
            starttls: true,
            size: Some(1000),
            auth: vec!["PLAIN".into()],
            dsn: true,
            binary_mime: true,
            require_tls: true,
            limits: Some((10, 100)),
            xclient: true,
        };
        let some = Capabilities { pipelining: true, ..Capabilities::default() };
        for capabilities in [full, some, Capabilities::default()] {
            let mut out = Vec::new();
            capabilities.write("mx", &mut out);
            let mut parser = ReplyParser::new();
            assert_eq!(parser.read(&out), Ok((out.len(), true)));
            assert_eq!(Capabilities::parse(&parser.take(String::new()).text), capabilities);
        }
    }
}
