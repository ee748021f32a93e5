//! Releases of the kernel, as far as defaults depend on them: major and minor.
//!
//! Refuses what does not begin with two numbers. What a distribution ported back cannot be seen from it, so a rule looks
//! at the file first and at the release only where the file is missing.

use std::fmt;

/// A release such as 6.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    major: u32,
    minor: u32,
}

impl Release {
    /// Reads `6.1.0-30-amd64` as 6.1.
    ///
    /// # Errors
    /// Text that does not begin with two numbers and a dot between them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(format!("`{text}` is not a release of the kernel such as 6.1")),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_number_not_by_text() {
        let of = |text| Release::parse(text).unwrap();
        assert!(of("3.10.0-1160.el7.x86_64") < of("4.2"));
        assert!(of("6.6") < of("6.18.44-fc"));
        assert!(Release::parse("next").is_err());
        assert!(Release::parse("6").is_err());
    }
}
