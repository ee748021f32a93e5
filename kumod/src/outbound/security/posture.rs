//! What a connection to one host has to be: whether through TLS, and who must be at its other end. Pure: nothing is asked or kept here.

use smtp::client::StartTls;

use crate::config::EnableTls;

/// What a connection to one host has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::outbound) struct Posture {
    /// Whether STARTTLS is used.
    pub(in crate::outbound) starttls: StartTls,
    /// Who must be at the other end.
    pub(in crate::outbound) peer: Peer,
    /// Where the handshake fails: whether the same host is connected to again, in the clear.
    pub(in crate::outbound) clear_after_failure: bool,
}

/// Who must be at the other end of TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::outbound) enum Peer {
    /// Whoever answers.
    Anybody,
    /// Who has a valid certificate for the name of the host, from an authority that this host trusts.
    Certified,
}

impl Peer {
    /// Whether a connection is proof of who answered.
    pub(in crate::outbound) fn is_verified(&self) -> bool {
        !matches!(self, Self::Anybody)
    }
}

/// Decides. `is_broken`: a handshake with the host has failed not long ago, and the path says to remember that.
pub(in crate::outbound) fn decide(enable_tls: EnableTls, is_broken: bool) -> Posture {
    match enable_tls {
        EnableTls::Disabled => Posture::CLEAR,
        EnableTls::Opportunistic | EnableTls::OpportunisticInsecure if is_broken => Posture::CLEAR,
        EnableTls::Opportunistic => Posture::if_offered(Peer::Certified, false),
        // Who takes any certificate takes none as well.
        EnableTls::OpportunisticInsecure => Posture::if_offered(Peer::Anybody, true),
        EnableTls::Required => Posture::required(Peer::Certified),
        EnableTls::RequiredInsecure => Posture::required(Peer::Anybody),
    }
}

impl Posture {
    /// Without TLS.
    pub(in crate::outbound) const CLEAR: Self =
        Self { starttls: StartTls::Off, peer: Peer::Anybody, clear_after_failure: false };

    fn required(peer: Peer) -> Self {
        Self { starttls: StartTls::Required, peer, clear_after_failure: false }
    }

    fn if_offered(peer: Peer, clear_after_failure: bool) -> Self {
        Self { starttls: StartTls::IfOffered, peer, clear_after_failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [EnableTls; 5] = [
        EnableTls::Opportunistic,
        EnableTls::OpportunisticInsecure,
        EnableTls::Required,
        EnableTls::RequiredInsecure,
        EnableTls::Disabled,
    ];

    #[test]
    fn a_path_says_whether_there_is_tls_and_whether_the_certificate_counts() {
        let wanted = [
            (StartTls::IfOffered, Peer::Certified, false),
            (StartTls::IfOffered, Peer::Anybody, true),
            (StartTls::Required, Peer::Certified, false),
            (StartTls::Required, Peer::Anybody, false),
            (StartTls::Off, Peer::Anybody, false),
        ];
        for (mode, (starttls, peer, clear_after_failure)) in MODES.into_iter().zip(wanted) {
            assert_eq!(decide(mode, false), Posture { starttls, peer, clear_after_failure }, "{mode:?}");
        }
    }

    #[test]
    fn a_broken_host_is_spared_tls_only_where_it_need_not_do_it() {
        for mode in [EnableTls::Opportunistic, EnableTls::OpportunisticInsecure] {
            assert_eq!(decide(mode, true), Posture::CLEAR, "{mode:?}");
        }
        for mode in [EnableTls::Required, EnableTls::RequiredInsecure] {
            assert_eq!(decide(mode, true), decide(mode, false), "{mode:?}");
        }
    }
}
