//! The CORS filter: what browsers are told about requests from other origins (the Fetch standard's CORS protocol).
//!
//! Envoy answers preflights by itself and echoes what a wildcard stands for, so that `*` never appears beside credentials.
//! It does so on routes that forward only, not on redirects. Never decides which routes have the filter.

use std::collections::BTreeSet;

use prost::{Message as _, Name as _};
use tailscale_gateway_proto::{
    envoy::{
        extensions::filters::http::cors::v3::CorsPolicy,
        r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::{Any, BoolValue},
};

use super::{findings::Findings, header};
use crate::{api::HttpCorsFilter, model::Reason};

/// The name of Envoy's filter, under which a route configures it. The connection manager has to have a filter of this name
/// ahead of the router.
pub const CORS_FILTER: &str = "envoy.filters.http.cors";

/// What the schema allows in `allowMethods`.
const METHODS: [&str; 10] = ["*", "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// The longest origin that Gateway API allows, in bytes.
const MAX_ORIGIN: usize = 253;

/// Checks a filter and makes the route's configuration of Envoy's filter. Notes what is wrong and gives nothing then.
pub(super) fn compile_cors(filter: &HttpCorsFilter, field: &str, findings: &mut Findings<'_>) -> Option<Any> {
    let mut valid = true;
    let mut origins = Vec::with_capacity(filter.allow_origins.len());
    for (at, origin) in filter.allow_origins.iter().enumerate() {
        match compile_origin(origin) {
            Some(matcher) => origins.push(matcher),
            None => {
                findings.unsupported(
                    format!("{field}.allowOrigins[{at}]"),
                    format!(
                        "{origin:?} is no origin: write scheme://host or scheme://host:port with http or https; the first \
                         label, the whole host or the whole origin may be *"
                    ),
                );
                valid = false;
            }
        }
    }
    valid &= wildcard_alone(&filter.allow_origins, &format!("{field}.allowOrigins"), findings);
    for (at, method) in filter.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            findings.unsupported(format!("{field}.allowMethods[{at}]"), format!("{method:?} is no method of HTTP"));
            valid = false;
        }
    }
    valid &= wildcard_alone(&filter.allow_methods, &format!("{field}.allowMethods"), findings);
    valid &= check_names(&filter.allow_headers, &format!("{field}.allowHeaders"), findings);
    valid &= wildcard_alone(&filter.allow_headers, &format!("{field}.allowHeaders"), findings);
    valid &= check_names(&filter.expose_headers, &format!("{field}.exposeHeaders"), findings);
    if !(1..=i32::MAX as u32).contains(&filter.max_age) {
        findings.unsupported(format!("{field}.maxAge"), "must be at least 1 second");
        valid = false;
    }
    let credentials = filter.allow_credentials.unwrap_or(false);
    let mut exposed: Vec<&str> = filter.expose_headers.iter().map(String::as_str).collect();
    if credentials && exposed.contains(&"*") {
        // "the gateway cannot use the * in the Access-Control-Expose-Headers response header"; to a browser it is the
        // name of a header then, not a wildcard.
        exposed.retain(|name| *name != "*");
        findings.note(
            format!("{field}.exposeHeaders"),
            Reason::NotActedOn,
            "browsers know no wildcard here when allowCredentials is true; * is left out: name the headers",
        );
    }
    if !valid {
        return None;
    }
    let policy = CorsPolicy {
        allow_origin_string_match: origins,
        allow_methods: distinct(filter.allow_methods.iter().map(String::as_str)),
        allow_headers: distinct(filter.allow_headers.iter().map(String::as_str)),
        expose_headers: distinct(exposed),
        max_age: filter.max_age.to_string(),
        allow_credentials: Some(BoolValue { value: credentials }),
        // A preflight from an origin that is not allowed is answered, without permission, and never sent to a backend.
        forward_not_matching_preflights: Some(BoolValue { value: false }),
        ..Default::default()
    };
    Some(Any { type_url: CorsPolicy::type_url(), value: policy.encode_to_vec().into() })
}

/// Each once, in order, as a list in a header.
fn distinct<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut seen = BTreeSet::new();
    let values: Vec<&str> = values.into_iter().filter(|value| seen.insert(value.to_ascii_lowercase())).collect();
    values.join(", ")
}

/// The schema's rule: `*` stands alone in its list.
fn wildcard_alone(values: &[String], field: &str, findings: &mut Findings<'_>) -> bool {
    let alone = values.len() == 1 || !values.iter().any(|value| value == "*");
    if !alone {
        findings.unsupported(field, "* allows everything: leave out the other entries, or *");
    }
    alone
}

fn check_names(names: &[String], field: &str, findings: &mut Findings<'_>) -> bool {
    let mut valid = true;
    for (at, name) in names.iter().enumerate() {
        if let Err(problem) = header::check_name(name) {
            findings.unsupported(format!("{field}[{at}]"), format!("{name:?} {problem}"));
            valid = false;
        }
    }
    valid
}

/// The matcher for an origin, if it is one.
///
/// Browsers send origins in lower case and without the scheme's own port (RFC 6454 §6.2), so a port that is spelled out
/// although it is the scheme's own is left out here.
fn compile_origin(origin: &str) -> Option<StringMatcher> {
    if origin == "*" {
        return Some(matcher(MatchPattern::SafeRegex(RegexMatcher { regex: ".*".into(), engine_type: None })));
    }
    if origin.len() > MAX_ORIGIN {
        return None;
    }
    let (scheme, rest) = origin.split_once("://")?;
    let own_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) if (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port.parse::<u16>().ok().filter(|port| *port != 0)?)
        }
        Some(_) => return None,
        None => (rest, own_port),
    };
    let port = if port == own_port { String::new() } else { format!(":{port}") };
    let host = host.to_ascii_lowercase();
    let labels = |name: &str| {
        name.split('.')
            .all(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
    };
    // `*` takes any number of labels, and as the whole host IPv6 addresses too.
    let pattern = if host == "*" {
        format!(r"{scheme}://(?:[^/:\[\]]+|\[[^/\[\]]+\]){port}")
    } else if let Some(parent) = host.strip_prefix("*.")
        && labels(parent)
    {
        format!(r"{scheme}://[^/:\[\]]+\.{}{port}", regex_syntax::escape(parent))
    } else if labels(&host) {
        return Some(matcher(MatchPattern::Exact(format!("{scheme}://{host}{port}"))));
    } else {
        return None;
    };
    Some(matcher(MatchPattern::SafeRegex(RegexMatcher { regex: pattern, engine_type: None })))
}

fn matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { ignore_case: false, match_pattern: Some(pattern) }
}
