//! Heat maps: how many messages had which latency, second by second.
//!
//! It owns them, one for each run through kumod that is shown. Shades are by logarithm, so that the rare slow message is
//! seen beside the many fast ones. Neighbours of one shade are one path, which keeps the page small.

use std::fmt::Write;

use super::canvas::{Canvas, Hang, Margins, hexadecimal, tidy};
use super::lines::{power_of_ten_us, round_step};
use super::{Chart, INK, colour};
use crate::render::format;
use crate::render::series::{Drawn, Group, HEAT_ROWS_PER_DECADE, Heat};

const WIDTH: i32 = 352;
const HEIGHT: i32 = 220;
const MARGINS: Margins = Margins { left: 56, right: 12, top: 24, bottom: 28 };

/// Shades, from one message to the most.
const SHADES: usize = 5;

/// The charts, in the order of the groups.
pub(in crate::render) fn heat_maps(groups: &[Group<'_>]) -> Vec<Chart> {
    let runs = groups.iter().flat_map(|group| &group.runs);
    runs.filter(|drawn| drawn.heat.columns.len() > 1).map(heat_map).collect()
}

fn heat_map(drawn: &Drawn<'_>) -> Chart {
    let heat = &drawn.heat;
    let rows = heat.columns.iter().map(Vec::len).max().unwrap_or(0);
    let power = |row: usize| (heat.first_row + row) as f64 / HEAT_ROWS_PER_DECADE as f64;
    let (low, high) = (power(0).floor(), power(rows).ceil());
    let mut svg = String::new();
    let canvas = Canvas::new(&mut svg, (WIDTH, HEIGHT), &MARGINS, (0.0, heat.seconds), (low, high));
    let mut mark = low;
    while mark <= high {
        canvas.grid_across(mark, &power_of_ten_us(mark));
        mark += 1.0;
    }
    let step = round_step(heat.seconds);
    for index in 0..=format::whole((heat.seconds / step).floor()) {
        let value = index as f64 * step;
        canvas.grid_up(value, &format!("{} s", format::short(value)));
    }
    canvas.text("messages by latency", (0.0, high), (-50, -10), Hang::Right, INK, 11);
    let paths = paths(&canvas, heat, rows, &hexadecimal(colour(&drawn.class)));
    let points = canvas.finish();
    let svg = svg.replacen("</svg>", &format!("{paths}</svg>"), 1);
    let title = drawn.run.name.clone();
    Chart { svg: tidy(&svg, &format!("Heat map of latencies, {title}")), title, points }
}

/// A path for each shade; runs of one shade in a column are one box.
fn paths(canvas: &Canvas<'_>, heat: &Heat, rows: usize, colour: &str) -> String {
    let most = heat.columns.iter().flatten().copied().max().unwrap_or(1).max(2) as f64;
    let shade = |count: u64| {
        (count > 0).then(|| format::index((count as f64).ln() / most.ln() * SHADES as f64).min(SHADES - 1))
    };
    let power = |row: usize| (heat.first_row + row) as f64 / HEAT_ROWS_PER_DECADE as f64;
    let width = heat.seconds / heat.columns.len() as f64;
    let mut boxes = vec![String::new(); SHADES];
    for (index, column) in heat.columns.iter().enumerate() {
        let at = |row| column.get(row).copied().and_then(shade);
        let mut row = 0;
        while row < rows {
            let begin = row;
            let Some(found) = at(begin) else {
                row += 1;
                continue;
            };
            while row < rows && at(row) == Some(found) {
                row += 1;
            }
            let (left, bottom) = canvas.units((index as f64 * width, power(begin)));
            let (right, top) = canvas.units(((index + 1) as f64 * width, power(row)));
            // Writing into a string does not fail.
            let _ = write!(boxes[found], "M{left} {top}H{right}V{bottom}H{left}z");
        }
    }
    let filled = boxes.iter().enumerate().filter(|(_, path)| !path.is_empty());
    filled
        .map(|(found, path)| {
            let opacity = 0.14 + 0.86 * found as f64 / (SHADES - 1) as f64;
            format!("<path fill=\"{colour}\" fill-opacity=\"{opacity:.2}\" d=\"{path}\"/>")
        })
        .collect()
}
