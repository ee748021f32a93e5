//! How the picture is drawn: two charts above, three boxes below, a line on top and one at the bottom.
//!
//! Everything is drawn into a frame, whatever its size; what does not fit is left out from the bottom and
//! from the right. Without colours, weight tells things apart.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};
use traffic_gen::Window;

use super::charts;
use super::picture::{Ending, Picture};
use crate::outputs::sample::Sample;
use crate::summary::{grouped, latency};

/// The smallest screen on which the picture says anything.
pub(crate) const COLUMNS_MIN: u16 = 60;

/// The smallest screen on which the picture says anything.
pub(crate) const ROWS_MIN: u16 = 16;

/// Draws the picture.
pub(crate) fn draw(frame: &mut Frame<'_>, picture: &Picture) {
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(1),
    ]);
    let [head, above, below, foot] = rows.areas(frame.area());
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(above);
    let [mail, replies, generator] = Layout::horizontal([Constraint::Fill(1); 3]).areas(below);
    draw_head(frame, head, picture);
    charts::rate(frame, left, picture);
    charts::latency(frame, right, picture);
    let empty = Vec::new;
    let last = picture.last.as_ref();
    draw_box(frame, mail, " Mail ", last.map_or_else(empty, |last| mail_lines(picture, last)));
    let lines = last.map_or_else(empty, |last| reply_lines(picture, last, replies.height));
    draw_box(frame, replies, " Replies and errors ", lines);
    draw_box(frame, generator, " Generator ", last.map_or_else(empty, |last| health_lines(picture, last)));
    draw_foot(frame, foot, picture);
}

/// A style that says the same with and without colours.
pub(crate) fn style(picture: &Picture, color: Color, modifier: Modifier) -> Style {
    if picture.color { Style::new().fg(color) } else { Style::new().add_modifier(modifier) }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let facts = &picture.facts;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let text = Line::from(vec![
        Span::styled(" traffic-gen ", bold),
        Span::raw(format!("{} to {}, {}", facts.run, facts.target, facts.load)),
    ]);
    let clock = picture.last.as_ref().map_or_else(String::new, |last| clock(picture, last));
    let width = u16::try_from(clock.chars().count()).unwrap_or(u16::MAX);
    let columns = Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]);
    let [left, right] = columns.areas(area);
    frame.render_widget(Paragraph::new(text), left);
    frame.render_widget(Paragraph::new(clock).style(bold).alignment(Alignment::Right), right);
}

/// The part of the run, and how far it is.
fn clock(picture: &Picture, last: &Sample) -> String {
    let window = match last.window {
        Window::WarmUp => "warm-up",
        Window::Measured => "measured",
        Window::Drain => "drain",
    };
    let elapsed = time(last.offset_s + last.length_s);
    match picture.facts.length {
        Some(length) => format!(" {window} {elapsed} of {} ", time(length.as_secs_f64())),
        None => format!(" {window} {elapsed} "),
    }
}

fn time(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and no time is negative"
    )]
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn draw_box(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), area);
}

fn mail_lines<'a>(picture: &Picture, last: &Sample) -> Vec<Line<'a>> {
    let bad = style(picture, Color::Red, Modifier::BOLD);
    let count = |name: &str, count: u64, style: Style| {
        Line::styled(format!(" {name:<12}{:>11}", grouped(count as f64)), style)
    };
    let if_any = |count: u64| if count > 0 { bad } else { Style::new() };
    let mut lines = vec![
        count("sent", last.sent, style(picture, Color::Green, Modifier::BOLD)),
        count("failed", last.failed, if_any(last.failed)),
        count("unknown", last.unknown, if_any(last.unknown)),
        count("in flight", last.in_flight, Style::new()),
        count("connections", last.connections, Style::new()),
    ];
    if last.partial > 0 {
        lines.insert(2, count("partial", last.partial, bad));
    }
    if picture.facts.has_schedule {
        let begun = last.sent + last.failed + last.partial + last.unknown + last.in_flight;
        let behind = last.due.saturating_sub(begun);
        lines.push(count("due", last.due, Style::new()));
        lines.push(count("not begun", behind, if_any(behind)));
    }
    lines
}

fn reply_lines<'a>(picture: &Picture, last: &Sample, height: u16) -> Vec<Line<'a>> {
    let mut codes: Vec<_> = last.reply_codes.iter().collect();
    codes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut errors: Vec<_> = last.errors.iter().collect();
    errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut lines: Vec<_> = codes
        .into_iter()
        .map(|(code, count)| {
            let color = match code / 100 {
                2 => Color::Green,
                4 => Color::Yellow,
                _ => Color::Red,
            };
            let weight = if code / 100 == 2 { Modifier::empty() } else { Modifier::BOLD };
            Line::styled(format!(" {code} {:>12}", grouped(*count as f64)), style(picture, color, weight))
        })
        .collect();
    let bad = style(picture, Color::Red, Modifier::BOLD);
    lines.extend(
        errors
            .into_iter()
            .map(|(kind, count)| Line::styled(format!(" {} {kind}", grouped(*count as f64)), bad)),
    );
    let rows = usize::from(height.saturating_sub(2));
    if lines.len() > rows && rows > 0 {
        let more = lines.len() - (rows - 1);
        lines.truncate(rows - 1);
        lines.push(Line::raw(format!(" and {more} more")));
    }
    lines
}

