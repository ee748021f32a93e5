//! The page: whole, self-contained, honest about doubtful numbers, and safe with hostile text.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(dead_code, reason = "each test uses its part of the fixture")]

mod fixture;

use std::fs;
use std::process::Command;

use reports::render;
use reports::run::{HlogFiles, Kind, LatencyPair, Record, Run, Skipped, Tier, TierSource, counter};

/// The largest page of a suite of a dozen runs, in bytes.
const PAGE_BYTES_MAX: usize = 400 << 10;

fn page_of(change: impl FnOnce(&mut Record)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut record = fixture::record(folder.path());
    change(&mut record);
    render::page(&record, folder.path())
}

/// The page without the record at its end, which repeats every word of it.
fn visible(page: &str) -> &str {
    page.split("<script type=\"application/json\" id=\"histograms\">").next().unwrap()
}

#[test]
fn says_the_result_in_words() {
    let page = page_of(|_| {});
    let headline = page.split("<h1>").nth(1).unwrap().split("</h1>").next().unwrap().replace('\u{a0}', " ");
    assert!(headline.starts_with("kumod delivered 14."), "{headline}");
    assert!(headline.contains(" million messages an hour at 100 KB and "), "{headline}");
    assert!(headline.ends_with(" million at 1 KB, durably, and lost none."), "{headline}");
    assert!(page.contains("0.47 at 100 KB, 0.31 at 10 KB and 0.27 at 1 KB"));
    assert!(!page.contains("Read these numbers with care"));
}

#[test]
fn holds_charts_tables_and_facts() {
    let page = page_of(|_| {});
    // One of throughput, one of the ceiling, and three sizes each of both spectra, of rates, of latencies over time and of
    // heat maps.
    assert_eq!(page.matches("<svg ").count(), 17);
    assert_eq!(page.matches("role=\"img\" aria-label=").count(), 17);
    for kind in [Kind::Kumod, Kind::Floor, Kind::Direct] {
        for size in ["1k", "10k", "100k"] {
            let row = format!("<th scope=\"row\">{}-{size}</th>", kind.as_str());
            assert!(page.matches(&row).count() >= 2, "{row}");
        }
    }
    for fact in ["Intel(R) Xeon(R) Processor", "rw, relatime, discard", "rustc 1.95.0", "net.core.somaxconn"]
    {
        assert!(visible(&page).contains(fact), "{fact}");
    }
}

