//! Addresses from arbitrary text: no panic, and what parses is written so that it parses to the same.

use smtp::address::{Address, LOCAL_BYTES_MAX, PATH_BYTES_MAX, Path};

/// `data` is taken as text, where it is text.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for smtputf8 in [false, true] {
        if let Ok(path) = Path::parse(text, smtputf8) {
            let again = format!("<{path}>");
            assert_eq!(Path::parse(&again, smtputf8), Ok(path), "{text}");
            assert_eq!(Path::parse_bare(&again[1..again.len() - 1], smtputf8), Ok(path), "{text}");
            assert!(smtputf8 || !path.needs_utf8());
            assert!(again.len() <= PATH_BYTES_MAX && path.local().len() <= LOCAL_BYTES_MAX);
            assert!(!again.contains(['\r', '\n', '\0']));
        }
    }
    if let Ok(address) = Address::parse(text) {
        assert_eq!(Address::parse(&address.to_string()), Ok(address));
    }
}
