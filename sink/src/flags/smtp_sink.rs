//! The short flags of Postfix's `smtp-sink`, so that scripts written for it go on working.
//!
//! What they ask for is a setting or a rule of ours. What cannot mean anything here is refused with the
//! reason, never passed over in silence; what asks to leave out something that this sink never does is
//! granted.

use clap::{ArgAction, Args};
use serde_json::{Value, json};
use sink::Config;
use sink::faults::RuleSet;

/// What `-b` stands for where it is not given.
const SOFT: &str = "450 4.3.0 The command fails for now, as -r asks for";

/// What `-B` stands for where it is not given.
const HARD: &str = "500 5.3.0 The command fails for good, as -f asks for";

const CLOSING: &str = "421 4.7.0 Closing the connection, as -Q asks for";

/// Flags that `smtp-sink` has, too.
#[derive(Args)]
#[command(
    next_help_heading = "As in Postfix's smtp-sink (COMMANDS: CONNECT HELO EHLO LHLO MAIL RCPT DATA . RSET \
                               NOOP VRFY QUIT, with commas)"
)]
pub(crate) struct SmtpSinkFlags {
    /// Do not announce 8BITMIME
    #[arg(short = '8')]
    no_eight_bit_mime: bool,
    /// Do not announce AUTH, which is the default
    #[arg(short = 'a', conflicts_with_all = ["auth", "auth_any"])]
    no_auth: bool,
    /// So long after 354, refuse the message before its end with 550 and read no more
    #[arg(short = 'A', value_name = "SECONDS")]
    abort_after: Option<u32>,
    /// The reply to the commands of -r
    #[arg(short = 'b', value_name = "REPLY", default_value = SOFT, hide_default_value = true)]
    soft_reply: String,
    /// The reply to the commands of -f
    #[arg(short = 'B', value_name = "REPLY", default_value = HARD, hide_default_value = true)]
    hard_reply: String,
    /// Write what has been counted to standard error each second
    #[arg(short = 'c', long = "counters")]
    pub(crate) counters: bool,
    /// Do not announce XCLIENT, which is never announced
    #[arg(short = 'C')]
    no_xclient: bool,
    /// Do not speak ESMTP: EHLO is not known
    #[arg(short = 'e')]
    no_esmtp: bool,
    /// Do not announce ENHANCEDSTATUSCODES, and leave such codes out
    #[arg(short = 'E')]
    no_enhanced_codes: bool,
    /// Refuse these commands for good
    #[arg(short = 'f', value_name = "COMMANDS")]
    refused: Vec<String>,
    /// Do not announce XFORWARD, which is never announced
    #[arg(short = 'F')]
    no_xforward: bool,
    /// So long after 354, begin to read the message
    #[arg(short = 'H', value_name = "SECONDS")]
    read_after: Option<u32>,
    /// Do not announce DSN, which is never announced
    #[arg(short = 'N')]
    no_dsn: bool,
    /// Do not announce PIPELINING
    #[arg(short = 'p')]
    no_pipelining: bool,
    /// Greet like a firewall that hides the server; -e is a part of it
    #[arg(short = 'P')]
    firewall: bool,
    /// Close without a word at these commands
    #[arg(short = 'q', value_name = "COMMANDS")]
    dropped: Vec<String>,
    /// Answer 421 to these commands and close
    #[arg(short = 'Q', value_name = "COMMANDS")]
    closed: Vec<String>,
    /// Refuse these commands for now
    #[arg(short = 'r', value_name = "COMMANDS")]
    deferred: Vec<String>,
    /// Answer DATA so much later
    #[arg(short = 'w', value_name = "SECONDS")]
    data_after: Option<u32>,
    /// Answer a command so much later; with odds (1 to 99), as often as a dice of 100 takes to show them
    #[arg(short = 'W', value_name = "COMMAND:SECONDS[:ODDS]")]
    answered_after: Vec<String>,
    #[command(flatten)]
    refused_here: Refused,
}

/// What has no meaning here.
#[derive(Args)]
struct Refused {
    #[arg(short = 'd', hide = true)]
    dumped: Option<String>,
    #[arg(short = 'D', hide = true)]
    dumped_together: Option<String>,
    #[arg(short = 'R', hide = true)]
    root: Option<String>,
    #[arg(short = 's', hide = true)]
    logged: Option<String>,
    #[arg(short = 'S', hide = true)]
    start: Option<String>,
    #[arg(short = 'u', hide = true)]
    user: Option<String>,
    #[arg(short = 'v', hide = true, action = ArgAction::Count)]
    verbose: u8,
}

