//! What the handler of `smtp_server_auth_scram` returns: what is known of a user's password.
//!
//! Refuses keys that no client could prove, with the bound; what it was given appears in no error, because it is a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mlua::{Table, Value};
use smtp::scram::Keys;

use crate::policy::Secret;

const FIELDS: [&str; 5] = ["password", "salt", "iterations", "stored_key", "server_key"];
const WANTED: &str = "the handler must return nothing for a user that does not exist, keys as text \
    ('SCRAM-SHA-256$4096:SALT$STORED_KEY:SERVER_KEY'), a table with salt, iterations, stored_key and server_key, or \
    { password = ... }";

/// Reads what the handler returned; `None`: there is no such user.
pub(in crate::policy) fn answer(value: &Value) -> mlua::Result<Option<Secret>> {
    match value {
        Value::Nil | Value::Boolean(false) => Ok(None),
        Value::String(text) => {
            let keys = Keys::parse(&text.to_str()?).map_err(refuse)?;
            Ok(Some(Secret::Keys(keys)))
        }
        Value::Table(table) => from_table(table).map(Some).map_err(refuse),
        other => Err(mlua::Error::runtime(format!("{WANTED}; it returned a {}", other.type_name()))),
    }
}

fn refuse(reason: impl std::fmt::Display) -> mlua::Error {
    mlua::Error::runtime(format!("what the handler returned cannot be used: {reason}"))
}

/// A password, or salt and keys in base64. Nothing of what stands there may appear in the reason.
fn from_table(table: &Table) -> Result<Secret, String> {
    for pair in table.pairs::<Value, Value>() {
        let (name, _) = pair.map_err(|_| WANTED)?;
        if !name.as_string().is_some_and(|name| FIELDS.iter().any(|known| *name == *known)) {
            return Err(format!("a name in it is not known; known are: {}", FIELDS.join(", ")));
        }
    }
    let text = |name: &str| {
        let value = table.get::<Option<String>>(name);
        value.map_err(|_| format!("'{name}' is not text"))
    };
    let bytes = |name: &str, text: String| BASE64.decode(text).map_err(|_| format!("'{name}' is not base64"));
    let iterations =
        table.get::<Option<u32>>("iterations").map_err(|_| "'iterations' is not a whole number")?;
    match (text("password")?, iterations, text("salt")?, text("stored_key")?, text("server_key")?) {
        (Some(password), None, None, None, None) => Ok(Secret::Password(password)),
        (None, Some(iterations), Some(salt), Some(stored), Some(server)) => {
            let (salt, stored) = (bytes("salt", salt)?, bytes("stored_key", stored)?);
            let keys = Keys::new(&salt, iterations, &stored, &bytes("server_key", server)?);
            keys.map(Secret::Keys).map_err(|error| error.to_string())
        }
        _ => Err(WANTED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use mlua::Lua;

    const TEXT: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    const TABLE: &str = "{ salt = 'W22ZaJ0SNY7soEsUEjb6gQ==', iterations = 4096, \
        stored_key = 'WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=', server_key = 'wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=' }";

    fn read(source: &str) -> Result<Option<Secret>, String> {
        let lua = Lua::new();
        let value = lua.load(source).eval::<Value>().unwrap();
        answer(&value).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_come_as_text_or_as_a_table_and_are_the_same() {
        let keys = Some(Secret::Keys(Keys::parse(TEXT).unwrap()));
        assert_eq!(read(&format!("'{TEXT}'")).unwrap(), keys);
        assert_eq!(read(TABLE).unwrap(), keys);
        assert_eq!(read("{ password = 'pencil' }").unwrap(), Some(Secret::Password("pencil".to_owned())));
        assert_eq!(read("nil").unwrap(), None);
        assert_eq!(read("false").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_showing_it() {
        for (source, reason) in [
            ("'pencil'".to_owned(), "not SCRAM-SHA-256$ITERATIONS:SALT"),
            ("true".to_owned(), "it returned a boolean"),
            ("{ password = 'pencil', salt = 'pencil' }".to_owned(), "the handler must return nothing"),
            ("{ salt = 'pencil' }".to_owned(), "the handler must return nothing"),
            ("{ passwort = 'pencil' }".to_owned(), "a name in it is not known; known are: password, salt"),
            ("{ password = { 'pencil' } }".to_owned(), "'password' is not text"),
            ("{ iterations = 'pencil' }".to_owned(), "'iterations' is not a whole number"),
            (TABLE.replace("W22Z", "pencil%"), "'salt' is not base64"),
            (TABLE.replace("4096", "1000"), "1000 iterations; from 4096"),
            (TABLE.replace("WG5d", ""), "a key of"),
        ] {
            let error = read(&source).unwrap_err();
            assert!(error.contains(reason), "{source}: {error}");
            assert!(!error.contains("pencil"), "{error}");
        }
    }
}