#[test]
fn asks_for_nothing_from_outside() {
    let page = page_of(|_| {});
    let page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for forbidden in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch(", "import("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn stays_small() {
    let page = page_of(|record| {
        let three: Vec<Run> = record.runs[..3].to_vec();
        record.runs.extend(three);
        for run in &mut record.runs {
            run.rate_per_second = (0..3600_u32).map(|second| f64::from(second % 977) + 40_000.0).collect();
        }
    });
    assert!(page.len() < PAGE_BYTES_MAX, "{} bytes", page.len());
}

#[test]
fn hostile_text_is_escaped() {
    let hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&";
    let page = page_of(|record| {
        record.run_id = hostile.into();
        record.suite = hostile.into();
        record.started_utc = hostile.into();
        record.command = hostile.into();
        record.notes.push(hostile.into());
        record.machine.cpu.model = Some(hostile.into());
        record.software.rustc = Some(hostile.into());
        record.tuner.push(
            serde_json::json!({"key": hostile, "current": hostile, "verdict": "low", "remedy": hostile}),
        );
        record.tuner.push(serde_json::json!({ hostile: hostile }));
        record.tuner.push(serde_json::json!(hostile));
        for run in &mut record.runs {
            run.name = hostile.into();
            run.durability = Some(hostile.into());
            run.spool_backend = Some(hostile.into());
            run.hlog.inject = Some(hostile.into());
            run.notes.push(hostile.into());
            run.lost = 1;
        }
    });
    assert!(!page.contains("<script>alert"), "a script came through");
    assert!(!page.contains("<img"), "a tag came through");
    // Read-outs of seventeen charts, histograms, the record and the script: what opens is what closes.
    assert_eq!(page.matches("<script").count(), 20);
    assert_eq!(page.matches("</script>").count(), 20);
}

#[test]
fn the_record_can_be_taken_from_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let mut record = fixture::record(folder.path());
    record.command = "lab </script> <!--".into();
    let page = render::page(&record, folder.path());
    let json = page.split("id=\"record\">").nth(1).unwrap().split("</script>").next().unwrap();
    assert_eq!(Record::parse(json, "page".as_ref()).unwrap(), record);
}

#[test]
fn doubtful_numbers_are_announced() {
    let folder = tempfile::tempdir().unwrap();
    let record = fixture::troubled(folder.path());
    let page = render::page(&record, folder.path());
    assert!(page.contains(", and lost 3."));
    for warning in [
        "kumod-100k: 3 messages accepted and never delivered.",
        "kumod-100k: 1 message delivered with another body than was sent.",
        "kumod-100k: 2 messages delivered more than once.",
        "kumod-100k: 4 messages without an answer",
        "kumod-100k: the number says more about traffic-gen than about the relay",
        "kumod-100k: shorter than 5 seconds",
        "The checkout had changes",
    ] {
        assert!(page.contains(warning), "{warning}");
    }
    let severe = page.find("class=\"severe\"").unwrap();
    assert!(severe < page.find("The checkout had changes").unwrap(), "the worst stands first");
}

#[test]
fn a_spool_in_memory_is_announced() {
    let page = page_of(|record| {
        record.machine.disk.as_mut().unwrap().filesystem = Some("tmpfs".into());
        record.software.profile = Some("dev".into());
    });
    assert!(page.contains("no number here is durable"));
    assert!(page.contains("profile dev, not release"));
}

#[test]
fn missing_and_foreign_histograms_are_told() {
    let page = page_of(|record| {
        record.runs[0].hlog.inject = Some("gone.hlog".into());
        record.runs[1].hlog.inject = Some("../outside.hlog".into());
        record.runs[2].hlog = HlogFiles::default();
    });
    assert!(page.contains("direct-1k: gone.hlog: "));
    assert!(page.contains("floor-1k: ../outside.hlog is not a file name in the folder of the run"));
    assert!(page.contains("The chart shows the five recorded percentiles."));
    // Without histograms there is no heat map of kumod-1k; its other latencies come from the floor and the direct run.
    assert_eq!(page.matches("<svg ").count(), 16);
}

/// The cells of the row of `run` in the table below `title`.
fn cells(page: &str, title: &str, run: &str) -> Vec<String> {
    let table = page.split(&format!("<h2>{title}</h2>")).nth(1).unwrap().split("</table>").next().unwrap();
    let row =
        table.split(&format!("<th scope=\"row\">{run}</th>")).nth(1).unwrap().split("</tr>").next().unwrap();
    let texts = row.split("</td>").filter_map(|cell| cell.rsplit_once('>'));
    texts.map(|(_, text)| text.to_owned()).collect()
}

#[test]
fn costs_that_nobody_counted_are_called_unknown() {
    let title = "What a message cost the relay";
    let page = page_of(|record| {
        let run = record.runs.iter_mut().find(|run| run.name == "kumod-10k").unwrap();
        run.counters.insert(counter::SYSCALLS.to_owned(), 7.5 * run.delivered as f64);
        run.counters.insert(counter::CONTEXT_SWITCHES.to_owned(), 0.25 * run.delivered as f64);
    });
    let of_run = cells(&page, title, "kumod-10k");
    assert_eq!(of_run[4..7], ["7.50", "0.25", "unknown"], "{of_run:?}");
    let of_floor = cells(&page, title, "floor-10k");
    assert_eq!(of_floor[4..7], ["unknown"; 3], "{of_floor:?}");
    assert_ne!(of_floor[2], "unknown", "the floor's processor time was read");
    assert!(!page.contains("direct-10k</th><td>10 KB</td><td>2</td>"), "without a relay nothing cost it");
}

#[test]
fn the_ceiling_stands_beside_what_was_reached() {
    let page = page_of(|_| {});
    let of_run = cells(&page, "Against the floor and the ceiling", "kumod-100k");
    assert_eq!(of_run[6..8], ["33.0", "disk"], "{of_run:?}");
    let share: f64 = of_run[10].parse().unwrap();
    let reached: f64 = of_run[1].parse().unwrap();
    assert!((share - reached / 33.0).abs() < 0.01, "{of_run:?}");
    let chart =
        page.split("<h2>Against the machine's ceiling</h2>").nth(1).unwrap().split("</svg>").next().unwrap();
    for words in ["disk 33.0", "loopback 96.0", "processor 61.0", "of the ceiling"] {
        assert!(chart.contains(words), "{words}");
    }
    // What was tried at other sizes says nothing about these.
    let page =
        page_of(|record| record.machine.ceilings.iter_mut().for_each(|ceiling| ceiling.body_bytes += 1));
    assert!(!page.contains("Against the machine's ceiling"));
    assert_eq!(cells(&page, "Against the floor and the ceiling", "kumod-100k")[6], "–");
}

/// What `tuner measure --json` writes, as far as a page needs it.
fn measured(host: Option<&str>, ceilings: serde_json::Value) -> String {
    serde_json::json!({"schema_version": 1, "machine": {"host": host}, "ceilings": ceilings}).to_string()
}

#[test]
fn a_ceiling_from_a_file_is_drawn_for_its_own_host_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut record = fixture::record(folder.path());
    record.machine.ceilings.clear();
    record.machine.host = Some("0123".into());
    record.write(&folder.path().join("run.json")).unwrap();
    let file = folder.path().join("measure.json");
    let draw = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut reports = Command::new(env!("CARGO_BIN_EXE_reports"));
        reports.arg("render").arg(folder.path()).arg("--ceiling").arg(&file).output().unwrap()
    };
    let ceiling = serde_json::json!([{"body_bytes": 1000, "mmh": 77.5, "set_by": "loopback",
        "disk_mmh": 300.0, "loopback_mmh": 77.5, "processor_mmh": 90.0}]);
    let output = draw(&measured(Some("0123"), ceiling.clone()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("loopback 77.5"));
    let mut negative = ceiling.clone();
    negative[0]["disk_mmh"] = serde_json::json!(-1.0);
    for (text, complaint) in [
        (measured(Some("4567"), ceiling.clone()), "measured on host 4567, and no record is of that host"),
        (measured(None, negative), "field ceilings[0].disk_mmh: -1 is not a finite number"),
        (String::new(), "tuner measure --json FILE` is expected"),
        ("{\"schema_version\": 9}".to_owned(), "schema_version 9 is unknown here, 1 is read"),
        (measured(None, ceiling)[..80].to_owned(), "measure.json: EOF"),
    ] {
        let output = draw(&text);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(complaint) && output.stdout.is_empty(), "{said}");
    }
}

