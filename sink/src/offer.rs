//! What the sink offers its clients: extensions, TLS, AUTH.
//!
//! Made once at the start and shared by all workers. A certificate that cannot be used ends the start.
//! Certificates that are bad on purpose are made only where TLS is on offer at all.

use std::sync::Arc;

use smtp::server::{Config as Protocol, Mechanism, Questions};

use crate::config::{Auth, Config};
use crate::faults::BadTls;
use crate::tls::{Acceptor, Flaw, Pem, TlsError};

/// The protocol in its four ways, the certificates, the passwords.
pub(crate) struct Offer {
    protocol: Arc<Protocol>,
    /// The same with a question about every command, for rules that need it.
    protocol_asking: Arc<Protocol>,
    /// For the port where TLS has begun already.
    protocol_secure: Arc<Protocol>,
    protocol_secure_asking: Arc<Protocol>,
    certificates: Option<Certificates>,
    auth: Auth,
}

struct Certificates {
    good: Acceptor,
    expired: Acceptor,
    wrong_name: Acceptor,
}

impl Offer {
    pub(crate) fn new(config: &Config) -> Result<Self, TlsError> {
        let mut protocol = config.protocol();
        if config.auth != Auth::None {
            protocol.auth = vec![Mechanism::Plain, Mechanism::Login];
        }
        let secure = Protocol { starttls: false, ..protocol.clone() };
        let asking = |protocol: &Protocol| Protocol { questions: Questions::All, ..protocol.clone() };
        let has_tls = config.starttls || config.tls_listen.is_some();
        Ok(Self {
            protocol_asking: Arc::new(asking(&protocol)),
            protocol_secure_asking: Arc::new(asking(&secure)),
            protocol: Arc::new(protocol),
            protocol_secure: Arc::new(secure),
            certificates: if has_tls { Some(Certificates::new(config)?) } else { None },
            auth: config.auth.clone(),
        })
    }

    /// How a connection talks. `tls_first`: it came to the port where TLS comes first.
    pub(crate) fn protocol(&self, tls_first: bool, asks_commands: bool) -> Arc<Protocol> {
        Arc::clone(match (tls_first, asks_commands) {
            (false, false) => &self.protocol,
            (false, true) => &self.protocol_asking,
            (true, false) => &self.protocol_secure,
            (true, true) => &self.protocol_secure_asking,
        })
    }

    /// Who does the handshake; `None` where there shall be none.
    pub(crate) fn acceptor(&self, flaw: Option<BadTls>) -> Option<&Acceptor> {
        let certificates = self.certificates.as_ref()?;
        match flaw {
            None => Some(&certificates.good),
            Some(BadTls::Expired) => Some(&certificates.expired),
            Some(BadTls::WrongName) => Some(&certificates.wrong_name),
            Some(BadTls::Garbage) => None,
        }
    }

    /// Whether the user may come in with that password.
    pub(crate) fn admits(&self, user: &str, password: &str) -> bool {
        match &self.auth {
            Auth::None => false,
            Auth::Any => true,
            Auth::Users(users) => users.iter().any(|login| login.user == user && login.password == password),
        }
    }
}

impl Certificates {
    fn new(config: &Config) -> Result<Self, TlsError> {
        let pem = config.certificate.as_ref();
        let pem = pem.map(|pem| Pem { certificates: &pem.certificates, key: &pem.key });
        let names = [config.hostname.clone(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        Ok(Self {
            good: Acceptor::new(pem, &names)?,
            expired: Acceptor::flawed(Flaw::Expired, &names)?,
            wrong_name: Acceptor::flawed(Flaw::WrongName, &names)?,
        })
    }
}
