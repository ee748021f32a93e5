//! When messages are due: as soon as the server has answered the one before, or by a schedule that does not
//! ask the server.
//!
//! Owns the form of a schedule, its text on the command line and its integral. What is due by a time is the
//! exact area under the rate up to it, whatever the steps in which somebody looks; shares of a schedule
//! together are the schedule, message by message.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::parse;

/// Stages of one schedule, at most.
pub const STAGES_MAX: usize = 1_000;

/// When messages begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Each connection begins a message as soon as the one before has its final reply (a closed loop).
    Closed,
    /// At times that are decided before the run, whether the server keeps up or not (an open loop).
    Open {
        /// How the messages lie between each other.
        arrivals: Arrivals,
        /// The rate over time, one stage after the other; at least one.
        stages: Vec<Stage>,
    },
}

impl Schedule {
    /// An open loop with that many messages per second, evenly, for as long as the run goes on.
    pub fn rate(per_s: f64) -> Self {
        let stages = vec![Stage { from_per_s: per_s, to_per_s: per_s, length: None }];
        Self::Open { arrivals: Arrivals::Constant, stages }
    }

    /// Whether messages are due at times of their own.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// The rate where it is the same all the time.
    pub fn rate_per_s(&self) -> Option<f64> {
        match self {
            Self::Open { stages, .. } => match &stages[..] {
                [stage] if stage.from_per_s == stage.to_per_s => Some(stage.from_per_s),
                _ => None,
            },
            Self::Closed => None,
        }
    }

    /// How long the stages take together; `None` in a closed loop and where the last one does not end.
    pub fn length(&self) -> Option<Duration> {
        match self {
            Self::Open { stages, .. } => stages.iter().map(|stage| stage.length).sum(),
            Self::Closed => None,
        }
    }
}

/// How messages lie between each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Constant,
    /// As if each sender knew nothing of the others: a Poisson process, drawn from the seed.
    Poisson,
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Self::Constant),
            "poisson" => Ok(Self::Poisson),
            _ => Err(format!("{text:?} is no kind of arrivals; write constant or poisson")),
        }
    }
}

/// A part of a schedule over which the rate changes evenly, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Messages per second at its beginning.
    pub from_per_s: f64,
    /// Messages per second at its end.
    pub to_per_s: f64,
    /// How long it lasts; `None` means for ever, which only the last one may.
    pub length: Option<Duration>,
}

impl Stage {
    /// Reads stages as they are written on the command line: `0>5k:30s,5k:5m`. A ramp is `FROM>TO:TIME`, a
    /// hold is `RATE:TIME`, and the last hold may go without its time.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let parts: Vec<&str> = text.split(',').collect();
        if parts.len() > STAGES_MAX {
            return Err(format!("{} stages are too many; {STAGES_MAX} are allowed", parts.len()));
        }
        let stages: Vec<Self> = parts.iter().map(|part| stage(part)).collect::<Result<_, _>>()?;
        if let Some(at) = stages.iter().rev().skip(1).rev().position(|stage| stage.length.is_none()) {
            return Err(format!("stage {:?} has no end, and others follow; write it like 5k:30s", parts[at]));
        }
        if stages.iter().all(|stage| stage.from_per_s == 0.0 && stage.to_per_s == 0.0) {
            return Err(format!("{text:?} sends nothing; at least one stage needs a rate above 0"));
        }
        Ok(stages)
    }
}

fn stage(text: &str) -> Result<Stage, String> {
    let (rates, time) = match text.split_once(':') {
        Some((rates, time)) => (rates, Some(time)),
        None => (text, None),
    };
    let refuse = |error: parse::ParseError| format!("stage {text:?}: {error}");
    let rate = |text: &str| if text.trim() == "0" { Ok(0.0) } else { parse::rate(text).map_err(refuse) };
    let length = time.map(parse::duration).transpose().map_err(refuse)?;
    let (from_per_s, to_per_s) = match rates.split_once('>') {
        Some(_) if length.is_none() => {
            return Err(format!("stage {text:?} is a ramp without a time; write it like 0>5k:30s"));
        }
        Some((from, to)) => (rate(from)?, rate(to)?),
        None => (rate(rates)?, rate(rates)?),
    };
    Ok(Stage { from_per_s, to_per_s, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_or_refused_with_the_stage() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            Stage::parse_list("0>5k:30s,5k:5m,600/m").unwrap(),
            [
                Stage { from_per_s: 0.0, to_per_s: 5_000.0, length: seconds(30) },
                Stage { from_per_s: 5_000.0, to_per_s: 5_000.0, length: seconds(300) },
                Stage { from_per_s: 10.0, to_per_s: 10.0, length: None },
            ]
        );
        for (text, words) in [
            ("", "rate"),
            ("5k:soon", "time"),
            ("fast:30s", "fast"),
            ("0>5k", "ramp without a time"),
            ("5k,6k:30s", "\"5k\" has no end"),
            ("0:30s", "sends nothing"),
            ("1>2>3:30s", "2>3"),
        ] {
            let error = Stage::parse_list(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_schedule_knows_its_rate_and_length() {
        assert_eq!((Schedule::rate(5.0).rate_per_s(), Schedule::rate(5.0).length()), (Some(5.0), None));
        assert_eq!((Schedule::Closed.rate_per_s(), Schedule::Closed.length()), (None, None));
        let open =
            |text| Schedule::Open { arrivals: Arrivals::Poisson, stages: Stage::parse_list(text).unwrap() };
        assert_eq!(open("0>5k:30s,5k:5m").length(), Some(Duration::from_secs(330)));
        assert_eq!(open("0>5k:30s,5k").length(), None);
        assert_eq!(open("0>5k:30s").rate_per_s(), None);
    }
}
