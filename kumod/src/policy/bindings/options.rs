//! Tables of options, read into the types of `config`.
//!
//! Refuses an option that is not known, with its name, the nearest known one and the list; one that KumoMTA has and kumod does
//! not serve is told apart. A value that does not fit is refused with the option's name.

use std::fmt;

use mlua::{Lua, Table, Value};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value as Json};

use super::fail;
use crate::policy::value::to_json;

/// Characters of a wrong value that are shown.
const SHOWN_CHARS_MAX: usize = 80;

/// Reads the table given to `function` into `T`, whose fields all have defaults. `unserved` names KumoMTA's other options.
pub(super) fn read<T: DeserializeOwned>(
    lua: &Lua,
    function: &str,
    given: &Value,
    unserved: &[&str],
) -> mlua::Result<T> {
    let Value::Table(table) = given else {
        let reason = format!("a table of options is wanted; a {} was given", given.type_name());
        return Err(fail(lua, function, reason));
    };
    read_table(table, unserved).map_err(|reason| fail(lua, function, reason))
}

/// The same for a table that stands in an option.
///
/// # Errors
/// What is wrong, without the place.
pub(super) fn read_table<T: DeserializeOwned>(table: &Table, unserved: &[&str]) -> Result<T, String> {
    let known = field_names::<T>();
    let mut all = Map::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|error| error.to_string())?;
        let name = option_name(&key, known, unserved)?;
        let value = to_json(&value).map_err(|reason| format!("option '{name}' {reason}"))?;
        let value = whole(value);
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        if let Err(error) = serde_json::from_value::<T>(Json::Object(alone)) {
            return Err(format!("option '{name}' = {}: {error}", shown(&value)));
        }
        all.insert(name, value);
    }
    serde_json::from_value(Json::Object(all)).map_err(|error| error.to_string())
}

fn option_name(key: &Value, known: &[&str], unserved: &[&str]) -> Result<String, String> {
    let name = key.as_string().map(|name| name.to_string_lossy());
    let list = known.join(", ");
    match name {
        None => Err(format!(
            "options have names, as in {{ {} = ... }}; known are: {list}",
            known.first().unwrap_or(&"")
        )),
        Some(name) if known.contains(&name.as_str()) => Ok(name),
        Some(name) if unserved.contains(&name.as_str()) => {
            Err(format!("option '{name}' is not available in this version; available are: {list}"))
        }
        Some(name) => {
            let near = nearest(&name, known).map(|near| format!(" (is '{near}' meant?)")).unwrap_or_default();
            Err(format!("there is no option '{name}'{near}; known are: {list}"))
        }
    }
}

/// Lua writes `20e6` as a number with a fraction; where there is none, it is a count.
fn whole(mut value: Json) -> Json {
    match &mut value {
        Json::Object(map) => map.values_mut().for_each(|inner| *inner = whole(inner.take())),
        Json::Array(list) => list.iter_mut().for_each(|inner| *inner = whole(inner.take())),
        _ => {}
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 2^53 a whole number is exact in both types")]
    match value.as_f64() {
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
            Json::from(number as i64)
        }
        _ => value,
    }
}

fn shown(value: &Json) -> String {
    let text = match value {
        Json::String(text) => format!("'{text}'"),
        other => other.to_string(),
    };
    if text.chars().count() > SHOWN_CHARS_MAX {
        text.chars().take(SHOWN_CHARS_MAX).chain("...".chars()).collect()
    } else {
        text
    }
}

/// The known name that is at most a third of its letters away.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances =
        known.iter().map(|candidate| (distance(name.as_bytes(), candidate.as_bytes()), *candidate));
    let (distance, candidate) = distances.min()?;
    (distance * 3 <= candidate.len()).then_some(candidate)
}

/// Letters to insert, delete or change (Levenshtein).
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in right.iter().enumerate() {
            let changed = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

/// The names of a struct's fields, which serde tells a deserializer before it reads any.
fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(NamesOnly) {
        Err(Names(names)) => names,
        Ok(_) => &[],
    }
}

struct NamesOnly;

#[derive(Debug)]
struct Names(&'static [&'static str]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("only the names of fields were asked for")
    }
}

impl std::error::Error for Names {}

impl serde::de::Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for NamesOnly {
    type Error = Names;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names(fields))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::QueueConfig;

    const KNOWN: &str = "egress_pool, retry_interval, max_retry_interval, max_age, priority, dsn, dsn_delay, max_message_rate, overall_max_message_rate, \
        additional_message_rate_throttles";

    fn read_queue(source: &str) -> Result<QueueConfig, String> {
        let lua = Lua::new();
        read_table(&lua.load(source).eval::<Table>().unwrap(), &["shrink_policy"])
    }

    #[test]
    fn options_are_read_whatever_form_of_number_lua_has() {
        for source in ["{ max_age = 60 }", "{ max_age = 60.0 }", "{ max_age = '1m' }", "{ max_age = 6e1 }"] {
            assert_eq!(read_queue(source).unwrap().max_age.as_secs(), 60, "{source}");
        }
        assert_eq!(read_queue("{ max_age = 0.5 }").unwrap().max_age.as_millis(), 500);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_known() {
        for (source, error) in [
            (
                "{ max_aeg = 1 }",
                format!("there is no option 'max_aeg' (is 'max_age' meant?); known are: {KNOWN}"),
            ),
            ("{ colour = 1 }", format!("there is no option 'colour'; known are: {KNOWN}")),
            (
                "{ shrink_policy = 'a' }",
                format!("option 'shrink_policy' is not available in this version; available are: {KNOWN}"),
            ),
            ("{ 1 }", format!("options have names, as in {{ egress_pool = ... }}; known are: {KNOWN}")),
            ("{ max_age = print }", "option 'max_age' is a function, which cannot be kept".to_owned()),
            ("{ max_age = -1 }", "option 'max_age' = -1: a duration cannot be negative".to_owned()),
        ] {
            assert_eq!(read_queue(source).unwrap_err(), error, "{source}");
        }
        let error = read_queue("{ max_message_rate = '5/parsec' }").unwrap_err();
        assert!(error.starts_with("option 'max_message_rate' = '5/parsec': throttle"), "{error}");
        let error = read_queue("{ max_age = ('x'):rep(1000) }").unwrap_err();
        assert!(error.len() < 1300, "{error}");
    }
}
