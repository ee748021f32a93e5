//! What a connection to one host has to be: whether through TLS, and who must be at its other end. Pure: nothing is asked or kept here.
//!
//! What the domain publishes is stronger than what the path says, as in KumoMTA; without that the path decides.

use std::sync::Arc;

use smtp::client::StartTls;

use super::dane::Rules;
use crate::config::EnableTls;
use crate::config::PathConfig;

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
    /// Whoever answers; that it has no valid certificate is counted.
    Watched,
    /// Who has a valid certificate for the name of the host, from an authority that this host trusts.
    Certified,
    /// Who has a certificate that the host's TLSA records name (RFC 7672).
    Named(Arc<Rules>),
}

impl Peer {
    /// Whether a connection is proof of who answered.
    pub(in crate::outbound) fn is_verified(&self) -> bool {
        !matches!(self, Self::Anybody | Self::Watched)
    }
}

/// What a domain's MTA-STS policy (RFC 8461) asks of the hosts that it allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::outbound) enum Sts {
    /// There is none that asks for anything.
    #[default]
    Nothing,
    /// `testing`: the mail goes, whatever the certificate.
    Testing,
    /// `enforce`.
    Enforced,
}

/// What a host's TLSA records ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Dane {
    /// There are none, or none that can be trusted.
    #[default]
    Nothing,
    /// None of them can be used: TLS, with whoever answers (RFC 7672 2.2).
    Unusable,
    /// One of these certificates.
    Rules(Arc<Rules>),
}

impl Sts {
    /// What ready queues are told apart by.
    pub(in crate::outbound) fn suffix(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Testing => "+mta-sts-testing",
            Self::Enforced => "+mta-sts-enforce",
        }
    }
}

impl Posture {
    /// Without TLS.
    pub(in crate::outbound) const CLEAR: Self =
        Self { starttls: StartTls::Off, peer: Peer::Anybody, clear_after_failure: false };

    /// Decides. `is_broken`: a handshake with the host has failed not long ago, and the path says to remember that.
    pub(super) fn decide(path: &PathConfig, dane: Dane, sts: Sts, is_broken: bool) -> Self {
        match (dane, if path.enable_mta_sts { sts } else { Sts::Nothing }) {
            // RFC 8461 2: MTA-STS does not stand in the way of DANE.
            (Dane::Rules(rules), _) => Self::required(Peer::Named(rules)),
            (Dane::Unusable, _) => Self::required(Peer::Anybody),
            (Dane::Nothing, Sts::Enforced) => Self::required(Peer::Certified),
            // Who takes any certificate takes none as well.
            (Dane::Nothing, Sts::Testing) => Self::if_offered(Peer::Watched, true),
            (Dane::Nothing, Sts::Nothing) => Self::of_path(path, is_broken),
        }
    }

    fn of_path(path: &PathConfig, is_broken: bool) -> Self {
        let again = path.opportunistic_tls_reconnect_on_failed_handshake;
        match path.enable_tls {
            EnableTls::Disabled => Self::CLEAR,
            EnableTls::Opportunistic | EnableTls::OpportunisticInsecure if is_broken => Self::CLEAR,
            EnableTls::Opportunistic => Self::if_offered(Peer::Certified, again),
            EnableTls::OpportunisticInsecure => Self::if_offered(Peer::Anybody, true),
            EnableTls::Required => Self::required(Peer::Certified),
            EnableTls::RequiredInsecure => Self::required(Peer::Anybody),
        }
    }

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

    fn path(enable_tls: EnableTls) -> PathConfig {
        PathConfig { enable_tls, ..PathConfig::default() }
    }

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
            let decided = Posture::decide(&path(mode), Dane::Nothing, Sts::Nothing, false);
            assert_eq!(decided, Posture { starttls, peer, clear_after_failure }, "{mode:?}");
        }
    }

    #[test]
    fn a_broken_host_is_spared_tls_only_where_it_need_not_do_it() {
        for (mode, spared) in MODES.into_iter().zip([true, true, false, false, true]) {
            let decided = Posture::decide(&path(mode), Dane::Nothing, Sts::Nothing, true);
            assert_eq!(decided == Posture::CLEAR, spared, "{mode:?}");
            let enforced = Posture::decide(&path(mode), Dane::Nothing, Sts::Enforced, true);
            assert_eq!(enforced, Posture::required(Peer::Certified), "{mode:?}");
        }
    }

    #[test]
    fn what_is_published_is_stronger_than_the_path_unless_the_path_says_not_to_look() {
        for mode in MODES {
            let path = PathConfig { opportunistic_tls_reconnect_on_failed_handshake: true, ..path(mode) };
            let decide = |sts| Posture::decide(&path, Dane::Nothing, sts, false);
            assert_eq!(decide(Sts::Enforced), Posture::required(Peer::Certified), "{mode:?}");
            assert_eq!(decide(Sts::Testing), Posture::if_offered(Peer::Watched, true), "{mode:?}");
            let blind = PathConfig { enable_mta_sts: false, ..path.clone() };
            for sts in [Sts::Enforced, Sts::Testing] {
                assert_eq!(
                    Posture::decide(&blind, Dane::Nothing, sts, false),
                    decide(Sts::Nothing),
                    "{mode:?}"
                );
            }
        }
    }

    #[test]
    fn dane_is_stronger_than_mta_sts_and_than_what_is_remembered() {
        let rules = Arc::new(Rules::default());
        for mode in MODES {
            for sts in [Sts::Nothing, Sts::Testing, Sts::Enforced] {
                let named = Posture::decide(&path(mode), Dane::Rules(Arc::clone(&rules)), sts, true);
                assert_eq!(named, Posture::required(Peer::Named(Arc::clone(&rules))), "{mode:?} {sts:?}");
                let unusable = Posture::decide(&path(mode), Dane::Unusable, sts, true);
                assert_eq!(unusable, Posture::required(Peer::Anybody), "{mode:?} {sts:?}");
            }
        }
    }
}
