//! The roofline: what each resource of a machine would allow, for each body size, and the runs below.
//!
//! It owns that chart. What was computed is a line and what was measured is a dot, so that nobody takes one for the other. It
//! refuses to draw a ceiling beside runs of another size or another machine: there it is unknown, and is left out.

use super::canvas::{Canvas, Hang, Margins, tidy};
use super::{Chart, INK, colour};
use crate::machine::Ceiling;
use crate::render::format;
use crate::render::series::{Drawn, Group};
use crate::render::view::View;

/// Machines that get a chart; of more, the tables tell.
const MACHINES_MAX: usize = 4;

const SIZE: (i32, i32) = (1080, 360);
const MARGINS: Margins = Margins { left: 52, right: 12, top: 26, bottom: 56 };

/// Parts of a group's place: where the lines begin and end; their names follow.
const LINES: (f64, f64) = (0.06, 0.66);

/// Pixels between the names of two lines at least.
const NAMES_APART: i32 = 14;

/// Dots of a group that have their number on them.
const NUMBERED_MAX: usize = 6;

/// One body size: its ceiling and what was reached.
struct Storey<'g, 'v> {
    body_bytes: u64,
    ceiling: Ceiling,
    runs: Vec<&'g Drawn<'v>>,
}

/// A chart for each machine whose ceiling is known at a size that was measured.
pub(in crate::render) fn rooflines(view: &View<'_>, groups: &[Group<'_>]) -> Vec<Chart> {
    let mut machines: Vec<&[Ceiling]> = Vec::new();
    for entry in view.entries {
        let ceilings = entry.record.machine.ceilings.as_slice();
        if !ceilings.is_empty() && !machines.contains(&ceilings) {
            machines.push(ceilings);
        }
    }
    let many = machines.len() > 1;
    let charts = machines.iter().take(MACHINES_MAX).filter_map(|ceilings| {
        let storeys: Vec<Storey<'_, '_>> =
            groups.iter().filter_map(|group| storey(view, ceilings, group)).collect();
        let of = view.entries.iter().find(|entry| entry.record.machine.ceilings == **ceilings)?;
        let model = of.record.machine.cpu.model.clone().unwrap_or_else(|| "unknown processor".to_owned());
        let title = if many { format!("Ceiling of {model}") } else { "The machine's ceiling".to_owned() };
        draw(&storeys, &title)
    });
    charts.collect()
}

fn storey<'g, 'v>(view: &View<'_>, ceilings: &[Ceiling], group: &'g Group<'v>) -> Option<Storey<'g, 'v>> {
    let ceiling = *ceilings.iter().find(|ceiling| ceiling.body_bytes == group.body_bytes)?;
    let is_here = |drawn: &&Drawn<'_>| view.entries[drawn.entry].record.machine.ceilings == ceilings;
    let runs: Vec<&Drawn<'v>> =
        group.runs.iter().filter(is_here).filter(|drawn| drawn.run.mmh_delivered > 0.0).collect();
    (!runs.is_empty() && ceiling.by_resource().iter().all(|(_, mmh)| *mmh > 0.0)).then_some(Storey {
        body_bytes: group.body_bytes,
        ceiling,
        runs,
    })
}

fn draw(storeys: &[Storey<'_, '_>], title: &str) -> Option<Chart> {
    let rates = || {
        let computed = storeys.iter().flat_map(|storey| storey.ceiling.by_resource());
        let measured = storeys.iter().flat_map(|storey| &storey.runs);
        computed.map(|(_, mmh)| mmh).chain(measured.map(|drawn| drawn.run.mmh_delivered))
    };
    let (least, most) = (rates().min_by(f64::total_cmp)?, rates().max_by(f64::total_cmp)?);
    let marks = marks(least, most);
    let (low, high) = (marks.first()?.log10(), marks.last()?.log10());
    let mut svg = String::new();
    let mut canvas = Canvas::new(&mut svg, SIZE, &MARGINS, (0.0, storeys.len() as f64), (low, high));
    for mark in &marks {
        canvas.grid_across(mark.log10(), &format::short(*mark));
    }
    canvas.text("MMH", (0.0, high), (-46, -10), Hang::Right, INK, 11);
    for (index, storey) in (0_u32..).zip(storeys) {
        lines(&mut canvas, f64::from(index), storey);
        dots(&mut canvas, f64::from(index), storey);
    }
    let points = canvas.finish();
    Some(Chart { svg: tidy(&svg, title), title: title.to_owned(), points })
}

