//! Route tables, from small parts: entries of routes stand in sets of rows, of which virtual hosts are made; virtual hosts stand
//! in a set of which the table is made. Each part is encoded once, and a change makes again only what it is in: the sets keep
//! what all their other parts come to.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::BytesMut;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use tailscale_gateway_proto::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use xxhash_rust::xxh3::Xxh3;

use super::{
    Compiler, Fact, Made, MatchPrecedence, OutputKey, Topic, World,
    attach::Claim,
    backend::Resolver,
    cluster, division,
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
        ClusterName, Kind, ObjectKey, ObjectName, Problem, RouteTableName, ServedTable, TABLE_HEADER, Traffic,
        endpoint_route_name,
    },
    snapshot::{References, Resource, Segment, TypeUrl},
    store::{FactSet, Output},
};

/// What was found about one HTTPRoute in a table. Its entries are facts.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Entries {
    /// What is wrong with the route.
    pub(super) problems: Vec<Problem>,
    /// At least one rule is served as written.
    pub(super) any_rule_valid: bool,
}

/// The routes of one tailnet endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointEntry {
    scoped: ScopedEndpoint,
    /// In the virtual hosts of its listeners.
    by_path: Option<Arc<Entry>>,
    /// In the virtual host of its own host.
    by_host: Option<Arc<Entry>>,
}

/// An entry for a domain. The order of rows is that of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Hostnames decide first: the one by which a route is here. Then the match, endpoints last; then age and name; then the
    /// route's own order (Gateway API, HTTPRouteSpec.hostnames and HTTPRouteRule.matches).
    specificity: Reverse<Specificity>,
    entry: Arc<Entry>,
}

/// An entry of a route, wherever it stands.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    matching: MatchPrecedence,
    is_endpoint: bool,
    created: i64,
    object: ObjectName,
    place: (u32, u32),
    /// Among several in one place.
    turn: usize,
    segment: Segment,
}

impl Entry {
    /// The entries of a route, in their order.
    fn of_route(object: &ObjectName, created: i64, entries: &[RouteEntry]) -> Vec<Arc<Self>> {
        let mut turn = 0;
        let mut before = None;
        let mut made = Vec::with_capacity(entries.len());
        for RouteEntry { precedence, bytes, .. } in entries {
            turn = if before == Some(*precedence) { turn + 1 } else { 0 };
            before = Some(*precedence);
            let Precedence { matching, place } = *precedence;
            let (object, segment) = (object.clone(), Segment::new(bytes.clone()));
            made.push(Arc::new(Self { matching, is_endpoint: false, created, object, place, turn, segment }));
        }
        made
    }

    /// The entry of a tailnet endpoint.
    fn of_endpoint(object: &ObjectName, turn: usize, entry: &RouteEntry) -> Arc<Self> {
        let Precedence { matching, place } = entry.precedence;
        let (object, segment) = (object.clone(), Segment::new(entry.bytes.clone()));
        Arc::new(Self { matching, is_endpoint: true, created: 0, object, place, turn, segment })
    }
}

impl Row {
    /// The field of the virtual host.
    pub(super) fn segment(&self) -> Segment {
        self.entry.segment.clone()
    }

    /// See [`Fact::mark`](crate::store::Fact::mark).
    pub(super) fn mark(&self) -> u64 {
        let Entry { object, place: (rule, at), .. } = &*self.entry;
        let mut hash = Xxh3::new();
        hash.update(object.namespace.as_bytes());
        hash.update(b"/");
        hash.update(object.name.as_bytes());
        hash.update(&rule.to_le_bytes());
        hash.update(&at.to_le_bytes());
        hash.digest()
    }
}

/// Makes a route's entries for a table, and states them for each domain of its.
pub(super) fn route_entries(table: &RouteTableName, name: &ObjectName, world: &mut World<'_>) -> Output<Compiler> {
    let binding = world.output(&OutputKey::Binding(name.clone())).binding();
    let Some(route) = world.object::<HttpRoute>(name) else {
        return Output::plain(Made::Entries(Arc::default()));
    };
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
    let entries = Entry::of_route(name, created(&route.metadata), &compiled.entries);
    let mut facts = Vec::new();
    for Claim { domain, specificity, .. } in binding.claims.iter().filter(|claim| claim.table == *table) {
        for entry in &entries {
            let row = Row { specificity: Reverse(*specificity), entry: Arc::clone(entry) };
            facts.push((Topic::Rows(table.clone(), Arc::clone(domain)), Fact::Row(row)));
        }
    }
    let claims = binding.claims.iter().filter(|claim| claim.table == *table);
    for served in served(table, claims.map(|claim| (&*claim.domain, claim.divided))) {
        let clusters = compiled.entries.iter().flat_map(|entry| entry.clusters.iter());
        facts.extend(clusters.map(|cluster| (Topic::Clusters(served.clone()), Fact::Cluster(Arc::clone(cluster)))));
    }
    let entries = Entries { problems: compiled.problems, any_rule_valid: compiled.any_rule_valid };
    Output { value: Made::Entries(Arc::new(entries)), facts }
}

