//! Lines: latency spectra on HDR's percentile axis, rates and latencies over time; one small chart for each body size.
//!
//! It owns them. Spectra share their axes, so that sizes compare; rates start at zero, each on its own
//! scale, since they differ by a magnitude. It refuses to draw a line of a single point as anything but a dot's
//! width: such runs show in the tables.

use super::canvas::{Canvas, Hang, Margins, tidy};
use super::{Chart, INK, colour};
use crate::render::format;
use crate::render::series::{Drawn, Group};
use crate::run::Kind;

const WIDTH: i32 = 352;
const HEIGHT: i32 = 264;
const MARGINS: Margins = Margins { left: 56, right: 12, top: 24, bottom: 28 };

/// Which of the two latencies.
#[derive(Clone, Copy)]
pub(in crate::render) enum Side {
    Inject,
    EndToEnd,
}

impl Side {
    fn points<'d>(self, drawn: &'d Drawn<'_>) -> &'d [(f64, f64)] {
        match self {
            Self::Inject => &drawn.inject,
            Self::EndToEnd => &drawn.end_to_end,
        }
    }
}

/// Latency spectra of every body size. x is 1/(1 - percentile), y is latency, both logarithmic.
pub(in crate::render) fn spectra(groups: &[Group<'_>], side: Side) -> Vec<Chart> {
    let all = || groups.iter().flat_map(|group| &group.runs);
    // Both sides share the axes too: the reader looks from one row to the other.
    let both = || all().flat_map(|drawn| drawn.inject.iter().chain(&drawn.end_to_end));
    if both().next().is_none() {
        return Vec::new();
    }
    let nines = both().map(|point| point.0.log10()).fold(1.0, f64::max);
    let low = both().map(|point| point.1.log10()).fold(f64::INFINITY, f64::min).floor();
    let high = both().map(|point| point.1.log10()).fold(low + 1.0, f64::max).ceil();
    let axes = ((0.0, nines), (low, high));
    let drawable =
        groups.iter().filter(|group| group.runs.iter().any(|drawn| !side.points(drawn).is_empty()));
    drawable.map(|group| spectrum(group, side, axes)).collect()
}

fn spectrum(group: &Group<'_>, side: Side, (x, y): ((f64, f64), (f64, f64))) -> Chart {
    let mut svg = String::new();
    let mut canvas = Canvas::new(&mut svg, (WIDTH, HEIGHT), &MARGINS, x, y);
    let mut power = y.0;
    while power <= y.1 {
        canvas.grid_across(power, &power_of_ten_us(power));
        power += 1.0;
    }
    let mut nines = 0.0;
    while nines <= x.1 {
        canvas.grid_up(nines, percentile_mark(nines));
        nines += 1.0;
    }
    canvas.text("latency by percentile", (x.0, y.1), (-50, -10), Hang::Right, INK, 11);
    for drawn in behind_first(group) {
        let points = side.points(drawn);
        let logarithms: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.log10(), y.log10())).collect();
        canvas.line(&logarithms, colour(&drawn.class), width(drawn.run.kind));
        let said = logarithms
            .iter()
            .zip(points)
            .map(|(at, point)| (*at, format!("{} %", percentile(point.0)), format::latency(point.1)));
        canvas.read_out(&drawn.class, &drawn.run.name, said);
    }
    let points = canvas.finish();
    let title = format::body(group.body_bytes);
    Chart { svg: tidy(&svg, &format!("Latency spectrum, {title}")), title, points }
}

