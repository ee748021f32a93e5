//! What is wanted: the rules, read from the files of `tuner/rules`, which are compiled in.
//!
//! A rule file is TOML restricted to what a rule needs: comments, `[[rule]]`, and `key = "text"` on one line. The reader
//! refuses everything else with file and line, so that a slip in a rule is a failing test and not a silent default.

use std::sync::LazyLock;

/// One setting, the least that is wanted of it, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The name people search for: a sysctl key, a resource limit, or a facility.
    pub key: String,
    /// Where the current value comes from.
    pub source_of_value: SourceOfValue,
    /// How the current value is compared with `wanted`.
    pub operator: Operator,
    /// The wanted value, as the host itself would print it.
    pub wanted: String,
    /// How far a change reaches: `process`, `network namespace` or `host`.
    pub scope: String,
    /// What happens to mail without it.
    pub why: String,
    /// Where the facts can be read again: an address.
    pub source: String,
    /// What to do, as a command or a line of a file.
    pub remedy: String,
}

impl Rule {
    /// What is wanted, in words: the operator and its value.
    pub fn wanted_in_words(&self) -> String {
        match self.operator {
            Operator::AtLeast => format!("at least {}", self.wanted),
            Operator::Superset => format!("all of {}", self.wanted),
            Operator::Info => format!("{} (information)", self.wanted),
        }
    }
}

/// Where the current value of a rule is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOfValue {
    /// `/proc/sys`, with the dots of the key as slashes.
    Sysctl,
    /// A row of `/proc/self/limits`.
    Limits {
        /// The row's own name, such as `Max open files`.
        row: String,
        /// Which of its two values the rule is about.
        column: LimitColumn,
    },
    /// A try of io_uring itself.
    IoUring,
}

/// The two values of a resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitColumn {
    /// What holds now.
    Soft,
    /// What the process may raise the soft value to.
    Hard,
}

/// How a current value is compared. Every comparison has a direction, so that advice never lowers a better value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// A number, at least the wanted one.
    AtLeast,
    /// Two numbers, a range that holds the wanted range.
    Superset,
    /// Reported with its reason; asks for no change.
    Info,
}

/// Why a rule file was refused. The fault is ours: the files are compiled in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}:{line}: {problem}")]
pub struct RuleError {
    /// The rule file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

const FILES: [(&str, &str); 3] = [
    ("limits.toml", include_str!("../rules/limits.toml")),
    ("network.toml", include_str!("../rules/network.toml")),
    ("kernel.toml", include_str!("../rules/kernel.toml")),
];

static BUILT_IN: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let parsed = FILES.iter().map(|(file, text)| parse(file, text)).collect::<Result<Vec<_>, _>>();
    parsed.expect("the compiled-in rule files are parsed by a test").concat()
});

/// The rules that come with this program, in the order of their files.
pub fn built_in() -> &'static [Rule] {
    &BUILT_IN
}

/// Reads one rule file; `file` is only used to name it in an error.
///
/// # Errors
/// A line that is not one of the allowed forms, a missing or unknown field, an unknown word for an operator.
pub fn parse(file: &str, text: &str) -> Result<Vec<Rule>, RuleError> {
    let mut rules = Vec::new();
    let mut open: Option<Fields<'_>> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        let refuse = |problem: &str| RuleError { file: file.into(), line: number, problem: problem.into() };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "[[rule]]" {
            rules.extend(open.replace(Fields::new(file, number)).map(Fields::into_rule).transpose()?);
            continue;
        }
        let fields = open.as_mut().ok_or_else(|| refuse("a field before the first [[rule]]"))?;
        let (name, value) = assignment(line).ok_or_else(|| refuse("not of the form key = \"text\""))?;
        fields.pairs.push((number, name, value));
    }
    rules.extend(open.map(Fields::into_rule).transpose()?);
    Ok(rules)
}

/// `key = "text"`; text without quotes and backslashes inside, because no rule needs them.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
    (!value.contains(['"', '\\'])).then_some((name.trim(), value))
}

