//! When a message may be sent, where its sender said so: not before a first moment, not after a last, on some days at some hours.
//!
//! Most messages carry nothing of this; their stored form is what it always was. What is written wrongly is refused with the field, the rule
//! and an example. A time zone that the host does not know when the message is due (its data was removed) counts as UTC: late or early is
//! better than never.

use std::fmt::Write;

use bytes::BufMut;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;

use super::{DecodeError, Reader, put_bytes};
use crate::clock::UnixMs;

/// The constraints of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// The first attempt is made then, and not before.
    pub first_attempt: Option<UnixMs>,
    /// The message expires then, whatever `max_age` of its queue says.
    pub expires: Option<UnixMs>,
    /// Attempts are made within these hours only.
    pub window: Option<Window>,
}

/// Hours of days in a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Bit 0 is Monday.
    days: u8,
    /// A name of the IANA time zone database.
    zone: String,
    /// Seconds after midnight.
    start_s: u32,
    /// Seconds after midnight, not within the window. Before `start_s`: on the next day. The same: all day.
    end_s: u32,
}

/// What a policy writes, with KumoMTA's names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenScheduling {
    first_attempt: Option<String>,
    expires: Option<String>,
    dow: Option<String>,
    tz: Option<String>,
    start: Option<String>,
    end: Option<String>,
}

/// With their names, which may be cut to three letters.
const DAYS: [(&str, Weekday); 7] = [
    ("Monday", Weekday::Monday),
    ("Tuesday", Weekday::Tuesday),
    ("Wednesday", Weekday::Wednesday),
    ("Thursday", Weekday::Thursday),
    ("Friday", Weekday::Friday),
    ("Saturday", Weekday::Saturday),
    ("Sunday", Weekday::Sunday),
];
const HAS_FIRST_ATTEMPT: u8 = 1;
const HAS_EXPIRES: u8 = 2;
const HAS_WINDOW: u8 = 4;
const DAY_S: u32 = 86_400;

impl TryFrom<WrittenScheduling> for Scheduling {
    type Error = String;

    fn try_from(written: WrittenScheduling) -> Result<Self, String> {
        let WrittenScheduling { first_attempt, expires, dow, tz, start, end } = written;
        let window = match (dow, tz, start, end) {
            (None, None, None, None) => None,
            (Some(dow), Some(tz), Some(start), Some(end)) => Some(Window::parse(&dow, &tz, &start, &end)?),
            _ => return Err("'dow', 'tz', 'start' and 'end' go together: give all four or none".to_owned()),
        };
        let first_attempt = first_attempt.map(|text| moment("first_attempt", &text)).transpose()?;
        let expires = expires.map(|text| moment("expires", &text)).transpose()?;
        if let (Some(first), Some(last)) = (first_attempt, expires)
            && last <= first
        {
            return Err(
                "'expires' is not later than 'first_attempt': the message could never be sent".to_owned()
            );
        }
        Ok(Self { first_attempt, expires, window })
    }
}

impl Scheduling {
    /// Whether nothing is constrained.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The first moment at or after `at` when an attempt may be made.
    pub fn adjust(&self, at: UnixMs) -> UnixMs {
        let at = self.first_attempt.map_or(at, |first| at.max(first));
        self.window.as_ref().map_or(at, |window| window.adjust(at))
    }

