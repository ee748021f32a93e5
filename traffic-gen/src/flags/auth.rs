//! Flags that say who we are.
//!
//! A password may stand in a file or in the environment, where other users of the host do not see it. A
//! password in the environment alone asks for nothing: it may be there for another run.

use std::path::PathBuf;

use clap::Args;
use traffic_gen::{Auth, AuthType};

use super::Refusal;

/// Where a password may stand in the environment.
const PASSWORD_VARIABLE: &str = "TRAFFIC_GEN_AUTH_PASSWORD";

#[derive(Args)]
pub(crate) struct AuthFlags {
    /// Who we are, both in one; a server that does not offer AUTH is an error
    #[arg(long, value_name = "USER:PASSWORD", value_parser = user_and_password)]
    #[arg(conflicts_with_all = ["auth_user", "auth_password", "auth_password_file"])]
    auth: Option<(String, String)>,
    /// Who we are
    #[arg(long, value_name = "USER")]
    auth_user: Option<String>,
    /// What proves it
    #[arg(long, value_name = "PASSWORD", env = PASSWORD_VARIABLE, hide_env_values = true)]
    auth_password: Option<String>,
    /// A file with the password in its first line
    #[arg(long, value_name = "FILE")]
    auth_password_file: Option<PathBuf>,
    /// PLAIN or LOGIN [default: the first of them that the server offers]
    #[arg(long, value_name = "TYPE", value_parser = auth_type)]
    auth_type: Option<AuthType>,
}

impl AuthFlags {
    /// Who we are, if anybody.
    pub(crate) fn credentials(&self) -> Result<Option<Auth>, Refusal> {
        let (user, password) = match (&self.auth, &self.auth_user) {
            (Some((user, password)), _) => (user.clone(), password.clone()),
            (None, Some(user)) => (user.clone(), self.password()?),
            (None, None) if self.auth_password_file.is_some() || self.auth_type.is_some() => {
                return Err(Refusal::usage(
                    "a password or its type says nothing without a user; add --auth-user".to_owned(),
                ));
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Auth { mechanism: self.auth_type, user, password }))
    }

    fn password(&self) -> Result<String, Refusal> {
        let Some(path) = &self.auth_password_file else {
            return self.auth_password.clone().ok_or_else(|| {
                Refusal::usage(format!(
                    "--auth-user needs a password; add --auth-password-file, --auth-password, or set \
                     {PASSWORD_VARIABLE}"
                ))
            });
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Refusal::usage(format!("cannot read the password in {}: {error}", path.display()))
        })?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

fn user_and_password(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => Ok((user.to_owned(), password.to_owned())),
        _ => Err("write USER:PASSWORD".to_owned()),
    }
}

fn auth_type(text: &str) -> Result<AuthType, String> {
    match text.to_ascii_uppercase().as_str() {
        "PLAIN" => Ok(AuthType::Plain),
        "LOGIN" => Ok(AuthType::Login),
        _ => Err(format!("{text:?} is no type of AUTH that is known here; write PLAIN or LOGIN")),
    }
}
