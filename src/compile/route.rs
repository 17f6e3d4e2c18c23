//! One HTTPRoute to encoded Envoy routes, for one place where it is served. Never decides where that is, nor what a
//! `backendRef` stands for: it asks.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use tailscale_gateway_proto::envoy::config::route::v3::Route;

use super::{
    findings::Findings,
    matching::{CompiledMatch, MatchPrecedence, compile_match},
    rule::{CompiledRule, compile_rule},
};
use crate::{
    api::{BackendObjectReference, HttpRoute, HttpRouteMatch, HttpRouteRule},
    model::{ClusterName, ObjectKey, Problem, Reason, RouteTableName, http_route_name, preflight_route_name},
};

/// The number of `routes` in `envoy.config.route.v3.VirtualHost`.
const VIRTUAL_HOST_ROUTES: u32 = 3;

/// The place where a route is served, as far as a route depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteContext {
    /// Whether clients speak TLS to the listener.
    pub scheme_https: bool,
    /// The port that the listener declares (not the one that Envoy binds).
    pub port: u16,
}

impl RouteContext {
    /// The place that a table is.
    pub(super) fn of(table: &RouteTableName) -> Self {
        Self { scheme_https: table.section.is_some(), port: table.port }
    }
}

/// Knows what backend references stand for.
pub trait Backends {
    /// The clusters that a reference stands for.
    ///
    /// `field` is the path of the reference in the route, such as `spec.rules[0].backendRefs[1]`.
    ///
    /// # Errors
    /// Why there are none, as the problem to report on the route. The reference's share of the requests is answered 500.
    fn resolve(&mut self, backend: &BackendObjectReference, field: &str) -> Result<ResolvedBackend, Problem>;
}

/// What a backend reference stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedBackend {
    /// The clusters; without any, the reference's share is answered 500.
    pub targets: Vec<BackendTarget>,
    /// Whether the backend says that it speaks WebSocket (`appProtocol: kubernetes.io/ws`).
    pub websocket: bool,
}

/// A cluster that takes a part of what goes to a backend reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTarget {
    /// Its name.
    pub cluster: Arc<str>,
    /// Its share among the targets of one reference, at least 1; one of 0 gets nothing.
    pub weight: u32,
    /// The hostname that it wants in the `Host` header, unless the route rewrites that itself.
    pub host_rewrite: Option<String>,
}

/// Where an entry stands among all entries of one hostname and one route. Across routes, [`Precedence::matching`] counts
/// first, then the routes' age and names, and then [`Precedence::place`] (Gateway API, HTTPRouteRule.matches).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Precedence {
    /// What the match asks for.
    pub matching: MatchPrecedence,
    /// The indices of the rule in the route and of the match in the rule.
    pub place: (u32, u32),
}

/// One Envoy route, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Its place.
    pub precedence: Precedence,
    /// Field `routes` of `envoy.config.route.v3.VirtualHost` with tag and length: entries are put one after the other.
    pub bytes: Bytes,
    /// Every cluster it names, sorted, those of mirrors included; never [`ClusterName::UNRESOLVED`].
    pub clusters: Arc<[Arc<str>]>,
}

/// What became of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompiledRoute {
    /// The entries, in the order of their precedence.
    pub entries: Vec<RouteEntry>,
    /// What is wrong, in the order of the route's fields.
    pub problems: Vec<Problem>,
    /// Whether at least one rule has a match and a list of filters that Envoy can be told. Backends that can not be resolved
    /// do not count here: Gateway API has a condition of their own for them.
    pub any_rule_valid: bool,
}

/// Compiles a route. `key` is the object that problems are reported on.
///
/// Entries of equal routes are equal, byte by byte.
pub fn compile_route(
    route: &HttpRoute,
    key: &ObjectKey,
    context: &RouteContext,
    backends: &mut dyn Backends,
) -> CompiledRoute {
    let mut findings = Findings::new(key);
    let mut entries = Vec::new();
    let mut any_rule_valid = false;
    // Gateway API's defaults, which are also what empty lists mean.
    let default = [HttpRouteRule::default()];
    let every_request = [HttpRouteMatch::default()];
    let rules = if route.spec.rules.is_empty() { &default[..] } else { &route.spec.rules };
    for (rule_at, rule) in rules.iter().enumerate() {
        let field = format!("spec.rules[{rule_at}]");
        let matches = if rule.matches.is_empty() { &every_request[..] } else { &rule.matches };
        let matches: Vec<_> = matches
            .iter()
            .enumerate()
            .map(|(at, wanted)| compile_match(wanted, &format!("{field}.matches[{at}]"), &mut findings))
            .collect();
        let compiled = compile_rule(rule, &field, context, backends, &mut findings);
        for (experimental, name) in
            [(rule.retry.is_some(), "retry"), (rule.session_persistence.is_some(), "sessionPersistence")]
        {
            if experimental {
                let message = "this field of the experimental channel is not acted on";
                findings.note(format!("{field}.{name}"), Reason::NotActedOn, message);
            }
        }
        any_rule_valid |= compiled.is_valid() && matches.iter().any(Option::is_some);
        let preflights = compiled.wants_preflights();
        let clusters = compiled.clusters();
        for (match_at, wanted) in matches.into_iter().enumerate().filter_map(|(at, wanted)| Some((at, wanted?))) {
            let name = http_route_name(&key.name, rule_at, rule.name.as_deref(), match_at);
            let place = (index(rule_at), index(match_at));
            if preflights && let Some(preflight) = wanted.preflight() {
                entries.push(entry(preflight_route_name(&name), place, preflight, &compiled, &clusters));
            }
            entries.push(entry(name, place, wanted, &compiled, &clusters));
        }
    }
    entries.sort_by_key(|entry| entry.precedence);
    CompiledRoute { entries, problems: findings.into_problems(), any_rule_valid }
}

/// Compiles a rule that nobody wrote, with one match and without a mistake; nothing if there is one all the same.
pub(super) fn compile_generated(
    name: String,
    rule: &HttpRouteRule,
    key: &ObjectKey,
    context: &RouteContext,
    backends: &mut dyn Backends,
) -> Option<RouteEntry> {
    let mut findings = Findings::new(key);
    let wanted = compile_match(rule.matches.first()?, "", &mut findings)?;
    let compiled = compile_rule(rule, "", context, backends, &mut findings);
    let clusters = compiled.clusters();
    Some(entry(name, (0, 0), wanted, &compiled, &clusters))
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn entry(
    name: String,
    place: (u32, u32),
    wanted: CompiledMatch,
    rule: &CompiledRule,
    clusters: &Arc<[Arc<str>]>,
) -> RouteEntry {
    debug_assert!(clusters.iter().all(|cluster| **cluster != *ClusterName::UNRESOLVED));
    let route = rule.route(name, wanted.envoy, wanted.prefix.as_deref());
    let precedence = Precedence { matching: wanted.precedence, place };
    RouteEntry { precedence, bytes: encode(&route), clusters: clusters.clone() }
}

fn encode(route: &Route) -> Bytes {
    let len = route.encoded_len();
    let capacity = key_len(VIRTUAL_HOST_ROUTES) + encoded_len_varint(len as u64) + len;
    let mut bytes = BytesMut::with_capacity(capacity);
    encode_key(VIRTUAL_HOST_ROUTES, WireType::LengthDelimited, &mut bytes);
    encode_varint(len as u64, &mut bytes);
    route.encode_raw(&mut bytes);
    bytes.freeze()
}