    /// As a policy would write it.
    pub fn to_json(&self) -> serde_json::Value {
        let mut fields = serde_json::Map::new();
        let moments = [("first_attempt", self.first_attempt), ("expires", self.expires)];
        for (name, moment) in moments.into_iter().filter_map(|(name, moment)| Some((name, moment?))) {
            fields.insert(name.to_owned(), moment.rfc3339().into());
        }
        if let Some(window) = &self.window {
            fields.insert("dow".to_owned(), window.day_names().into());
            fields.insert("tz".to_owned(), window.zone.clone().into());
            fields.insert("start".to_owned(), clock_text(window.start_s).into());
            fields.insert("end".to_owned(), clock_text(window.end_s).into());
        }
        fields.into()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let bits = [
            (self.first_attempt.is_some(), HAS_FIRST_ATTEMPT),
            (self.expires.is_some(), HAS_EXPIRES),
            (self.window.is_some(), HAS_WINDOW),
        ];
        out.push(bits.iter().filter(|(has, _)| *has).fold(0, |sum, (_, bit)| sum | bit));
        for moment in [self.first_attempt, self.expires].into_iter().flatten() {
            out.put_u64_le(moment.0);
        }
        if let Some(Window { days, zone, start_s, end_s }) = &self.window {
            out.push(*days);
            out.put_u32_le(*start_s);
            out.put_u32_le(*end_s);
            put_bytes(out, zone.as_bytes());
        }
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let bits = reader.array::<1>("scheduling")?[0];
        let has = |bit: u8| bits & bit != 0;
        let first_attempt = has(HAS_FIRST_ATTEMPT).then(|| reader.u64("first_attempt")).transpose()?;
        let expires = has(HAS_EXPIRES).then(|| reader.u64("expires")).transpose()?;
        let window = if has(HAS_WINDOW) { Some(Window::decode(reader)?) } else { None };
        Ok(Self { first_attempt: first_attempt.map(UnixMs), expires: expires.map(UnixMs), window })
    }
}

impl Window {
    fn parse(dow: &str, tz: &str, start: &str, end: &str) -> Result<Self, String> {
        let mut days = 0;
        for name in dow.split(',').map(str::trim) {
            let is_it = |(full, _): &(&str, Weekday)| {
                name.eq_ignore_ascii_case(full) || name.eq_ignore_ascii_case(&full[..3])
            };
            let at = DAYS.iter().position(is_it).ok_or_else(|| {
                format!("'dow': {name:?} is not a day of the week; write for example 'Mon,Wed' or 'Saturday'")
            })?;
            days |= 1 << at;
        }
        // Abbreviations such as PST are in the database for history's sake, and mean something else than who writes them thinks.
        let is_name = tz == "UTC" || tz.contains('/');
        if !is_name || TimeZone::get(tz).is_err() {
            let remedy = "write one of the IANA database, such as 'America/Phoenix', and install tzdata";
            return Err(format!("'tz': {tz:?} is not a time zone that this host knows; {remedy}"));
        }
        Ok(Self { days, zone: tz.to_owned(), start_s: clock("start", start)?, end_s: clock("end", end)? })
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let days = reader.array::<1>("days")?[0];
        let start_s = u32::from_le_bytes(reader.array("start")?);
        let end_s = u32::from_le_bytes(reader.array("end")?);
        if days == 0 || days >= 1 << 7 || start_s >= DAY_S || end_s >= DAY_S {
            return Err(reader.short("days"));
        }
        Ok(Self { days, zone: reader.text("tz")?, start_s, end_s })
    }

