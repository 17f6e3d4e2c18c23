//! A Gateway of another controller: which routes to tailnet endpoints its listeners get.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use tailscale_gateway_proto::{
    envoy::config::route::v3::{
        Route,
        route::Action,
        route_action::{HostRewriteSpecifier, UpgradeConfig},
    },
    google::protobuf::BoolValue,
};

use crate::{
    api::{Gateway, TailscaleEndpoints},
    compile::{
        GatewayListeners, ListenerSpec, OutputKey, Settings, World, cluster::endpoint_target, hostname,
        matching::MatchPrecedence, route::RouteEntry, scope::ScopedEndpoint, secret, table::endpoint_entry,
    },
    model::{ClusterName, FOREIGN_AUTHORITIES, ObjectName, Traffic},
    snapshot::{HostedGateway, HostedListener, InjectedRoute},
};

/// The number of `VirtualHost.routes`.
const ROUTES: u32 = 3;

/// A Gateway of another controller; nothing when it is ours, or is none.
pub(in crate::compile) fn gateway(
    settings: &Settings,
    name: &ObjectName,
    world: &mut World<'_>,
) -> Option<Arc<HostedGateway>> {
    let listeners = world.output(&OutputKey::Listeners(name.clone())).listeners();
    if !listeners.foreign {
        return None;
    }
    let scope = world.output(&OutputKey::Scope(name.clone())).scope();
    let mut clusters = Vec::new();
    let mut endpoints: Vec<&ScopedEndpoint> = scope.endpoints.iter().collect();
    endpoints.retain(|scoped| {
        let Some(target) = world.object::<TailscaleEndpoints>(&scoped.object) else { return false };
        let target = target.spec.endpoints.iter().find(|endpoint| *endpoint.name == *scoped.endpoint);
        target.is_some_and(|endpoint| endpoint_target(endpoint).is_ok())
    });
    for scoped in &endpoints {
        let cluster = cluster_of(scoped);
        clusters.push(Arc::<str>::from(cluster.to_string()));
        world.keep(OutputKey::HostedCluster(name.clone(), cluster, Traffic::Http));
    }
    clusters.sort_unstable();
    clusters.dedup();
    settings.hosting.as_ref()?;
    let pointer = world.output(&OutputKey::HostedPointer(name.clone())).pointer();
    Some(Arc::new(HostedGateway {
        name: name.clone(),
        uid: world.object::<Gateway>(name).and_then(|gateway| gateway.metadata.uid.as_deref().map(Into::into)),
        listeners: listeners.served().map(|spec| listener(name, &listeners, spec, &endpoints)).collect(),
        clusters: clusters.into(),
        authorities: match &pointer {
            Some(_) => None,
            None => secret::authorities_message(settings, FOREIGN_AUTHORITIES)
                .map(|message| (FOREIGN_AUTHORITIES.into(), message.encode_to_vec().into())),
        },
        pointer,
    }))
}

fn cluster_of(scoped: &ScopedEndpoint) -> ClusterName {
    ClusterName::Endpoint { endpoints: scoped.object.clone(), endpoint: Arc::clone(&scoped.endpoint) }
}

fn listener(
    gateway: &ObjectName,
    all: &GatewayListeners,
    spec: &ListenerSpec,
    endpoints: &[&ScopedEndpoint],
) -> HostedListener {
    let table = spec.table(gateway);
    let of_table: Vec<&ListenerSpec> = all.of_table(&table).collect();
    // A domain that a more specific listener covers as well is that one's.
    let owns = |domain: &Arc<str>| {
        let owner = hostname::owner(of_table.iter().map(|listener| listener.hostname.as_deref()), domain);
        owner.is_some_and(|owner| of_table[owner].name == spec.name)
    };
    let mut everywhere = Vec::new();
    let mut by_host: BTreeMap<Arc<str>, Vec<_>> = BTreeMap::new();
    for scoped in endpoints.iter().filter(|scoped| scoped.offered_by(&spec.name)) {
        let row = |prefix: &str| row(gateway, spec, scoped, prefix);
        let by_path = (!scoped.prefix.is_empty()).then(|| row(&scoped.prefix)).flatten();
        let domain =
            scoped.host.as_deref().and_then(|host| hostname::intersection(spec.hostname.as_deref(), Some(host)));
        if let Some(domain) = domain.filter(owns) {
            by_host.entry(domain).or_default().extend(by_path.clone().into_iter().chain(row("")));
        }
        everywhere.extend(by_path);
    }
    HostedListener {
        name: Arc::clone(&spec.name),
        port: spec.port,
        https: spec.https,
        domain: spec.hostname.clone().unwrap_or_else(|| hostname::ANY.into()),
        routes: in_order(everywhere),
        hosts: by_host.into_iter().map(|(domain, rows)| (domain, in_order(rows))).collect(),
    }
}

/// A route with its place in the order of precedence.
type Row = ((MatchPrecedence, ObjectName, Arc<str>), InjectedRoute);

fn in_order(mut rows: Vec<Row>) -> Arc<[InjectedRoute]> {
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    rows.into_iter().map(|(_, route)| route).collect()
}

fn row(gateway: &ObjectName, spec: &ListenerSpec, scoped: &ScopedEndpoint, prefix: &str) -> Option<Row> {
    let entry = endpoint_entry(scoped, prefix, &spec.table(gateway), &cluster_of(scoped), None)?;
    let place = (entry.precedence.matching, scoped.object.clone(), Arc::clone(&scoped.endpoint));
    let prefix = if prefix.is_empty() { "/" } else { prefix };
    Some((place, InjectedRoute { prefix: prefix.into(), bytes: with_endpoints_host(&entry) }))
}

/// The route with the Host that its endpoint names: an endpoint may change without a change of the route. And with WebSockets,
/// which our own listeners let through and an Envoy Gateway's routes do, each for itself.
fn with_endpoints_host(entry: &RouteEntry) -> Bytes {
    let mut bytes = entry.bytes.clone();
    prost::encoding::decode_key(&mut bytes).expect("an entry is a field");
    prost::encoding::decode_varint(&mut bytes).expect("an entry is a delimited field");
    let mut route = Route::decode(bytes).expect("an entry is an encoded route");
    if let Some(Action::Route(action)) = &mut route.action {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::AutoHostRewrite(BoolValue { value: true }));
        action.upgrade_configs = vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }];
    }
    let mut field = BytesMut::new();
    encode_key(ROUTES, WireType::LengthDelimited, &mut field);
    encode_varint(route.encoded_len() as u64, &mut field);
    route.encode_raw(&mut field);
    field.freeze()
}
