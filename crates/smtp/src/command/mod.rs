//! Command lines (RFC 5321 4.1.1): parsing them for the server, writing them for the client.
//!
//! Owns the verbs and their arguments. Refuses a line with the [`PeerMisbehaved`] that says which
//! rule it broke; what the order of commands allows is for the session to say. Borrows from the line
//! and allocates nothing.

mod params;

use crate::address::{AddressError, Path};
use crate::error::PeerMisbehaved;
use crate::reply::write_number;
pub use params::{BodyKind, MailParams, RcptParams, XClient};

/// A command that is well-formed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// EHLO (RFC 5321 4.1.1.1), or LHLO where LMTP is spoken; HELO where `extended` is false.
    Ehlo {
        /// What the client calls itself.
        domain: &'a str,
        /// EHLO or LHLO.
        extended: bool,
    },
    /// MAIL FROM (RFC 5321 4.1.1.2).
    Mail {
        /// The reverse path.
        from: Path<'a>,
        /// What was asked for besides.
        params: MailParams<'a>,
    },
    /// RCPT TO (RFC 5321 4.1.1.3).
    Rcpt {
        /// The forward path, never null.
        to: Path<'a>,
        /// NOTIFY and ORCPT.
        params: RcptParams<'a>,
    },
    /// DATA (RFC 5321 4.1.1.4).
    Data,
    /// BDAT (RFC 3030 2).
    Bdat {
        /// Octets that follow the line.
        bytes: u64,
        /// LAST: the message is complete after them.
        last: bool,
    },
    /// RSET (RFC 5321 4.1.1.5).
    Rset,
    /// NOOP (RFC 5321 4.1.1.9).
    Noop,
    /// VRFY (RFC 5321 4.1.1.6).
    Vrfy,
    /// HELP (RFC 5321 4.1.1.8).
    Help,
    /// QUIT (RFC 5321 4.1.1.10).
    Quit,
    /// XCLIENT, with which a proxy says for whom it speaks: agreed on between the two (RFC 5321 4.1.5).
    XClient(XClient),
    /// STARTTLS (RFC 3207 4).
    StartTls,
    /// AUTH (RFC 4954 4).
    Auth {
        /// The name of the mechanism, as written.
        mechanism: &'a str,
        /// In base64, where the command carries it.
        initial_response: Option<&'a str>,
    },
}

/// What decides, besides the line itself, whether it parses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grammar {
    /// BDAT is known.
    pub chunking: bool,
    /// BODY= is known.
    pub eight_bit_mime: bool,
    /// SMTPUTF8 is known.
    pub smtputf8: bool,
    /// The open transaction asked for SMTPUTF8: RCPT may hold UTF-8.
    pub utf8_recipients: bool,
    /// STARTTLS is known.
    pub starttls: bool,
    /// AUTH is known.
    pub auth: bool,
    /// RET, ENVID, NOTIFY and ORCPT are known.
    pub dsn: bool,
    /// BODY=BINARYMIME is known.
    pub binary_mime: bool,
    /// REQUIRETLS is known.
    pub require_tls: bool,
    /// XCLIENT is known.
    pub xclient: bool,
    /// LHLO is known, EHLO and HELO are not (RFC 2033 4.1).
    pub lmtp: bool,
}

impl<'a> Command<'a> {
    /// Parses one line without its CRLF.
    ///
    /// # Errors
    /// The first rule that the line breaks.
    pub fn parse(line: &'a [u8], grammar: Grammar) -> Result<Self, PeerMisbehaved> {
        let line = std::str::from_utf8(line).map_err(|_| PeerMisbehaved::NotText)?;
        if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(PeerMisbehaved::NotText);
        }
        // Blanks at the end of a line are tolerated (RFC 5321 4.1.1).
        let line = line.trim_end_matches([' ', '\t']);
        let Some((verb, argument)) = split_verb(line) else {
            return parse_long_verb(line, grammar);
        };
        match &verb {
            b"lhlo" if grammar.lmtp => {
                parse_domain(argument).map(|domain| Self::Ehlo { domain, extended: true })
            }
            b"ehlo" | b"helo" if grammar.lmtp => Err(PeerMisbehaved::UnknownCommand),
            b"ehlo" => parse_domain(argument).map(|domain| Self::Ehlo { domain, extended: true }),
            b"helo" => parse_domain(argument).map(|domain| Self::Ehlo { domain, extended: false }),
            b"mail" => parse_mail(argument, grammar),
            b"rcpt" => parse_rcpt(argument, grammar),
            b"data" => bare(argument, Self::Data),
            b"bdat" if grammar.chunking => parse_bdat(argument),
            b"rset" => bare(argument, Self::Rset),
            b"noop" => Ok(Self::Noop),
            b"vrfy" if argument.is_empty() => Err(PeerMisbehaved::Syntax),
            b"vrfy" => Ok(Self::Vrfy),
            b"help" => Ok(Self::Help),
            b"quit" => bare(argument, Self::Quit),
            b"auth" if grammar.auth => parse_auth(argument),
            _ => Err(PeerMisbehaved::UnknownCommand),
        }
    }
}

