//! Flags about TLS, AUTH and LMTP.
//!
//! Refuses a certificate without its key; whether the two fit together is found when the server starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use sink::{Auth, Certificate, Config, Login};

use super::listen::address;

/// Flags about who may talk how.
#[derive(Args)]
#[command(next_help_heading = "TLS, AUTH and LMTP")]
pub(crate) struct TlsFlags {
    /// Offer STARTTLS
    #[arg(long)]
    starttls: bool,
    /// Where TLS comes before the banner; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    tls_listen: Option<SocketAddr>,
    /// Certificates in PEM, the sink's own first [default: one made at the start]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of the certificate in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Offer AUTH PLAIN and LOGIN to this user; may be given several times
    #[arg(long, value_name = "USER:PASSWORD", value_parser = login, conflicts_with = "auth_any")]
    auth: Vec<Login>,
    /// Offer AUTH PLAIN and LOGIN and let everybody in
    #[arg(long)]
    auth_any: bool,
    /// Speak LMTP (RFC 2033)
    #[arg(long, short = 'L')]
    lmtp: bool,
}

impl TlsFlags {
    /// Writes this group's part of the configuration.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<(), String> {
        config.starttls = self.starttls;
        config.tls_listen = self.tls_listen;
        config.lmtp = self.lmtp;
        config.auth = match (self.auth_any, self.auth.is_empty()) {
            (true, _) => Auth::Any,
            (false, true) => Auth::None,
            (false, false) => Auth::Users(self.auth.clone()),
        };
        if let (Some(certificates), Some(key)) = (&self.cert, &self.key) {
            if !self.starttls && self.tls_listen.is_none() {
                return Err("a certificate is of no use without --starttls or --tls-listen".to_owned());
            }
            config.certificate = Some(Certificate { certificates: read(certificates)?, key: read(key)? });
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn login(text: &str) -> Result<Login, String> {
    let (user, password) = text.split_once(':').ok_or("write it as USER:PASSWORD")?;
    Ok(Login { user: user.to_owned(), password: password.to_owned() })
}
