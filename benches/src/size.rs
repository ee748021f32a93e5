//! How sizes are written and read: `1k` is 1,000 bytes and `1m` a million.
//!
//! It owns both directions. It refuses what no body has: nothing at all, or more than [`BODY_BYTES_MAX`].

/// The largest body that anything here sends or stores, in bytes.
pub const BODY_BYTES_MAX: u64 = 20_000_000;

/// `1k` for 1,000 bytes, `1m` for a million; the plain number where it is no round thousand.
pub fn size_label(bytes: u64) -> String {
    match bytes {
        0 => "0".into(),
        _ if bytes.is_multiple_of(1_000_000) => format!("{}m", bytes / 1_000_000),
        _ if bytes.is_multiple_of(1000) => format!("{}k", bytes / 1000),
        _ => bytes.to_string(),
    }
}

/// `100000`, `100k`, `1m`.
///
/// # Errors
/// A sentence that names the text and what is expected instead.
pub fn body_bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.trim_end_matches('b');
    let (digits, unit) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1_000),
        Some(b'm') => (&lower[..lower.len() - 1], 1_000_000),
        _ => (lower, 1),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|digits| digits.checked_mul(unit));
    bytes
        .filter(|bytes| (1..=BODY_BYTES_MAX).contains(bytes))
        .ok_or_else(|| format!("{text}: a size from 1 to 20m bytes is expected, such as 1000, 10k or 1m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(body_bytes("100000"), Ok(100_000));
        assert_eq!(body_bytes("10KB"), Ok(10_000));
        assert_eq!(body_bytes("1m"), Ok(1_000_000));
        for wrong in ["", "k", "0", "21m", "-1", "1.5k"] {
            assert!(body_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_told_in_thousands() {
        assert_eq!([1000, 100_000, 512, 0, 1_000_000].map(size_label), ["1k", "100k", "512", "0", "1m"]);
    }
}
