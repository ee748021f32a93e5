//! The two charts: messages per second, and latencies over time.
//!
//! Time goes from left to right, one second for each column that fits, the last one at the right edge.
//! Latencies stand on a logarithmic axis, because a stall is a thousand times the ordinary.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType};

use super::picture::{Picture, Point};
use super::view::style;
use crate::summary::{grouped, latency as latency_text};

/// The fewest seconds that the width of a chart stands for.
const SECONDS_MIN: usize = 20;

/// Columns that a chart has besides its plot: borders, the axis and its labels.
const COLUMNS_AROUND: u16 = 10;

type Dots = Vec<(f64, f64)>;

/// What is drawn of each second, and how.
type Kind = (fn(&Point) -> f64, Color, Modifier);

/// Messages per second: what was reached, and what was due.
pub(crate) fn rate(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let shown = shown(picture, area);
    let reached = dots(&shown, |point| Some(point.rate_per_s));
    let due = dots(&shown, |point| picture.facts.has_schedule.then_some(point.due_per_s));
    let highest = reached.iter().chain(&due).map(|(_, value)| *value).fold(1.0, f64::max);
    let top = round_up(highest);
    let (green, gray) =
        (style(picture, Color::Green, Modifier::BOLD), style(picture, Color::DarkGray, Modifier::DIM));
    let line = |dots| Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).data(dots);
    let datasets = vec![line(&due).style(gray), line(&reached).style(green)];
    let labels = [0.0, top / 2.0, top].map(short);
    let chart = Chart::new(datasets)
        .block(Block::bordered().title(rate_title(picture)))
        .x_axis(time_axis(shown.len()))
        .y_axis(Axis::default().bounds([0.0, top]).labels(labels));
    frame.render_widget(chart, area);
}

fn rate_title(picture: &Picture) -> Line<'_> {
    let Some(last) = &picture.last else {
        return Line::raw(" Messages per second ");
    };
    let mmh = last.rate_per_s * 3600.0 / 1e6;
    let mut spans = vec![
        Span::styled(
            format!(" {}/s", grouped(last.rate_per_s)),
            style(picture, Color::Green, Modifier::BOLD),
        ),
        Span::raw(format!("  {mmh:.2} MMH ")),
    ];
    if picture.facts.has_schedule && last.due_per_s > 0.0 {
        let share = last.rate_per_s * 100.0 / last.due_per_s;
        spans.push(Span::raw(format!(" of {} ({share:.0} %) ", grouped(last.due_per_s))));
    }
    Line::from(spans)
}

/// Median, 99th percentile and maximum of each second.
pub(crate) fn latency(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let shown = shown(picture, area);
    // Nothing was answered in a second without a value, and the logarithm of nothing is no dot.
    let log = |us: f64| (us > 0.0).then(|| us.log10());
    let kinds: [Kind; 3] = [
        (|point| point.max_us, Color::Red, Modifier::DIM),
        (|point| point.p99_us, Color::Yellow, Modifier::BOLD),
        (|point| point.p50_us, Color::Green, Modifier::empty()),
    ];
    let lines = kinds.map(|(value, ..)| dots(&shown, |point| log(value(point))));
    let values = || lines.iter().flatten().map(|(_, value)| *value);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) =
        if low.is_finite() { (low.floor(), high.ceil().max(low.floor() + 1.0)) } else { (2.0, 5.0) };
    let datasets = lines.iter().zip(kinds).map(|(dots, (_, color, modifier))| {
        let dataset = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
        dataset.style(style(picture, color, modifier)).data(dots)
    });
    let labels = [low, f64::midpoint(low, high), high].map(|log| latency_text(10_f64.powf(log)));
    let chart = Chart::new(datasets.collect())
        .block(Block::bordered().title(latency_title(picture)))
        .x_axis(time_axis(shown.len()))
        .y_axis(Axis::default().bounds([low, high]).labels(labels));
    frame.render_widget(chart, area);
}

fn latency_title(picture: &Picture) -> Line<'_> {
    let Some(last) = &picture.last else {
        return Line::raw(" Latency ");
    };
    Line::from(vec![
        Span::styled(
            format!(" p50 {}", latency_text(last.latency.p50_us)),
            style(picture, Color::Green, Modifier::empty()),
        ),
        Span::styled(
            format!("  p99 {}", latency_text(last.latency.p99_us)),
            style(picture, Color::Yellow, Modifier::BOLD),
        ),
        Span::styled(
            format!("  max {} ", latency_text(last.latency.max_us)),
            style(picture, Color::Red, Modifier::DIM),
        ),
    ])
}

/// The last seconds that fit.
fn shown(picture: &Picture, area: Rect) -> Vec<Point> {
    let columns = usize::from(area.width.saturating_sub(COLUMNS_AROUND)).max(SECONDS_MIN);
    let skip = picture.points.len().saturating_sub(columns);
    picture.points.iter().skip(skip).copied().collect()
}

/// Each second's value at its distance from now.
fn dots(shown: &[Point], value: impl Fn(&Point) -> Option<f64>) -> Dots {
    let last = shown.len().saturating_sub(1) as f64;
    shown
        .iter()
        .enumerate()
        .filter_map(|(index, point)| value(point).map(|value| (index as f64 - last, value)))
        .collect()
}

fn time_axis<'a>(seconds: usize) -> Axis<'a> {
    let seconds = seconds.saturating_sub(1).max(SECONDS_MIN);
    Axis::default().bounds([-(seconds as f64), 0.0]).labels([format!("-{seconds} s"), "now".to_owned()])
}

/// The next of 1, 2, 5, 10, 20 and so on.
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.max(1.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * decade >= value);
    step.unwrap_or(10.0) * decade
}

/// A number in few columns.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}m", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 1e3 => format!("{:.1}k", value / 1e3),
        value if value >= 10.0 || value == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
