//! Provider personas: limits, codes and texts of kinds of large mailbox providers, one file each.
//!
//! They are modelled on what such providers are known to do, in words of our own. All know the same special
//! addresses (docs/sink.md lists them), so that one set of recipients serves for all. The files are part of
//! the program; a test reads them all.

use serde::Deserialize;
use serde_json::Value;

use super::error::{RuleError, nearest, with_near_miss};
use super::written::{RuleSet, toml_value};
use crate::config::Config;

const FILES: [&str; 6] = [
    include_str!("../../personas/gmail-like.toml"),
    include_str!("../../personas/gmx-like.toml"),
    include_str!("../../personas/icloud-like.toml"),
    include_str!("../../personas/outlook-like.toml"),
    include_str!("../../personas/university-greylist.toml"),
    include_str!("../../personas/yahoo-like.toml"),
];

/// A kind of provider.
#[derive(Clone, Debug)]
pub struct Persona {
    settings: Settings,
    rules: RuleSet,
}

/// What stands under `[persona]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    modelled_on: String,
    summary: String,
    banner: String,
    message_bytes_max: u64,
    recipients_max: usize,
}

impl Persona {
    /// All of them, by name.
    #[must_use]
    pub fn all() -> Vec<Self> {
        FILES.iter().filter_map(|file| Self::read(file).ok()).collect()
    }

    /// The one of that name.
    ///
    /// # Errors
    /// There is none; the text names the nearest, or all.
    pub fn find(name: &str) -> Result<Self, String> {
        let all = Self::all();
        let names: Vec<String> = all.iter().map(|persona| persona.settings.name.clone()).collect();
        all.into_iter().find(|persona| persona.settings.name == name).ok_or_else(|| {
            let near = nearest(name, names.iter().map(String::as_str));
            let near = near.map_or_else(|| names.join(", "), str::to_owned);
            format!("there is no persona {name:?}; did you mean {near}?")
        })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whom it is modelled on, and what it does.
    #[must_use]
    pub fn description(&self) -> String {
        format!("{}: {}", self.settings.modelled_on, self.settings.summary)
    }

    /// Its rules.
    #[must_use]
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Makes a sink behave like it. Rules that are there already are asked first.
    ///
    /// # Errors
    /// A rule there has the name of one of its own, or there are too many.
    pub fn apply(&self, config: &mut Config) -> Result<(), RuleError> {
        config.rules = std::mem::take(&mut config.rules).followed_by(self.rules.clone())?;
        config.banner.clone_from(&self.settings.banner);
        config.message_bytes_max = self.settings.message_bytes_max;
        config.recipients_max = self.settings.recipients_max;
        Ok(())
    }

    fn read(text: &str) -> Result<Self, RuleError> {
        let mut file = toml_value(text)?;
        let settings = file.as_object_mut().and_then(|file| file.remove("persona"));
        let settings = serde_json::from_value(settings.unwrap_or(Value::Null));
        let settings = settings.map_err(|error| RuleError::of_file(with_near_miss(&error.to_string())))?;
        Ok(Self { settings, rules: RuleSet::from_value(file)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Stage;

    #[test]
    fn every_file_is_a_persona_with_all_that_one_has() {
        for file in FILES {
            let persona = Persona::read(file).unwrap_or_else(|error| panic!("{error}\n{file}"));
            let rules = persona.rules.rules();
            let name = persona.name();
            let has = |stage, action: &str| {
                rules.iter().any(|rule| rule.stage == stage && format!("{:?}", rule.action).contains(action))
            };
            assert!(has(Stage::Banner, "ConnectionsMax"), "{name}");
            assert!(has(Stage::Mail, "MessagesMax"), "{name}");
            assert!(rules.iter().all(|rule| rule.name.starts_with(&format!("{name}/"))), "{name}");
            for special in ["unknown*", "disabled*", "full*"] {
                assert!(rules.iter().any(|rule| rule.condition.local_part.as_slice() == [special]), "{name}");
            }
            for special in ["blocked*@*", "spam*@*"] {
                assert!(rules.iter().any(|rule| rule.condition.sender.as_slice() == [special]), "{name}");
            }
        }
        assert_eq!(Persona::all().len(), FILES.len());
    }

    #[test]
    fn a_wrong_name_is_told_the_nearest() {
        assert!(Persona::find("gmail-lik").unwrap_err().contains("did you mean gmail-like?"));
        assert!(Persona::find("fastmail").unwrap_err().contains("yahoo-like"));
    }
}