/// 1, 2, 5, 10, 20, 50 and so on, from below the least to above the most.
fn marks(least: f64, most: f64) -> Vec<f64> {
    let first = (least.log10() - 1.0).floor();
    let powers = (0..=16_i32).map(|power| 10_f64.powf(first + f64::from(power)));
    let all: Vec<f64> = powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]).collect();
    let from = all.iter().rposition(|mark| *mark < least * 0.9).unwrap_or(0);
    let to = all.iter().position(|mark| *mark > most * 1.15).unwrap_or(all.len() - 1);
    all[from..=to].to_vec()
}

/// A line for each resource, the one that sets the ceiling thick, with names beside that do not cover each other.
fn lines(canvas: &mut Canvas<'_>, left: f64, storey: &Storey<'_, '_>) {
    let ceiling = &storey.ceiling;
    let mut resources = ceiling.by_resource();
    resources.sort_by(|one, other| other.1.total_cmp(&one.1));
    let mut free_from = 0;
    for (resource, mmh) in resources {
        let is_lowest = resource == ceiling.set_by;
        let (from, to) = ((left + LINES.0, mmh.log10()), (left + LINES.1, mmh.log10()));
        canvas.line(&[from, to], INK, if is_lowest { 10 } else { 4 });
        let place = canvas.pixels(to).1;
        let down = (free_from - place).max(0);
        free_from = place + down + NAMES_APART;
        let name = format!("{} {}", resource.name(), format::three_digits(mmh));
        canvas.text(&name, to, (6, down + 5), Hang::Right, INK, if is_lowest { 13 } else { 11 });
        let said = (
            (left + LINES.1, mmh.log10()),
            format::body(storey.body_bytes),
            format!("{} MMH", format::three_digits(mmh)),
        );
        canvas.read_out("ceiling", &format!("{}, computed", resource.name()), std::iter::once(said));
    }
    let middle = (left + 0.5, canvas.bottom());
    canvas.text(&format::body(storey.body_bytes), middle, (0, 10), Hang::Below, INK, 14);
}

/// The runs side by side below their ceiling; with one through kumod, also how much of it that is.
fn dots(canvas: &mut Canvas<'_>, left: f64, storey: &Storey<'_, '_>) {
    let width = (LINES.1 - LINES.0) / storey.runs.len() as f64;
    for (index, drawn) in (0_u32..).zip(&storey.runs) {
        let mmh = drawn.run.mmh_delivered;
        let at = (left + LINES.0 + width * (f64::from(index) + 0.5), mmh.log10());
        canvas.dot(at, colour(&drawn.class), false);
        let label = format::three_digits(mmh);
        if storey.runs.len() <= NUMBERED_MAX {
            // Beside the dot, since a line that is nearly reached runs above it.
            canvas.text(&label, at, (9, 5), Hang::Right, colour(&drawn.class), 13);
        }
        let said = (at, format::body(storey.body_bytes), format!("{label} MMH"));
        canvas.read_out(&drawn.class, &drawn.run.name, std::iter::once(said));
    }
    let mut relayed = storey.runs.iter().filter(|drawn| drawn.class == "kumod");
    if let (Some(only), None) = (relayed.next(), relayed.next()) {
        let share = only.run.mmh_delivered / storey.ceiling.mmh;
        let text = format!("kumod reaches {share:.2} of the ceiling");
        canvas.text(&text, (left + 0.5, canvas.bottom()), (0, 32), Hang::Below, INK, 11);
    }
}

#[cfg(test)]
mod tests {
    use super::marks;

    #[test]
    fn marks_enclose_what_is_drawn() {
        assert_eq!(marks(14.0, 150.0), [10.0, 20.0, 50.0, 100.0, 200.0]);
        for (least, most) in [(0.02, 0.02), (9.8, 10.2), (0.5, 4e6)] {
            let marks = marks(least, most);
            assert!(marks[0] < least && *marks.last().unwrap() > most, "{marks:?}");
        }
    }
}
