//! Route tables, from small parts: entries of a route, virtual hosts of entries, buckets of virtual hosts, a table of buckets.
//! Each part is encoded once, and a change makes again only the parts it is in.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use tailscale_gateway_proto::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

use super::{
    Fact, OutputKey, Topic, World,
    backend::Resolver,
    cluster,
    hostname::{self, Specificity},
    objects::created,
    route::{
        BackendTarget, Backends, Precedence, ResolvedBackend, RouteContext, RouteEntry, compile_generated,
        compile_route,
    },
    scope::{self, ScopedEndpoint},
};
use crate::{
    api::{
        BackendObjectReference, HttpBackendRef, HttpPathMatch, HttpPathModifier, HttpPathModifierType, HttpRoute,
        HttpRouteFilter, HttpRouteFilterType, HttpRouteMatch, HttpRouteRule, HttpUrlRewriteFilter, PathMatchType,
        TailscaleEndpoints,
    },
    model::{
        ClusterName, DomainBucket, Kind, ObjectKey, ObjectName, Problem, RouteTableName, Traffic, endpoint_route_name,
    },
    snapshot::{Resource, Segment, TypeUrl},
};

/// What one HTTPRoute, or all tailnet endpoints, put into a table.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Entries {
    /// When the route was created, for precedence among routes.
    created: i64,
    routes: Vec<RouteEntry>,
    endpoints: Vec<EndpointEntry>,
    /// What is wrong with the route.
    pub(super) problems: Vec<Problem>,
    /// At least one rule is served as written.
    pub(super) any_rule_valid: bool,
}

/// The routes of one tailnet endpoint.
#[derive(Clone, Debug, PartialEq)]
struct EndpointEntry {
    scoped: ScopedEndpoint,
    /// In the virtual hosts of its listeners.
    by_path: Option<RouteEntry>,
    /// In the virtual host of its own host.
    by_host: Option<RouteEntry>,
}

/// A route's entries for a table.
pub(super) fn route_entries(table: &RouteTableName, name: &ObjectName, world: &mut World<'_>) -> Entries {
    let Some(route) = world.object::<HttpRoute>(name) else { return Entries::default() };
    let key = ObjectKey::new(Kind::HttpRoute, name.clone());
    let context = RouteContext::of(table);
    let mut backends = Resolver { key: &key, world, named: BTreeMap::new(), traffic: Traffic::Http };
    let compiled = compile_route(&route, &key, &context, &mut backends);
    let Resolver { named, .. } = backends;
    for (text, cluster) in named {
        // A rule that can not be served names none.
        if compiled.entries.iter().any(|entry| entry.clusters.binary_search(&text).is_ok()) {
            keep_cluster(&table.gateway, &cluster, world);
        }
    }
    Entries {
        created: created(&route.metadata),
        routes: compiled.entries,
        endpoints: Vec::new(),
        problems: compiled.problems,
        any_rule_valid: compiled.any_rule_valid,
    }
}

/// The entries of tailnet endpoints for a table.
pub(super) fn endpoint_entries(table: &RouteTableName, world: &mut World<'_>) -> Entries {
    let listeners = world.output(&OutputKey::Listeners(table.gateway.clone())).listeners();
    let scope = world.output(&OutputKey::Scope(table.gateway.clone())).scope();
    let mut entries = Entries::default();
    for scoped in scope::of_table(&scope, &listeners, table) {
        let Some(object) = world.object::<TailscaleEndpoints>(&scoped.object) else { continue };
        let Some(endpoint) = object.spec.endpoints.iter().find(|endpoint| *endpoint.name == *scoped.endpoint) else {
            continue;
        };
        let Ok(target) = cluster::endpoint_target(endpoint) else { continue };
        let name = ClusterName::Endpoint { endpoints: scoped.object.clone(), endpoint: Arc::clone(&scoped.endpoint) };
        keep_cluster(&table.gateway, &name, world);
        entries.endpoints.push(EndpointEntry {
            by_path: match &*scoped.prefix {
                "" => None,
                prefix => endpoint_entry(scoped, prefix, table, &name, Some(&target.authority)),
            },
            by_host: scoped
                .host
                .as_ref()
                .and_then(|_| endpoint_entry(scoped, "", table, &name, Some(&target.authority))),
            scoped: scoped.clone(),
        });
    }
    entries
}

