//! A route of another controller's Gateway: which shares of its requests go to backends of our kinds.
//!
//! What is wrong in it is the other controller's to say; what concerns backends of ours is told in the log and on the admin page.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message;
use smallvec::SmallVec;
use tailscale_gateway_proto::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};

use super::passing;
use crate::{
    api::{
        BackendObjectReference, GrpcRoute, HttpBackendRef, HttpRoute, HttpRouteFilter, ListenerSet, ParentReference,
        PassingRouteRule, TailscaleEndpoints, TailscaleService, TcpRoute, TlsRoute, UdpRoute,
    },
    compile::{
        OutputKey, World,
        backend::Resolver,
        filter::Filters,
        findings::Findings,
        reference::{permitted, referred},
        route::{BackendTarget, Backends, RouteContext},
        share,
    },
    model::{
        ClusterName, Kind, ObjectKey, ObjectName, Reason, Traffic, foreign_backend_name, foreign_part_name,
        foreign_rule_name, hosted_cluster_key,
    },
    snapshot::{HostedRoute, HostedRule, HostedShare},
};

/// What of a route concerns us; nothing when no Gateway of another controller has it.
pub(in crate::compile) fn route(key: &ObjectKey, world: &mut World<'_>) -> Option<Arc<HostedRoute>> {
    let name = &key.name;
    match key.kind {
        Kind::GrpcRoute => {
            let route = world.object::<GrpcRoute>(name)?;
            let rules = route.spec.rules.iter().map(|rule| RequestRule {
                backends: &rule.backend_refs,
                filters: &rule.filters,
                has_sessions: rule.session_persistence.is_some(),
            });
            compile(key, &route.spec.parent_refs, Traffic::Grpc, world, |compiler| compiler.rules(rules))
        }
        Kind::TlsRoute => {
            let route = world.object::<TlsRoute>(name)?;
            let route = &route.spec.passing;
            let (traffic, mixed) = passing::of_tls_route(key, &route.parent_refs, world);
            compile(key, &route.parent_refs, traffic, world, |compiler| compiler.passing(&route.rules, mixed))
        }
        Kind::TcpRoute => {
            let route = world.object::<TcpRoute>(name)?;
            let route = &route.spec.passing;
            let rules = |compiler: &mut RouteCompiler<'_, '_>| compiler.passing(&route.rules, false);
            compile(key, &route.parent_refs, Traffic::Connections, world, rules)
        }
        Kind::UdpRoute => {
            let route = world.object::<UdpRoute>(name)?;
            let route = &route.spec.passing;
            let rules = |compiler: &mut RouteCompiler<'_, '_>| compiler.passing(&route.rules, false);
            compile(key, &route.parent_refs, Traffic::Datagrams, world, rules)
        }
        _ => {
            let route = world.object::<HttpRoute>(name)?;
            let rules = route.spec.rules.iter().map(|rule| RequestRule {
                backends: &rule.backend_refs,
                filters: &rule.filters,
                has_sessions: rule.session_persistence.is_some(),
            });
            compile(key, &route.spec.parent_refs, Traffic::Http, world, |compiler| compiler.rules(rules))
        }
    }
}

/// What is looked at in a rule of an HTTPRoute or GRPCRoute.
struct RequestRule<'r> {
    backends: &'r [HttpBackendRef],
    filters: &'r [HttpRouteFilter],
    has_sessions: bool,
}

/// The rules of a route, under the names of their clusters.
pub(super) type Rules = Vec<(Arc<str>, Arc<HostedRule>)>;

