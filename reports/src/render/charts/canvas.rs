//! A surface with pixels, a plot area and two linear axes.
//!
//! It owns the scale between pixels of the page and units of the picture, fonts and the clean-up of the
//! SVG text. It refuses nothing.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::{Value, json};

use super::{GRID, INK, PROJECTION};

/// Units of the picture for each pixel of the page: plotters counts in whole units.
const SCALE: i32 = 4;

/// plotters divides font sizes by this before it writes them.
const FONT_FACTOR: f64 = 1.24;

const INFALLIBLE: &str = "drawing into a string cannot fail";

/// Distances in pixels of the page between the picture's edge and its plot area.
pub(super) struct Margins {
    pub(super) left: i32,
    pub(super) right: i32,
    pub(super) top: i32,
    pub(super) bottom: i32,
}

/// Where a text hangs on its point.
#[derive(Clone, Copy)]
pub(super) enum Hang {
    /// Centred below it.
    Below,
    /// Centred above it.
    Above,
    /// Ends left of it.
    Left,
    /// Starts right of it, above its line.
    Right,
}

type Axes = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// The surface. All values are on linear axes; charts with logarithmic axes pass logarithms.
pub(super) struct Canvas<'s> {
    page: DrawingArea<SVGBackend<'s>, Shift>,
    plot: DrawingArea<SVGBackend<'s>, Axes>,
    x: (f64, f64),
    y: (f64, f64),
    points: Vec<Value>,
}

impl<'s> Canvas<'s> {
    /// A picture of `size` pixels with axes from `x.0` to `x.1` and `y.0` to `y.1`.
    pub(super) fn new(
        svg: &'s mut String,
        size: (i32, i32),
        margins: &Margins,
        x: (f64, f64),
        y: (f64, f64),
    ) -> Self {
        let units = |pixels: i32| (pixels * SCALE).unsigned_abs();
        let page = SVGBackend::with_string(svg, (units(size.0), units(size.1))).into_drawing_area();
        let across = margins.left * SCALE..(size.0 - margins.right) * SCALE;
        let down = margins.top * SCALE..(size.1 - margins.bottom) * SCALE;
        // The value axis points up, pixels count down.
        let axes = Axes::new(x.0..x.1, y.0..y.1, (across, down.end..down.start));
        let plot = page.clone().apply_coord_spec(axes);
        Self { page, plot, x, y, points: Vec::new() }
    }

    /// A grid line across the plot at height `y`, with its label to the left.
    pub(super) fn grid_across(&self, y: f64, label: &str) {
        self.rule((self.x.0, y), (self.x.1, y));
        self.text(label, (self.x.0, y), (-7, 0), Hang::Left, INK, 11);
    }

    /// A grid line up the plot at `x`, with its label below.
    pub(super) fn grid_up(&self, x: f64, label: &str) {
        self.rule((x, self.y.0), (x, self.y.1));
        self.text(label, (x, self.y.0), (0, 8), Hang::Below, INK, 11);
    }

    fn rule(&self, from: (f64, f64), to: (f64, f64)) {
        let style = GRID.stroke_width(SCALE.unsigned_abs());
        self.plot.draw(&PathElement::new([from, to], style)).expect(INFALLIBLE);
    }

    /// A text of `size` pixels, moved by `offset` pixels from its point.
    pub(super) fn text(
        &self,
        text: &str,
        at: (f64, f64),
        offset: (i32, i32),
        hang: Hang,
        colour: RGBColor,
        size: i32,
    ) {
        let (x, y) = self.plot.map_coordinate(&at);
        let (h, v) = match hang {
            Hang::Below => (HPos::Center, VPos::Top),
            Hang::Above => (HPos::Center, VPos::Bottom),
            Hang::Left => (HPos::Right, VPos::Center),
            Hang::Right => (HPos::Left, VPos::Bottom),
        };
        let font = ("sans-serif", f64::from(size * SCALE) * FONT_FACTOR).into_font();
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(h, v));
        let place = (x + offset.0 * SCALE, y + offset.1 * SCALE);
        self.page.draw(&Text::new(text.to_owned(), place, style)).expect(INFALLIBLE);
    }

    /// A filled box between two corners.
    pub(super) fn bar(&self, from: (f64, f64), to: (f64, f64), colour: RGBColor) {
        self.plot.draw(&Rectangle::new([from, to], colour.filled())).expect(INFALLIBLE);
    }

    /// A line through points, `width` units of the picture (a quarter of a pixel each) wide.
    pub(super) fn line(&self, points: &[(f64, f64)], colour: RGBColor, width: u32) {
        let style = colour.stroke_width(width);
        self.plot.draw(&PathElement::new(points.to_vec(), style)).expect(INFALLIBLE);
    }

    /// The area between two lines, pale.
    pub(super) fn area(&self, outline: Vec<(f64, f64)>, colour: RGBColor) {
        self.plot.draw(&Polygon::new(outline, colour.mix(0.16))).expect(INFALLIBLE);
    }

    /// A point that was measured; hollow where it says less than others.
    pub(super) fn dot(&self, at: (f64, f64), colour: RGBColor, is_hollow: bool) {
        let style = if is_hollow { colour.stroke_width(7) } else { colour.filled() };
        self.plot.draw(&Circle::new(at, 5 * SCALE, style)).expect(INFALLIBLE);
    }

    /// Where a value stands, in pixels of the page.
    pub(super) fn pixels(&self, at: (f64, f64)) -> (i32, i32) {
        let (x, y) = self.units(at);
        (x / SCALE, y / SCALE)
    }

    /// The value at the lower edge of the plot.
    pub(super) fn bottom(&self) -> f64 {
        self.y.0
    }

    /// Where a value stands, in units of the picture.
    pub(super) fn units(&self, at: (f64, f64)) -> (i32, i32) {
        self.plot.map_coordinate(&at)
    }

    /// Remembers points for the read-out: each with what to say about its place and its value.
    pub(super) fn read_out(
        &mut self,
        class: &str,
        name: &str,
        points: impl Iterator<Item = ((f64, f64), String, String)>,
    ) {
        let points: Vec<Value> = points
            .map(|(at, place, value)| {
                let (x, y) = self.plot.map_coordinate(&at);
                json!([x, y, place, value])
            })
            .collect();
        self.points.push(json!({"k": class, "n": name, "p": points}));
    }

    /// Ends the picture; gives the points of the read-out as JSON.
    pub(super) fn finish(self) -> String {
        self.page.present().expect(INFALLIBLE);
        Value::from(self.points).to_string()
    }
}

/// The SVG text without what repeats, and with a name for those who cannot see it.
pub(super) fn tidy(svg: &str, name: &str) -> String {
    let svg = svg.replace(" opacity=\"1\"", "").replace(" font-family=\"sans-serif\"", "");
    let svg = svg.replace("\n</text>", "</text>").replace(">\n", ">");
    let line = format!("stroke=\"{}\"", hexadecimal(PROJECTION));
    let svg = svg.replace(&line, &format!("{line} stroke-dasharray=\"26 18\""));
    // The name stands first in the picture: it is escaped here, since it did not pass through plotters.
    let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{name}\" "), 1)
}

/// `#8A3FA8`, as plotters writes colours.
pub(super) fn hexadecimal(colour: RGBColor) -> String {
    let RGBColor(red, green, blue) = colour;
    format!("#{red:02X}{green:02X}{blue:02X}")
}
