//! One rule of an HTTPRoute: what Envoy does with the requests that any of its matches takes.
//!
//! What can not be done as written is answered 500: all of the rule when its filters or timeouts are wrong, and otherwise
//! exactly the share of the backend that is. Never decides which requests the rule takes.

use std::{collections::BTreeSet, sync::Arc};

use smallvec::SmallVec;
use tailscale_gateway_proto::{
    envoy::{
        config::route::v3::{
            DirectResponseAction, Route, RouteAction, RouteMatch, WeightedCluster,
            route::Action as EnvoyAction,
            route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, UpgradeConfig},
            weighted_cluster::{ClusterWeight, cluster_weight},
        },
        r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher},
    },
    google::protobuf::{Any, UInt32Value},
};

use super::{
    cors::CORS_FILTER,
    filter::Filters,
    findings::Findings,
    header::HeaderChanges,
    route::{BackendTarget, Backends, RouteContext},
    share,
    timeout::{Timeouts, compile_timeouts},
    url::EnvoyPathChange,
};
use crate::{
    api::{HttpBackendRef, HttpRouteRule, PathMatchType},
    model::{ClusterName, Reason},
};

/// A rule in Envoy's terms.
#[derive(Clone, Debug)]
pub(super) enum CompiledRule {
    /// Something that the user wrote can not be told to Envoy: every request is answered 500.
    Invalid,
    /// Nothing to forward to: every request is answered 500.
    NoBackend,
    /// Requests are redirected.
    Redirect(Filters),
    /// Requests are forwarded.
    Forward {
        filters: Filters,
        timeouts: Timeouts,
        /// At least one of which has a target.
        shares: Vec<Share>,
        websocket: bool,
    },
}

/// What one backend reference takes; its weight is not 0.
#[derive(Clone, Debug)]
pub(super) struct Share {
    weight: u32,
    /// Where it goes; nowhere when the reference can not be resolved or its filters can not be used.
    targets: Vec<BackendTarget>,
    /// The filters of this reference.
    filters: Filters,
}

/// Checks a rule. Notes what is wrong, in all of it.
pub(super) fn compile_rule(
    rule: &HttpRouteRule,
    field: &str,
    context: &RouteContext,
    backends: &mut dyn Backends,
    findings: &mut Findings<'_>,
) -> CompiledRule {
    let filters = Filters::compile(&rule.filters, &format!("{field}.filters"), context, backends, findings);
    let timeouts = compile_timeouts(rule.timeouts.as_ref(), &format!("{field}.timeouts"), findings);
    let mut websocket = false;
    let mut shares = Vec::with_capacity(rule.backend_refs.len());
    for (at, backend) in rule.backend_refs.iter().enumerate() {
        let field = format!("{field}.backendRefs[{at}]");
        let (share, speaks_websocket) = compile_share(backend, &field, context, backends, findings);
        if share.weight > 0 {
            websocket |= speaks_websocket;
            shares.push((at, share));
        }
    }
    let (Some(mut filters), Some(timeouts)) = (filters, timeouts) else { return CompiledRule::Invalid };

    if filters.redirect.is_some() && !rule.backend_refs.is_empty() {
        let message = "a RequestRedirect filter answers by itself: leave out the backends, or the filter";
        findings.note(format!("{field}.backendRefs"), Reason::IncompatibleFilters, message);
        return CompiledRule::Invalid;
    }
    // What Envoy can not do for one of several backends it can do for the only one: it is the whole rule then.
    let alone = shares.len() == 1;
    for (at, share) in &mut shares {
        let field = format!("{field}.backendRefs[{at}].filters");
        if alone && !share.targets.is_empty() {
            match filters.then(&share.filters) {
                Ok(both) => {
                    filters = both;
                    share.filters = Filters::default();
                }
                Err(why) => {
                    findings.note(&field, Reason::IncompatibleFilters, format!("can not be used: {why}"));
                    share.targets.clear();
                }
            }
        } else if let Some(name) = share.filters.only_for_whole_rules().next() {
            let message = format!(
                "a {name} filter can not be applied to one of several backends; its share is answered 500: move the filter \
                 to the rule, or the backend to a rule of its own"
            );
            findings.note(&field, Reason::IncompatibleFilters, message);
            share.targets.clear();
        }
    }
    if filters.replaces_prefix() && rule.matches.iter().any(|wanted| wanted.path.type_ != PathMatchType::PathPrefix) {
        let message =
            "a filter with ReplacePrefixMatch needs a path match of type PathPrefix in each match of the rule";
        findings.note(format!("{field}.matches"), Reason::IncompatibleFilters, message);
        return CompiledRule::Invalid;
    }
    if filters.redirect.is_some() {
        return CompiledRule::Redirect(filters);
    }
    if shares.iter().all(|(_, share)| share.targets.is_empty()) {
        return CompiledRule::NoBackend;
    }
    let shares = shares.into_iter().map(|(_, share)| share).collect();
    CompiledRule::Forward { filters, timeouts, shares, websocket }
}