/// Has a cluster, and all that it needs, served to a Gateway's Envoys.
pub(super) fn keep_cluster(gateway: &ObjectName, name: &ClusterName, world: &mut World<'_>) {
    world.keep(OutputKey::GatewayCluster(gateway.clone(), name.clone()));
    match name {
        ClusterName::Service { .. } => world.keep(OutputKey::GatewayEndpoints(gateway.clone(), name.clone())),
        ClusterName::Endpoint { .. } => world.keep(OutputKey::GatewayAuthorities(gateway.clone())),
    }
}

/// A route that takes a path prefix away: whole segments only, and never leaves two slashes (`original-operator.md` §3.4). It
/// is what an HTTPRoute's rule with a URLRewrite gives.
/// Requests carry this Host, or their own.
pub(super) fn endpoint_entry(
    scoped: &ScopedEndpoint,
    prefix: &str,
    table: &RouteTableName,
    name: &ClusterName,
    host: Option<&str>,
) -> Option<RouteEntry> {
    let mut rewrite = HttpRouteFilter::new(HttpRouteFilterType::UrlRewrite);
    rewrite.url_rewrite = Some(HttpUrlRewriteFilter {
        hostname: None,
        path: Some(HttpPathModifier {
            type_: HttpPathModifierType::ReplacePrefixMatch,
            replace_full_path: None,
            replace_prefix_match: Some("/".to_owned()),
        }),
    });
    let path = HttpPathMatch {
        type_: PathMatchType::PathPrefix,
        value: if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() },
    };
    let rule = HttpRouteRule {
        matches: vec![HttpRouteMatch { path, ..HttpRouteMatch::default() }],
        filters: vec![rewrite],
        backend_refs: vec![HttpBackendRef {
            object: BackendObjectReference {
                group: Kind::TailscaleEndpoints.group().to_owned(),
                kind: Kind::TailscaleEndpoints.as_str().to_owned(),
                name: scoped.object.name.to_string(),
                namespace: None,
                port: None,
            },
            weight: 1,
            filters: Vec::new(),
        }],
        ..HttpRouteRule::default()
    };
    let key = ObjectKey::new(Kind::TailscaleEndpoints, scoped.object.clone());
    let mut backends =
        OneTarget(BackendTarget { cluster: name.to_string().into(), weight: 1, host_rewrite: host.map(str::to_owned) });
    let name = endpoint_route_name(&scoped.object, &scoped.endpoint);
    compile_generated(name, &rule, &key, &RouteContext::of(table), &mut backends)
}

/// Stands for the one cluster of a generated rule.
struct OneTarget(BackendTarget);

impl Backends for OneTarget {
    fn resolve(&mut self, _: &BackendObjectReference, _: &str) -> Result<ResolvedBackend, Problem> {
        Ok(ResolvedBackend { targets: vec![self.0.clone()], websocket: false })
    }
}

