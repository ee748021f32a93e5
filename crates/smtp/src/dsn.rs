//! What a sender may ask for about notifications (RFC 3461): RET and ENVID of MAIL, NOTIFY and ORCPT of RCPT.
//!
//! Owns their syntax. Values travel as they were written, in xtext, because a relay hands them on unchanged; who shows one to a
//! person decodes it with [`decode_xtext`].

use crate::error::PeerMisbehaved;

/// Longest ENVID in characters (RFC 3461 4.4).
const ENVID_CHARS_MAX: usize = 100;
/// Longest ORCPT in characters (RFC 3461 4.2).
const ORCPT_CHARS_MAX: usize = 500;

/// How much of the message a notification of failure holds (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header.
    Headers,
}

impl Ret {
    pub(crate) fn parse(value: &str) -> Result<Self, PeerMisbehaved> {
        if value.eq_ignore_ascii_case("FULL") {
            Ok(Self::Full)
        } else if value.eq_ignore_ascii_case("HDRS") {
            Ok(Self::Headers)
        } else {
            Err(PeerMisbehaved::Syntax)
        }
    }

    /// As in MAIL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

/// Of what the sender wants to be told (RFC 3461 4.1). All false: of nothing, `NEVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notify {
    /// Of the delivery.
    pub success: bool,
    /// Of a failure.
    pub failure: bool,
    /// Of a delay.
    pub delay: bool,
}

impl Notify {
    pub(crate) fn parse(value: &str) -> Result<Self, PeerMisbehaved> {
        if value.eq_ignore_ascii_case("NEVER") {
            return Ok(Self::default());
        }
        let mut notify = Self::default();
        for word in value.split(',') {
            let wanted = if word.eq_ignore_ascii_case("SUCCESS") {
                &mut notify.success
            } else if word.eq_ignore_ascii_case("FAILURE") {
                &mut notify.failure
            } else if word.eq_ignore_ascii_case("DELAY") {
                &mut notify.delay
            } else {
                return Err(PeerMisbehaved::Syntax);
            };
            *wanted = true;
        }
        Ok(notify)
    }

    /// As in RCPT.
    #[must_use]
    pub fn text(self) -> String {
        let words = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let wanted: Vec<&str> = words.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
        if wanted.is_empty() { "NEVER".to_owned() } else { wanted.join(",") }
    }
}

/// What a client asks of a server that offers DSN, as it was asked of the client itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// RET of MAIL.
    pub ret: Option<Ret>,
    /// ENVID of MAIL, in xtext.
    pub envid: Option<&'a str>,
    /// For each recipient of the transaction; what is missing asks for nothing.
    pub recipients: &'a [AskedOfRecipient<'a>],
}

/// What a client asks in one RCPT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedOfRecipient<'a> {
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT, in xtext.
    pub orcpt: Option<&'a str>,
}

impl Asked<'_> {
    /// Appends the parameters of MAIL. What is not of the syntax is left out: it could end the command.
    pub(crate) fn write_mail(&self, out: &mut Vec<u8>) {
        if let Some(ret) = self.ret {
            parameter("RET", ret.name(), out);
        }
        if let Some(envid) = self.envid.filter(|envid| parse_envid(envid).is_ok()) {
            parameter("ENVID", envid, out);
        }
    }

    /// Appends those of the RCPT at `index`.
    pub(crate) fn write_rcpt(&self, index: usize, smtputf8: bool, out: &mut Vec<u8>) {
        let Some(AskedOfRecipient { notify, orcpt }) = self.recipients.get(index) else { return };
        if let Some(notify) = notify {
            parameter("NOTIFY", &notify.text(), out);
        }
        let fits = |orcpt: &&str| parse_orcpt(orcpt).is_ok() && (smtputf8 || orcpt.is_ascii());
        if let Some(orcpt) = orcpt.filter(fits) {
            parameter("ORCPT", orcpt, out);
        }
    }
}

fn parameter(keyword: &str, value: &str, out: &mut Vec<u8>) {
    for part in [" ", keyword, "=", value] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The sender's own name for the transaction.
pub(crate) fn parse_envid(value: &str) -> Result<&str, PeerMisbehaved> {
    let good = !value.is_empty() && value.len() <= ENVID_CHARS_MAX && is_xtext(value);
    if good { Ok(value) } else { Err(PeerMisbehaved::Syntax) }
}

/// The recipient as the sender first wrote it: `rfc822;bob@example.org`.
pub(crate) fn parse_orcpt(value: &str) -> Result<&str, PeerMisbehaved> {
    let good = value.len() <= ORCPT_CHARS_MAX
        && value.split_once(';').is_some_and(|(kind, address)| {
            let atom = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            // RFC 6533 3: an address of kind utf-8 may hold UTF-8 as it is.
            let utf8 = kind.eq_ignore_ascii_case("utf-8");
            let written = |text: &str| is_xtext(text) || (utf8 && !text.contains(char::is_control));
            !kind.is_empty() && kind.bytes().all(atom) && !address.is_empty() && written(address)
        });
    if good { Ok(value) } else { Err(PeerMisbehaved::Syntax) }
}

/// RFC 3461 4: printable ASCII without `+` and `=`, where `+` and two capital hexadecimal digits stand for a byte.
fn is_xtext(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'+', [high, low, after @ ..]) if is_hex(*high) && is_hex(*low) => after,
            (b'+' | b'=', _) => return false,
            (byte, after) if byte.is_ascii_graphic() => after,
            _ => return false,
        };
    }
    true
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'F')
}

/// What xtext stands for; `None` where it is none, or stands for no UTF-8.
#[must_use]
pub fn decode_xtext(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'+' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_asked_for_reads_back() {
        for text in ["NEVER", "SUCCESS", "SUCCESS,FAILURE", "FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"] {
            assert_eq!(Notify::parse(&text.to_lowercase()).map(Notify::text), Ok(text.to_owned()));
        }
        for text in ["", "NEVER,SUCCESS", "SUCCESS,", "SOON"] {
            assert_eq!(Notify::parse(text), Err(PeerMisbehaved::Syntax), "{text:?}");
        }
        for ret in [Ret::Full, Ret::Headers] {
            assert_eq!(Ret::parse(&ret.name().to_lowercase()), Ok(ret));
        }
    }

    #[test]
    fn xtext_is_told_from_what_is_none() {
        for (text, decoded) in [("QQ314159", "QQ314159"), ("a+2Bb+3D", "a+b="), ("+C3+A4", "\u{e4}")] {
            assert_eq!(parse_envid(text), Ok(text));
            assert_eq!(decode_xtext(text).as_deref(), Some(decoded));
        }
        for text in ["", "a=b", "a+2", "a+2b", "a\u{e4}", &"x".repeat(101)] {
            assert_eq!(parse_envid(text), Err(PeerMisbehaved::Syntax), "{text:?}");
        }
        for text in ["rfc822;a@b", "utf-8;\u{e4}@b", "rfc822;a+2Bc@b"] {
            assert_eq!(parse_orcpt(text), Ok(text));
        }
        for text in ["a@b", ";a@b", "rfc822;", "rfc822;\u{e4}@b", "rfc 822;a@b"] {
            assert_eq!(parse_orcpt(text), Err(PeerMisbehaved::Syntax), "{text:?}");
        }
    }
}