fn compile(
    key: &ObjectKey,
    parents: &[ParentReference],
    traffic: Traffic,
    world: &mut World<'_>,
    rules: impl FnOnce(&mut RouteCompiler<'_, '_>) -> Rules,
) -> Option<Arc<HostedRoute>> {
    let mut gateways = BTreeSet::new();
    for parent in parents {
        let name = referred(key, parent.namespace.as_deref(), &parent.name);
        let gateway = match Kind::find(&parent.group, &parent.kind) {
            Some(Kind::Gateway) => Some(name),
            Some(Kind::ListenerSet) => world.object::<ListenerSet>(&name).and_then(|set| set.gateway()),
            _ => None,
        };
        if let Some(gateway) = gateway
            && world.output(&OutputKey::Listeners(gateway.clone())).listeners().foreign
        {
            gateways.insert(gateway);
        }
    }
    if gateways.is_empty() {
        return only_by_experimental_sets(key, parents, world);
    }
    let gateways: Arc<[ObjectName]> = gateways.into_iter().collect();
    let mut compiler = RouteCompiler {
        backends: Resolver { key, world, named: BTreeMap::new(), traffic },
        gateways: &gateways,
        findings: Findings::new(key),
    };
    let rules = rules(&mut compiler);
    let RouteCompiler { backends: Resolver { world, named, .. }, findings, .. } = compiler;
    for cluster in named.values() {
        for gateway in &*gateways {
            world.keep(OutputKey::HostedCluster(gateway.clone(), cluster.clone(), traffic));
        }
    }
    let problems = findings.into_problems();
    Some(Arc::new(HostedRoute { gateways, rules, problems }))
}

/// A route whose parents are all of the kind that ListenerSets were before they became a part of Gateway API: those are not
/// read, so that it is not known whose Gateways' they are. Nothing unless it has backends of ours.
fn only_by_experimental_sets(
    key: &ObjectKey,
    parents: &[ParentReference],
    world: &mut World<'_>,
) -> Option<Arc<HostedRoute>> {
    let all = !parents.is_empty() && parents.iter().all(|parent| parent.kind == "XListenerSet");
    if !all || !has_ours(key, world) {
        return None;
    }
    let mut findings = Findings::new(key);
    for (at, parent) in parents.iter().enumerate() {
        let message = format!(
            "{} {}: which Gateway it belongs to is not read, so that requests for backends of {} go nowhere there; name a \
             ListenerSet or the Gateway",
            parent.kind,
            referred(key, parent.namespace.as_deref(), &parent.name),
            Kind::TailscaleEndpoints.group(),
        );
        findings.note(format!("spec.parentRefs[{at}]"), Reason::UnsupportedValue, message);
    }
    let (gateways, rules) = (Arc::from([]), Vec::new());
    Some(Arc::new(HostedRoute { gateways, rules, problems: findings.into_problems() }))
}

/// Whether a route has backends of ours.
fn has_ours(key: &ObjectKey, world: &mut World<'_>) -> bool {
    let of_requests = |rule: &[HttpBackendRef]| rule.iter().any(|backend| is_ours(&backend.object));
    let passing = |rules: &[PassingRouteRule]| {
        rules.iter().flat_map(|rule| &rule.backend_refs).any(|backend| is_ours(&backend.object))
    };
    let name = &key.name;
    let found = match key.kind {
        Kind::GrpcRoute => world
            .object::<GrpcRoute>(name)
            .map(|route| route.spec.rules.iter().any(|rule| of_requests(&rule.backend_refs))),
        Kind::TlsRoute => world.object::<TlsRoute>(name).map(|route| passing(&route.spec.passing.rules)),
        Kind::TcpRoute => world.object::<TcpRoute>(name).map(|route| passing(&route.spec.passing.rules)),
        Kind::UdpRoute => world.object::<UdpRoute>(name).map(|route| passing(&route.spec.passing.rules)),
        _ => world
            .object::<HttpRoute>(name)
            .map(|route| route.spec.rules.iter().any(|rule| of_requests(&rule.backend_refs))),
    };
    found.unwrap_or_default()
}

/// Whether a reference is for us to resolve.
pub(super) fn is_ours(backend: &BackendObjectReference) -> bool {
    matches!(Kind::find(&backend.group, &backend.kind), Some(Kind::TailscaleEndpoints | Kind::TailscaleService))
}

pub(super) struct RouteCompiler<'a, 'w> {
    pub(super) backends: Resolver<'a, 'w>,
    pub(super) gateways: &'a Arc<[ObjectName]>,
    pub(super) findings: Findings<'a>,
}

