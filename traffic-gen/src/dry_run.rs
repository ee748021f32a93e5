//! What a run would do, in words, and its first message; nothing is sent.

use std::fmt::Write;

use traffic_gen::{Plan, Preview, Reuse, Schedule, Tls};

use crate::agents::Senders;
use crate::summary::grouped;

/// Bytes of the message that are shown.
const SHOWN_BYTES_MAX: usize = 2_048;

/// The plan in words, then the message.
pub(crate) fn text(plan: &Plan, senders: &Senders, preview: &Preview) -> String {
    let mut text = Text(String::new());
    text.add("run", plan.run_id.as_str());
    for target in &plan.targets {
        let addresses: Vec<_> = target.addresses.iter().map(ToString::to_string).collect();
        text.add("target", &format!("{} ({})", target.name, addresses.join(", ")));
    }
    text.add("transport", &transport(plan));
    text.add("connections", &connections(plan));
    text.add("load", &load(plan));
    text.add("length", &length(plan));
    if let Senders::Fleet(fleet) = senders {
        text.add("sent by", &fleet.addresses().join(", "));
    }
    text.add("bodies", &format!("{} bytes on average", grouped(preview.body_bytes_mean)));
    text.add("seed", &plan.seed.to_string());
    text.add("sender", &preview.sender);
    for recipient in &preview.recipients {
        text.add("recipient", recipient);
    }
    let shown = &preview.message[..preview.message.len().min(SHOWN_BYTES_MAX)];
    let more = preview.message.len() - shown.len();
    let message = String::from_utf8_lossy(shown).replace('\r', "");
    let more = if more > 0 { format!("\n({} bytes more)\n", grouped(more as f64)) } else { String::new() };
    format!("{}\n{message}{more}\nnothing was sent\n", text.0)
}

struct Text(String);

impl Text {
    fn add(&mut self, name: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{name:<16}{value}");
    }
}

fn transport(plan: &Plan) -> String {
    let transport = &plan.transport;
    let protocol = match (&plan.http, transport.lmtp) {
        (Some(_), _) => "injection over HTTP",
        (None, true) => "LMTP",
        (None, false) => "SMTP",
    };
    let tls = match transport.tls {
        Tls::None => "in clear",
        Tls::StartTls => "with STARTTLS",
        Tls::Implicit => "with TLS from the first byte",
    };
    let mut text = format!("{protocol} {tls}");
    if let Some(auth) = &transport.auth {
        let _ = write!(text, ", as {}", auth.user);
    }
    for (name, used) in [("PIPELINING", transport.pipelining), ("CHUNKING", transport.chunking)] {
        if !used && plan.http.is_none() {
            let _ = write!(text, ", without {name}");
        }
    }
    text
}

fn connections(plan: &Plan) -> String {
    let reuse = match plan.transport.messages_per_connection {
        Reuse { max: u32::MAX, min: u32::MAX } => "each kept for the whole run".to_owned(),
        Reuse { min, max } if min == max => format!("{} messages over each", grouped(f64::from(max))),
        Reuse { min, max } => {
            format!("{} to {} messages over each", grouped(f64::from(min)), grouped(f64::from(max)))
        }
    };
    format!("{}, {reuse}", grouped(plan.concurrency as f64))
}

fn load(plan: &Plan) -> String {
    let Schedule::Open { arrivals, stages } = &plan.schedule else {
        return "as fast as replies come (a closed loop)".to_owned();
    };
    let stages: Vec<_> = stages
        .iter()
        .map(|stage| {
            let rates = if stage.from_per_s == stage.to_per_s {
                format!("{}/s", grouped(stage.to_per_s))
            } else {
                format!("{} to {}/s", grouped(stage.from_per_s), grouped(stage.to_per_s))
            };
            let length = stage.length.map(|length| format!(" for {} s", length.as_secs_f64()));
            rates + &length.unwrap_or_default()
        })
        .collect();
    format!("{}, on schedule ({arrivals:?} arrivals)", stages.join(", then ")).to_lowercase()
}

fn length(plan: &Plan) -> String {
    let mut parts = Vec::new();
    if let Some(count) = plan.message_count {
        parts.push(format!("{} messages", grouped(count as f64)));
    }
    if let Some(length) = plan.length() {
        parts.push(format!("{} s", length.as_secs_f64()));
    }
    if !plan.warm_up.is_zero() {
        parts.push(format!("the first {} s to warm up", plan.warm_up.as_secs_f64()));
    }
    parts.push(format!("at most {} s for the last replies", plan.drain.as_secs_f64()));
    parts.join(", ")
}
