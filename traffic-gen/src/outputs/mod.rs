//! Everything that a run leaves behind or shows on its way, except the summary in words.
//!
//! Files are opened before the run, so that a report that cannot be written is known before mail is sent.
//! What fails in the middle does not end the run: mail goes on, and the error ends the command when the
//! report is out.

mod csv;
mod hgrm;
mod hlog;
mod prometheus;
pub(crate) mod sample;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write, stderr};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use traffic_gen::threshold::Outcome;
use traffic_gen::{Control, Observer, Plan, Report, Second};

use self::csv::Csv;
use self::hlog::Hlog;
use self::prometheus::Prometheus;
use self::sample::{COLUMNS, Sample, Value};
use crate::agents::merge::Part;
use crate::flags::OutputFlags;
use crate::progress::Progress;
use crate::tui::Tui;
use crate::tui::picture::Facts;
use crate::tui::terminal::obstacle;

/// Seconds in the report's table, a day; later ones are only in the files that are written on the way.
const TIMELINE_SECONDS_MAX: usize = 86_400;

/// A file, and what it is called in an error.
struct Target {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Target {
    fn create(path: &Path) -> Result<Self, String> {
        let file = File::create(path).map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn write(mut self, work: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), String> {
        work(&mut self.file)
            .and_then(|()| self.file.flush())
            .map_err(|error| cannot_write(&self.path, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

fn create(path: Option<&Path>) -> Result<Option<Target>, String> {
    path.map(Target::create).transpose()
}

/// A file that is written on the way, and whatever writes it.
fn begin<T>(
    path: Option<&Path>,
    writer: impl FnOnce(BufWriter<File>) -> io::Result<T>,
) -> Result<Option<(PathBuf, T)>, String> {
    let Some(target) = create(path)? else {
        return Ok(None);
    };
    let writer = writer(target.file).map_err(|error| cannot_write(&target.path, &error))?;
    Ok(Some((target.path, writer)))
}

fn listen(address: SocketAddr, labels: &BTreeMap<String, String>) -> Result<Prometheus, String> {
    let prometheus = Prometheus::start(address, labels)
        .map_err(|error| format!("cannot listen for --prometheus on {address}: {error}"))?;
    // Port 0 means any, and somebody wants to know which.
    let _ = writeln!(stderr(), "metrics on http://{}/metrics", prometheus.service.address);
    Ok(prometheus)
}

/// What is shown on standard error.
enum Screen {
    Nothing,
    Line(Progress),
    Picture(Tui),
}

/// The outputs of a run.
pub(crate) struct Outputs {
    screen: Screen,
    csv: Option<(PathBuf, Csv<BufWriter<File>>)>,
    hdr: Option<(PathBuf, Hlog<BufWriter<File>>)>,
    hgrm: Option<Target>,
    json: Option<Target>,
    prometheus: Option<Prometheus>,
    labels: BTreeMap<String, String>,
    timeline: Vec<Vec<Value>>,
    before: Option<Sample>,
    /// The first thing that went wrong on the way.
    broken: Option<String>,
}

impl Outputs {
    /// Opens all files and listens, then takes the screen.
    pub(crate) fn open(
        flags: &OutputFlags,
        facts: Facts,
        plan: &Plan,
        control: &Control,
    ) -> Result<Self, String> {
        let labels = flags.labels();
        Ok(Self {
            json: create(flags.json.as_deref())?,
            hgrm: create(flags.hgrm.as_deref())?,
            csv: begin(flags.csv.as_deref(), Csv::new)?,
            hdr: begin(flags.hdr.as_deref(), |file| Hlog::new(file, plan, &labels))?,
            prometheus: flags.prometheus.map(|address| listen(address, &labels)).transpose()?,
            screen: screen(flags, facts, control)?,
            labels,
            timeline: Vec::new(),
            before: None,
            broken: None,
        })
    }

    /// Gives the screen back; nothing is shown after it.
    pub(crate) fn leave_screen(&mut self) {
        if let Screen::Line(progress) = std::mem::replace(&mut self.screen, Screen::Nothing) {
            progress.finish();
        }
    }

    /// Another run begins: its seconds count from its own start.
    pub(crate) fn begin(&mut self, facts: Facts) {
        self.before = None;
        if let Screen::Picture(picture) = &mut self.screen {
            picture.begin(facts);
        }
    }

    /// Says something that is worth a line of its own, unless a picture is shown or nothing is wanted.
    pub(crate) fn say(&mut self, text: &str) {
        if let Screen::Line(progress) = &mut self.screen {
            progress.say(text);
        }
    }

    /// What the operator called the run.
    pub(crate) fn take_labels(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.labels)
    }

    /// Writes what is written at the end.
    pub(crate) fn finish(
        mut self,
        report: &Report,
        agents: &[Part],
        thresholds: &[Outcome],
    ) -> Result<(), String> {
        self.leave_screen();
        let timeline = Timeline {
            columns: COLUMNS.iter().map(|(name, _)| *name).collect(),
            rows: std::mem::take(&mut self.timeline),
        };
        let document = Document { report, labels: self.take_labels(), agents, thresholds, timeline };
        let hgrm =
            self.hgrm.take().map_or(Ok(()), |hgrm| hgrm.write(|file| hgrm::write(file, &report.latency)));
        self.finish_with(&document).and(hgrm)
    }

    /// Writes the report, whatever its form.
    pub(crate) fn finish_with(mut self, document: &impl Serialize) -> Result<(), String> {
        self.leave_screen();
        let json = self.json.take().map_or(Ok(()), |json| {
            json.write(|file| {
                serde_json::to_writer_pretty(&mut *file, document)?;
                writeln!(file)
            })
        });
        let hdr = self
            .hdr
            .take()
            .map_or(Ok(()), |(path, hlog)| hlog.finish().map_err(|error| cannot_write(&path, &error)));
        json.and(hdr).and_then(|()| self.broken.map_or(Ok(()), Err))
    }
}

impl Observer for Outputs {
    fn second(&mut self, second: &Second<'_>) {
        let sample = Sample::new(second, self.before.as_ref());
        if let Some((path, csv)) = &mut self.csv
            && let Err(error) = csv.write(&sample)
        {
            self.broken.get_or_insert_with(|| cannot_write(path, &error));
            self.csv = None;
        }
        if let Some((path, hdr)) = &mut self.hdr
            && let Err(error) = hdr.write(second)
        {
            self.broken.get_or_insert_with(|| cannot_write(path, &error));
            self.hdr = None;
        }
        if let Some(prometheus) = &self.prometheus {
            prometheus.show(second, &sample);
        }
        match &mut self.screen {
            Screen::Picture(picture) => picture.show(&sample),
            Screen::Line(progress) => progress.show(&sample),
            Screen::Nothing => {}
        }
        if self.json.is_some() && self.timeline.len() < TIMELINE_SECONDS_MAX {
            self.timeline.push(sample.values().collect());
        }
        self.before = Some(sample);
    }
}

/// The picture where it was asked for or can be, else the line, unless nothing is wanted.
fn screen(flags: &OutputFlags, facts: Facts, control: &Control) -> Result<Screen, String> {
    if flags.quiet {
        return Ok(Screen::Nothing);
    }
    let obstacle = obstacle();
    match obstacle {
        Some(obstacle) if flags.tui => Err(format!("no live picture: {obstacle}")),
        None if !flags.no_tui => match Tui::start(facts, flags.color(), control.clone()) {
            Ok(tui) => Ok(Screen::Picture(tui)),
            Err(error) if flags.tui => Err(format!("no live picture: {error}")),
            Err(_) => Ok(Screen::Line(Progress::new())),
        },
        _ => Ok(Screen::Line(Progress::new())),
    }
}

/// The JSON report: the report itself, and what the command knows beside it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "<[Part]>::is_empty")]
    agents: &'a [Part],
    thresholds: &'a [Outcome],
    timeline: Timeline,
}

/// The per-second table.
#[derive(Serialize)]
struct Timeline {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}
