//! The histogram log of a run: an interval for each second.
//!
//! The latencies of the run (from the intended time in an open loop) stand without a tag, because that is
//! what HdrHistogram's tools read unless they are told one. Beside them stand `Tag=raw`, the same messages
//! from the first byte of MAIL, and `Tag=lag`, how late they began; both only in an open loop. Seconds of
//! the warm-up have `Tag=warm_up`, so that no reader adds them to the figures.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use reports::latency::HlogWriter;
use traffic_gen::{Plan, Second, Window};

/// A log being written.
pub(crate) struct Hlog<W: Write> {
    writer: HlogWriter<W>,
    has_warm_up: bool,
    has_schedule: bool,
    /// Where the seconds of the present run begin: one log may hold several.
    run_offset: Duration,
    end: Duration,
}

impl<W: Write> Hlog<W> {
    /// Begins the log with the name of the run and its labels.
    pub(crate) fn new(file: W, plan: &Plan, labels: &BTreeMap<String, String>) -> io::Result<Self> {
        let labels: String = labels.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        let comment = format!("traffic-gen run {}{labels}", plan.run_id);
        Ok(Self {
            writer: HlogWriter::new(file, SystemTime::now(), &comment)?,
            has_warm_up: !plan.warm_up.is_zero(),
            has_schedule: plan.schedule.is_open(),
            run_offset: Duration::ZERO,
            end: Duration::ZERO,
        })
    }

    /// Writes the intervals of one second.
    pub(crate) fn write(&mut self, second: &Second<'_>) -> io::Result<()> {
        if self.run_offset + second.offset < self.end {
            self.run_offset = self.end;
        }
        let (offset, length) = (self.run_offset + second.offset, second.length);
        self.end = offset + length;
        if self.has_warm_up && second.window == Window::WarmUp {
            return self.writer.write_tagged(Some("warm_up"), second.latency, offset, length);
        }
        self.writer.write(second.latency, offset, length)?;
        if self.has_schedule {
            self.writer.write_tagged(Some("raw"), second.raw, offset, length)?;
            self.writer.write_tagged(Some("lag"), second.lag, offset, length)?;
        }
        Ok(())
    }

    /// Flushes.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.writer.finish().map(drop)
    }
}
