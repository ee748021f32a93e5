//! The per-second table: a head line, then a line for each second.
//!
//! The columns are those of [`COLUMNS`]. No value has a comma or a quote, so none is quoted. Each line is
//! written when its second is over, so that a run that is killed leaves its table.

use std::io::{self, Write};

use super::sample::{COLUMNS, Sample};

/// A table being written.
pub(crate) struct Csv<W: Write> {
    file: W,
}

impl<W: Write> Csv<W> {
    /// Writes the head line.
    pub(crate) fn new(mut file: W) -> io::Result<Self> {
        let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
        writeln!(file, "{}", names.join(","))?;
        file.flush()?;
        Ok(Self { file })
    }

    /// Writes the line of one second.
    pub(crate) fn write(&mut self, sample: &Sample) -> io::Result<()> {
        let cells: Vec<_> = sample.values().map(|value| value.to_string()).collect();
        writeln!(self.file, "{}", cells.join(","))?;
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_columns_of_the_head() {
        let mut file = Vec::new();
        let mut csv = Csv::new(&mut file).unwrap();
        let mut sample = Sample { rate_per_s: 61_204.123_456_7, ..Sample::example() };
        sample.reply_codes.extend([(450, 1), (451, 2), (550, 4)]);
        csv.write(&sample).unwrap();
        let text = String::from_utf8(file).unwrap();
        let lines: Vec<Vec<_>> = text.lines().map(|line| line.split(',').collect()).collect();
        let of = |name: &str| lines[1][lines[0].iter().position(|column| *column == name).unwrap()];
        assert_eq!((lines.len(), lines[0].len()), (2, lines[1].len()));
        assert_eq!((of("offset_s"), of("window"), of("sent")), ("2", "measured", "15000"));
        assert_eq!((of("rate_per_s"), of("latency_p99_us")), ("61204.123457", "2000"));
        assert_eq!((of("replies_2xx"), of("replies_4xx"), of("replies_5xx")), ("15000", "3", "4"));
    }
}
