//! What a schema says is wrong with a value, in words that tell what to write instead. Never shows what a Secret holds.

use jsonschema::{
    JsonType, ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::Value;

use super::{path::FieldPath, patterns};

/// The longest text of a value that is repeated to its author, in characters.
const SHOWN: usize = 60;

/// The path of the field that an error is about, and what is wrong with it.
pub(super) fn explain(error: &ValidationError<'_>, root: &Value, secret: bool) -> (String, String) {
    let path = FieldPath::from_pointer(error.instance_path().as_str(), root);
    let value = error.instance();
    let got = if secret { kind_of(value).to_owned() } else { shown(value) };
    let message = match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            return (path.member(name).into_string(), "is required".to_owned());
        }
        ValidationErrorKind::Type { kind } => {
            let hint = match (expects_only_string(kind), value.as_ref()) {
                (true, Value::Bool(_) | Value::Number(_)) => "; put it in quotes",
                _ => "",
            };
            format!("must be {}; got {got}{hint}", expected(kind))
        }
        ValidationErrorKind::Enum { options } => format!("must be one of {}; got {got}", listed(options)),
        ValidationErrorKind::Minimum { limit } => format!("must be at least {limit}; got {got}"),
        ValidationErrorKind::Maximum { limit } => format!("must be at most {limit}; got {got}"),
        ValidationErrorKind::MinLength { limit: 1 } => "must not be empty".to_owned(),
        ValidationErrorKind::MinLength { limit } => {
            format!("must be at least {limit} characters long; it has {}", length(value))
        }
        ValidationErrorKind::MaxLength { limit } => {
            format!("must be at most {limit} characters long; it has {}", length(value))
        }
        ValidationErrorKind::MinItems { limit } => {
            format!("must have at least {}; it has {}", entries(*limit), length(value))
        }
        ValidationErrorKind::MaxItems { limit } => {
            format!("must have at most {}; it has {}", entries(*limit), length(value))
        }
        ValidationErrorKind::MaxProperties { limit } => {
            format!("must have at most {}; it has {}", entries(*limit), length(value))
        }
        ValidationErrorKind::UniqueItems => "must not have two equal entries".to_owned(),
        ValidationErrorKind::Pattern { pattern } => format!("must be {}; got {got}", meaning(pattern)),
        other => format!("is not valid by the schema's rule {}; got {got}", other.keyword()),
    };
    (path.into_string(), message)
}

/// What texts that match a pattern of ours are.
fn meaning(pattern: &str) -> String {
    let words = match pattern {
        patterns::DNS_LABEL => "a DNS label: lower-case letters, digits and inner dashes",
        patterns::DNS_NAME => "a DNS name: lower-case letters, digits, inner dashes and dots",
        patterns::HOSTNAME => "a hostname: lower-case letters, digits, inner dashes and dots, and *. at most in front",
        patterns::GROUP => "an API group: empty, or a DNS name such as gateway.networking.k8s.io",
        patterns::KIND => "a kind of object, such as Service",
        patterns::CONTROLLER => "a domain, a slash and a path, such as example.com/controller",
        patterns::HEADER_NAME => "a name of letters, digits and !#$%&'*+-.^_`|~",
        patterns::LABEL_VALUE => "a label value: letters, digits, and inner dashes, dots and underscores",
        patterns::GATEWAY_DURATION => {
            "a duration such as 10s, 1m30s or 500ms: one to four whole numbers, each with h, m, s or ms"
        }
        patterns::GO_DURATION => "a duration such as 10s, 1m30s or 500ms",
        patterns::LISTENER_PROTOCOL => {
            "HTTP, HTTPS, TLS, TCP, UDP, or a protocol with a domain such as example.com/name"
        }
        patterns::ADDRESS_TYPE => "IPAddress, Hostname, NamedAddress, or a type with a domain such as example.com/name",
        patterns::CORS_ORIGIN => "an origin such as https://example.com or https://*.example.com:8443, or *",
        patterns::CORS_METHOD => "GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH or *",
        patterns::URL_PATH => "a path of letters, digits, -/._~!$&'()*+,;=:@ and percent-encoded bytes",
        patterns::TAILSCALE_SERVICE => "svc: and a DNS label, such as svc:web",
        patterns::TAG => "tag: and a name of letters, digits and dashes, such as tag:web",
        patterns::HOSTNAME_PREFIX => "up to 62 lower-case letters, digits and dashes, not beginning with a dash",
        other => return format!("a text that matches {other}"),
    };
    words.to_owned()
}

fn expects_only_string(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Single(JsonType::String))
}

/// The types that are asked for.
fn expected(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => type_name(*one).to_owned(),
        TypeKind::Multiple(several) => several.iter().map(type_name).collect::<Vec<_>>().join(" or "),
    }
}

fn type_name(of: JsonType) -> &'static str {
    match of {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "a mapping",
        JsonType::String => "a text",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// A value as its author is reminded of it: short, on one line.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => kind_of(value).to_owned(),
        Value::String(text) if text.is_empty() => "an empty text".to_owned(),
        Value::String(text) => {
            let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(SHOWN).collect();
            if text.chars().nth(SHOWN).is_some() { format!("{clean}…") } else { clean }
        }
        other => other.to_string(),
    }
}

/// How long a text, list or mapping is.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    }
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// The values that an enumeration allows.
fn listed(options: &Value) -> String {
    options.as_array().into_iter().flatten().map(shown).collect::<Vec<_>>().join(", ")
}