/// The virtual host of a domain, encoded as a field of the table: the entries of all routes that apply to it, in the order
/// of Gateway API's precedence.
pub(super) fn virtual_host(table: &RouteTableName, domain: &Arc<str>, world: &mut World<'_>) -> Segment {
    let listeners = world.output(&OutputKey::Listeners(table.gateway.clone())).listeners();
    let of_table: Vec<_> = listeners.of_table(table).collect();
    let Some(owner) = hostname::owner(of_table.iter().map(|listener| listener.hostname.as_deref()), domain) else {
        return Segment::new(Bytes::new(), Vec::new());
    };
    let owner = &of_table[owner].name;

    // Hostnames decide first: the one by which a route is here. Then the match, endpoints last; then age and name; then the
    // route's own order (Gateway API, HTTPRouteSpec.hostnames and HTTPRouteRule.matches).
    let mut claims: BTreeMap<ObjectName, Specificity> = BTreeMap::new();
    for wide in hostname::widening(domain) {
        for fact in world.facts(Topic::Routes(table.clone(), wide)) {
            let Fact::Claim(listener, route, specificity) = fact else { continue };
            if listener == *owner {
                let best = claims.entry(route).or_default();
                *best = specificity.max(*best);
            }
        }
    }
    // Endpoints are ahead of the catch-all of whatever hostname.
    let highest = claims.values().max().copied().unwrap_or_default();
    let sources: Vec<(Specificity, ObjectName, Arc<Entries>)> = claims
        .into_iter()
        .map(|(route, specificity)| {
            let entries = world.output(&OutputKey::RouteEntries(table.clone(), route.clone())).entries();
            (specificity, route, entries)
        })
        .collect();
    let endpoints = world.output(&OutputKey::EndpointEntries(table.clone())).entries();
    let mut rows = Vec::new();
    for (specificity, route, entries) in &sources {
        for entry in &entries.routes {
            rows.push((
                (
                    Reverse(*specificity),
                    &entry.precedence.matching,
                    false,
                    entries.created,
                    route,
                    entry.precedence.place,
                ),
                entry,
            ));
        }
    }
    let offered = || endpoints.endpoints.iter().filter(|entry| entry.scoped.offered_by(owner));
    // On the host of one endpoint, the others have no paths.
    let host = offered().find(|entry| entry.scoped.host.as_ref() == Some(domain)).map(|entry| &entry.scoped);
    for entry in offered().filter(|entry| host.is_none_or(|host| entry.scoped.is(host))) {
        let own_host = entry.by_host.as_ref().filter(|_| host.is_some());
        for route in own_host.into_iter().chain(&entry.by_path) {
            let Precedence { matching, place } = &route.precedence;
            rows.push(((Reverse(highest), matching, true, 0, &entry.scoped.object, *place), route));
        }
    }
    rows.sort_by_key(|(place, _)| *place);

    let shell = VirtualHost { name: domain.to_string(), domains: vec![domain.to_string()], ..Default::default() };
    let len = shell.encoded_len() + rows.iter().map(|(_, entry)| entry.bytes.len()).sum::<usize>();
    let mut bytes = BytesMut::with_capacity(len + 8);
    encode_key(VIRTUAL_HOSTS, WireType::LengthDelimited, &mut bytes);
    encode_varint(len as u64, &mut bytes);
    shell.encode(&mut bytes).expect("the buffer grows as needed");
    let mut clusters = Vec::new();
    for (_, entry) in rows {
        bytes.put_slice(&entry.bytes);
        clusters.extend(entry.clusters.iter().cloned());
    }
    Segment::new(bytes.freeze(), clusters)
}

/// The number of `RouteConfiguration.virtual_hosts`.
const VIRTUAL_HOSTS: u32 = 2;

/// The virtual hosts of a bucket, by domain.
pub(super) fn bucket(table: &RouteTableName, bucket: DomainBucket, world: &mut World<'_>) -> Segment {
    let mut hosts = Vec::new();
    for fact in world.facts(Topic::Domains(table.clone(), bucket)) {
        if let Fact::Domain(domain) = fact {
            hosts.push(world.output(&OutputKey::VirtualHost(table.clone(), domain)).segment());
        }
    }
    if let [only] = hosts.as_slice() {
        return only.clone();
    }
    let mut bytes = BytesMut::with_capacity(hosts.iter().map(|host| host.bytes().len()).sum());
    let mut clusters = Vec::new();
    for host in &hosts {
        bytes.put_slice(host.bytes());
        clusters.extend(host.clusters().iter().cloned());
    }
    Segment::new(bytes.freeze(), clusters)
}

/// A table, spliced from its buckets.
pub(super) fn route_table(table: &RouteTableName, world: &mut World<'_>) -> Arc<Resource> {
    let mut segments = Vec::new();
    for fact in world.facts(Topic::Buckets(table.clone())) {
        if let Fact::Bucket(bucket) = fact {
            segments.push(world.output(&OutputKey::Bucket(table.clone(), bucket)).segment());
        }
    }
    segments.retain(|segment| !segment.bytes().is_empty());
    // Gateway API: the port in a Host header is not part of the hostname.
    let shell =
        RouteConfiguration { name: table.to_string(), ignore_port_in_host_matching: true, ..Default::default() };
    Arc::new(Resource::spliced(TypeUrl::Route, table.to_string(), &shell, segments))
}
