//! `kumo.log_debug`, `log_info`, `log_warn` and `log_error`: lines of the policy in kumod's own log.
//!
//! Arguments of any kind are written as `tostring` has them, a space between each two. A line is cut at a limit.

use mlua::{Lua, Table, Value, Variadic};

/// Bytes of one line.
const LINE_BYTES_MAX: usize = 8 * 1024;

pub(super) fn install(lua: &Lua, module: &Table) -> mlua::Result<()> {
    let debug = |_: &Lua, parts: Variadic<Value>| {
        written(&parts).map(|line| tracing::debug!(target: "policy", "{line}"))
    };
    let info = |_: &Lua, parts: Variadic<Value>| {
        written(&parts).map(|line| tracing::info!(target: "policy", "{line}"))
    };
    let warn = |_: &Lua, parts: Variadic<Value>| {
        written(&parts).map(|line| tracing::warn!(target: "policy", "{line}"))
    };
    let error = |_: &Lua, parts: Variadic<Value>| {
        written(&parts).map(|line| tracing::error!(target: "policy", "{line}"))
    };
    module.set("log_debug", lua.create_function(debug)?)?;
    module.set("log_info", lua.create_function(info)?)?;
    module.set("log_warn", lua.create_function(warn)?)?;
    module.set("log_error", lua.create_function(error)?)
}

fn written(parts: &[Value]) -> mlua::Result<String> {
    let mut line = String::new();
    for part in parts {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&part.to_string()?);
        if line.len() > LINE_BYTES_MAX {
            line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
            line.push_str("...");
            break;
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_joined_and_long_lines_cut() {
        let lua = Lua::new();
        let parts: Vec<Value> =
            vec![lua.pack("a").unwrap(), Value::Integer(1), Value::Nil, Value::Boolean(true)];
        assert_eq!(written(&parts).unwrap(), "a 1 nil true");
        let long = vec![lua.pack("ä".repeat(LINE_BYTES_MAX)).unwrap()];
        assert_eq!(written(&long).unwrap().len(), LINE_BYTES_MAX + 3);
    }
}
