//! Numbers as people read them.
//!
//! It owns digits, separators and units. It refuses nothing: what is unknown is a dash.

/// Stands for what is unknown or does not apply.
pub(super) const NOTHING: &str = "–";

/// `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits: `0.41`, `9.87`, `41.3`, `413`, and `4,130` above.
pub(super) fn three_digits(number: f64) -> String {
    match number.abs() {
        size if size < 9.995 => format!("{number:.2}"),
        size if size < 99.95 => format!("{number:.1}"),
        size if size < 999.5 => format!("{number:.0}"),
        _ => count(whole(number)),
    }
}

/// A number that was measured, rounded; negative ones and those without an end are 0 or the largest.
pub(super) fn whole(number: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, which is what is wanted")]
    let rounded = number.round().max(0.0) as u64;
    rounded
}

/// The whole part of a number that is not negative, as a place in a list.
pub(super) fn index(number: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, which is what is wanted")]
    let place = number.max(0.0) as usize;
    place
}

/// Microseconds as `870 µs`, `12.3 ms`, `1.23 s`.
pub(super) fn latency(latency_us: f64) -> String {
    match latency_us {
        us if us < 999.5 => format!("{us:.0} µs"),
        us if us < 999_500.0 => format!("{} ms", three_digits(us / 1e3)),
        us => format!("{} s", three_digits(us / 1e6)),
    }
}

/// Bytes of memory and disks: `143 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{} {}", three_digits(size), units[unit]) }
}

/// The size of a body: `1 KB`, `100 KB`, `64 KiB`, `1.5 MB`.
pub(super) fn body(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1024 && bytes.is_multiple_of(1024) && !bytes.is_multiple_of(1000) => {
            if bytes.is_multiple_of(1 << 20) {
                format!("{} MiB", count(bytes >> 20))
            } else {
                format!("{} KiB", count(bytes >> 10))
            }
        }
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{} KB", short(bytes as f64 / 1e3)),
        _ => format!("{} MB", short(bytes as f64 / 1e6)),
    }
}

/// Seconds: `12.0 s`, `4 min 10 s`.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    let all = whole(seconds);
    format!("{} min {:02} s", all / 60, all % 60)
}

/// A number without needless zeros: `2`, `1.5`, `23.5`.
pub(super) fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The text, or a dash.
pub(super) fn or_nothing(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| NOTHING.to_owned())
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(three_digits(0.409), "0.41");
        assert_eq!(three_digits(9.996), "10.0");
        assert_eq!(three_digits(41.26), "41.3");
        assert_eq!(three_digits(4130.4), "4,130");
        assert_eq!(latency(870.0), "870 µs");
        assert_eq!(latency(12_345.0), "12.3 ms");
        assert_eq!(latency(999_600.0), "1.00 s");
        assert_eq!(bytes(143 << 20), "143 MiB");
        assert_eq!(bytes(17), "17 B");
        assert_eq!(seconds(250.4), "4 min 10 s");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }

    #[test]
    fn bodies_are_named_as_they_were_asked_for() {
        for (bytes, name) in
            [(100, "100 B"), (1000, "1 KB"), (100_000, "100 KB"), (65_536, "64 KiB"), (1 << 20, "1 MiB")]
        {
            assert_eq!(body(bytes), name);
        }
        assert_eq!(body(1_500_000), "1.5 MB");
        assert_eq!(body(1500), "1.5 KB");
    }
}
