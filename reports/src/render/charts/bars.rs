//! Throughput by body size: kumod, the floor and the direct run side by side.
//!
//! It owns that chart. It refuses to cut the axis: bars start at zero, so that lengths compare.

use super::canvas::{Canvas, Hang, Margins, tidy};
use super::{Chart, INK, colour};
use crate::render::format;
use crate::render::series::Group;

const WIDTH: i32 = 1080;
const HEIGHT: i32 = 360;
const MARGINS: Margins = Margins { left: 52, right: 12, top: 26, bottom: 56 };

/// Part of a group's place that its bars fill.
const FILL: f64 = 0.72;

/// The widest bar, as a part of the plot's width over all groups.
const BAR_MAX: f64 = 0.09;

/// The chart, or `None` where no run was measured.
pub(in crate::render) fn throughput(groups: &[Group<'_>]) -> Option<Chart> {
    let runs = || groups.iter().flat_map(|group| &group.runs);
    let largest = runs().map(|drawn| drawn.run.mmh_delivered).fold(0.0, f64::max);
    if largest <= 0.0 {
        return None;
    }
    let step = step(largest);
    // A bar that ends right at the uppermost line would hide it.
    let top = (largest * 1.03 / step).ceil() * step;
    let mut svg = String::new();
    let across = (0.0, groups.len() as f64);
    let mut canvas = Canvas::new(&mut svg, (WIDTH, HEIGHT), &MARGINS, across, (0.0, top));
    let mut tick = 0.0;
    while tick <= top + step / 2.0 {
        canvas.grid_across(tick, &format::short(tick));
        tick += step;
    }
    canvas.text("MMH delivered", (0.0, top), (-46, -10), Hang::Right, INK, 11);
    for (index, group) in (0_u32..).zip(groups) {
        draw_group(&mut canvas, f64::from(index), group, across.1);
    }
    let points = canvas.finish();
    let title = "Throughput by body size".to_owned();
    Some(Chart { svg: tidy(&svg, &title), title, points })
}

fn draw_group(canvas: &mut Canvas<'_>, left: f64, group: &Group<'_>, groups: f64) {
    let width = (FILL / group.runs.len() as f64).min(BAR_MAX * groups);
    let first = left + 0.5 - width * group.runs.len() as f64 / 2.0;
    for (index, drawn) in (0_u32..).zip(&group.runs) {
        let run = drawn.run;
        let from = first + width * f64::from(index);
        let (middle, gap) = (from + width / 2.0, width * 0.06);
        canvas.bar((from + gap, 0.0), (from + width - gap, run.mmh_delivered), colour(run.kind));
        let label = format::three_digits(run.mmh_delivered);
        canvas.text(&label, (middle, run.mmh_delivered), (0, -5), Hang::Above, colour(run.kind), 13);
        let said = ((middle, run.mmh_delivered), format::body(group.body_bytes), format!("{label} MMH"));
        canvas.read_out(run.kind, &run.name, std::iter::once(said));
    }
    let middle = (left + 0.5, 0.0);
    canvas.text(&format::body(group.body_bytes), middle, (0, 10), Hang::Below, INK, 14);
    if let Some(ratio) = group.runs.iter().find_map(|drawn| drawn.run.floor_ratio) {
        let text = format!("kumod reaches {ratio:.2} of the floor");
        canvas.text(&text, middle, (0, 32), Hang::Below, INK, 11);
    }
}

/// A round distance between grid lines that gives about five of them.
fn step(largest: f64) -> f64 {
    let rough = largest / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn steps_are_round() {
        for (largest, expected) in [(194.0, 50.0), (8.0, 2.0), (1.0, 0.2), (0.03, 0.01), (100.0, 20.0)] {
            assert!((step(largest) - expected).abs() < 1e-9, "{largest}: {}", step(largest));
        }
    }
}