fn health_lines<'a>(picture: &Picture, last: &Sample) -> Vec<Line<'a>> {
    let mut lines = vec![Line::raw(format!(" CPU         {:.2} of {}", last.cpu_cores, picture.facts.cores))];
    if picture.facts.has_schedule {
        lines.push(Line::raw(format!(" lag p50     {}", latency(last.lag.p50_us))));
        lines.push(Line::raw(format!(" lag p99     {}", latency(last.lag.p99_us))));
    }
    lines.push(Line::raw(format!(" hiccup p99  {}", latency(last.hiccup_p99_us))));
    lines.push(Line::raw(format!(" hiccup max  {}", latency(last.hiccup_max_us))));
    let limits = picture.limits();
    if limits.is_empty() {
        lines.push(Line::styled(" keeps up", style(picture, Color::Green, Modifier::empty())));
    } else {
        let bad = style(picture, Color::Red, Modifier::REVERSED);
        lines.push(Line::styled(" GENERATOR-LIMITED", bad.add_modifier(Modifier::BOLD)));
        lines.extend(limits.into_iter().map(|limit| Line::styled(format!(" {limit}"), bad)));
    }
    lines
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let text = match picture.ending {
        Ending::NotAsked => " q or Ctrl-C ends the run",
        Ending::Soon => " ending: replies are waited for; q or Ctrl-C again gives them up",
        Ending::Now => " ending: what is in flight is given up",
    };
    let style = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Paragraph::new(text).style(style), area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::picture::{Facts, SECONDS_MAX};
    use super::*;

    fn picture(change: impl Fn(u32, &mut Sample)) -> Picture {
        let facts = Facts {
            run: "nightly".to_owned(),
            target: "127.0.0.1:2026".to_owned(),
            load: "5,000/s over 64 connections".to_owned(),
            length: Some(Duration::from_secs(60)),
            has_schedule: true,
            cores: 2,
        };
        let mut picture = Picture::new(facts, false);
        for second in 0..30 {
            let mut sample = Sample { due_per_s: 5_000.0, due: 15_000, ..Sample::example() };
            sample.offset_s = f64::from(second);
            change(second, &mut sample);
            picture.add(&sample);
        }
        picture
    }

    fn screen(picture: &Picture, columns: u16, rows: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, picture)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..rows).map(|y| row(y) + "\n").collect()
    }

    #[test]
    fn a_run_that_goes_well_at_80x24() {
        let text = screen(&picture(|_, _| ()), 80, 24);
        for words in [
            " traffic-gen nightly to 127.0.0.1:2026, 5,000/s over 64 c",
            "measured 0:30 of 1:00",
            "5,000/s  18.00 MMH  of 5,000 (100 %)",
            "p50 400 us  p99 2.00 ms  max 9.00 ms",
            "sent             15,000",
            "in flight            64",
            "250       15,000",
            "CPU         0.50 of 2",
            "lag p99     0 us",
            "hiccup max  150 us",
            "keeps up",
            "q or Ctrl-C ends the run",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(!text.contains("GENERATOR-LIMITED"), "{text}");
    }

    #[test]
    fn trouble_is_shown() {
        let mut picture = picture(|_, sample| {
            (sample.failed, sample.unknown, sample.due) = (70, 3, 20_000);
            sample.reply_codes.extend([(451, 60), (550, 10)]);
            sample.errors.insert("timeout: no final reply".to_owned(), 3);
            (sample.cpu_cores, sample.hiccup_p99_us) = (1.95, 80_000.0);
        });
        picture.end();
        let text = screen(&picture, 120, 40);
        for words in [
            "failed               70",
            "not begun         4,863",
            "451           60",
            "3 timeout: no final reply",
            "GENERATOR-LIMITED",
            "no processor left",
            "the host pauses",
            "ending: replies are waited for",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let picture = picture(|_, sample| {
            sample.errors.extend((0..20_u64).map(|kind| (format!("kind {kind}"), 100 - kind)));
        });
        let text = screen(&picture, 80, 24);
        assert!(text.contains("100 kind 0") && text.contains("and 14 more"), "{text}");
    }

    #[test]
    fn every_size_can_be_drawn_and_old_seconds_are_forgotten() {
        let mut picture = picture(|second, sample| {
            sample.latency.p99_us = if second % 7 == 0 { 0.0 } else { 3_600_000_000.0 };
            sample.rate_per_s = f64::from(second) * 1e7;
        });
        for (columns, rows) in [(1, 1), (10, 3), (COLUMNS_MIN, ROWS_MIN), (80, 24), (300, 100)] {
            assert_eq!(screen(&picture, columns, rows).lines().count(), usize::from(rows));
        }
        (0..SECONDS_MAX).for_each(|_| picture.add(&Sample::example()));
        assert_eq!(picture.points.len(), SECONDS_MAX);
        assert_eq!(screen(&Picture::default(), 80, 24).lines().count(), 24);
    }
}