    fn day_names(&self) -> String {
        let mut names = String::new();
        for (_, (full, _)) in DAYS.iter().enumerate().filter(|(at, _)| self.days & 1 << at != 0) {
            let comma = if names.is_empty() { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(names, "{comma}{}", &full[..3]);
        }
        names
    }

    fn adjust(&self, at: UnixMs) -> UnixMs {
        let zone = TimeZone::get(&self.zone).unwrap_or(TimeZone::UTC);
        let Some(today) = date_of(at, &zone) else { return at };
        // The window of yesterday may reach into today; that of this weekday a week from now is the last that can be the next.
        for offset in -1..=8_i32 {
            let Ok(date) = today.checked_add(offset.days()) else { continue };
            if !self.holds(date.weekday()) {
                continue;
            }
            let end_date = if self.end_s <= self.start_s { date.tomorrow().ok() } else { Some(date) };
            let start = moment_of(date, self.start_s, &zone);
            let end = end_date.and_then(|date| moment_of(date, self.end_s, &zone));
            if let (Some(start), Some(end)) = (start, end)
                && at < end
            {
                return at.max(start);
            }
        }
        at
    }

    fn holds(&self, weekday: Weekday) -> bool {
        DAYS.iter().position(|(_, day)| *day == weekday).is_some_and(|at| self.days & 1 << at != 0)
    }
}

fn date_of(at: UnixMs, zone: &TimeZone) -> Option<Date> {
    let timestamp = Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
    Some(timestamp.to_zoned(zone.clone()).date())
}

/// An hour that the clock skips on that day is taken as the one after, one that it has twice as the first.
fn moment_of(date: Date, seconds: u32, zone: &TimeZone) -> Option<UnixMs> {
    let zoned = date.to_datetime(time_of(seconds)?).to_zoned(zone.clone()).ok()?;
    u64::try_from(zoned.timestamp().as_millisecond()).ok().map(UnixMs)
}

fn time_of(seconds: u32) -> Option<Time> {
    let part = |number: u32| i8::try_from(number).ok();
    Time::new(part(seconds / 3600)?, part(seconds / 60 % 60)?, part(seconds % 60)?, 0).ok()
}

fn moment(name: &str, text: &str) -> Result<UnixMs, String> {
    let timestamp = text.parse::<Timestamp>().ok();
    let moment = timestamp.and_then(|timestamp| u64::try_from(timestamp.as_millisecond()).ok());
    moment.map(UnixMs).ok_or_else(|| {
        format!("'{name}': {text:?} is not a time of RFC 3339; write for example '2026-11-01T17:00:00-08:00'")
    })
}

fn clock(name: &str, text: &str) -> Result<u32, String> {
    let refuse = || format!("'{name}': {text:?} is not a time of day; write for example '09:00:00'");
    let parts: Vec<u32> =
        text.split(':').map(|part| part.parse().ok()).collect::<Option<_>>().ok_or_else(refuse)?;
    match parts[..] {
        [hours @ 0..24, minutes @ 0..60, seconds @ 0..60] => Ok(hours * 3600 + minutes * 60 + seconds),
        _ => Err(refuse()),
    }
}

fn clock_text(seconds: u32) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> UnixMs {
        moment("at", text).unwrap()
    }

    fn window(dow: &str, tz: &str, start: &str, end: &str) -> Scheduling {
        let [dow, tz, start, end] = [dow, tz, start, end].map(|text| Some(text.to_owned()));
        Scheduling::try_from(WrittenScheduling { dow, tz, start, end, ..Default::default() }).unwrap()
    }

