//! Flags that say whether connections are encrypted, and what the server's certificate has to show.

use std::path::PathBuf;

use clap::Args;
use traffic_gen::{Tls, Transport, Verify};

use super::{Refusal, domain_name};

#[derive(Args)]
pub(crate) struct TlsFlags {
    /// Encrypt after STARTTLS; a server that does not offer it is an error
    #[arg(long, visible_alias = "tls", group = "encryption")]
    starttls: bool,
    /// Encrypt from the first byte
    #[arg(long, visible_alias = "tlsc", group = "encryption")]
    tls_on_connect: bool,
    /// Ask for a certificate that this host trusts and that has the server's name
    #[arg(long)]
    tls_verify: bool,
    /// The same, trusting the certificates in this file (PEM) and nobody else
    #[arg(long, value_name = "FILE")]
    tls_ca_path: Option<PathBuf>,
    /// The name to ask for and to find in the certificate [default: the target's]
    #[arg(long, value_name = "NAME", value_parser = domain_name)]
    tls_sni: Option<String>,
}

impl TlsFlags {
    pub(crate) fn apply(&self, transport: &mut Transport) -> Result<(), Refusal> {
        transport.tls = match (self.starttls, self.tls_on_connect) {
            (true, _) => Tls::StartTls,
            (_, true) => Tls::Implicit,
            _ => Tls::None,
        };
        transport.verify = match &self.tls_ca_path {
            Some(path) => Verify::Ca(std::fs::read_to_string(path).map_err(|error| {
                Refusal::usage(format!("cannot read the certificates in {}: {error}", path.display()))
            })?),
            None if self.tls_verify => Verify::System,
            None => Verify::Nothing,
        };
        transport.sni.clone_from(&self.tls_sni);
        Ok(())
    }

    /// The first flag that has no meaning without encryption.
    pub(crate) fn without_encryption(&self) -> Option<&'static str> {
        let flags = [
            (self.tls_verify, "--tls-verify"),
            (self.tls_ca_path.is_some(), "--tls-ca-path"),
            (self.tls_sni.is_some(), "--tls-sni"),
        ];
        flags.into_iter().find_map(|(given, flag)| given.then_some(flag))
    }
}