/// Checks a backend reference; says also whether it speaks WebSocket.
fn compile_share(
    backend: &HttpBackendRef,
    field: &str,
    context: &RouteContext,
    backends: &mut dyn Backends,
    findings: &mut Findings<'_>,
) -> (Share, bool) {
    let filters = Filters::compile(&backend.filters, &format!("{field}.filters"), context, backends, findings);
    let resolved = match backends.resolve(&backend.object, field) {
        Ok(resolved) => resolved,
        Err(problem) => {
            findings.add(problem);
            Default::default()
        }
    };
    let mut targets = resolved.targets;
    targets.retain(|target| target.weight > 0);
    if filters.is_none() {
        targets.clear();
    }
    (Share { weight: backend.weight, targets, filters: filters.unwrap_or_default() }, resolved.websocket)
}

impl CompiledRule {
    /// Whether what the user wrote could be told to Envoy, backends aside.
    pub(super) fn is_valid(&self) -> bool {
        !matches!(self, Self::Invalid)
    }

    /// Whether Envoy answers preflights for it.
    pub(super) fn wants_preflights(&self) -> bool {
        match self {
            Self::Forward { filters, shares, .. } => {
                filters.cors.is_some() || shares.iter().any(|share| share.filters.cors.is_some())
            }
            _ => false,
        }
    }

