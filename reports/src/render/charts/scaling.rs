//! Throughput by processors: what was measured, what would be ideal, and what the law of scalability projects.
//!
//! It owns the chart of one body size and the published numbers it is held against. Measured runs are dots and only dots; the
//! projection is a dashed line with a pale band, and is left out where too few points are fit for it: runs that shared their cores
//! with the load, or were limited by it, are hollow and count for nothing but themselves.

use super::bars::step;
use super::canvas::{Canvas, Hang, Margins, tidy};
use super::{Chart, INK, PROJECTION, REFERENCE, colour};
use crate::render::format;
use crate::render::series::{Drawn, Group};
use crate::stats::{BandPoint, band};

const SIZE: (i32, i32) = (534, 320);
const MARGINS: Margins = Margins { left: 52, right: 14, top: 26, bottom: 42 };

/// Places at which the projection is drawn.
const PLACES: u32 = 40;

/// Curves drawn by chance for the band.
const RESAMPLES: u32 = 400;

/// The size of the bodies of the published numbers.
const REFERENCE_BODY_BYTES: u64 = 100_000;

/// Processors and MMH, as KumoMTA's documentation prints them.
const REFERENCE_POINTS: [(f64, f64); 4] = [(2.0, 2.7), (4.0, 4.4), (8.0, 4.9), (16.0, 5.1)];

/// Where those numbers are from, in words.
pub(in crate::render) const REFERENCE_SOURCE: &str = "KumoMTA, as its documentation prints it (Performance Testing, 100 KB \
    bodies, sender and sink on other hosts): 2 CPUs and 4 GiB 2.7 MMH, 4 and 16 4.4, 8 and 30 4.9, 16 and 64 5.1. Other hardware \
    and another network: a mark on the axis, not a comparison.";

