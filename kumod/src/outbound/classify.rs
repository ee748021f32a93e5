//! What an answer, or the lack of one, means for a recipient.

use std::io;
use std::time::Duration;

use smtp::client::BeginError;
use smtp::error::{Blame, PeerError};
use smtp::reply::Reply;

use crate::dns::DnsError;
use crate::envelope::{Outcome, Response};

/// A server's reply that decides a recipient.
pub(super) fn reply(reply: &Reply) -> Outcome {
    let response = Response {
        code: reply.code,
        enhanced: reply.enhanced.map(|code| (code.class, code.subject, code.detail)),
        content: reply.text.to_string(),
    };
    if reply.is_positive() {
        Outcome::Delivered(response)
    } else if reply.is_permanent() {
        Outcome::Failed(response)
    } else {
        // RFC 5321 4.2.1: 4yz; anything else out of place is not the recipient's fault either.
        Outcome::Retry(response)
    }
}

/// A server that refused at its greeting or EHLO: that is never the recipient's fault.
pub(super) fn turned_away(refusal: &Reply) -> Outcome {
    match reply(refusal) {
        Outcome::Retry(response) | Outcome::Failed(response) | Outcome::Delivered(response) => {
            Outcome::Retry(response)
        }
    }
}

/// A name that has no hosts, for now or for ever.
pub(super) fn dns(error: &DnsError) -> Outcome {
    let response = error.response();
    if error.is_permanent() { Outcome::Failed(response) } else { Outcome::Retry(response) }
}

/// The policy could not be asked.
pub(super) fn policy() -> Outcome {
    Outcome::Retry(Response::internal(451, (4, 3, 5), "the policy failed; see the diagnostic log"))
}

/// There is no source that mail of this pool may leave from.
pub(super) fn no_source(name: &str) -> Outcome {
    let content =
        format!("there is no egress pool or source {name:?} that can be used; see the diagnostic log");
    Outcome::Retry(Response::internal(451, (4, 4, 4), content))
}

/// The source's address is not one of this host's.
pub(super) fn unplumbed(source: &str, address: std::net::IpAddr) -> Outcome {
    let content = format!("address {address} of egress source {source:?} is not on this host");
    Outcome::Retry(Response::internal(451, (4, 4, 4), content))
}

/// The source's proxy does not serve.
pub(super) fn proxy(source: &str, reason: &str) -> Outcome {
    let content = format!("egress source {source:?} cannot be used: {reason}");
    Outcome::Retry(Response::internal(451, (4, 4, 4), content))
}

/// No host of the site could be reached.
pub(super) fn unreachable(site: &str, last: &str) -> Outcome {
    Outcome::Retry(Response::internal(
        451,
        (4, 4, 1),
        format!("failed to connect to any host of {site}: {last}"),
    ))
}

/// Every address of the site is one that mail is never sent to.
pub(super) fn prohibited(site: &str) -> Outcome {
    let content = format!("every host of {site} is in the list of prohibited hosts");
    Outcome::Failed(Response::internal(550, (5, 4, 4), content))
}

/// Every address of the site is to be passed over, for now.
pub(super) fn skipped(site: &str) -> Outcome {
    let content = format!("every host of {site} is in skip_hosts");
    Outcome::Retry(Response::internal(451, (4, 4, 4), content))
}

/// The connection was lost, or the server was silent, in the middle of a transaction.
pub(super) fn lost(doing: &str, error: &io::Error) -> Outcome {
    Outcome::Retry(Response::internal(451, (4, 4, 2), format!("connection lost while {doing}: {error}")))
}

/// There is no TLS with a server, where there has to be.
pub(super) fn no_tls(host: &str, reason: &str) -> Outcome {
    Outcome::Retry(Response::internal(451, (4, 7, 5), format!("no TLS with {host}: {reason}")))
}

/// None of a domain's hosts is in its MTA-STS policy (RFC 8461 5): somebody may be tampering with DNS.
pub(super) fn no_allowed_host(domain: &str) -> Outcome {
    let content = format!("no host of {domain} is allowed by its MTA-STS policy");
    Outcome::Retry(Response::internal(451, (4, 7, 5), content))
}

/// The sender wants TLS all the way (RFC 8689), and here it ends: the host is not certain to be who it should be, or does not promise to
/// go on so.
pub(super) fn no_required_tls(host: &str, is_safe: bool) -> Outcome {
    let (enhanced, content) = if is_safe {
        ((5, 7, 30), format!("{host} does not offer REQUIRETLS, which the sender asked for"))
    } else {
        let reason = "with a certificate and MX records that are certain, which the sender asked for";
        ((5, 7, 10), format!("there is no TLS with {host} {reason} (REQUIRETLS)"))
    };
    Outcome::Failed(Response::internal(550, enhanced, content))
}

/// The server broke the protocol, or lacks what the path insists on.
pub(super) fn misbehaved(error: &PeerError) -> Outcome {
    if *error == PeerError::StartTlsNotOffered {
        let content = "the server does not offer STARTTLS, and mail may go there through TLS only";
        return Outcome::Retry(Response::internal(451, (4, 7, 4), content));
    }
    if error.blame() == Blame::PeerIncapable {
        return Outcome::Retry(Response::internal(451, (4, 7, 0), error.to_string()));
    }
    Outcome::Retry(Response::internal(451, (4, 5, 0), format!("the server broke the protocol: {error}")))
}

/// The server lacks what the message needs, or takes only smaller ones.
pub(super) fn unfit(error: &BeginError) -> Outcome {
    let enhanced = match error {
        BeginError::SizeExceeded { .. } => (5, 3, 4),
        BeginError::Utf8Unsupported => (5, 6, 7),
        // RFC 8689 5.
        BeginError::RequireTlsUnsupported => (5, 7, 30),
        _ => (5, 6, 3),
    };
    Outcome::Failed(Response::internal(554, enhanced, error.to_string()))
}

/// The session ended before this recipient's turn.
pub(super) fn not_tried() -> Outcome {
    Outcome::Retry(Response::internal(451, (4, 4, 2), "the session ended before this recipient's turn"))
}

/// The process stops, and the server took longer than it may then.
pub(super) fn stopping(limit: Duration) -> Outcome {
    let content = format!("kumod stops, and sending was not over within {} s", limit.as_secs());
    Outcome::Retry(Response::internal(451, (4, 3, 2), content))
}

/// The password for the server cannot be read.
pub(super) fn no_password(reason: &str) -> Outcome {
    Outcome::Retry(Response::internal(451, (4, 3, 5), format!("smtp_auth_plain_password: {reason}")))
}

/// Nothing came of the session for as long as the path allows.
pub(super) fn stuck(doing: &str, limit: Duration) -> Outcome {
    let content = format!("no progress for {} s while {doing}; the session is given up", limit.as_secs());
    Outcome::Retry(Response::internal(451, (4, 4, 2), content))
}

/// The message waited longer than its queue allows.
pub(super) fn too_old() -> Outcome {
    Outcome::Retry(Response::internal(
        451,
        (4, 4, 7),
        "the message waited longer than max_age in a ready queue",
    ))
}
