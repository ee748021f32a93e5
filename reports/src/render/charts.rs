//! Charts as SVG, drawn with plotters.
//!
//! It owns colours, scales and the places of labels. Colours are plain attributes of a light page; the
//! style sheet picks them by attribute and replaces them in the dark. It refuses nothing: a chart without
//! data is `None`, and drawing into a string cannot fail.

mod bars;
mod canvas;
mod lines;

pub(super) use bars::throughput;
pub(super) use lines::{Side, rates, spectra};

use plotters::style::RGBColor;

use crate::run::Kind;

/// Text and axes. The style sheet names these colours too, so they change there and here together.
pub(super) const INK: RGBColor = RGBColor(0x4A, 0x53, 0x61);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(0xE4, 0xE7, 0xEC);
/// The relay under test.
pub(super) const KUMOD: RGBColor = RGBColor(0x1F, 0x55, 0xD3);
/// The floor.
pub(super) const FLOOR: RGBColor = RGBColor(0xB3, 0x5C, 0x00);
/// The generator straight into the sink.
pub(super) const DIRECT: RGBColor = RGBColor(0x6A, 0x74, 0x85);

/// A drawn chart.
pub(super) struct Chart {
    /// What stands above it.
    pub(super) title: String,
    /// The picture.
    pub(super) svg: String,
    /// Points for the read-out, as JSON: `[{"k": kind, "n": name, "p": [[x, y, where, what], ...]}, ...]`.
    pub(super) points: String,
}

/// The colour that stands for a kind on the whole page.
pub(super) fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Kumod => KUMOD,
        Kind::Floor => FLOOR,
        Kind::Direct => DIRECT,
    }
}
