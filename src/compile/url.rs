//! The parts of URLs that a route compares, puts in place of others, or redirects to: hostnames and paths.
//!
//! Never looks at queries: a change of the path keeps them.

use super::findings::Findings;
use crate::api::{HttpPathModifier, HttpPathModifierType};

/// The longest path that Gateway API allows in a match or a filter, in characters.
const MAX_PATH: usize = 1024;

/// Checks a hostname without wildcard that is written into a request or a `Location` (Gateway API `PreciseHostname`,
/// RFC 1123 §2.1).
///
/// # Errors
/// What is wrong with it, to follow the name of the field.
pub(super) fn check_hostname(hostname: &str) -> Result<(), String> {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if hostname.len() <= 253 && hostname.split('.').all(label) {
        Ok(())
    } else {
        Err("must be a DNS name of lower-case letters, digits, dashes and dots, without wildcard, port or path".into())
    }
}

/// Checks a path by the rules that Gateway API has for `matches[].path.value` of type Exact and PathPrefix.
///
/// # Errors
/// What is wrong with it, to follow the name of the field.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let problem = if !path.starts_with('/') {
        "must start with a slash"
    } else if path.chars().count() > MAX_PATH {
        "must not be longer than 1024 characters"
    } else if path.contains("//") {
        "must not contain two slashes in a row"
    } else if path.contains('?') || path.contains('#') {
        "must be a path alone, without query (?) or fragment (#)"
    } else if path.contains("/./") || path.contains("/../") || path.ends_with("/.") || path.ends_with("/..") {
        "must not contain the segments . or .."
    } else if path.contains("%2f") || path.contains("%2F") {
        "must not contain an encoded slash (%2F)"
    } else if !only_path_characters(path) {
        "must consist of the characters that RFC 3986 allows in paths; encode others as %XX"
    } else {
        return Ok(());
    };
    Err(problem.into())
}

/// RFC 3986 §3.3: `pchar`, and the slash between segments.
fn only_path_characters(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => bytes.get(at + 1..at + 3).is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte),
    })
}

/// A prefix without the slash at its end, which Gateway API ignores; `/` stays.
pub(super) fn without_trailing_slash(prefix: &str) -> &str {
    match prefix.strip_suffix('/') {
        Some("") | None => prefix,
        Some(shorter) => shorter,
    }
}

/// A change of a path, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathChange {
    /// The whole path becomes this.
    Full(String),
    /// The matched prefix becomes this, which has no slash at its end and may be empty.
    Prefix(String),
}

impl PathChange {
    /// Checks a change of a path. Notes what is wrong and gives nothing then.
    pub(super) fn compile(modifier: &HttpPathModifier, field: &str, findings: &mut Findings<'_>) -> Option<Self> {
        let (name, value, other) = match modifier.type_ {
            HttpPathModifierType::ReplaceFullPath => {
                ("replaceFullPath", &modifier.replace_full_path, &modifier.replace_prefix_match)
            }
            HttpPathModifierType::ReplacePrefixMatch => {
                ("replacePrefixMatch", &modifier.replace_prefix_match, &modifier.replace_full_path)
            }
        };
        let (Some(value), None) = (value, other) else {
            findings.unsupported(field, format!("with this type, {name} has to be set and nothing else"));
            return None;
        };
        if !value.is_empty()
            && let Err(problem) = check_path(value)
        {
            findings.unsupported(format!("{field}.{name}"), format!("{value:?} {problem}"));
            return None;
        }
        Some(match modifier.type_ {
            HttpPathModifierType::ReplaceFullPath if value.is_empty() => Self::Full("/".into()),
            HttpPathModifierType::ReplaceFullPath => Self::Full(value.clone()),
            HttpPathModifierType::ReplacePrefixMatch => Self::Prefix(value.trim_end_matches('/').into()),
        })
    }

    /// How Envoy is told, for a request that was matched by `prefix` (`/`, or without a slash at its end). The table of
    /// examples at Gateway API's `HTTPPathModifier.replacePrefixMatch` is what it has to give.
    pub(super) fn for_match(&self, prefix: Option<&str>) -> EnvoyPathChange {
        match (self, prefix) {
            (Self::Full(path), _) => EnvoyPathChange::Full(path.clone()),
            (Self::Prefix(_), None) => unreachable!("a rule that replaces prefixes has prefix matches only"),
            (Self::Prefix(new), Some("/")) if new.is_empty() => EnvoyPathChange::None,
            (Self::Prefix(new), Some("/")) => EnvoyPathChange::Prefix(format!("{new}/")),
            // Putting `/` in place of `/a` would make `//b` of `/a/b`.
            (Self::Prefix(new), Some(prefix)) if new.is_empty() => EnvoyPathChange::Regex {
                pattern: format!("^{}/*", regex_syntax::escape(prefix)),
                substitution: "/".into(),
            },
            (Self::Prefix(new), Some(_)) => EnvoyPathChange::Prefix(new.clone()),
        }
    }
}

/// A change of a path in the terms that Envoy has. None of the texts needs escaping: see [`check_path`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EnvoyPathChange {
    /// None.
    None,
    /// The whole path becomes this.
    Full(String),
    /// `prefix_rewrite`.
    Prefix(String),
    /// `regex_rewrite`.
    Regex {
        /// What is replaced.
        pattern: String,
        /// What takes its place.
        substitution: String,
    },
}