/// What a reference to a backend of ours comes to.
struct Part {
    place: usize,
    weight: u32,
    /// Without any, its share is answered 500.
    targets: Vec<BackendTarget>,
    filters: Filters,
    /// An Envoy Gateway does not take the reference.
    refused: bool,
}

impl RouteCompiler<'_, '_> {
    /// The rules of a route of requests.
    fn rules<'r>(&mut self, rules: impl Iterator<Item = RequestRule<'r>>) -> Rules {
        let mut made = Rules::new();
        for (place, rule) in rules.enumerate() {
            let hosted = self.rule(place, rule.backends);
            if let Some((_, hosted)) = hosted.as_ref().filter(|_| rule.has_sessions) {
                self.note_sessions(place, hosted);
            }
            made.extend(hosted);
            self.note_mirrors(place, rule.filters);
        }
        made
    }

    /// A rule, if it has a backend of ours, under the name of its cluster.
    fn rule(&mut self, place: usize, backends: &[HttpBackendRef]) -> Option<(Arc<str>, Arc<HostedRule>)> {
        if !backends.iter().any(|backend| is_ours(&backend.object)) {
            return None;
        }
        let name = foreign_rule_name(self.backends.key, place);
        let mut others: u32 = 0;
        let mut parts = Vec::new();
        for (at, backend) in backends.iter().enumerate() {
            if !is_ours(&backend.object) {
                others = others.saturating_add(backend.weight);
            } else if backend.weight > 0 {
                parts.push(self.part(at, backend, &format!("spec.rules[{place}].backendRefs[{at}]")));
            }
        }
        let weights: Vec<(u32, SmallVec<[u32; 1]>)> = parts
            .iter()
            .map(|part| {
                let weights: SmallVec<[u32; 1]> = part.targets.iter().map(|target| target.weight).collect();
                (part.weight, if weights.is_empty() { SmallVec::from_elem(1, 1) } else { weights })
            })
            .collect();
        let (factor, weights) = share::among_others(others, &weights);
        let auto_host = others == 0 && parts.iter().all(|part| part.filters.hostname.is_none());
        let mut shares = Vec::new();
        for (part, weights) in parts.iter().zip(weights) {
            shares.extend(self.shares(&name, part, &weights, auto_host));
        }
        let alone = match shares.as_slice() {
            [only] if others == 0 && only.filters.is_empty() => only.cluster.clone(),
            _ => None,
        };
        let rule = HostedRule {
            route: self.backends.key.clone(),
            gateways: Arc::clone(self.gateways),
            alone,
            mixture: None,
            shares,
            others,
            factor,
            auto_host,
        };
        Some((name.into(), Arc::new(rule)))
    }

    fn part(&mut self, place: usize, backend: &HttpBackendRef, field: &str) -> Part {
        // Where it is served matters for redirects only, which no single backend can have.
        let context = RouteContext { scheme_https: false, port: 80 };
        let filters_field = format!("{field}.filters");
        let filters =
            Filters::compile(&backend.filters, &filters_field, &context, &mut self.backends, &mut self.findings);
        let mut targets = self.resolve(&backend.object, field);
        let filters = filters.filter(|filters| {
            // Its listeners have Envoy's CORS filter when rules of its own need it.
            let cors = filters.cors.is_some().then_some("CORS");
            let Some(name) = filters.only_for_whole_rules().chain(cors).next() else { return true };
            let message = format!(
                "a {name} filter can not be applied to one backend here; its share is answered 500: move the filter to the rule"
            );
            self.findings.note(filters_field, Reason::IncompatibleFilters, message);
            false
        });
        if filters.is_none() {
            targets.clear();
        }
        let refused = self.is_refused(&backend.object);
        Part { place, weight: backend.weight, targets, filters: filters.unwrap_or_default(), refused }
    }

    /// Whether an Envoy Gateway does not take a reference to a backend of ours: when there is no such object, or it is another
    /// namespace's that has not granted it. What is in the object it does not read.
    fn is_refused(&mut self, backend: &BackendObjectReference) -> bool {
        let key = self.backends.key;
        let Some(kind) = Kind::find(&backend.group, &backend.kind) else { return true };
        let to = ObjectKey::new(kind, referred(key, backend.namespace.as_deref(), &backend.name));
        let world = &mut *self.backends.world;
        let exists = match kind {
            Kind::TailscaleService => world.object::<TailscaleService>(&to.name).is_some(),
            _ => world.object::<TailscaleEndpoints>(&to.name).is_some(),
        };
        !exists || !permitted(key, &to, world)
    }

    pub(super) fn resolve(&mut self, backend: &BackendObjectReference, field: &str) -> Vec<BackendTarget> {
        match self.backends.resolve(backend, field) {
            Ok(resolved) => resolved.targets.into_iter().filter(|target| target.weight > 0).collect(),
            Err(problem) => {
                self.findings.add(problem);
                Vec::new()
            }
        }
    }

    fn shares(&self, rule: &str, part: &Part, weights: &[u32], auto_host: bool) -> Vec<HostedShare> {
        let share = |name: String, target: Option<&BackendTarget>, weight| {
            let own_host = part.filters.hostname.clone();
            let wanted = target.and_then(|target| target.host_rewrite.clone()).filter(|_| !auto_host);
            let rest = ClusterWeight {
                request_headers_to_add: part.filters.request.put.clone(),
                request_headers_to_remove: part.filters.request.remove.clone(),
                response_headers_to_add: part.filters.response.put.clone(),
                response_headers_to_remove: part.filters.response.remove.clone(),
                host_rewrite_specifier: own_host
                    .or(wanted)
                    .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
                ..Default::default()
            };
            HostedShare {
                place: part.place,
                name: name.into(),
                cluster: target.map(|target| self.key_of(target)),
                weight,
                filters: rest.encode_to_vec().into(),
                refused: part.refused,
            }
        };
        match part.targets.as_slice() {
            [] => vec![share(ClusterName::UNRESOLVED.to_owned(), None, weights[0])],
            [only] => vec![share(foreign_backend_name(rule, part.place), Some(only), weights[0])],
            several => several
                .iter()
                .zip(weights)
                .map(|(target, weight)| {
                    share(foreign_part_name(rule, part.place, &target.cluster), Some(target), *weight)
                })
                .collect(),
        }
    }

    /// What is made of a target's cluster.
    pub(super) fn key_of(&self, target: &BackendTarget) -> Arc<str> {
        let cluster = self.backends.named.get(&target.cluster).expect("what is resolved is named");
        hosted_cluster_key(cluster, self.backends.traffic).into()
    }

    /// Among several clusters an Envoy chooses before it looks for the session, which is kept within a cluster only.
    fn note_sessions(&mut self, place: usize, rule: &HostedRule) {
        let clusters = rule.shares.len() + usize::from(rule.others > 0);
        if rule.alone.is_none() && clusters > 1 {
            let message = "requests of a session are shared among the backends like any others, since each backend of \
                           gateway.tailscale.com is a cluster of its own; sessions are kept where such a backend is the only one";
            self.findings.note(format!("spec.rules[{place}].sessionPersistence"), Reason::UnsupportedValue, message);
        }
    }

    /// An Envoy Gateway knows no backends of other groups in mirrors.
    fn note_mirrors(&mut self, place: usize, filters: &[HttpRouteFilter]) {
        for (at, filter) in filters.iter().enumerate() {
            if let Some(mirror) = filter.request_mirror.as_ref().filter(|mirror| is_ours(&mirror.backend_ref)) {
                let message = format!(
                    "an Envoy Gateway does not mirror to a {}, and answers all requests of this rule with 500; mirror to a \
                     Service or a Backend of its own, or remove the filter",
                    mirror.backend_ref.kind
                );
                let field = format!("spec.rules[{place}].filters[{at}].requestMirror.backendRef");
                self.findings.note(field, Reason::UnsupportedValue, message);
            }
        }
    }
}