/// The entries of tailnet endpoints for a table.
pub(super) fn endpoint_entries(table: &RouteTableName, world: &mut World<'_>) -> Output<Compiler> {
    let listeners = world.output(&OutputKey::Listeners(table.gateway.clone())).listeners();
    let scope = world.output(&OutputKey::Scope(table.gateway.clone())).scope();
    let divided = listeners.divides(table);
    let mut entries = Vec::new();
    let mut facts = Vec::new();
    for (turn, scoped) in scope::of_table(&scope, &listeners, table).enumerate() {
        let Some(object) = world.object::<TailscaleEndpoints>(&scoped.object) else { continue };
        let Some(endpoint) = object.spec.endpoints.iter().find(|endpoint| *endpoint.name == *scoped.endpoint) else {
            continue;
        };
        let Ok(target) = cluster::endpoint_target(endpoint) else { continue };
        let name = ClusterName::Endpoint { endpoints: scoped.object.clone(), endpoint: Arc::clone(&scoped.endpoint) };
        keep_cluster(&table.gateway, &name, world);
        let mut entry = |prefix, domains: &mut dyn Iterator<Item = &str>| {
            let entry = endpoint_entry(scoped, prefix, table, &name, Some(&target.authority))?;
            for served in served(table, domains.map(|domain| (domain, divided))) {
                let clusters = entry.clusters.iter().cloned();
                facts.extend(clusters.map(|cluster| (Topic::Clusters(served.clone()), Fact::Cluster(cluster))));
            }
            Some(Entry::of_endpoint(&scoped.object, turn, &entry))
        };
        let offering = listeners.of_table(table).filter(|listener| scoped.offered_by(&listener.name));
        let mut domains = offering.map(|listener| listener.hostname.as_deref().unwrap_or(hostname::ANY));
        entries.push(EndpointEntry {
            by_path: if scoped.prefix.is_empty() { None } else { entry(&scoped.prefix, &mut domains) },
            by_host: scoped.host.as_deref().and_then(|host| entry("", &mut [host].into_iter())),
            scoped: scoped.clone(),
        });
    }
    Output { value: Made::EndpointEntries(entries.into()), facts }
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
pub(super) fn virtual_host(table: &RouteTableName, domain: &Arc<str>, world: &mut World<'_>) -> Output<Compiler> {
    let listeners = world.output(&OutputKey::Listeners(table.gateway.clone())).listeners();
    let Some(owner) = listeners.owner(table, domain).map(|listener| &listener.name) else {
        return Output::plain(Made::Segment(Segment::default()));
    };
    // Wider domains follow as long as they are the same listener's: none but its routes apply.
    let mut levels: Vec<FactSet<Fact>> = hostname::widening(domain)
        .into_iter()
        .take_while(|wide| listeners.owner(table, wide).is_some_and(|of_wide| of_wide.name == *owner))
        .map(|wide| world.facts(Topic::Rows(table.clone(), wide)))
        .filter(|rows| !rows.is_empty())
        .collect();
    leave_out_repetitions(&mut levels);
    let endpoints = world.output(&OutputKey::EndpointEntries(table.clone())).endpoint_entries();
    let offered = || endpoints.iter().filter(|entry| entry.scoped.offered_by(owner));
    // On the host of one endpoint, the others have no paths.
    let host = offered().find(|entry| entry.scoped.host.as_ref() == Some(domain)).map(|entry| &entry.scoped);
    let mut first = levels.first().cloned().unwrap_or_default();
    // Ahead of the catch-all of whatever hostname; on its own host an endpoint is there by that.
    let Reverse(highest) = specificities(&first).first().copied().unwrap_or_default();
    let highest = Reverse(if host.is_some() { highest.max(Specificity::of(Some(domain))) } else { highest });
    for entry in offered().filter(|entry| host.is_none_or(|host| entry.scoped.is(host))) {
        let own_host = entry.by_host.as_ref().filter(|_| host.is_some());
        for entry in own_host.into_iter().chain(&entry.by_path) {
            first.insert(Fact::Row(Row { specificity: highest, entry: Arc::clone(entry) }));
        }
    }

    let shell = VirtualHost { name: domain.to_string(), domains: vec![domain.to_string()], ..Default::default() };
    let routes: Vec<Segment> = [&first].into_iter().chain(levels.iter().skip(1)).map(FactSet::sum).collect();
    let len = shell.encoded_len() + routes.iter().map(Segment::len).sum::<usize>();
    let mut head = BytesMut::with_capacity(shell.encoded_len() + 8);
    encode_key(VIRTUAL_HOSTS, WireType::LengthDelimited, &mut head);
    encode_varint(len as u64, &mut head);
    shell.encode(&mut head).expect("the buffer grows as needed");
    let segment = Segment::join([&Segment::new(head.freeze())].into_iter().chain(&routes));
    let fact = Fact::VirtualHost(Arc::clone(domain), segment.clone());
    let served = served(table, [(&**domain, listeners.divides(table))].into_iter());
    let facts = served.into_iter().map(|served| (Topic::VirtualHosts(served), fact.clone())).collect();
    Output { value: Made::Segment(segment), facts }
}

/// The whole of a table, and the parts of it in which some domains stand if it is divided; nothing without domains. Each once.
fn served<'a>(table: &RouteTableName, domains: impl Iterator<Item = (&'a str, bool)>) -> BTreeSet<ServedTable> {
    let mut parts = BTreeSet::new();
    for (domain, divided) in domains {
        parts.insert(None);
        if divided {
            parts.extend(division::parts_of(domain).map(Some));
        }
    }
    parts.into_iter().map(|part| ServedTable { table: table.clone(), part }).collect()
}

