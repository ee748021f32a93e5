//! Values on their way between Lua and the rest of kumod: what can be kept as JSON, and back.
//!
//! Refuses what has no JSON form (functions, threads, objects, numbers without a value, text that is not UTF-8, tables that
//! are half list and half map) and what is larger than the limits below, which also ends tables that hold themselves.

use mlua::{Lua, Table, Value};
use serde_json::{Map, Value as Json};

/// How deep tables may be nested in one value.
pub(super) const VALUE_DEPTH_MAX: usize = 32;
/// Bytes of one value, counting names, text and 16 for each entry.
pub(super) const VALUE_BYTES_MAX: usize = 64 * 1024;

const ENTRY_BYTES: usize = 16;

/// Reads a Lua value. An empty table is an empty list.
///
/// # Errors
/// Says what cannot be kept, as the end of a sentence whose subject is the value.
pub(super) fn to_json(value: &Value) -> Result<Json, String> {
    let mut budget = VALUE_BYTES_MAX;
    convert(value, 0, &mut budget)
}

/// Makes a Lua value; `null` becomes `nil`.
///
/// # Errors
/// Only where the state has no memory left.
pub(super) fn to_lua(lua: &Lua, value: &Json) -> mlua::Result<Value> {
    Ok(match value {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Boolean(*truth),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for item in items {
                table.raw_push(to_lua(lua, item)?)?;
            }
            Value::Table(table)
        }
        Json::Object(entries) => {
            let table = lua.create_table_with_capacity(0, entries.len())?;
            for (name, entry) in entries {
                table.raw_set(name.as_str(), to_lua(lua, entry)?)?;
            }
            Value::Table(table)
        }
    })
}

fn convert(value: &Value, depth: usize, budget: &mut usize) -> Result<Json, String> {
    spend(budget, ENTRY_BYTES)?;
    match value {
        Value::Nil => Ok(Json::Null),
        Value::Boolean(truth) => Ok(Json::Bool(*truth)),
        Value::Integer(integer) => Ok(Json::from(*integer)),
        Value::Number(number) => {
            let number = serde_json::Number::from_f64(*number);
            number
                .map(Json::Number)
                .ok_or_else(|| "is a number without a value (infinite or not a number)".to_owned())
        }
        Value::String(text) => text_of(text, budget).map(Json::String),
        Value::Table(table) => convert_table(table, depth + 1, budget),
        other => Err(format!("is a {}, which cannot be kept", other.type_name())),
    }
}

fn convert_table(table: &Table, depth: usize, budget: &mut usize) -> Result<Json, String> {
    if depth > VALUE_DEPTH_MAX {
        return Err(format!("has tables nested deeper than {VALUE_DEPTH_MAX}"));
    }
    let length = table.raw_len();
    let mut list = Vec::new();
    for position in 1..=length {
        let item: Value = table.raw_get(position).map_err(|error| error.to_string())?;
        list.push(convert(&item, depth, budget)?);
    }
    let mut map = Map::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, entry) = pair.map_err(|error| error.to_string())?;
        match key {
            Value::Integer(position)
                if usize::try_from(position).is_ok_and(|at| (1..=length).contains(&at)) => {}
            Value::String(name) => {
                let name = text_of(&name, budget)?;
                map.insert(name, convert(&entry, depth, budget)?);
            }
            other => {
                return Err(format!("has a table with a key that is a {} outside a list", other.type_name()));
            }
        }
    }
    match (list.is_empty(), map.is_empty()) {
        (_, true) => Ok(Json::Array(list)),
        (true, false) => Ok(Json::Object(map)),
        (false, false) => Err("has a table that is a list and has names too".to_owned()),
    }
}

fn text_of(text: &mlua::LuaString, budget: &mut usize) -> Result<String, String> {
    spend(budget, text.as_bytes().len())?;
    text.to_str().map(|text| text.to_owned()).map_err(|_| "has text that is not UTF-8".to_owned())
}

fn spend(budget: &mut usize, bytes: usize) -> Result<(), String> {
    let too_large = || format!("is larger than {} KiB", VALUE_BYTES_MAX / 1024);
    *budget = budget.checked_sub(bytes).ok_or_else(too_large)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn json_of(source: &str) -> Result<Json, String> {
        let lua = Lua::new();
        to_json(&lua.load(source).eval::<Value>().unwrap())
    }

    #[test]
    fn lua_values_become_the_json_that_a_reader_expects() {
        for (source, json) in [
            ("{}", "[]"),
            ("{1, 'two', true}", r#"[1,"two",true]"#),
            ("{a = {b = {}}}", r#"{"a":{"b":[]}}"#),
            ("1.5", "1.5"),
            ("nil", "null"),
        ] {
            assert_eq!(json_of(source).unwrap().to_string(), json, "{source}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_the_reason() {
        for (source, reason) in [
            ("print", "is a function, which cannot be kept"),
            ("{a = {coroutine.create(print)}}", "is a thread, which cannot be kept"),
            ("0/0", "is a number without a value (infinite or not a number)"),
            ("'\\xff'", "has text that is not UTF-8"),
            ("{1, 2, a = 3}", "has a table that is a list and has names too"),
            ("{[1.5] = 3}", "has a table with a key that is a number outside a list"),
            ("{[7] = 3}", "has a table with a key that is a integer outside a list"),
            (
                "(function() local t = {}; t[1] = t; t[2] = t; return t end)()",
                "has tables nested deeper than 32",
            ),
            (
                "(function() local t = {}; for i = 1, 40 do t = {t, t} end; return t end)()",
                "has tables nested deeper than 32",
            ),
            (
                "(function() local t = 'x'; for i = 1, 30 do t = {t, t} end; return t end)()",
                "is larger than 64 KiB",
            ),
            ("('x'):rep(70000)", "is larger than 64 KiB"),
        ] {
            assert_eq!(json_of(source).unwrap_err(), reason, "{source}");
        }
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(Json::from),
            (-1e300_f64..1e300).prop_map(Json::from),
            ".{0,40}".prop_map(Json::String),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..8).prop_map(Json::Array);
            let map = proptest::collection::btree_map(".{0,12}", inner, 1..8);
            prop_oneof![list, map.prop_map(|map| Json::Object(map.into_iter().collect()))]
        })
    }

    proptest! {
        #[test]
        fn any_value_comes_back_as_it_was(json in any_json()) {
            let lua = Lua::new();
            prop_assert_eq!(to_json(&to_lua(&lua, &json).unwrap()).unwrap(), json);
        }
    }
}
