//! The options of `lab` that concern tiers.
//!
//! It owns their names, help and first checks. What the machine has to say to them is for the plan.

use super::wanted::Wanted;

/// Tiers to measure, and what the machine costs.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct TierFlags {
    /// Measure under these limits, one after the other: CPUs x GiB of memory, such as 0.5x1,1x2,2x4. Only kumod is limited;
    /// generator and sink get the other processors. Needs root or systemd.
    #[arg(long, value_name = "CPUSxGIB", value_delimiter = ',', conflicts_with_all = ["floor", "crash_test", "once", "compare"])]
    pub tiers: Vec<Wanted>,

    /// What this machine costs in US dollars an hour; the page then shows messages for a dollar.
    #[arg(long, value_name = "DOLLARS", value_parser = dollars,
          conflicts_with_all = ["crash_test", "once", "compare"])]
    pub price_per_hour: Option<f64>,
}

fn dollars(text: &str) -> Result<f64, String> {
    let price = text.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| format!("{text}: dollars an hour are expected, such as 0.34"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: TierFlags,
        #[arg(long)]
        floor: bool,
        #[arg(long)]
        crash_test: bool,
        #[arg(long)]
        once: bool,
        #[arg(long)]
        compare: bool,
    }

    #[test]
    fn tiers_are_a_list() {
        let line = Line::try_parse_from(["lab", "--tiers", "0.5x1,2x4", "--price-per-hour", "0.34"]).unwrap();
        let shown: Vec<String> = line.flags.tiers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["0.5x1", "2x4"]);
        assert_eq!(line.flags.price_per_hour, Some(0.34));
        let Line { floor, crash_test, once, compare, .. } = line;
        assert!(!floor && !crash_test && !once && !compare);
    }

    #[test]
    fn bad_input_is_named_with_the_rule_and_an_example() {
        let error = |words: &[&str]| Line::try_parse_from(words).err().unwrap().to_string();
        let text = error(&["lab", "--tiers", "1x2,2"]);
        assert!(text.contains("2: a tier is CPUs x GiB of memory, such as 0.5x1"), "{text}");
        let text = error(&["lab", "--price-per-hour", "cheap"]);
        assert!(text.contains("cheap: dollars an hour are expected"), "{text}");
        assert!(error(&["lab", "--tiers", "1x2", "--floor"]).contains("cannot be used with"));
    }
}