/// The number of `RouteConfiguration.virtual_hosts`.
const VIRTUAL_HOSTS: u32 = 2;

/// A route that stands in a domain and in a wider one is in the first only. Looks up each row of the smaller set in the other.
fn leave_out_repetitions(levels: &mut [FactSet<Fact>]) {
    for wide in 1..levels.len() {
        let (narrower, wider) = levels.split_at_mut(wide);
        let wide = &mut wider[0];
        for narrow in narrower {
            let (few, many) = if narrow.len() < wide.len() { (&*narrow, &*wide) } else { (&*wide, &*narrow) };
            let in_many = specificities(many);
            let mut repeated = Vec::new();
            for entry in few.iter().filter_map(entry_of) {
                let mut rows = in_many.iter().map(|it| Row { specificity: *it, entry: Arc::clone(entry) });
                if rows.any(|row| many.contains(&Fact::Row(row))) {
                    repeated.push(Arc::clone(entry));
                }
            }
            for specificity in specificities(wide) {
                for entry in &repeated {
                    wide.remove(&Fact::Row(Row { specificity, entry: Arc::clone(entry) }));
                }
            }
        }
    }
}

/// The specificities among some rows, in their order. Costs as many look-ups.
fn specificities(rows: &FactSet<Fact>) -> Vec<Reverse<Specificity>> {
    let mut found: Vec<Reverse<Specificity>> = Vec::new();
    loop {
        let next = rows.first_from(|fact| match (fact, found.last()) {
            (Fact::Row(row), Some(last)) if row.specificity <= *last => Ordering::Less,
            _ => Ordering::Greater,
        });
        match next {
            Some(Fact::Row(row)) => found.push(row.specificity),
            _ => return found,
        }
    }
}

fn entry_of(fact: &Fact) -> Option<&Arc<Entry>> {
    match fact {
        Fact::Row(row) => Some(&row.entry),
        _ => None,
    }
}

/// A table or a part of it, spliced from its virtual hosts.
pub(super) fn route_table(table: &ServedTable, world: &mut World<'_>) -> Arc<Resource> {
    let hosts = world.facts(Topic::VirtualHosts(table.clone())).sum();
    let clusters = Named(world.facts(Topic::Clusters(table.clone())));
    let shell = RouteConfiguration {
        name: table.to_string(),
        // Gateway API: the port in a Host header is not part of the hostname.
        ignore_port_in_host_matching: true,
        request_headers_to_remove: table.part.map(|_| TABLE_HEADER.to_owned()).into_iter().collect(),
        ..Default::default()
    };
    Arc::new(Resource::spliced(TypeUrl::Route, table.to_string(), &shell, hosts, Some(Arc::new(clusters))))
}

/// The clusters of a table, as they were stated.
struct Named(FactSet<Fact>);

impl References for Named {
    fn contains(&self, cluster: &str) -> bool {
        let name = |fact: &Fact| match fact {
            Fact::Cluster(name) => (**name).cmp(cluster),
            _ => Ordering::Less,
        };
        self.0.first_from(name).is_some_and(|found| name(found).is_eq())
    }

    fn iter(&self) -> Box<dyn Iterator<Item = &Arc<str>> + '_> {
        Box::new(self.0.iter().filter_map(|fact| match fact {
            Fact::Cluster(name) => Some(name),
            _ => None,
        }))
    }
}
