//! Any bytes as a segment: the scan ends, does not panic, and believes no more than the bytes can hold.
//! Its twin for the stable compiler is `any_damage_is_survived` in `src/tests/recovery.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spool::scan_segment_bytes;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(found) = scan_segment_bytes(bytes) {
        assert!(found.committed <= found.records);
        assert!(found.payload_bytes <= bytes.len() as u64);
    }
});
