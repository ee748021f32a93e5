//! `run.json`: what is written is read back, agrees with the schema, and broken ones are refused with the
//! name of the field.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(dead_code, reason = "each test uses its part of the fixture")]

mod fixture;

use std::fs;
use std::path::Path;

use reports::run::{LimitedBy, Record, RecordError};
use serde_json::{Value, json};

fn full() -> (tempfile::TempDir, Record) {
    let folder = tempfile::tempdir().unwrap();
    let record = fixture::record(folder.path());
    (folder, record)
}

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(reports::schema()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn a_record_is_read_back() {
    let (folder, record) = full();
    let path = folder.path().join("run.json");
    record.write(&path).unwrap();
    assert_eq!(Record::load(&path).unwrap(), record);
    assert_eq!(Record::load(folder.path()).unwrap(), record);
    assert!(!folder.path().join("run.json.part").exists());
}

#[test]
fn a_record_agrees_with_the_schema() {
    let (folder, mut record) = full();
    let validator = validator();
    record.runs[0].limited_by = Some(LimitedBy::Sink);
    record.machine = reports::machine::Machine::probe(folder.path());
    record.software = reports::software::Software::default();
    let value = serde_json::to_value(&record).unwrap();
    let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Each change breaks the record; the schema and the loader both refuse it, the loader by the field's name.
#[test]
fn broken_records_are_refused_by_both() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 11] = [
        ("runs[1]: missing field `body_bytes`", |v| {
            drop(v["runs"][1].as_object_mut().unwrap().remove("body_bytes"))
        }),
        ("(top): missing field `machine`", |v| drop(v.as_object_mut().unwrap().remove("machine"))),
        ("runs[0].kind", |v| v["runs"][0]["kind"] = json!("postfix")),
        ("runs[0].limited_by", |v| v["runs"][0]["limited_by"] = json!("kumod")),
        ("runs[2].messages", |v| v["runs"][2]["messages"] = json!(-1)),
        ("runs[2].messages", |v| v["runs"][2]["messages"] = json!("many")),
        ("runs[0].mmh_delivered: -0.5", |v| v["runs"][0]["mmh_delivered"] = json!(-0.5)),
        ("runs[0].latency_us.end_to_end.p99: -1", |v| {
            v["runs"][0]["latency_us"]["end_to_end"]["p99"] = json!(-1.0)
        }),
        ("runs[0].rate_per_second[1]: -7", |v| v["runs"][0]["rate_per_second"][1] = json!(-7.0)),
        ("machine.ceilings[1].disk_mmh: -2", |v| v["machine"]["ceilings"][1]["disk_mmh"] = json!(-2.0)),
        ("runs[0].shared_cores", |v| v["runs"][0]["shared_cores"] = json!(1)),
    ];
    let (_folder, record) = full();
    let validator = validator();
    for (expected, change) in changes {
        let mut value = serde_json::to_value(&record).unwrap();
        change(&mut value);
        assert!(!validator.is_valid(&value), "the schema accepts: {expected}");
        let text = serde_json::to_string_pretty(&value).unwrap();
        let error = Record::parse(&text, Path::new("x/run.json")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("x/run.json: field {expected}")), "{error}");
    }
}

#[test]
fn another_schema_version_is_refused_before_all_else() {
    let text = json!({"schema_version": 3, "runs": "something new"}).to_string();
    let error = Record::parse(&text, Path::new("run.json")).unwrap_err();
    assert!(matches!(error, RecordError::SchemaVersion { found: 3, .. }), "{error}");
    assert!(!validator().is_valid(&serde_json::from_str(&text).unwrap()));
}

#[test]
fn truncated_and_empty_files_are_refused() {
    let (folder, record) = full();
    let text = serde_json::to_string_pretty(&record).unwrap();
    for length in [0, 1, 50, text.len() / 2, text.len() - 2] {
        let path = folder.path().join("run.json");
        fs::write(&path, text.get(..length).unwrap()).unwrap();
        let error = Record::load(&path).unwrap_err();
        assert!(matches!(error, RecordError::Field { .. }), "{error}");
        assert!(error.to_string().contains("line "), "{error}");
    }
    let error = Record::load(&folder.path().join("nothing")).unwrap_err();
    assert!(matches!(error, RecordError::File { .. }), "{error}");
}

#[test]
fn unknown_fields_are_let_through() {
    let (_folder, record) = full();
    let mut value = serde_json::to_value(&record).unwrap();
    value["price_per_hour"] = json!(0.12);
    value["runs"][0]["instructions"] = json!(12);
    assert!(validator().is_valid(&value));
    assert_eq!(Record::parse(&value.to_string(), Path::new("run.json")).unwrap(), record);
}

#[test]
fn a_number_that_is_none_is_not_written() {
    let (folder, mut record) = full();
    record.runs[3].elapsed_s = f64::NAN;
    let error = record.write(&folder.path().join("run.json")).unwrap_err();
    assert!(error.to_string().contains("field runs[3].elapsed_s: NaN"), "{error}");
}

/// Histograms of another implementation, the Python port, are read to the same numbers; that it reads ours is a test of traffic-gen.
#[test]
fn logs_of_another_implementation_are_read() {
    let expected: Value = serde_json::from_str(include_str!("data/foreign.json")).unwrap();
    let intervals = reports::latency::parse_hlog(include_bytes!("data/foreign.hlog")).unwrap();
    let counts: Vec<u64> = intervals.iter().map(|interval| interval.histogram.len()).collect();
    assert_eq!(json!(counts), expected["counts"]);
    assert!(intervals.iter().all(|interval| interval.length.as_secs() == 1));
    let sum = reports::latency::merge(&intervals);
    for pair in expected["quantiles"].as_array().unwrap() {
        let quantile = pair[0].as_f64().unwrap() / 100.0;
        assert_eq!(json!(sum.value_at_quantile(quantile)), pair[1], "{quantile}");
    }
    let text = reports::latency::to_text(&sum);
    assert_eq!(reports::latency::from_text(&text).unwrap(), sum);
    assert!(reports::latency::from_text("HISTF").is_err());
}

/// A record as version 1 wrote it: it loads as one of this version, what it did not have is unknown, and it can be drawn.
#[test]
fn records_of_version_1_are_still_read() {
    let text = include_str!("data/run.version-1.json");
    assert!(text.contains("\"schema_version\": 1"));
    assert!(validator().is_valid(&serde_json::from_str(text).unwrap()));
    let record = Record::parse(text, Path::new("run.json")).unwrap();
    assert_eq!(record.schema_version, reports::run::SCHEMA_VERSION);
    assert_eq!(record.runs.len(), 9);
    assert_eq!(record.machine.host, None);
    assert_eq!(record.runs[0].tier_source, reports::run::TierSource::Unknown);
    assert_eq!(record.machine.tier_key(&record.runs[0].tier), "c2-m24-virtio-vm-x86_64");
    let page = reports::render::page(&record, Path::new("/nowhere"));
    assert!(page.contains("kumod delivered 14."), "drawn from the recorded percentiles");
}
