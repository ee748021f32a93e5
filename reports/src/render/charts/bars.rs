//! Bars by body size: throughput, and what each processor, GiB and dollar brought.
//!
//! It owns those charts. It refuses to cut the axis: bars start at zero, so that lengths compare.

use super::canvas::{Canvas, Hang, Margins, tidy};
use super::{Chart, INK, colour};
use crate::render::format;
use crate::render::series::{Drawn, Group};
use crate::render::view::TierName;

/// Part of a group's place that its bars fill.
const FILL: f64 = 0.78;

/// The widest bar, as a part of the plot's width over all groups.
const BAR_MAX: f64 = 0.09;

/// Bars of a group that have their number on them.
const NUMBERED_MAX: usize = 6;

/// What the bars show, and on what surface.
struct Sheet<'m> {
    title: &'m str,
    axis: &'m str,
    unit: &'m str,
    size: (i32, i32),
    margins: Margins,
    /// The size of the numbers on bars, in pixels; none where there is no room.
    digits: Option<i32>,
    value: &'m dyn Fn(&Drawn<'_>) -> Option<f64>,
}

/// What a rate is divided by.
#[derive(Clone, Copy)]
pub(in crate::render) enum Measure {
    Core,
    Gib,
    Dollar,
}

/// Throughput by body size, or `None` where no run was measured.
pub(in crate::render) fn throughput(groups: &[Group<'_>]) -> Option<Chart> {
    draw(
        groups,
        &Sheet {
            title: "Throughput by body size",
            axis: "MMH delivered",
            unit: "MMH",
            size: (1080, 360),
            margins: Margins { left: 52, right: 12, top: 26, bottom: 56 },
            digits: Some(13),
            value: &|drawn| Some(drawn.run.mmh_delivered),
        },
    )
}

/// The same divided by processors, GiB or dollars an hour of the tier; `None` where nobody said how many.
pub(in crate::render) fn efficiency(
    groups: &[Group<'_>],
    tiers: &[TierName],
    measure: Measure,
) -> Option<Chart> {
    let (title, unit) = match measure {
        Measure::Core => ("Per CPU", "MMH per CPU"),
        Measure::Gib => ("Per GiB", "MMH per GiB"),
        Measure::Dollar => ("Per dollar", "million messages per dollar"),
    };
    let divisor = |drawn: &Drawn<'_>| {
        let tier = tiers.get(drawn.tier)?;
        match measure {
            Measure::Core => Some(tier.tier.cpus),
            Measure::Gib => Some(tier.tier.memory_gib),
            Measure::Dollar => tier.price_per_hour,
        }
    };
    let value = |drawn: &Drawn<'_>| {
        divisor(drawn).filter(|divisor| *divisor > 0.0).map(|divisor| drawn.run.mmh_delivered / divisor)
    };
    let margins = Margins { left: 52, right: 8, top: 24, bottom: 28 };
    draw(groups, &Sheet { title, axis: unit, unit, size: (352, 240), margins, digits: None, value: &value })
}

fn draw(groups: &[Group<'_>], sheet: &Sheet<'_>) -> Option<Chart> {
    let runs = || groups.iter().flat_map(|group| &group.runs);
    let largest = runs().filter_map(|drawn| (sheet.value)(drawn)).fold(0.0, f64::max);
    if largest <= 0.0 {
        return None;
    }
    let step = step(largest);
    // A bar that ends right at the uppermost line would hide it.
    let top = (largest * 1.03 / step).ceil() * step;
    let mut svg = String::new();
    let across = (0.0, groups.len() as f64);
    let mut canvas = Canvas::new(&mut svg, sheet.size, &sheet.margins, across, (0.0, top));
    let mut tick = 0.0;
    while tick <= top + step / 2.0 {
        canvas.grid_across(tick, &format::short(tick));
        tick += step;
    }
    canvas.text(sheet.axis, (0.0, top), (-46, -10), Hang::Right, INK, 11);
    for (index, group) in (0_u32..).zip(groups) {
        draw_group(&mut canvas, f64::from(index), group, across.1, sheet);
    }
    let points = canvas.finish();
    Some(Chart { svg: tidy(&svg, sheet.title), title: sheet.title.to_owned(), points })
}

fn draw_group(canvas: &mut Canvas<'_>, left: f64, group: &Group<'_>, groups: f64, sheet: &Sheet<'_>) {
    let width = (FILL / group.runs.len() as f64).min(BAR_MAX * groups);
    let first = left + 0.5 - width * group.runs.len() as f64 / 2.0;
    for (index, drawn) in (0_u32..).zip(&group.runs) {
        let Some(value) = (sheet.value)(drawn) else { continue };
        let from = first + width * f64::from(index);
        let (middle, gap) = (from + width / 2.0, width * 0.06);
        canvas.bar((from + gap, 0.0), (from + width - gap, value), colour(&drawn.class));
        let label = format::three_digits(value);
        // Numbers over thin bars would cover each other; the read-out tells them.
        if let Some(size) = sheet.digits.filter(|_| group.runs.len() <= NUMBERED_MAX) {
            canvas.text(&label, (middle, value), (0, -5), Hang::Above, colour(&drawn.class), size);
        }
        let said = ((middle, value), format::body(group.body_bytes), format!("{label} {}", sheet.unit));
        canvas.read_out(&drawn.class, &drawn.run.name, std::iter::once(said));
    }
    let middle = (left + 0.5, 0.0);
    canvas.text(&format::body(group.body_bytes), middle, (0, 10), Hang::Below, INK, 14);
    // With several tiers each has a ratio of its own, which the table tells.
    let ratio = group.runs.iter().find_map(|drawn| drawn.run.floor_ratio.filter(|_| drawn.class == "kumod"));
    if let Some(ratio) = ratio.filter(|_| sheet.digits.is_some()) {
        let text = format!("kumod reaches {ratio:.2} of the floor");
        canvas.text(&text, middle, (0, 32), Hang::Below, INK, 11);
    }
}

/// A round distance between grid lines that gives about five of them.
pub(super) fn step(largest: f64) -> f64 {
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
