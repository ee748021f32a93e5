//! Flags that say what the mail contains and whom it is for.

use std::path::PathBuf;

use clap::Args;
use traffic_gen::{BODY_BYTES_MAX, ContentPlan, Domain, Plan, parse};

use super::{Refusal, domain_name};

#[derive(Args)]
pub(crate) struct ContentFlags {
    /// Bytes of each body
    #[arg(long, value_name = "SIZE", default_value = "1024", value_parser = body_size)]
    body_size: usize,
    /// Send this file instead: a body, or a whole message whose header is kept except for the fields that
    /// differ per message
    #[arg(long, value_name = "FILE", conflicts_with = "body_size")]
    body_file: Option<PathBuf>,
    /// Add a header field; may be repeated
    #[arg(long, value_name = "'NAME: VALUE'", value_parser = header)]
    header: Vec<String>,
    /// A recipient domain with its share; may be repeated [default: aol.com, gmail.com, hotmail.com and
    /// yahoo.com alike]
    #[arg(long, value_name = "NAME[:WEIGHT]")]
    domain: Vec<Domain>,
    /// Appended to every domain, so that mail cannot leave this host; may be empty
    #[arg(long, value_name = "NAME", default_value = "mx-sink.localhost", value_parser = domain_suffix)]
    domain_suffix: String,
}

impl ContentFlags {
    pub(crate) fn apply(&self, plan: &mut Plan) -> Result<(), Refusal> {
        let body_file =
            self.body_file.as_ref().map(|path| std::fs::read(path).map_err(|error| (path, error)));
        let body_file = body_file
            .transpose()
            .map_err(|(path, error)| Refusal::usage(format!("cannot read {}: {error}", path.display())))?;
        plan.content = body_file.map_or_else(|| ContentPlan::fixed(self.body_size), ContentPlan::file);
        plan.content.headers.clone_from(&self.header);
        plan.recipients.domains.clone_from(&self.domain);
        plan.recipients.domain_suffix.clone_from(&self.domain_suffix);
        if !self.domain_suffix.is_empty() {
            plan.recipients.sender = format!("sender@{}", self.domain_suffix);
        }
        Ok(())
    }
}

fn body_size(text: &str) -> Result<usize, String> {
    let size = parse::size(text).map_err(|error| error.to_string())?;
    if size > BODY_BYTES_MAX {
        Err(format!("a body of {size} bytes is too large; {BODY_BYTES_MAX} are allowed"))
    } else {
        Ok(size)
    }
}

fn header(text: &str) -> Result<String, String> {
    traffic_gen::check_header(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn domain_suffix(text: &str) -> Result<String, String> {
    let suffix = text.trim_matches('.');
    if suffix.is_empty() { Ok(String::new()) } else { domain_name(suffix) }
}
