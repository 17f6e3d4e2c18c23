//! Which requests a match takes, and which of two matches is asked first. Never decides what is done with the requests.

use std::{cmp::Reverse, collections::BTreeSet};

use tailscale_gateway_proto::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
    },
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
};

use super::{findings::Findings, header, regex, url};
use crate::{
    api::{HttpMethod, HttpRouteMatch, MatchType, PathMatchType},
    model::Reason,
};

/// The longest value of a query parameter that Gateway API allows, in characters.
const MAX_QUERY_VALUE: usize = 1024;

/// Where a match stands among the matches of one hostname, by what the match itself asks for: the smaller one is asked
/// first (Gateway API, HTTPRouteRule.matches, the criteria before "if ties still exist").
///
/// The specification leaves the place of regular expressions open. Here they stand between exact paths and prefixes, longer
/// patterns first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatchPrecedence {
    path: PathRank,
    length: Reverse<u32>,
    method: Reverse<bool>,
    headers: Reverse<u32>,
    query_params: Reverse<u32>,
    /// Whether nobody wrote the match: what a user wrote goes before it.
    derived: bool,
}

impl MatchPrecedence {
    /// The place of a match of our own that asks for this path and nothing else.
    pub(super) fn of_path(path: &PathSpecifier) -> Self {
        let (rank, text) = match path {
            PathSpecifier::Path(path) => (PathRank::Exact, path.as_str()),
            PathSpecifier::SafeRegex(pattern) => (PathRank::RegularExpression, pattern.regex.as_str()),
            PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix) => {
                (PathRank::Prefix, prefix.as_str())
            }
            PathSpecifier::ConnectMatcher(_) | PathSpecifier::PathMatchPolicy(_) => (PathRank::Prefix, ""),
        };
        Self {
            path: rank,
            length: Reverse(u32::try_from(text.chars().count()).unwrap_or(u32::MAX)),
            method: Reverse(false),
            headers: Reverse(0),
            query_params: Reverse(0),
            derived: false,
        }
    }
}

/// The path matcher for a prefix of whole segments, which has no slash at its end: `/a` takes `/a` and `/a/b`, not `/ab`.
/// `/`, and nothing at all, take every path.
pub(super) fn prefix_match(prefix: &str) -> PathSpecifier {
    // Envoy refuses a `path_separated_prefix` that ends with a slash, and so a lone slash.
    match prefix {
        "" | "/" => PathSpecifier::Prefix("/".into()),
        prefix => PathSpecifier::PathSeparatedPrefix(prefix.into()),
    }
}

/// The kinds of path matches, the first one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PathRank {
    Exact,
    RegularExpression,
    Prefix,
}

/// A match in Envoy's terms.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CompiledMatch {
    /// Which requests.
    pub(super) envoy: RouteMatch,
    /// Its place among others.
    pub(super) precedence: MatchPrecedence,
    /// The prefix it matches, without a slash at its end unless it is `/`; nothing for other paths.
    pub(super) prefix: Option<String>,
    /// The method it asks for.
    method: Option<HttpMethod>,
}

/// Checks a match. Notes what is wrong and gives nothing then: Envoy has no words for it, so nobody can be answered by it.
pub(super) fn compile_match(
    wanted: &HttpRouteMatch,
    field: &str,
    findings: &mut Findings<'_>,
) -> Option<CompiledMatch> {
    let path = compile_path(wanted, &format!("{field}.path"), findings);
    let headers = compile_headers(wanted, &format!("{field}.headers"), findings);
    let query = compile_query(wanted, &format!("{field}.queryParams"), findings);
    if wanted.method == Some(HttpMethod::Connect) {
        findings.unsupported(format!("{field}.method"), "CONNECT requests have no path and can not be routed");
        return None;
    }
    let (specifier, prefix) = path?;
    let (mut headers, query_parameters) = (headers?, query?);
    let precedence = MatchPrecedence {
        method: Reverse(wanted.method.is_some()),
        headers: Reverse(count(&headers)),
        query_params: Reverse(count(&query_parameters)),
        ..MatchPrecedence::of_path(&specifier)
    };
    headers.extend(wanted.method.map(|method| exact_header(":method", method.as_str())));
    let envoy = RouteMatch { path_specifier: Some(specifier), headers, query_parameters, ..Default::default() };
    Some(CompiledMatch { envoy, precedence, prefix, method: wanted.method })
}

