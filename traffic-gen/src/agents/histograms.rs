//! Histograms on their way between machines: HdrHistogram's V2 form, compressed, in base64.
//!
//! Every count arrives as it left. What is no histogram, is too large, or has other bounds than ours is
//! refused.

use std::io::Cursor;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// The longest text of one histogram, in bytes. One of ours has at most some hundred thousand.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// Writes a histogram as text.
pub(crate) fn to_text(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Refused are only sizes that the format cannot express, and ours are constants far below.
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).unwrap_or_default();
    BASE64_STANDARD.encode(bytes)
}

/// Adds a histogram from its text to `sum`.
pub(crate) fn add_text(sum: &mut Histogram<u64>, text: &str) -> Result<(), String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("a histogram of {} bytes, more than {TEXT_BYTES_MAX}", text.len()));
    }
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| format!("no histogram: {error}"))?;
    let histogram: Histogram<u64> = Deserializer::new()
        .deserialize(&mut Cursor::new(bytes))
        .map_err(|error| format!("no histogram: {error}"))?;
    if histogram.sigfig() != sum.sigfig() || histogram.high() > sum.high() {
        return Err("a histogram with other bounds than ours".to_owned());
    }
    sum.add(&histogram).map_err(|error| format!("a histogram that does not fit: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reports::latency::{new_histogram, record_ns};

    use super::*;

    proptest! {
        #[test]
        fn parts_that_travelled_are_the_whole(
            latencies_ns in prop::collection::vec(0u64..10_000_000_000_000, 0..300),
            agents in 1usize..6,
        ) {
            let (mut whole, mut merged) = (new_histogram(), new_histogram());
            let mut parts = vec![new_histogram(); agents];
            for (index, latency_ns) in latencies_ns.iter().enumerate() {
                record_ns(&mut whole, *latency_ns);
                record_ns(&mut parts[index % agents], *latency_ns);
            }
            for part in &parts {
                add_text(&mut merged, &to_text(part)).unwrap();
            }
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(to_text(&merged), to_text(&whole));
        }

        #[test]
        fn any_text_is_added_or_refused(text in "[A-Za-z0-9+/=]{0,60}") {
            let mut sum = new_histogram();
            if add_text(&mut sum, &text).is_err() {
                prop_assert!(sum.is_empty());
            }
        }
    }

    #[test]
    fn other_bounds_are_refused() {
        let mut sum = new_histogram();
        let coarse = Histogram::<u64>::new_with_bounds(1, 1_000, 1).unwrap();
        assert!(add_text(&mut sum, &to_text(&coarse)).unwrap_err().contains("bounds"));
    }
}