#[test]
fn thin_records_still_make_a_page() {
    let page = page_of(|record| record.runs.clear());
    assert!(page.contains("This record holds no run through kumod."));
    assert_eq!(page.matches("<svg ").count(), 0);
    let page = page_of(|record| {
        record.runs = vec![Run { name: "nothing".into(), ..Run::default() }];
        record.machine = reports::machine::Machine::default();
        record.tuner.clear();
    });
    assert!(page.contains("nothing: nothing was delivered."));
    let page = page_of(|record| {
        record.runs.retain(|run| run.kind == Kind::Kumod);
        for run in &mut record.runs {
            run.latency_us = LatencyPair::default();
            run.hlog = HlogFiles::default();
            run.rate_per_second = vec![7.0];
            run.floor_ratio = None;
        }
    });
    assert_eq!(page.matches("<svg ").count(), 2);
}

#[test]
fn parts_of_one_machine_are_tiers_without_a_price() {
    let priced = |record: &mut Record| record.machine.cloud.price_per_hour = Some(0.1);
    assert!(visible(&page_of(priced)).contains("Per dollar"));
    let page = page_of(|record| {
        priced(record);
        let part = |run: &Run, cpus: f64, shared_cores: bool| {
            let (name, tier) = (format!("{cpus}-{}", run.name), Tier { cpus, memory_gib: 1.0 });
            Run { name, tier, tier_source: TierSource::Cgroup, shared_cores, ..run.clone() }
        };
        let relayed: Vec<Run> = record.runs.iter().filter(|run| run.kind == Kind::Kumod).cloned().collect();
        record.runs = [(0.5, false), (1.0, false), (2.0, true)]
            .iter()
            .flat_map(|(cpus, shared)| relayed.iter().map(|run| part(run, *cpus, *shared)))
            .collect();
        let reason = "needs 16 CPUs, 2 here".into();
        record.skipped = vec![Skipped { tier: Tier { cpus: 16.0, memory_gib: 64.0 }, reason }];
    });
    let shown = visible(&page);
    assert!(shown.contains("Per CPU") && !shown.contains("Per dollar"));
    for sentence in [
        "16 CPUs, 64 GiB was skipped: needs 16 CPUs, 2 here.",
        "Hollow dots shared their cores",
        "cut out of a larger machine",
        "No projection is drawn",
    ] {
        assert!(shown.contains(sentence), "{sentence}");
    }
}

#[test]
fn the_program_writes_pages_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let record = fixture::record(folder.path());
    record.write(&folder.path().join("run.json")).unwrap();
    let reports = || Command::new(env!("CARGO_BIN_EXE_reports"));

    let output = reports().arg("render").arg(folder.path()).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), render::page(&record, folder.path()));

    let elsewhere = folder.path().join("elsewhere.html");
    let output = reports().arg("render").arg(folder.path()).arg("-o").arg(&elsewhere).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), render::page(&record, folder.path()));

    // One bad folder is named and does not keep the others from being drawn.
    let nowhere = folder.path().join("nowhere");
    let output = reports().arg("render").arg(&nowhere).arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nowhere"));
    assert!(!output.stdout.is_empty());
    let output = reports().arg("render").arg(&nowhere).arg("-o").arg(&elsewhere).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        fs::read_to_string(&elsewhere).unwrap(),
        render::page(&record, folder.path()),
        "left as it was"
    );
    let output = reports().arg("schema").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), reports::schema());
}