/// The fields of one rule as written, with the lines they stand on.
struct Fields<'a> {
    file: &'a str,
    line: usize,
    pairs: Vec<(usize, &'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    fn new(file: &'a str, line: usize) -> Self {
        Self { file, line, pairs: Vec::new() }
    }

    fn refuse(&self, line: usize, problem: String) -> RuleError {
        RuleError { file: self.file.into(), line, problem }
    }

    /// Takes a field out, so that what is left over at the end is unknown.
    fn take(&mut self, name: &str) -> Result<(usize, String), RuleError> {
        let place = self.pairs.iter().position(|(_, key, _)| *key == name);
        let place =
            place.ok_or_else(|| self.refuse(self.line, format!("the rule lacks the field `{name}`")))?;
        let (line, _, value) = self.pairs.remove(place);
        Ok((line, value.to_owned()))
    }

    fn into_rule(mut self) -> Result<Rule, RuleError> {
        let rule = Rule {
            key: self.take("key")?.1,
            source_of_value: self.source_of_value()?,
            operator: self.operator()?,
            wanted: self.take("value")?.1,
            scope: self.take("scope")?.1,
            why: self.take("why")?.1,
            source: self.take("source")?.1,
            remedy: self.take("remedy")?.1,
        };
        match self.pairs.first() {
            Some((line, name, _)) => Err(self.refuse(*line, format!("unknown or repeated field `{name}`"))),
            None => Ok(rule),
        }
    }

    fn source_of_value(&mut self) -> Result<SourceOfValue, RuleError> {
        let (line, word) = self.take("read")?;
        match word.as_str() {
            "sysctl" => Ok(SourceOfValue::Sysctl),
            "io_uring" => Ok(SourceOfValue::IoUring),
            "limits" => Ok(SourceOfValue::Limits { row: self.take("row")?.1, column: self.column()? }),
            _ => Err(self.refuse(line, format!("`read` is sysctl, limits or io_uring, not `{word}`"))),
        }
    }

    fn column(&mut self) -> Result<LimitColumn, RuleError> {
        let (line, word) = self.take("column")?;
        match word.as_str() {
            "soft" => Ok(LimitColumn::Soft),
            "hard" => Ok(LimitColumn::Hard),
            _ => Err(self.refuse(line, format!("`column` is soft or hard, not `{word}`"))),
        }
    }

    fn operator(&mut self) -> Result<Operator, RuleError> {
        let (line, word) = self.take("operator")?;
        match word.as_str() {
            "ge" => Ok(Operator::AtLeast),
            "superset" => Ok(Operator::Superset),
            "info" => Ok(Operator::Info),
            _ => Err(self.refuse(line, format!("`operator` is ge, superset or info, not `{word}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "[[rule]]\nkey = \"a.b\"\nread = \"sysctl\"\noperator = \"ge\"\nvalue = \"1\"\n\
                        scope = \"host\"\nwhy = \"w\"\nsource = \"s\"\nremedy = \"r\"\n";

    #[test]
    fn every_built_in_file_parses_and_no_key_stands_twice() {
        for (file, text) in FILES {
            assert!(!parse(file, text).unwrap().is_empty(), "{file} holds no rule");
        }
        let mut keys: Vec<_> = built_in().iter().map(|rule| &rule.key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), built_in().len());
    }

    #[test]
    fn a_slip_is_named_with_its_line() {
        let problem = |text: &str| parse("x.toml", text).unwrap_err().to_string();
        assert_eq!(problem("key = \"a\"\n"), "x.toml:1: a field before the first [[rule]]");
        assert_eq!(problem("[[rule]]\nkey = a\n"), "x.toml:2: not of the form key = \"text\"");
        assert_eq!(problem("\n[[rule]]\nkey = \"a\"\n"), "x.toml:2: the rule lacks the field `read`");
        assert_eq!(
            problem(&RULE.replace("\"ge\"", "\"gt\"")),
            "x.toml:4: `operator` is ge, superset or info, not `gt`"
        );
        assert_eq!(
            problem(&format!("{RULE}risk = \"none\"\n")),
            "x.toml:10: unknown or repeated field `risk`"
        );
        assert_eq!(
            problem(&format!("{RULE}why = \"again\"\n")),
            "x.toml:10: unknown or repeated field `why`"
        );
    }
}