/// A chart for each body size with runs of two numbers of processors or more.
pub(in crate::render) fn scaling(groups: &[Group<'_>]) -> Vec<Chart> {
    groups.iter().filter_map(chart).collect()
}

/// What one chart shows.
struct Scene<'g, 'v> {
    measured: Vec<&'g Drawn<'v>>,
    reference: &'static [(f64, f64)],
    projected: Vec<BandPoint>,
    /// Where the axis of processors ends.
    last: f64,
    step: f64,
    /// Where the axis of rates ends.
    top: f64,
}

fn place(drawn: &Drawn<'_>) -> (f64, f64) {
    (drawn.run.tier.cpus, drawn.run.mmh_delivered)
}

/// Whether a run tells how the relay scales, and not how much of its processors others left to it.
fn is_fit(drawn: &Drawn<'_>) -> bool {
    let run = drawn.run;
    !run.shared_cores && run.limited_by.is_none() && run.load.is_none_or(|load| load.percent == 100.0)
}

impl<'g, 'v> Scene<'g, 'v> {
    fn of(group: &'g Group<'v>) -> Option<Self> {
        let is_measured = |drawn: &&Drawn<'_>| place(drawn).0 > 0.0 && place(drawn).1 > 0.0;
        let measured: Vec<&Drawn<'v>> = group.runs.iter().filter(is_measured).collect();
        let most = measured.iter().map(|drawn| place(drawn).0).fold(0.0, f64::max);
        if measured.iter().all(|drawn| place(drawn).0 == most) {
            return None;
        }
        let points: Vec<(f64, f64)> =
            measured.iter().filter(|drawn| is_fit(drawn)).map(|drawn| place(drawn)).collect();
        let reference = if group.body_bytes == REFERENCE_BODY_BYTES { &REFERENCE_POINTS[..] } else { &[] };
        let last = reference.iter().map(|point| point.0).fold(most * 1.6, f64::max);
        let places: Vec<f64> =
            (1..=PLACES).map(|place| last * f64::from(place) / f64::from(PLACES)).collect();
        let projected = band(&points, &places, 0.95, RESAMPLES, 1).unwrap_or_default();
        let rates = measured.iter().map(|drawn| place(drawn).1).chain(reference.iter().map(|point| point.1));
        let largest = rates.chain(projected.iter().map(|place| place.fitted)).fold(0.0, f64::max);
        let step = step(largest);
        Some(Self { measured, reference, projected, last, step, top: (largest * 1.06 / step).ceil() * step })
    }

    /// Every processor brings what it did in the smallest tier, in its best run.
    fn ideal(&self) -> f64 {
        let fewest = self.measured.iter().map(|drawn| place(drawn).0).fold(f64::INFINITY, f64::min);
        let smallest = self.measured.iter().filter(|drawn| place(drawn).0 == fewest);
        smallest.map(|drawn| place(drawn).1 / fewest).fold(f64::MIN_POSITIVE, f64::max)
    }
}

fn chart(group: &Group<'_>) -> Option<Chart> {
    let scene = Scene::of(group)?;
    let mut svg = String::new();
    let mut canvas = Canvas::new(&mut svg, SIZE, &MARGINS, (0.0, scene.last * 1.02), (0.0, scene.top));
    axes(&canvas, scene.last, (scene.step, scene.top));
    let single = scene.ideal();
    let end = scene.last.min(scene.top / single);
    canvas.line(&[(0.0, 0.0), (end, end * single)], INK, 3);
    canvas.text("ideal", (end, end * single), (-34, 14), Hang::Right, INK, 11);
    projection(&mut canvas, &scene.projected, scene.top);
    let said = scene.reference.iter().map(|at| {
        canvas.dot(*at, REFERENCE, true);
        (*at, format!("{} CPUs", at.0), format!("{} MMH", format::three_digits(at.1)))
    });
    let said: Vec<_> = said.collect();
    canvas.read_out("reference", "KumoMTA, published", said.into_iter());
    scene.measured.iter().for_each(|drawn| dot(&mut canvas, drawn));
    let points = canvas.finish();
    let title = format::body(group.body_bytes);
    Some(Chart { svg: tidy(&svg, &format!("Throughput by processors, {title}")), title, points })
}

/// A measured run; hollow where it is part of no fit.
fn dot(canvas: &mut Canvas<'_>, drawn: &Drawn<'_>) {
    let run = drawn.run;
    canvas.dot(place(drawn), colour(&drawn.class), !is_fit(drawn));
    let remarks = [run.tier_source.remark(), if run.shared_cores { "shared cores" } else { "" }];
    let remarks: Vec<&str> = remarks.into_iter().filter(|remark| !remark.is_empty()).collect();
    let remark = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join(", ")) };
    let value = format!("{} MMH{remark}", format::three_digits(run.mmh_delivered));
    let said = (place(drawn), format!("{} CPUs", format::short(run.tier.cpus)), value);
    canvas.read_out(&drawn.class, &run.name, std::iter::once(said));
}

fn axes(canvas: &Canvas<'_>, last: f64, (step_y, top): (f64, f64)) {
    for index in 0..=format::whole(top / step_y) {
        canvas.grid_across(index as f64 * step_y, &format::short(index as f64 * step_y));
    }
    let step_x = step(last);
    for index in 0..=format::whole((last / step_x).floor()) {
        canvas.grid_up(index as f64 * step_x, &format::short(index as f64 * step_x));
    }
    canvas.text("MMH delivered", (0.0, top), (-46, -10), Hang::Right, INK, 11);
    canvas.text("CPUs", (last, 0.0), (-10, 24), Hang::Below, INK, 11);
}

/// The dashed curve and its band, cut off where the axis ends.
fn projection(canvas: &mut Canvas<'_>, projected: &[BandPoint], top: f64) {
    let line =
        |of: fn(&BandPoint) -> f64| projected.iter().map(move |place| (place.processors, of(place).min(top)));
    if projected.is_empty() {
        return;
    }
    let outline: Vec<(f64, f64)> = line(|place| place.low)
        .chain(line(|place| place.high).collect::<Vec<_>>().into_iter().rev())
        .collect();
    canvas.area(outline, PROJECTION);
    canvas.line(&line(|place| place.fitted).collect::<Vec<_>>(), PROJECTION, 6);
    let said = projected.iter().map(|place| {
        let band = format!("{} to {}", format::three_digits(place.low), format::three_digits(place.high));
        let value = format!("{} MMH ({band})", format::three_digits(place.fitted));
        (
            (place.processors, place.fitted.min(top)),
            format!("{} CPUs", format::short(place.processors)),
            value,
        )
    });
    canvas.read_out("projection", "projected, not measured", said);
}
