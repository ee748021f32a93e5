//! Where requests go: a URL, or HOST:PORT with the path of KumoMTA.

/// KumoMTA's.
const PATH: &str = "/api/inject/v1";

/// A server that takes injections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the connection is encrypted from its first byte.
    pub tls: bool,
    /// Without brackets.
    pub host: String,
    /// Host and port as they stand in the Host field.
    pub authority: String,
    /// Starts with `/`.
    pub path: String,
    /// 80 or 443 unless it was written.
    pub port: u16,
}

/// The operator's text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no target of HTTP; write a URL like http://127.0.0.1:8000/api/inject/v1, or HOST:PORT; a user \
     stands in --http-auth"
)]
pub struct EndpointError(String);

impl Endpoint {
    /// Reads `http://HOST[:PORT][/PATH]`, the same with `https`, or `HOST:PORT`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let refused = || EndpointError(text.to_owned());
        let (tls, rest) = match Self::scheme(text) {
            Some((tls, rest)) => (tls, rest),
            None if !text.contains('/') && host_and_port(text).is_some_and(|(_, port)| port.is_some()) => {
                (false, text)
            }
            None => return Err(refused()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !path.bytes().all(good) || path.starts_with('?') {
            return Err(refused());
        }
        let (host, port) = host_and_port(authority).ok_or_else(refused)?;
        Ok(Self {
            tls,
            host: host.to_owned(),
            authority: authority.to_owned(),
            path: if path.len() > 1 { path } else { PATH }.to_owned(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
        })
    }

    /// Whether the text is a URL of HTTP, and what follows the scheme.
    fn scheme(text: &str) -> Option<(bool, &str)> {
        let (scheme, rest) = text.split_once("://")?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => Some((false, rest)),
            "https" => Some((true, rest)),
            _ => None,
        }
    }

    /// Whether the text means HTTP and nothing else.
    pub(crate) fn is_url(text: &str) -> bool {
        Self::scheme(text).is_some()
    }

    /// As a resolver takes it.
    pub(crate) fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Host without brackets, and port.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (host, port)
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => None,
        Some(port) if digits(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0)?),
        Some(_) => return None,
    };
    (!host.is_empty() && host.bytes().all(good)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_and_hosts_are_read() {
        for (text, tls, resolved, authority, path) in [
            ("127.0.0.1:8000", false, "127.0.0.1:8000", "127.0.0.1:8000", PATH),
            ("http://kumo.localhost", false, "kumo.localhost:80", "kumo.localhost", PATH),
            ("HTTPS://a.lan/", true, "a.lan:443", "a.lan", PATH),
            ("http://[::1]:8000/other?x=1", false, "[::1]:8000", "[::1]:8000", "/other?x=1"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.tls, &endpoint.host_and_port()[..]), (tls, resolved), "{text}");
            assert_eq!((&endpoint.authority[..], &endpoint.path[..]), (authority, path), "{text}");
        }
        assert!(Endpoint::is_url("http://a") && !Endpoint::is_url("a:25") && !Endpoint::is_url("ftp://a"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "localhost",
            "localhost/path:80",
            "ftp://a:21",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:+1",
            "http://a:x",
            "http://user:pass@a:80",
            "http://a b",
            "http://a/b c",
            "http://a/b\r\nX: y",
            "http://[::1",
            "http://a?x",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(https?://)?[a-z0-9:/?#@\\[\\].%-]{0,30}", noise in "\\PC{0,30}") {
            for text in [&text, &noise] {
                if let Ok(endpoint) = Endpoint::parse(text) {
                    prop_assert!(endpoint.path.starts_with('/') && endpoint.port > 0);
                    prop_assert!(!endpoint.host.is_empty());
                }
            }
        }
    }
}
