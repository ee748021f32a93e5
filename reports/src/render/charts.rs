//! Charts as SVG, drawn with plotters.
//!
//! It owns colours, scales and the places of labels. Colours are plain attributes of a light page; the
//! style sheet picks them by attribute and replaces them in the dark. It refuses nothing: a chart without
//! data is `None`, and drawing into a string cannot fail.

mod bars;
mod canvas;
mod heat;
mod lines;
mod roofline;
mod scaling;

pub(super) use bars::{Measure, efficiency, throughput};
pub(super) use heat::heat_maps;
pub(super) use lines::{Side, latencies, rates, spectra};
pub(super) use roofline::rooflines;
pub(super) use scaling::{REFERENCE_SOURCE, scaling};

use plotters::style::RGBColor;

use super::view::TIER_COLOURS;

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

/// A curve that was computed and not measured; always dashed.
pub(super) const PROJECTION: RGBColor = RGBColor(0x8A, 0x3F, 0xA8);
/// Numbers that others published.
pub(super) const REFERENCE: RGBColor = RGBColor(0xA0, 0x60, 0x60);

/// Tiers, as different from each other as eight colours can be on white and on black.
const TIERS: [RGBColor; TIER_COLOURS] = [
    RGBColor(0x1B, 0x6F, 0xC2),
    RGBColor(0xC2, 0x4E, 0x00),
    RGBColor(0x0B, 0x7A, 0x5B),
    RGBColor(0xB0, 0x2A, 0x6F),
    RGBColor(0x7A, 0x6A, 0x00),
    RGBColor(0x5A, 0x4F, 0xCF),
    RGBColor(0x00, 0x7C, 0x8A),
    RGBColor(0x8C, 0x3B, 0x1F),
];

/// The colour that stands for a kind or a tier on the whole page.
pub(super) fn colour(class: &str) -> RGBColor {
    let tier = class.strip_prefix('t').and_then(|number| number.parse::<usize>().ok());
    match (tier, class) {
        (Some(tier), _) => TIERS[tier % TIER_COLOURS],
        (None, "kumod") => KUMOD,
        (None, "floor") => FLOOR,
        (None, "projection") => PROJECTION,
        (None, "reference") => REFERENCE,
        (None, _) => DIRECT,
    }
}
