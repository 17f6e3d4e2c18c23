//! `externalTarget`: where an endpoint's requests go.

use std::{fmt, net::IpAddr};

/// A host and a port outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
    /// The scheme said `https`, or `http`, or nothing was said.
    pub(super) tls: Option<bool>,
}

/// An address, or a name that Envoy resolves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Target {
    /// Reads `host:port`, `[v6]:port`, or either without the port (then `default_port` holds) or behind `http://` or
    /// `https://`. Says what is wrong otherwise.
    pub(super) fn parse(text: &str, default_port: Option<u16>) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            None => (None, text),
            Some(("http", rest)) => (Some(false), rest.trim_end_matches('/')),
            Some(("https", rest)) => (Some(true), rest.trim_end_matches('/')),
            Some((scheme, _)) => return Err(format!("the scheme {scheme:?} is not supported; write HOST:PORT")),
        };
        let (host, port) = split_port(rest)?;
        let host = parse_host(host)?;
        let port = match port {
            Some(port) => Some(port)
                .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|port| port.parse::<u16>().ok())
                .filter(|port| *port > 0)
                .ok_or_else(|| format!("{port:?} is not a port between 1 and 65535"))?,
            None => match (tls, default_port) {
                (Some(true), _) => 443,
                (Some(false), _) => 80,
                (None, Some(port)) => port,
                (None, None) => return Err("the port is missing; write HOST:PORT".to_owned()),
            },
        };
        Ok(Self { host, port, tls })
    }

    /// The value of the `Host` header for requests to it: without the port when it is the scheme's own.
    pub(super) fn authority(&self, tls: bool) -> String {
        let host = match &self.host {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        if self.port == if tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the closing bracket of the IPv6 address is missing")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("{rest:?} behind the IPv6 address is not a port")),
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text, None));
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            Err("an IPv6 address with a port needs brackets: [ADDRESS]:PORT".to_owned())
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn parse_host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(address));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let all_digits = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if name.len() > 253 || all_digits || !name.split('.').all(label_ok) {
        return Err(format!("{text:?} is neither an IP address nor a DNS name"));
    }
    Ok(Host::Name(name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parsed(text: &str) -> (String, u16, Option<bool>) {
        let target = Target::parse(text, Some(8080)).expect(text);
        let host = match target.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name,
        };
        (host, target.port, target.tls)
    }

    #[test]
    fn hosts_ports_and_schemes_are_read() {
        assert_eq!(parsed("httpbin.org:80"), ("httpbin.org".into(), 80, None));
        assert_eq!(parsed("Web.Example.COM"), ("web.example.com".into(), 8080, None));
        assert_eq!(parsed("[::1]:90"), ("::1".into(), 90, None));
        assert_eq!(parsed("::1"), ("::1".into(), 8080, None));
        assert_eq!(parsed("127.0.0.1:90"), ("127.0.0.1".into(), 90, None));
        assert_eq!(parsed("https://example.com/"), ("example.com".into(), 443, Some(true)));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            ":80",
            "a:b",
            "a:0",
            "a:65536",
            "a:+80",
            "a:",
            "::1:80x",
            "[::1",
            "[::1]x",
            "a b:80",
            "256.1.1.1:80",
            "ftp://a",
            "-a:1",
        ] {
            assert!(Target::parse(text, None).is_err(), "{text:?}");
        }
        assert!(Target::parse("host", None).is_err());
    }

    #[test]
    fn the_authority_names_the_port_unless_it_is_the_schemes_own() {
        let authority = |text, tls| Target::parse(text, None).expect(text).authority(tls);
        assert_eq!(authority("a.b:80", false), "a.b");
        assert_eq!(authority("a.b:443", true), "a.b");
        assert_eq!(authority("a.b:8443", true), "a.b:8443");
        assert_eq!(authority("[::1]:8080", false), "[::1]:8080");
    }
}
