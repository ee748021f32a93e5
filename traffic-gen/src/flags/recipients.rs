//! Flags that say who the mail is from and for.

use clap::Args;
use traffic_gen::{
    Domain, GROUPS_MAX, Group, PerMessage, Plan, RecipientPlan, USERS_MAX, ZIPF_MAX, check_header, parse,
};

use super::{Refusal, domain_name};

#[derive(Args)]
pub(crate) struct RecipientFlags {
    /// A recipient domain with its share; may be repeated [default: aol.com, gmail.com, hotmail.com and
    /// yahoo.com alike]
    #[arg(long, value_name = "NAME[:WEIGHT]")]
    domain: Vec<Domain>,
    /// Domains of large mailbox providers with weights that add up to 100, an example; --domain adds to them
    #[arg(long)]
    provider_mix: bool,
    /// Appended to every domain, so that mail cannot leave this host; may be empty
    #[arg(long, value_name = "NAME", default_value = "mx-sink.localhost", value_parser = domain_suffix)]
    domain_suffix: String,
    /// Different users at each domain
    #[arg(long, value_name = "N", default_value = "1m", value_parser = users)]
    users: u64,
    /// Make users unequal: the one of rank n gets a share of 1 / n^EXPONENT [default: all alike]
    #[arg(long, value_name = "EXPONENT", value_parser = zipf)]
    zipf: Option<f64>,
    /// Recipients of each message, all at one domain; the first stands in To
    #[arg(long, value_name = "N|MIN:MAX", default_value = "1")]
    recipients_per_message: PerMessage,
    /// Let each recipient of a message have a domain of its own
    #[arg(long)]
    spread_recipients: bool,
    /// The sender of all mail [default: sender at the domain suffix]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "sender_domain", value_parser = address)]
    from: Option<String>,
    /// The domain of the sender
    #[arg(long, value_name = "NAME", value_parser = domain_name)]
    sender_domain: Option<String>,
    /// Name one of so many tenants in each message
    #[arg(long, value_name = "N", value_parser = group_count)]
    tenants: Option<u32>,
    /// Name one of so many campaigns in each message
    #[arg(long, value_name = "N", value_parser = group_count)]
    campaigns: Option<u32>,
    /// The header field that carries the tenant
    #[arg(long, value_name = "NAME", default_value = "X-Tenant", value_parser = field_name)]
    tenant_header: String,
    /// The header field that carries the campaign
    #[arg(long, value_name = "NAME", default_value = "X-Campaign", value_parser = field_name)]
    campaign_header: String,
}

impl RecipientFlags {
    pub(crate) fn apply(&self, plan: &mut Plan) -> Result<(), Refusal> {
        let mix = if self.provider_mix { Domain::provider_mix() } else { Vec::new() };
        let default = &plan.recipients.sender;
        let sender = self.from.clone().unwrap_or_else(|| match (&self.sender_domain, &self.domain_suffix) {
            (Some(domain), _) => format!("sender@{domain}"),
            (None, suffix) if !suffix.is_empty() => format!("sender@{suffix}"),
            _ => default.clone(),
        });
        plan.recipients = RecipientPlan {
            domains: mix.into_iter().chain(self.domain.iter().cloned()).collect(),
            domain_suffix: self.domain_suffix.clone(),
            sender,
            users: self.users,
            zipf: self.zipf,
            per_message: self.recipients_per_message,
            spread: self.spread_recipients,
            tenants: Group { count: self.tenants.unwrap_or(0), header: self.tenant_header.clone() },
            campaigns: Group { count: self.campaigns.unwrap_or(0), header: self.campaign_header.clone() },
        };
        plan.recipients.check().map_err(|error| Refusal::usage(error.to_string()))
    }
}

fn users(text: &str) -> Result<u64, String> {
    let users = parse::count(text).map_err(|error| error.to_string())?;
    if users > USERS_MAX {
        return Err(format!("{users} users are too many; {USERS_MAX} are allowed"));
    }
    Ok(users)
}

fn zipf(text: &str) -> Result<f64, String> {
    let exponent = text.parse().ok().filter(|exponent| (0.0..=ZIPF_MAX).contains(exponent));
    exponent.ok_or_else(|| {
        format!("{text:?} is no exponent; write a number from 0 (all alike) to {ZIPF_MAX}, such as 1.1")
    })
}

fn group_count(text: &str) -> Result<u32, String> {
    let count = parse::count(text).map_err(|error| error.to_string())?;
    let count = u32::try_from(count).ok().filter(|count| *count <= GROUPS_MAX);
    count.ok_or_else(|| format!("{text} are too many; {GROUPS_MAX} are allowed"))
}

fn field_name(text: &str) -> Result<String, String> {
    match check_header(&format!("{text}: x")) {
        Ok(()) if !text.contains(':') => Ok(text.to_owned()),
        _ => {
            Err(format!("{text:?} is no name of a header field; write one like X-Tenant, without the colon"))
        }
    }
}

fn address(text: &str) -> Result<String, String> {
    let refused = |error| format!("{text:?} is no address: {error}; write it like sender@example.com");
    let path = smtp::address::Path::parse_bare(text, false).map_err(|error| refused(error.to_string()))?;
    if path.domain().is_empty() {
        return Err(refused("domain is missing".to_owned()));
    }
    Ok(text.to_owned())
}

fn domain_suffix(text: &str) -> Result<String, String> {
    let suffix = text.trim_matches('.');
    if suffix.is_empty() { Ok(String::new()) } else { domain_name(suffix) }
}
