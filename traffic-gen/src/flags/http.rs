//! Flags of injection over HTTP.

use clap::Args;
use traffic_gen::{Auth, Endpoint, Injection, PerMessage, Plan, RECIPIENTS_MAX, parse};

use super::Refusal;

#[derive(Args)]
pub(crate) struct HttpFlags {
    /// Inject over HTTP as KumoMTA's /api/inject/v1 has it; the target is a URL or HOST:PORT [default target:
    /// 127.0.0.1:8000]
    #[arg(long)]
    http: bool,
    /// Recipients of each request
    #[arg(long, value_name = "N", default_value = "1", value_parser = batch_size, requires = "http")]
    #[arg(conflicts_with = "recipients_per_message")]
    http_batch_size: usize,
    /// Ask the server to keep messages in memory until their first attempt has failed
    #[arg(long, requires = "http")]
    http_defer_spool: bool,
    /// Ask the server to make the messages later; it then answers before it has looked at the recipients
    #[arg(long, requires = "http")]
    http_defer_generation: bool,
    /// Who we are, as HTTP Basic
    #[arg(long, value_name = "USER:PASSWORD", value_parser = auth, requires = "http")]
    http_auth: Option<Auth>,
}

impl HttpFlags {
    pub(crate) fn apply(&self, plan: &mut Plan) -> Result<(), Refusal> {
        for target in &plan.targets {
            match Endpoint::parse(&target.name) {
                Err(error) if self.http => return Err(Refusal::usage(error.to_string())),
                Ok(_) if !self.http && target.name.contains("://") => {
                    return Err(Refusal::usage(format!(
                        "{} is a URL; add --http to inject there, or write HOST:PORT for SMTP",
                        target.name
                    )));
                }
                _ => {}
            }
        }
        if !self.http {
            return Ok(());
        }
        plan.http = Some(Injection {
            defer_spool: self.http_defer_spool,
            defer_generation: self.http_defer_generation,
        });
        if self.http_batch_size > 1 {
            plan.recipients.per_message = PerMessage { min: self.http_batch_size, max: self.http_batch_size };
            plan.recipients.check().map_err(|error| Refusal::usage(error.to_string()))?;
        }
        plan.transport.auth = self.http_auth.clone().or_else(|| plan.transport.auth.take());
        Ok(())
    }
}

fn batch_size(text: &str) -> Result<usize, String> {
    let count = parse::count(text).map_err(|error| error.to_string())?;
    let count = usize::try_from(count).ok().filter(|count| *count <= RECIPIENTS_MAX);
    count.ok_or_else(|| format!("{text} recipients of a request are too many; {RECIPIENTS_MAX} are allowed"))
}

fn auth(text: &str) -> Result<Auth, String> {
    // RFC 7617 2: a user has no colon.
    let (user, password) = text.split_once(':').ok_or("write USER:PASSWORD")?;
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("a user or password cannot have control characters".to_owned());
    }
    Ok(Auth { mechanism: None, user: user.to_owned(), password: password.to_owned() })
}