/// Delivered messages per second of every body size.
pub(in crate::render) fn rates(groups: &[Group<'_>]) -> Vec<Chart> {
    let drawable = groups.iter().filter(|group| group.runs.iter().any(|drawn| drawn.rate.len() > 1));
    drawable.map(rate).collect()
}

fn rate(group: &Group<'_>) -> Chart {
    let points = || group.runs.iter().flat_map(|drawn| &drawn.rate);
    // Points stand in the middle of their second.
    let last = points().map(|point| point.0 + 0.5).fold(1.0, f64::max);
    let largest = points().map(|point| point.1).fold(1.0, f64::max);
    let (step_x, step_y) = (round_step(last), round_step(largest));
    let top = (largest / step_y).ceil() * step_y;
    let mut svg = String::new();
    let mut canvas = Canvas::new(&mut svg, (WIDTH, HEIGHT), &MARGINS, (0.0, last), (0.0, top));
    for index in 0..=format::whole(top / step_y) {
        let value = index as f64 * step_y;
        canvas.grid_across(value, &format::count(format::whole(value)));
    }
    for index in 0..=format::whole((last / step_x).floor()) {
        let value = index as f64 * step_x;
        canvas.grid_up(value, &format!("{} s", format::short(value)));
    }
    canvas.text("messages per second", (0.0, top), (-50, -10), Hang::Right, INK, 11);
    for drawn in behind_first(group) {
        canvas.line(&drawn.rate, colour(&drawn.class), width(drawn.run.kind));
        let said = drawn.rate.iter().map(|at| {
            (*at, format!("{} s", format::short(at.0)), format!("{}/s", format::count(format::whole(at.1))))
        });
        canvas.read_out(&drawn.class, &drawn.run.name, said);
    }
    let points = canvas.finish();
    let title = format::body(group.body_bytes);
    Chart { svg: tidy(&svg, &format!("Delivered messages per second, {title}")), title, points }
}

/// The 99th percentile of what arrived in each second, of every body size; the latencies are logarithmic.
pub(in crate::render) fn latencies(groups: &[Group<'_>]) -> Vec<Chart> {
    let drawable = groups.iter().filter(|group| group.runs.iter().any(|drawn| drawn.latency.len() > 1));
    drawable.map(latency).collect()
}

fn latency(group: &Group<'_>) -> Chart {
    let points = || group.runs.iter().flat_map(|drawn| &drawn.latency);
    let last = points().map(|point| point.0 + 0.5).fold(1.0, f64::max);
    let low = points().map(|point| point.1.log10()).fold(f64::INFINITY, f64::min).floor();
    let high = points().map(|point| point.1.log10()).fold(low + 1.0, f64::max).ceil();
    let mut svg = String::new();
    let mut canvas = Canvas::new(&mut svg, (WIDTH, HEIGHT), &MARGINS, (0.0, last), (low, high));
    let mut power = low;
    while power <= high {
        canvas.grid_across(power, &power_of_ten_us(power));
        power += 1.0;
    }
    let step = round_step(last);
    for index in 0..=format::whole((last / step).floor()) {
        let value = index as f64 * step;
        canvas.grid_up(value, &format!("{} s", format::short(value)));
    }
    canvas.text("p99 of each second", (0.0, high), (-50, -10), Hang::Right, INK, 11);
    for drawn in behind_first(group) {
        let logarithms: Vec<(f64, f64)> = drawn.latency.iter().map(|(x, y)| (*x, y.log10())).collect();
        canvas.line(&logarithms, colour(&drawn.class), width(drawn.run.kind));
        let said = logarithms
            .iter()
            .zip(&drawn.latency)
            .map(|(at, point)| (*at, format!("{} s", format::short(point.0)), format::latency(point.1)));
        canvas.read_out(&drawn.class, &drawn.run.name, said);
    }
    let points = canvas.finish();
    let title = format::body(group.body_bytes);
    Chart { svg: tidy(&svg, &format!("99th percentile over time, {title}")), title, points }
}

/// Runs in drawing order: kumod last, so that nothing covers it.
fn behind_first<'g, 'r>(group: &'g Group<'r>) -> impl Iterator<Item = &'g Drawn<'r>> {
    group.runs.iter().rev()
}

/// In quarters of a pixel.
fn width(kind: Kind) -> u32 {
    if kind == Kind::Kumod { 9 } else { 6 }
}

/// `0` is HDR's left edge, then one more nine at each mark.
fn percentile_mark(nines: f64) -> &'static str {
    let marks = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999"];
    marks.get(usize::try_from(format::whole(nines)).unwrap_or(0)).copied().unwrap_or("")
}

/// The percentile at 1/(1 - percentile), with as many digits as it takes to tell it from 100.
fn percentile(inverse: f64) -> String {
    let digits = usize::try_from(format::whole(inverse.log10())).unwrap_or(0);
    let text = format!("{:.*}", digits, 100.0 * (1.0 - 1.0 / inverse));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A power of ten of microseconds, in the unit that fits.
pub(super) fn power_of_ten_us(power: f64) -> String {
    let value = 10_f64.powf(power);
    match value {
        us if us < 999.0 => format!("{us:.0} µs"),
        us if us < 999_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.0} s", us / 1e6),
    }
}

/// A round distance of grid lines that gives four or five of them.
pub(super) fn round_step(largest: f64) -> f64 {
    let rough = (largest / 4.0).max(1.0);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_keep_their_nines() {
        for (inverse, text) in [(1.0, "0"), (2.0, "50"), (10.0, "90"), (1000.0, "99.9"), (1e5, "99.999")] {
            assert_eq!(percentile(inverse), text);
        }
    }

    #[test]
    fn powers_of_ten_have_units() {
        for (power, text) in [(0.0, "1 µs"), (2.0, "100 µs"), (3.0, "1 ms"), (6.0, "1 s"), (7.0, "10 s")] {
            assert_eq!(power_of_ten_us(power), text);
        }
    }
}