    /// 2026-11-02 is a Monday; Phoenix is seven hours behind UTC all year.
    #[test]
    fn outside_of_the_window_the_next_start_is_taken() {
        let office = window("Mon,wednesday", "America/Phoenix", "09:00:00", "17:00:00");
        for (when, wanted) in [
            ("2026-11-02T08:59:59-07:00", "2026-11-02T09:00:00-07:00"),
            ("2026-11-02T09:00:00-07:00", "2026-11-02T09:00:00-07:00"),
            ("2026-11-02T16:59:59-07:00", "2026-11-02T16:59:59-07:00"),
            ("2026-11-02T17:00:00-07:00", "2026-11-04T09:00:00-07:00"),
            ("2026-11-03T12:00:00-07:00", "2026-11-04T09:00:00-07:00"),
            ("2026-11-04T18:00:00-07:00", "2026-11-09T09:00:00-07:00"),
            // In UTC this is Tuesday already.
            ("2026-11-03T02:00:00Z", "2026-11-04T16:00:00Z"),
        ] {
            assert_eq!(office.adjust(at(when)), at(wanted), "{when}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = window("Fri", "UTC", "22:00:00", "06:00:00");
        for (when, wanted) in [
            ("2026-11-06T21:00:00Z", "2026-11-06T22:00:00Z"),
            ("2026-11-07T05:00:00Z", "2026-11-07T05:00:00Z"),
            ("2026-11-07T06:00:00Z", "2026-11-13T22:00:00Z"),
        ] {
            assert_eq!(night.adjust(at(when)), at(wanted), "{when}");
        }
        let all_day = window("Sun", "UTC", "00:00:00", "00:00:00");
        assert_eq!(all_day.adjust(at("2026-11-08T23:59:59Z")), at("2026-11-08T23:59:59Z"));
    }

    /// On 2026-03-29 the clock of Berlin goes from 2 to 3 o'clock.
    #[test]
    fn an_hour_that_the_clock_skips_is_the_next() {
        let early = window("Sun", "Europe/Berlin", "02:30:00", "04:00:00");
        assert_eq!(early.adjust(at("2026-03-29T00:00:00Z")), at("2026-03-29T03:30:00+02:00"));
    }

    #[test]
    fn what_is_written_wrongly_is_refused_with_an_example() {
        let written = |first: &str, dow: Option<&str>, tz: &str, start: &str| WrittenScheduling {
            first_attempt: Some(first.to_owned()),
            dow: dow.map(str::to_owned),
            tz: Some(tz.to_owned()),
            start: Some(start.to_owned()),
            end: Some("17:00:00".to_owned()),
            ..Default::default()
        };
        let good = "2026-11-01T00:00:00Z";
        for (written, reason) in [
            (written("tomorrow", Some("Mon"), "UTC", "09:00:00"), "'first_attempt': \"tomorrow\" is not"),
            (written(good, None, "UTC", "09:00:00"), "give all four or none"),
            (written(good, Some("Mon,Noday"), "UTC", "09:00:00"), "\"Noday\" is not a day of the week"),
            (written(good, Some("Mon"), "PST", "09:00:00"), "\"PST\" is not a time zone"),
            (written(good, Some("Mon"), "Mars/Olympus", "09:00:00"), "is not a time zone"),
            (written(good, Some("Mon"), "UTC", "9 am"), "'start': \"9 am\" is not a time of day"),
            (written(good, Some("Mon"), "UTC", "24:00:00"), "is not a time of day"),
        ] {
            let error = Scheduling::try_from(written).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let late = WrittenScheduling {
            expires: Some(good.to_owned()),
            ..written(good, Some("Mon"), "UTC", "09:00:00")
        };
        assert!(Scheduling::try_from(late).unwrap_err().contains("could never be sent"));
    }

    fn any_scheduling() -> impl Strategy<Value = Scheduling> {
        let moment = || proptest::option::of((0_u64..1 << 42).prop_map(UnixMs));
        let window = (1_u8..128, 0..DAY_S, 0..DAY_S, proptest::bool::ANY).prop_map(
            |(days, start_s, end_s, phoenix)| {
                let zone = if phoenix { "America/Phoenix" } else { "Europe/Berlin" };
                Window { days, zone: zone.to_owned(), start_s, end_s }
            },
        );
        (moment(), moment(), proptest::option::of(window))
            .prop_map(|(first_attempt, expires, window)| Scheduling { first_attempt, expires, window })
    }

    proptest! {
        #[test]
        fn it_comes_back_as_it_was(scheduling in any_scheduling()) {
            let mut out = Vec::new();
            scheduling.encode(&mut out);
            let mut reader = Reader { what: "envelope", rest: Bytes::from(out) };
            prop_assert_eq!(Scheduling::decode(&mut reader).unwrap(), scheduling);
        }

        /// Never earlier, within nine days of what was asked and allowed, and what was moved once stays where it is.
        #[test]
        fn a_moment_is_moved_forward_and_once(scheduling in any_scheduling(), at in 0_u64..1 << 42) {
            let (at, moved) = (UnixMs(at), scheduling.adjust(UnixMs(at)));
            prop_assert!(moved >= at.max(scheduling.first_attempt.unwrap_or(at)));
            prop_assert!(moved.since(at.max(scheduling.first_attempt.unwrap_or(at))).as_secs() <= 9 * u64::from(DAY_S));
            prop_assert_eq!(scheduling.adjust(moved), moved);
        }
    }
}