/// The verb in small letters, and what follows its blank. All our verbs but STARTTLS have four letters.
fn split_verb(line: &str) -> Option<([u8; 4], &str)> {
    let (verb, rest) = line.as_bytes().split_first_chunk::<4>()?;
    if !rest.is_empty() && rest[0] != b' ' {
        return None;
    }
    Some((verb.map(|letter| letter.to_ascii_lowercase()), line[4..].trim_start_matches(' ')))
}

fn bare<'a>(argument: &str, command: Command<'a>) -> Result<Command<'a>, PeerMisbehaved> {
    if argument.is_empty() { Ok(command) } else { Err(PeerMisbehaved::Syntax) }
}

/// `STARTTLS` and nothing else (RFC 3207 4), or `XCLIENT` with what a proxy knows.
fn parse_long_verb<'a>(line: &str, grammar: Grammar) -> Result<Command<'a>, PeerMisbehaved> {
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    if grammar.starttls && verb.eq_ignore_ascii_case("STARTTLS") {
        bare(argument, Command::StartTls)
    } else if grammar.xclient && verb.eq_ignore_ascii_case("XCLIENT") {
        XClient::parse(argument).map(Command::XClient)
    } else {
        Err(PeerMisbehaved::UnknownCommand)
    }
}

/// `AUTH PLAIN` or `AUTH PLAIN AHUAcA==`.
fn parse_auth(argument: &str) -> Result<Command<'_>, PeerMisbehaved> {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(PeerMisbehaved::Syntax)?;
    let initial_response = words.next();
    if words.next().is_some() {
        Err(PeerMisbehaved::Syntax)
    } else {
        Ok(Command::Auth { mechanism, initial_response })
    }
}

/// One word of visible ASCII. Whether it is the client's true name is for policy to ask.
fn parse_domain(argument: &str) -> Result<&str, PeerMisbehaved> {
    let visible = argument.bytes().all(|byte| byte.is_ascii_graphic());
    if visible && !argument.is_empty() { Ok(argument) } else { Err(PeerMisbehaved::Syntax) }
}

fn parse_mail<'a>(argument: &'a str, grammar: Grammar) -> Result<Command<'a>, PeerMisbehaved> {
    let path = strip_keyword(argument, "FROM:").ok_or(PeerMisbehaved::Syntax)?;
    // SMTPUTF8 stands after the address that needs it, so UTF-8 is judged last.
    let (from, rest) = Path::parse_prefix(path, true).map_err(PeerMisbehaved::BadSender)?;
    if !from.is_null() && from.domain().is_empty() {
        return Err(PeerMisbehaved::BadSender(AddressError::DomainMissing));
    }
    let params = MailParams::parse(parameters(rest)?, grammar)?;
    if from.needs_utf8() && !params.smtputf8 {
        return Err(PeerMisbehaved::BadSender(AddressError::Utf8Needed));
    }
    Ok(Command::Mail { from, params })
}

fn parse_rcpt<'a>(argument: &'a str, grammar: Grammar) -> Result<Command<'a>, PeerMisbehaved> {
    let path = strip_keyword(argument, "TO:").ok_or(PeerMisbehaved::Syntax)?;
    let (to, rest) =
        Path::parse_prefix(path, grammar.utf8_recipients).map_err(PeerMisbehaved::BadRecipient)?;
    if to.is_null() {
        return Err(PeerMisbehaved::BadRecipient(AddressError::Empty));
    }
    Ok(Command::Rcpt { to, params: RcptParams::parse(parameters(rest)?, grammar)? })
}