    /// Every cluster it names, sorted.
    pub(super) fn clusters(&self) -> Arc<[Arc<str>]> {
        let Self::Forward { filters, shares, .. } = self else { return Arc::default() };
        let targets = shares.iter().flat_map(|share| &share.targets).map(|target| target.cluster.clone());
        let mirrors = filters.mirrors.iter().map(|mirror| Arc::from(mirror.cluster.as_str()));
        targets.chain(mirrors).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The Envoy route for one match, whose path is `prefix` if it is one.
    pub(super) fn route(&self, name: String, wanted: RouteMatch, prefix: Option<&str>) -> Route {
        let mut route = Route { name, r#match: Some(wanted), ..Default::default() };
        match self {
            Self::Invalid | Self::NoBackend => {
                let answer = DirectResponseAction { status: 500, ..Default::default() };
                route.action = Some(EnvoyAction::DirectResponse(answer));
            }
            Self::Redirect(filters) => {
                let redirect = filters.redirect.as_ref().expect("a rule of this kind has one");
                route.action = Some(EnvoyAction::Redirect(redirect.for_match(prefix)));
                put_headers(&mut route, &filters.request, &filters.response);
            }
            Self::Forward { filters, timeouts, shares, websocket } => {
                forward(&mut route, filters, shares, prefix, |action| {
                    action.timeout = Some(timeouts.whole);
                    action.idle_timeout = timeouts.idle;
                    if *websocket {
                        action.upgrade_configs =
                            vec![UpgradeConfig { upgrade_type: "websocket".into(), ..Default::default() }];
                    }
                });
                route.typed_per_filter_config.extend(cors_config(filters.cors.as_ref()));
            }
        }
        route
    }
}

fn put_headers(route: &mut Route, request: &HeaderChanges, response: &HeaderChanges) {
    route.request_headers_to_add.clone_from(&request.put);
    route.request_headers_to_remove.clone_from(&request.remove);
    route.response_headers_to_add.clone_from(&response.put);
    route.response_headers_to_remove.clone_from(&response.remove);
}

fn cors_config(cors: Option<&Any>) -> Option<(String, Any)> {
    cors.map(|cors| (CORS_FILTER.to_owned(), cors.clone()))
}

fn forward(
    route: &mut Route,
    filters: &Filters,
    shares: &[Share],
    prefix: Option<&str>,
    finish: impl FnOnce(&mut RouteAction),
) {
    let mut action = RouteAction {
        cluster_not_found_response_code: ClusterNotFoundResponseCode::InternalServerError as i32,
        request_mirror_policies: filters.mirrors.clone(),
        ..Default::default()
    };
    match filters.path.as_ref().map(|path| path.for_match(prefix)) {
        None | Some(EnvoyPathChange::None) => {}
        Some(EnvoyPathChange::Prefix(new)) => action.prefix_rewrite = new,
        Some(EnvoyPathChange::Full(path)) => action.regex_rewrite = Some(regex_rewrite("^/.*$".into(), path)),
        Some(EnvoyPathChange::Regex { pattern, substitution }) => {
            action.regex_rewrite = Some(regex_rewrite(pattern, substitution));
        }
    }
    if let [Share { targets, .. }] = shares
        && let [target] = &targets[..]
    {
        // The filters of the only backend are among those of the rule.
        put_headers(route, &filters.request, &filters.response);
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(target.cluster.to_string()));
        action.host_rewrite_specifier = filters
            .hostname
            .clone()
            .or_else(|| target.host_rewrite.clone())
            .map(HostRewriteSpecifier::HostRewriteLiteral);
    } else {
        // Envoy applies changes of the cluster first and those of the route afterwards, where the backend's own have to
        // have the last word. So either the route or the clusters have all of them.
        let by_cluster =
            shares.iter().any(|share| !share.filters.request.is_empty() || !share.filters.response.is_empty());
        if !by_cluster {
            put_headers(route, &filters.request, &filters.response);
        }
        let clusters = weighted(filters, shares, by_cluster);
        action.cluster_specifier =
            Some(ClusterSpecifier::WeightedClusters(WeightedCluster { clusters, ..Default::default() }));
    }
    finish(&mut action);
    route.action = Some(EnvoyAction::Route(action));
}

fn regex_rewrite(pattern: String, substitution: String) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute { pattern: Some(RegexMatcher { regex: pattern, engine_type: None }), substitution }
}

fn weighted(filters: &Filters, shares: &[Share], headers_by_cluster: bool) -> Vec<ClusterWeight> {
    let parts: Vec<(u32, SmallVec<[u32; 1]>)> = shares
        .iter()
        .map(|share| {
            let parts: SmallVec<[u32; 1]> = share.targets.iter().map(|target| target.weight).collect();
            (share.weight, if parts.is_empty() { SmallVec::from_elem(1, 1) } else { parts })
        })
        .collect();
    let mut clusters = Vec::new();
    for (share, weights) in shares.iter().zip(share::weights(&parts)) {
        if share.targets.is_empty() {
            clusters.push(ClusterWeight {
                name: ClusterName::UNRESOLVED.into(),
                weight: Some(UInt32Value { value: weights[0] }),
                ..Default::default()
            });
            continue;
        }
        let (request, response) = if headers_by_cluster {
            (filters.request.then(&share.filters.request), filters.response.then(&share.filters.response))
        } else {
            Default::default()
        };
        for (target, weight) in share.targets.iter().zip(weights) {
            // A hostname at the route would override those at its clusters.
            let host = share.filters.hostname.as_ref().or(filters.hostname.as_ref()).or(target.host_rewrite.as_ref());
            clusters.push(ClusterWeight {
                name: target.cluster.to_string(),
                weight: Some(UInt32Value { value: weight }),
                request_headers_to_add: request.put.clone(),
                request_headers_to_remove: request.remove.clone(),
                response_headers_to_add: response.put.clone(),
                response_headers_to_remove: response.remove.clone(),
                typed_per_filter_config: cors_config(share.filters.cors.as_ref()).into_iter().collect(),
                host_rewrite_specifier: host
                    .map(|host| cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host.clone())),
                ..Default::default()
            });
        }
    }
    clusters
}
