//! A path in use: what the policy said of it, the limits by their names, and the password, read for each session.
//!
//! A password that cannot be read is an error of the session that wanted it; its mail waits.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::crypto::ring::default_provider;
use smtp::client::Credentials;

use crate::config::{PathConfig, SourceConfig};
use crate::queue::{NamedRates, NamedSlots};

/// Random bytes of a nonce.
const NONCE_BYTES: usize = 18;

/// How mail travels from a source to a site, and the limits that hold there.
pub(super) struct Path {
    pub(super) source: Arc<SourceConfig>,
    pub(super) config: PathConfig,
    pub(super) message_rates: NamedRates,
    pub(super) selection_rates: NamedRates,
    pub(super) connection_rates: NamedRates,
    pub(super) slots: NamedSlots,
    /// How long a session may make no progress.
    pub(super) watchdog: Duration,
    /// For the record.
    pub(super) provider: Option<Arc<str>>,
}

impl Path {
    pub(super) fn new(ready_queue: &str, source: Arc<SourceConfig>, config: PathConfig) -> Self {
        Self {
            source,
            message_rates: NamedRates::of_path(ready_queue, &config),
            selection_rates: NamedRates::of_selection(ready_queue, &config),
            connection_rates: NamedRates::of_connections(ready_queue, &config),
            slots: NamedSlots::of_path(ready_queue, &config),
            watchdog: config.watchdog(),
            provider: config.provider_name.as_deref().map(Arc::from),
            config,
        }
    }

    /// With what to log in, for one session; nothing where the path does not say so.
    ///
    /// # Errors
    /// Why the password cannot be had.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, String> {
        let config = &self.config;
        let Some((user, source)) =
            config.smtp_auth_plain_username.as_ref().zip(config.smtp_auth_plain_password.as_ref())
        else {
            return Ok(None);
        };
        let read = source.read().map_err(|error| format!("{source} cannot be read: {error}"))?;
        let text = String::from_utf8(read).map_err(|_| format!("{source} is not text"))?;
        // Editors end a file with a line end, which nobody means to be a part of the password.
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() || password.contains('\0') {
            return Err(format!("{source} holds no password"));
        }
        Ok(Some(Credentials {
            mechanism: config.smtp_auth_mechanism.map(|mechanism| mechanism.0),
            user: user.clone(),
            password: password.to_owned(),
            password_needs: config.password_needs(),
            nonce: nonce().unwrap_or_default(),
        }))
    }
}

/// A nonce for one exchange of SCRAM; `None` where there are no random numbers.
fn nonce() -> Option<String> {
    let mut bytes = [0; NONCE_BYTES];
    default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(BASE64.encode(bytes))
}