/// `BDAT 86` or `BDAT 86 LAST`.
fn parse_bdat<'a>(argument: &str) -> Result<Command<'a>, PeerMisbehaved> {
    let (digits, rest) = argument.split_once(' ').unwrap_or((argument, ""));
    let bytes = number(digits).ok_or(PeerMisbehaved::ChunkSizeUnreadable)?;
    let rest = rest.trim_start_matches(' ');
    let last = rest.eq_ignore_ascii_case("LAST");
    if last || rest.is_empty() {
        Ok(Command::Bdat { bytes, last })
    } else {
        Err(PeerMisbehaved::ChunkSizeUnreadable)
    }
}

/// Takes `FROM:` or `TO:` off, in any case, with the blanks after it that many clients write (RFC 5321 3.3).
fn strip_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

/// What follows a path: nothing, or a blank and parameters.
fn parameters(rest: &str) -> Result<&str, PeerMisbehaved> {
    match rest.strip_prefix(' ') {
        Some(parameters) => Ok(parameters.trim_start_matches(' ')),
        None if rest.is_empty() => Ok(""),
        None => Err(PeerMisbehaved::Syntax),
    }
}

/// Decimal digits; what does not fit is `u64::MAX`, which is over every limit (RFC 1870 allows 20 digits).
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Appends `EHLO domain`, or the same with LHLO or HELO for a verb.
pub(crate) fn write_ehlo(verb: &str, domain: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(verb.as_bytes());
    out.push(b' ');
    out.extend_from_slice(domain.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends MAIL without its line end; the null path is the empty string.
pub(crate) fn write_mail(from: &str, size: Option<u64>, body: BodyKind, smtputf8: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"MAIL FROM:<");
    out.extend_from_slice(from.as_bytes());
    out.push(b'>');
    if let Some(size) = size {
        out.extend_from_slice(b" SIZE=");
        write_number(size, out);
    }
    match body {
        BodyKind::SevenBit => {}
        BodyKind::EightBitMime => out.extend_from_slice(b" BODY=8BITMIME"),
        BodyKind::BinaryMime => out.extend_from_slice(b" BODY=BINARYMIME"),
    }
    if smtputf8 {
        out.extend_from_slice(b" SMTPUTF8");
    }
}

/// Appends RCPT without its line end.
pub(crate) fn write_rcpt(to: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"RCPT TO:<");
    out.extend_from_slice(to.as_bytes());
    out.push(b'>');
}

