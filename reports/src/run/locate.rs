//! From a line and column of a JSON text to the path of the field there.
//!
//! It owns that one question, which serde's errors leave open. It refuses nothing: on broken JSON it
//! answers with the path as far as it could be followed.

/// One open bracket.
enum Level {
    Object { key: String, awaits_key: bool },
    Array { index: usize },
}

/// The path, such as `runs[2].latency_us.inject.p50`, of what stands at `line` and `column` (from 1).
pub(super) fn field_at(text: &str, line: usize, column: usize) -> String {
    let end = offset(text, line, column);
    let mut levels: Vec<Level> = Vec::new();
    let mut position = 0;
    let bytes = text.as_bytes();
    while position < end {
        match bytes[position] {
            b'{' => levels.push(Level::Object { key: String::new(), awaits_key: true }),
            b'[' => levels.push(Level::Array { index: 0 }),
            // A field is missing: serde says so at the closing brace, and means the whole object.
            b'}' if position + 1 == end => forget_key(levels.last_mut()),
            b'}' | b']' => drop(levels.pop()),
            b',' => advance(levels.last_mut()),
            b'"' => {
                let length = string_bytes(&bytes[position..]);
                // `get`, because an unterminated string may end inside a character.
                take_key(levels.last_mut(), text.get(position + 1..position + length - 1).unwrap_or(""));
                position += length;
                continue;
            }
            _ => {}
        }
        position += 1;
    }
    path(&levels)
}

/// The byte at a line and column as serde_json counts them: columns are bytes, from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column).min(text.len())
}

/// The length of the string that starts here, both quotes included.
fn string_bytes(bytes: &[u8]) -> usize {
    let mut position = 1;
    while position < bytes.len() {
        match bytes[position] {
            b'\\' => position += 2,
            b'"' => return position + 1,
            _ => position += 1,
        }
    }
    // An unterminated string: pretend that its last byte is the quote.
    bytes.len().max(2)
}

fn advance(level: Option<&mut Level>) {
    match level {
        Some(Level::Object { awaits_key, .. }) => *awaits_key = true,
        Some(Level::Array { index }) => *index += 1,
        None => {}
    }
}

fn take_key(level: Option<&mut Level>, name: &str) {
    if let Some(Level::Object { key, awaits_key }) = level
        && *awaits_key
    {
        name.clone_into(key);
        *awaits_key = false;
    }
}

fn forget_key(level: Option<&mut Level>) {
    if let Some(Level::Object { key, .. }) = level {
        key.clear();
    }
}

fn path(levels: &[Level]) -> String {
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Object { key, .. } if key.is_empty() => {}
            Level::Object { key, .. } if path.is_empty() => path.push_str(key),
            Level::Object { key, .. } => {
                path.push('.');
                path.push_str(key);
            }
            Level::Array { index } => path.push_str(&format!("[{index}]")),
        }
    }
    if path.is_empty() { "(top)".to_owned() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_nested_fields() {
        let text = "{\"a\": 1,\n \"runs\": [{\"x\": 1}, {\"x\": 2, \"y\": {\"z\": true}}]}";
        let column = text.lines().nth(1).and_then(|line| line.find("true")).map(|at| at + 4);
        assert_eq!(field_at(text, 2, column.unwrap_or(0)), "runs[1].y.z");
        assert_eq!(field_at(text, 1, 7), "a");
    }

    #[test]
    fn survives_broken_text() {
        for text in ["", "\"", "{\"", "{\"a\\", "[[[", "}}}", "{\"a\":[1,2", "\"\\", "é\"é"] {
            for column in 0..=text.len() + 1 {
                field_at(text, 1, column);
            }
        }
    }
}
