//! Dialogue files: one SMTP conversation a file, readable without knowing our code.
//!
//! | a line | means |
//! |---|---|
//! | `# text`, or an empty line | nothing |
//! | `limit: NAME=NUMBER` | before the conversation: one of the server's limits by its name |
//! | `config: NAME`, `config: NAME=VALUE` | before the conversation: `lmtp`, `starttls`, `auth=PLAIN,LOGIN` or `greeting=554 5.7.1 text` |
//! | `TLS` | the server consented to STARTTLS, and the handshake is done |
//! | `C: text` | the client sends the text and CRLF |
//! | `C<< "text"` | the client sends exactly these bytes; `\r \n \t \0 \" \\ \xHH` are escapes |
//! | `C*N "text"` | the same N times |
//! | `S: text` | the next line from the server begins with the text |
//! | `S= text` | the next line from the server is the text |
//! | `S* text` | the next reply, of one line or several, begins each line with the text; `250` matches `250-` too |
//! | `S-` | the server says nothing to what was sent so far |
//! | `B: "text"` | the server has taken a further message with exactly this body, escapes as above |
//! | `CLOSED` | the server closes the connection |
//!
//! What the client sends between two lines of the server travels together. The server may not say
//! more than the file has. The parser knows nothing of sessions: a runner over sockets can use the
//! same files.

use std::fs;
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Limit { name: String, value: u64 },
    Config { name: String, value: String },
    Tls,
    Send(Vec<u8>),
    ExpectPrefix(String),
    ExpectLine(String),
    ExpectReply(String),
    ExpectSilence,
    ExpectBody(Vec<u8>),
    ExpectClosed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Counted from 1, for messages.
    pub(crate) line: usize,
    pub(crate) action: Action,
}

/// Reads one file.
#[expect(clippy::disallowed_methods, reason = "the protocol knows no files, but its tests are kept in them")]
pub(crate) fn load(path: &Path) -> Result<Vec<Step>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}:{error}", path.display()))
}

/// Parses the text of a file; an error begins with the number of its line.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let action = parse_line(text.trim_end()).map_err(|error| format!("{line}: {error}"))?;
        steps.extend(action.map(|action| Step { line, action }));
    }
    Ok(steps)
}

fn parse_line(line: &str) -> Result<Option<Action>, String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let action = match word {
        "" | "#" => return Ok(None),
        "limit:" => {
            let (name, value) = rest.split_once('=').ok_or("limit: needs NAME=NUMBER")?;
            let value = value.parse().map_err(|_| format!("{value} is not a number"))?;
            Action::Limit { name: name.into(), value }
        }
        "config:" => {
            let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
            Action::Config { name: name.into(), value: value.into() }
        }
        "TLS" => Action::Tls,
        "C:" => Action::Send(format!("{rest}\r\n").into_bytes()),
        "C<<" => Action::Send(unescape(rest)?),
        "S:" => Action::ExpectPrefix(rest.into()),
        "S=" => Action::ExpectLine(rest.into()),
        "S*" => Action::ExpectReply(rest.into()),
        "S-" => Action::ExpectSilence,
        "B:" => Action::ExpectBody(unescape(rest)?),
        "CLOSED" => Action::ExpectClosed,
        _ => match word.strip_prefix("C*").map(str::parse::<usize>) {
            Some(Ok(times)) => Action::Send(unescape(rest)?.repeat(times)),
            _ => return Err(format!("unknown line: {line}")),
        },
    };
    Ok(Some(action))
}

fn unescape(quoted: &str) -> Result<Vec<u8>, String> {
    let inner =
        quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or("text needs quotes")?;
    let mut bytes = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().ok_or("escape at the end")? {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'x' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is not a byte"))?
            }
            quoted @ (b'"' | b'\\') => quoted,
            other => return Err(format!("unknown escape \\{}", char::from(other))),
        });
    }
    Ok(bytes)
}