impl CompiledMatch {
    /// The match for the preflights (Fetch standard, "CORS-preflight request") that browsers send ahead of the requests that
    /// this match takes; nothing when the match takes them itself.
    pub(super) fn preflight(&self) -> Option<Self> {
        let method = self.method.filter(|method| *method != HttpMethod::Options)?;
        let mut envoy = self.envoy.clone();
        envoy.headers.retain(|header| header.name != ":method");
        envoy.headers.push(exact_header(":method", HttpMethod::Options.as_str()));
        envoy.headers.push(HeaderMatcher {
            name: "origin".into(),
            header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
            ..Default::default()
        });
        envoy.headers.push(exact_header("access-control-request-method", method.as_str()));
        let precedence = MatchPrecedence { derived: true, ..self.precedence };
        Some(Self { envoy, precedence, prefix: self.prefix.clone(), method: Some(HttpMethod::Options) })
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

/// The path matcher, and the prefix that it matches if it is one.
fn compile_path(
    wanted: &HttpRouteMatch,
    field: &str,
    findings: &mut Findings<'_>,
) -> Option<(PathSpecifier, Option<String>)> {
    let value = wanted.path.value.as_str();
    let checked = match wanted.path.type_ {
        PathMatchType::RegularExpression => regex::check(value),
        PathMatchType::Exact | PathMatchType::PathPrefix => url::check_path(value),
    };
    if let Err(problem) = checked {
        findings.unsupported(format!("{field}.value"), format!("{value:?}: {problem}; this match is left out"));
        return None;
    }
    Some(match wanted.path.type_ {
        PathMatchType::Exact => (PathSpecifier::Path(value.into()), None),
        PathMatchType::RegularExpression => {
            (PathSpecifier::SafeRegex(RegexMatcher { regex: value.into(), engine_type: None }), None)
        }
        PathMatchType::PathPrefix => {
            let prefix = url::without_trailing_slash(value);
            (prefix_match(prefix), Some(prefix.into()))
        }
    })
}

fn compile_headers(wanted: &HttpRouteMatch, field: &str, findings: &mut Findings<'_>) -> Option<Vec<HeaderMatcher>> {
    let mut seen = BTreeSet::new();
    let mut valid = true;
    let mut matchers = Vec::with_capacity(wanted.headers.len() + 1);
    for (at, header) in wanted.headers.iter().enumerate() {
        let field = format!("{field}[{at}]");
        let name = header.name.to_ascii_lowercase();
        if !seen.insert(name.clone()) {
            note_ignored(&name, &field, findings);
            continue;
        }
        let checked = header::check_name(&header.name)
            .map_err(|problem| ("name", format!("{:?} {problem}", header.name)))
            .and_then(|()| match header.type_ {
                MatchType::Exact => {
                    header::check_value(&header.value).map_err(|problem| ("value", format!("the value {problem}")))
                }
                MatchType::RegularExpression => check_regex(&header.value),
            });
        if let Err((part, problem)) = checked {
            findings.unsupported(format!("{field}.{part}"), format!("{problem}; this match is left out"));
            valid = false;
            continue;
        }
        matchers.push(HeaderMatcher {
            name,
            header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(string(header.type_, &header.value))),
            ..Default::default()
        });
    }
    valid.then_some(matchers)
}

fn compile_query(
    wanted: &HttpRouteMatch,
    field: &str,
    findings: &mut Findings<'_>,
) -> Option<Vec<QueryParameterMatcher>> {
    let mut seen = BTreeSet::new();
    let mut valid = true;
    let mut matchers = Vec::with_capacity(wanted.query_params.len());
    for (at, parameter) in wanted.query_params.iter().enumerate() {
        let field = format!("{field}[{at}]");
        // "This must be an exact string match": unlike headers, names in another case are other names.
        if !seen.insert(&parameter.name) {
            note_ignored(&parameter.name, &field, findings);
            continue;
        }
        let checked = header::check_name(&parameter.name)
            .map_err(|problem| ("name", format!("{:?} {problem}", parameter.name)))
            .and_then(|()| match parameter.type_ {
                MatchType::Exact if parameter.value.chars().count() > MAX_QUERY_VALUE => {
                    Err(("value", "the value must not be longer than 1024 characters".into()))
                }
                MatchType::Exact => Ok(()),
                MatchType::RegularExpression => check_regex(&parameter.value),
            });
        if let Err((part, problem)) = checked {
            findings.unsupported(format!("{field}.{part}"), format!("{problem}; this match is left out"));
            valid = false;
            continue;
        }
        let matcher = string(parameter.type_, &parameter.value);
        matchers.push(QueryParameterMatcher {
            name: parameter.name.clone(),
            query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(matcher)),
        });
    }
    valid.then_some(matchers)
}

fn check_regex(pattern: &str) -> Result<(), (&'static str, String)> {
    regex::check(pattern).map_err(|problem| ("value", format!("{pattern:?}: {problem}")))
}

/// "Subsequent entries with an equivalent name MUST be ignored."
fn note_ignored(name: &str, field: &str, findings: &mut Findings<'_>) {
    let message = format!("{name} stands in the list before; this entry is ignored");
    findings.note(format!("{field}.name"), Reason::NotActedOn, message);
}

fn exact_header(name: &str, value: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: name.into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(string(MatchType::Exact, value))),
        ..Default::default()
    }
}

fn string(type_: MatchType, value: &str) -> StringMatcher {
    let pattern = match type_ {
        MatchType::Exact => MatchPattern::Exact(value.into()),
        MatchType::RegularExpression => {
            MatchPattern::SafeRegex(RegexMatcher { regex: value.into(), engine_type: None })
        }
    };
    StringMatcher { ignore_case: false, match_pattern: Some(pattern) }
}
