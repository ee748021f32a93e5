//! The wording of every reply that the server gives without asking.
//!
//! Owns these texts as constants, so that answering costs one copy. Each names what is wrong and,
//! where there is one, the remedy. Codes are those of RFC 5321 4.3.2 and RFC 4954 6, but for 524 (KumoMTA).

use crate::auth;
use crate::reply::Reply;

pub(crate) static OK: Reply = Reply::new(250, (2, 0, 0), "OK");
pub(crate) static SENDER_OK: Reply = Reply::new(250, (2, 1, 0), "OK");
pub(crate) static RECIPIENT_OK: Reply = Reply::new(250, (2, 1, 5), "OK");
pub(crate) static CHUNK_OK: Reply = Reply::new(250, (2, 0, 0), "chunk received");
pub(crate) static GO_AHEAD: Reply = Reply::plain(354, "send the message, end with CRLF.CRLF");
pub(crate) static BYE: Reply = Reply::new(221, (2, 0, 0), "goodbye");
pub(crate) static TLS_GO_AHEAD: Reply = Reply::new(220, (2, 0, 0), "begin TLS now");
pub(crate) static AUTHENTICATED: Reply = Reply::new(235, (2, 7, 0), "authenticated");
pub(crate) static CHALLENGE: Reply = Reply::plain(334, "");
pub(crate) static USER_PROMPT: Reply = Reply::plain(334, auth::USER_PROMPT);
pub(crate) static PASSWORD_PROMPT: Reply = Reply::plain(334, auth::PASSWORD_PROMPT);
// RFC 5321 3.5.3, 7.3: no address is given away.
pub(crate) static CANNOT_VERIFY: Reply =
    Reply::new(252, (2, 0, 0), "addresses are not verified; send the message and see");
/// In front of those that depend on the configuration.
pub(crate) const COMMANDS: &str = "MAIL RCPT DATA RSET NOOP VRFY HELP QUIT";

pub(crate) static LINE_TOO_LONG: Reply = Reply::new(500, (5, 2, 3), "line too long");
pub(crate) static BARE_LINE_ENDING: Reply =
    Reply::new(500, (5, 5, 2), "bare CR or LF; a command ends in CRLF and holds neither");
pub(crate) static NOT_TEXT: Reply = Reply::new(500, (5, 5, 2), "command is not text");
pub(crate) static UNKNOWN_COMMAND: Reply = Reply::new(500, (5, 5, 1), "unknown command; HELP lists ours");
pub(crate) static SYNTAX: Reply = Reply::new(501, (5, 5, 4), "argument is missing or malformed");
pub(crate) static BAD_SENDER: Reply =
    Reply::new(501, (5, 1, 7), "bad sender address; write MAIL FROM:<local@domain>");
pub(crate) static BAD_RECIPIENT: Reply =
    Reply::new(501, (5, 1, 3), "bad recipient address; write RCPT TO:<local@domain>");
pub(crate) static UTF8_NEEDED: Reply =
    Reply::new(553, (5, 6, 7), "address is not ASCII; ask for SMTPUTF8 in MAIL");
pub(crate) static UNKNOWN_PARAMETER: Reply =
    Reply::new(555, (5, 5, 4), "parameter not supported; use those that EHLO lists");
pub(crate) static SIZE_TOO_LARGE: Reply =
    Reply::new(552, (5, 3, 4), "message is larger than the SIZE that EHLO lists");
pub(crate) static NEED_MAIL: Reply = Reply::new(503, (5, 5, 1), "MAIL first");
pub(crate) static NEED_RECIPIENT: Reply =
    Reply::new(503, (5, 5, 1), "RCPT first; no recipient is accepted yet");
pub(crate) static NO_RECIPIENT_ACCEPTED: Reply = Reply::new(554, (5, 5, 1), "no recipient was accepted");
pub(crate) static NESTED_MAIL: Reply =
    Reply::new(503, (5, 5, 1), "a transaction is open; finish it or send RSET");
pub(crate) static CHUNKS_OPEN: Reply =
    Reply::new(503, (5, 5, 1), "a message is being sent by BDAT; finish it or send RSET");
pub(crate) static CHUNK_SIZE_UNREADABLE: Reply = Reply::new(
    501,
    (5, 5, 4),
    "BDAT needs a number of octets; closing, as what follows cannot be told apart",
);
pub(crate) static TLS_TWICE: Reply = Reply::new(503, (5, 5, 1), "TLS is up already");
pub(crate) static TLS_NEEDED: Reply =
    Reply::new(530, (5, 7, 0), "STARTTLS first; no mail is taken in the clear");
pub(crate) static AUTH_NEEDS_TLS: Reply =
    Reply::new(524, (5, 7, 11), "STARTTLS first; a password does not travel in the clear");
pub(crate) static BINARY_BY_DATA: Reply =
    Reply::new(503, (5, 5, 1), "a message with BODY=BINARYMIME comes by BDAT only");
pub(crate) static AUTH_TWICE: Reply =
    Reply::new(503, (5, 5, 1), "already authenticated; a session is authenticated once");
pub(crate) static UNKNOWN_MECHANISM: Reply =
    Reply::new(504, (5, 5, 4), "mechanism not supported; use those that EHLO lists");
pub(crate) static AUTH_MALFORMED: Reply =
    Reply::new(501, (5, 5, 2), "response does not decode; send base64 of what the mechanism asks for");
pub(crate) static AUTH_FOR_ANOTHER: Reply =
    Reply::new(535, (5, 7, 8), "a user acts for itself only; leave the other identity empty");
pub(crate) static WRONG_PROOF: Reply = Reply::new(535, (5, 7, 8), "user or password is wrong");
pub(crate) static NO_KEYS: Reply = Reply::new(454, (4, 7, 0), "authentication is not to be had now");
pub(crate) static AUTH_CANCELLED: Reply = Reply::new(501, (5, 7, 0), "authentication cancelled");
pub(crate) static AUTH_LINE_TOO_LONG: Reply = Reply::new(500, (5, 5, 6), "authentication line too long");
pub(crate) static TURNED_AWAY: Reply =
    Reply::new(503, (5, 5, 1), "no service here, as the greeting said; send QUIT");
pub(crate) static NOT_ANSWERED: Reply =
    Reply::new(451, (4, 3, 0), "nothing was decided for this recipient; send it again");
pub(crate) static TOO_MANY_RECIPIENTS: Reply =
    Reply::new(452, (4, 5, 3), "too many recipients; send the others in a further transaction");
pub(crate) static TOO_MANY_MESSAGES: Reply =
    Reply::new(421, (4, 5, 3), "too many messages on this connection; connect again");
pub(crate) static TOO_MANY_ERRORS: Reply = Reply::new(421, (4, 7, 0), "too many errors; closing");