impl Refused {
    fn check(&self) -> Result<(), String> {
        let given = [
            (
                self.dumped.is_some(),
                "-d: sink names the files itself; use --capture DIR, one file for each message",
            ),
            (self.dumped_together.is_some(), "-D: sink puts no two messages in one file; use --capture DIR"),
            (
                self.root.is_some(),
                "-R: sink does not change its root; start it in a container or with chroot(8)",
            ),
            (
                self.logged.is_some(),
                "-s: sink keeps no log of commands; GET /stats counts, tcpdump(8) shows them",
            ),
            (
                self.start.is_some(),
                "-S: sink writes messages as they came, without a text of yours before them",
            ),
            (self.user.is_some(), "-u: sink does not change its user; start it as that user"),
            (self.verbose > 0, "-v: sink shows no conversations; tcpdump(8) does"),
        ];
        given.into_iter().find(|(given, _)| *given).map_or(Ok(()), |(_, reason)| Err(reason.to_owned()))
    }
}

impl SmtpSinkFlags {
    /// Writes this group's part of the configuration.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<(), String> {
        self.refused_here.check()?;
        let extensions = &mut config.extensions;
        extensions.eight_bit_mime &= !self.no_eight_bit_mime;
        extensions.pipelining &= !self.no_pipelining;
        extensions.enhanced_status_codes &= !self.no_enhanced_codes;
        if self.no_esmtp {
            config.banner = "ready".to_owned();
        }
        let rules =
            serde_json::to_vec(&json!({ "rule": self.rules()? })).map_err(|error| error.to_string())?;
        let rules = RuleSet::from_json(&rules).map_err(|error| error.to_string())?;
        let before = std::mem::take(&mut config.rules);
        config.rules = before.followed_by(rules).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Delays first, because a reply ends the asking.
    fn rules(&self) -> Result<Vec<Value>, String> {
        let mut rules = Vec::new();
        let mut add = |flag: &str, stage: &str, action: Value| {
            let name = format!("smtp-sink -{flag} {}", rules.len() + 1);
            rules.push(json!({ "name": name, "stage": stage, "action": action }));
        };
        if let Some(seconds) = self.data_after {
            add("w", "data", json!({ "delay": format!("{seconds}s") }));
        }
        for text in &self.answered_after {
            let (stage, delay) = delay(text)?;
            add("W", stage, json!({ "delay": delay }));
        }
        for (flag, seconds) in [("H", self.read_after), ("A", self.abort_after)] {
            if let Some(seconds) = seconds {
                add(flag, "body", json!({ "delay": format!("{seconds}s") }));
            }
        }
        if self.abort_after.is_some() {
            add(
                "A",
                "body",
                json!({ "reply": "550 5.3.0 The message is refused before its end, as -A asks for" }),
            );
        }
        let lists = [
            ("q", &self.dropped, json!("drop")),
            ("Q", &self.closed, json!({ "reply": CLOSING })),
            ("r", &self.deferred, json!({ "reply": self.soft_reply })),
            ("f", &self.refused, json!({ "reply": self.hard_reply })),
        ];
        for (flag, commands, action) in lists {
            for stage in stages(flag, commands)? {
                add(flag, stage, action.clone());
            }
        }
        if self.firewall {
            add("P", "banner", json!({ "reply": format!("220 {}", "*".repeat(60)) }));
        }
        if self.no_esmtp || self.firewall {
            add("e", "ehlo", json!({ "reply": "502 5.5.1 EHLO is not known here" }));
        }
        Ok(rules)
    }
}

/// The stages of a list of commands.
fn stages(flag: &str, lists: &[String]) -> Result<Vec<&'static str>, String> {
    let commands = lists.iter().flat_map(|list| list.split([',', ' ', '\t']));
    commands.filter(|command| !command.is_empty()).map(|command| stage(flag, command)).collect()
}

fn stage(flag: &str, command: &str) -> Result<&'static str, String> {
    Ok(match command.to_ascii_uppercase().as_str() {
        "CONNECT" => "banner",
        "HELO" => "helo",
        "EHLO" | "LHLO" => "ehlo",
        "MAIL" => "mail",
        "RCPT" => "rcpt",
        "DATA" => "data",
        "." => "final_dot",
        "RSET" => "rset",
        "NOOP" => "noop",
        "VRFY" => "vrfy",
        "QUIT" => "quit",
        _ => {
            let known = "CONNECT HELO EHLO LHLO MAIL RCPT DATA . RSET NOOP VRFY QUIT";
            return Err(format!("-{flag}: {command:?} is no command; known are {known}"));
        }
    })
}