/// Appends `BDAT bytes LAST`.
pub(crate) fn write_bdat_last(bytes: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"BDAT ");
    write_number(bytes, out);
    out.extend_from_slice(b" LAST\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dsn::Ret;

    const ALL: Grammar = Grammar {
        chunking: true,
        eight_bit_mime: true,
        smtputf8: true,
        utf8_recipients: false,
        starttls: true,
        auth: true,
        dsn: true,
        binary_mime: true,
        require_tls: true,
        xclient: true,
        lmtp: false,
    };
    const NONE: Grammar = Grammar {
        chunking: false,
        eight_bit_mime: false,
        smtputf8: false,
        utf8_recipients: false,
        starttls: false,
        auth: false,
        dsn: false,
        binary_mime: false,
        require_tls: false,
        xclient: false,
        lmtp: false,
    };

    fn parse(line: &str) -> Result<Command<'_>, PeerMisbehaved> {
        Command::parse(line.as_bytes(), ALL)
    }

    #[test]
    fn verbs_in_any_case() {
        let table = [
            ("EHLO mx.example", Command::Ehlo { domain: "mx.example", extended: true }),
            ("helo [127.0.0.1]", Command::Ehlo { domain: "[127.0.0.1]", extended: false }),
            ("DaTa", Command::Data),
            ("data  ", Command::Data),
            ("BDAT 86", Command::Bdat { bytes: 86, last: false }),
            ("bdat 0 last", Command::Bdat { bytes: 0, last: true }),
            ("BDAT 99999999999999999999 LAST", Command::Bdat { bytes: u64::MAX, last: true }),
            ("RSET", Command::Rset),
            ("NOOP", Command::Noop),
            ("NOOP whatever", Command::Noop),
            ("VRFY someone", Command::Vrfy),
            ("HELP MAIL", Command::Help),
            ("quit", Command::Quit),
            ("StartTLS", Command::StartTls),
            ("AUTH plain", Command::Auth { mechanism: "plain", initial_response: None }),
            (
                "auth PLAIN  AHUAcA==",
                Command::Auth { mechanism: "PLAIN", initial_response: Some("AHUAcA==") },
            ),
        ];
        for (line, command) in table {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn mail_with_parameters() {
        let mailbox = Path::Mailbox { local: "a", domain: "b" };
        let table = [
            ("MAIL FROM:<a@b>", mailbox, MailParams::default()),
            ("mail from: <a@b>", mailbox, MailParams::default()),
            ("MAIL FROM:<>", Path::Null, MailParams::default()),
            (
                "MAIL FROM:<a@b> SIZE=12 body=8bitmime SMTPUTF8",
                mailbox,
                MailParams {
                    size: Some(12),
                    body: BodyKind::EightBitMime,
                    smtputf8: true,
                    as_written: "SIZE=12 body=8bitmime SMTPUTF8",
                    ..MailParams::default()
                },
            ),
            (
                "MAIL FROM:<a@b> ret=hdrs ENVID=QQ+2B1 REQUIRETLS BODY=BINARYMIME",
                mailbox,
                MailParams {
                    body: BodyKind::BinaryMime,
                    require_tls: true,
                    ret: Some(Ret::Headers),
                    envid: Some("QQ+2B1"),
                    as_written: "ret=hdrs ENVID=QQ+2B1 REQUIRETLS BODY=BINARYMIME",
                    ..MailParams::default()
                },
            ),
            (
                "MAIL FROM:<a@b> BODY=7BIT",
                mailbox,
                MailParams { as_written: "BODY=7BIT", ..MailParams::default() },
            ),
        ];
        for (line, from, params) in table {
            assert_eq!(parse(line), Ok(Command::Mail { from, params }), "{line}");
        }
    }

    #[test]
    fn refuses() {
        use PeerMisbehaved as P;
        let table = [
            ("", P::UnknownCommand),
            ("QUI", P::UnknownCommand),
            ("QUITE", P::UnknownCommand),
            ("STARTTLSX", P::UnknownCommand),
            ("STARTTLS now", P::Syntax),
            ("AUTH", P::Syntax),
            ("AUTH PLAIN a b", P::Syntax),
            ("MAIL FROM:<a@b> AUTH=", P::Syntax),
            ("LHLO x", P::UnknownCommand),
            ("GET / HTTP/1.1", P::UnknownCommand),
            ("DATA now", P::Syntax),
            ("QUIT now", P::Syntax),
            ("EHLO", P::Syntax),
            ("EHLO a b", P::Syntax),
            ("EHLO bücher", P::Syntax),
            ("VRFY", P::Syntax),
            ("MAIL", P::Syntax),
            ("MAIL TO:<a@b>", P::Syntax),
            ("MAIL FROM:<a@b>SIZE=1", P::Syntax),
            ("MAIL FROM:<a@b> SIZE=", P::Syntax),
            ("MAIL FROM:<a@b> SIZE=1x", P::Syntax),
            ("MAIL FROM:<a@b> SMTPUTF8=1", P::UnknownParameter),
            ("MAIL FROM:<a@b> BODY=9BIT", P::UnknownParameter),
            ("MAIL FROM:<a@b> RET=SOME", P::Syntax),
            ("MAIL FROM:<a@b> RET=FULL RET=FULL", P::Syntax),
            ("MAIL FROM:<a@b> ENVID=", P::Syntax),
            ("MAIL FROM:<a@b> REQUIRETLS=1", P::UnknownParameter),
            ("RCPT TO:<a@b> NOTIFY=", P::Syntax),
            ("RCPT TO:<a@b> ORCPT=a@b", P::Syntax),
            ("RCPT TO:<a@b> SIZE=1", P::UnknownParameter),
            ("XCLIENT", P::Syntax),
            ("MAIL FROM:a@b", P::BadSender(AddressError::Brackets)),
            ("MAIL FROM:<postmaster>", P::BadSender(AddressError::DomainMissing)),
            ("MAIL FROM:<ä@b>", P::BadSender(AddressError::Utf8Needed)),
            ("RCPT TO:<>", P::BadRecipient(AddressError::Empty)),
            ("RCPT TO:<ä@b>", P::BadRecipient(AddressError::Utf8Needed)),
            ("RCPT FROM:<a@b>", P::Syntax),
            ("BDAT", P::ChunkSizeUnreadable),
            ("BDAT x LAST", P::ChunkSizeUnreadable),
            ("BDAT -1", P::ChunkSizeUnreadable),
            ("BDAT 1 FIRST", P::ChunkSizeUnreadable),
            ("BDAT 111111111111111111111", P::ChunkSizeUnreadable),
            ("NOOP \u{1}", P::NotText),
            ("NOOP \u{0}", P::NotText),
        ];
        for (line, error) in table {
            assert_eq!(parse(line), Err(error), "{line}");
        }
        assert_eq!(Command::parse(b"NOOP \xff", ALL), Err(P::NotText));
    }

    #[test]
    fn extensions_that_are_off_are_unknown() {
        let table = [
            ("STARTTLS", PeerMisbehaved::UnknownCommand),
            ("AUTH PLAIN", PeerMisbehaved::UnknownCommand),
            ("MAIL FROM:<a@b> AUTH=<>", PeerMisbehaved::UnknownParameter),
            ("BDAT 1", PeerMisbehaved::UnknownCommand),
            ("MAIL FROM:<a@b> BODY=8BITMIME", PeerMisbehaved::UnknownParameter),
            ("MAIL FROM:<a@b> SMTPUTF8", PeerMisbehaved::UnknownParameter),
            ("MAIL FROM:<a@b> RET=FULL", PeerMisbehaved::UnknownParameter),
            ("MAIL FROM:<a@b> BODY=BINARYMIME", PeerMisbehaved::UnknownParameter),
            ("MAIL FROM:<a@b> REQUIRETLS", PeerMisbehaved::UnknownParameter),
            ("RCPT TO:<a@b> NOTIFY=NEVER", PeerMisbehaved::UnknownParameter),
            ("XCLIENT ADDR=192.0.2.1", PeerMisbehaved::UnknownCommand),
        ];
        for (line, error) in table {
            assert_eq!(Command::parse(line.as_bytes(), NONE), Err(error), "{line}");
        }
    }

    #[test]
    fn lmtp_has_a_greeting_of_its_own() {
        let lmtp = Grammar { lmtp: true, ..ALL };
        assert_eq!(Command::parse(b"LHLO x", lmtp), Ok(Command::Ehlo { domain: "x", extended: true }));
        for line in ["EHLO x", "HELO x"] {
            assert_eq!(Command::parse(line.as_bytes(), lmtp), Err(PeerMisbehaved::UnknownCommand), "{line}");
        }
    }

    #[test]
    fn what_is_written_parses() {
        let mut out = Vec::new();
        write_mail("a@b", Some(70_000), BodyKind::EightBitMime, true, &mut out);
        out.extend_from_slice(b"\r\n");
        write_mail("", None, BodyKind::SevenBit, false, &mut out);
        out.extend_from_slice(b"\r\n");
        write_rcpt("c@d", &mut out);
        out.extend_from_slice(b"\r\n");
        write_bdat_last(7, &mut out);
        write_ehlo("EHLO", "x", &mut out);
        write_ehlo("HELO", "x", &mut out);
        let text = String::from_utf8(out).unwrap();
        let commands: Vec<_> = text.split_terminator("\r\n").map(|line| parse(line).unwrap()).collect();
        assert_eq!(commands.len(), 6);
        assert!(
            matches!(commands[0], Command::Mail { params, .. } if params.size == Some(70_000) && params.smtputf8)
        );
        assert!(matches!(commands[1], Command::Mail { from: Path::Null, .. }));
        assert_eq!(commands[3], Command::Bdat { bytes: 7, last: true });
    }
}