fn delay(text: &str) -> Result<(&'static str, String), String> {
    let mut parts = text.split(':');
    let stage = stage("W", parts.next().unwrap_or_default())?;
    let seconds: Option<u32> = parts.next().and_then(|seconds| seconds.parse().ok());
    let seconds =
        seconds.ok_or_else(|| format!("-W: {text:?} has no seconds; write COMMAND:SECONDS[:ODDS]"))?;
    match (parts.next(), parts.next()) {
        (None, _) => Ok((stage, format!("{seconds}s"))),
        (Some(odds), None) => Ok((stage, format!("geometric:{seconds}s:{odds}"))),
        _ => Err(format!("-W: {text:?} has too many parts; write COMMAND:SECONDS[:ODDS]")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use crate::flags::Flags;

    /// The rules of a command line: stage and action.
    fn rules(arguments: &str) -> Vec<(Value, Value)> {
        let flags = Flags::try_parse_from(arguments.split('|')).unwrap_or_else(|error| panic!("{error}"));
        let rules = flags.smtp_sink.rules().unwrap();
        flags.config().unwrap();
        rules.into_iter().map(|rule| (rule["stage"].clone(), rule["action"].clone())).collect()
    }

    #[test]
    fn each_flag_that_misbehaves_is_a_rule() {
        let table = [
            ("sink|-q|CONNECT", vec![("banner", json!("drop"))]),
            (
                "sink|-Q|RCPT, .",
                vec![
                    ("rcpt", json!({ "reply": super::CLOSING })),
                    ("final_dot", json!({ "reply": super::CLOSING })),
                ],
            ),
            ("sink|-r|MAIL|-b|451 4.0.0 Soon", vec![("mail", json!({ "reply": "451 4.0.0 Soon" }))]),
            ("sink|-f|DATA|-B|554 5.0.0 No", vec![("data", json!({ "reply": "554 5.0.0 No" }))]),
            ("sink|-r|mail", vec![("mail", json!({ "reply": super::SOFT }))]),
            ("sink|-f|VRFY", vec![("vrfy", json!({ "reply": super::HARD }))]),
            ("sink|-w|3", vec![("data", json!({ "delay": "3s" }))]),
            ("sink|-W|RCPT:2", vec![("rcpt", json!({ "delay": "2s" }))]),
            ("sink|-W|.:1:30", vec![("final_dot", json!({ "delay": "geometric:1s:30" }))]),
            ("sink|-H|4", vec![("body", json!({ "delay": "4s" }))]),
            ("sink|-e", vec![("ehlo", json!({ "reply": "502 5.5.1 EHLO is not known here" }))]),
        ];
        for (arguments, expected) in table {
            let expected: Vec<(Value, Value)> =
                expected.into_iter().map(|(stage, action)| (json!(stage), action)).collect();
            assert_eq!(rules(arguments), expected, "{arguments}");
        }
        assert_eq!(rules("sink|-A|5").len(), 2);
        assert_eq!(rules("sink|-P").len(), 2);
        assert_eq!(rules("sink|-4|-a|-C|-F|-N|-c|-8|-p|-E|-L").len(), 0);
    }

    #[test]
    fn settings_are_set() {
        let config = |arguments: &str| Flags::try_parse_from(arguments.split('|')).unwrap().config();
        let all = config("sink|-8|-p|-E|-L|-h|mx.test|-t|7|-m|5|-T|4096|inet:127.0.0.1:2525|77").unwrap();
        let extensions = all.extensions;
        assert!(!(extensions.eight_bit_mime || extensions.pipelining || extensions.enhanced_status_codes));
        assert!(all.lmtp);
        assert_eq!((all.hostname.as_str(), all.idle_timeout.as_secs()), ("mx.test", 7));
        assert_eq!((all.connections_max, all.receive_buffer_bytes), (5, Some(4096)));
        assert_eq!((all.listen.to_string().as_str(), all.backlog), ("127.0.0.1:2525", 77));
        assert_eq!(config("sink|:2525").unwrap().listen.port(), 2525);
        assert!(config("sink|-6|:2525").unwrap().listen.is_ipv6());
        assert!(config("sink|-4|:2525").unwrap().listen.is_ipv4());
        assert!(config("sink|-6|127.0.0.1:2525").unwrap_err().contains("IPv6"));
    }

    #[test]
    fn what_has_no_meaning_here_is_refused_with_the_reason() {
        let error = |arguments: &str| match Flags::try_parse_from(arguments.split('|')) {
            Ok(flags) => flags.config().unwrap_err(),
            Err(error) => error.to_string(),
        };
        let table = [
            ("sink|-R|/tmp", "root"),
            ("sink|-d|%H.", "--capture"),
            ("sink|-D|%H.", "--capture"),
            ("sink|-u|nobody", "user"),
            ("sink|-v", "conversations"),
            ("sink|-s|MAIL", "log of commands"),
            ("sink|-S|x", "as they came"),
            ("sink|unix:/tmp/s", "TCP"),
            ("sink|-f|EXPN", "EXPN"),
            ("sink|-W|RCPT", "no seconds"),
            ("sink|-W|RCPT:1:100", "1 to 99"),
            ("sink|-b|hello|-r|MAIL", "hello"),
        ];
        for (arguments, part) in table {
            assert!(error(arguments).contains(part), "{arguments}: {}", error(arguments));
        }
    }
}
