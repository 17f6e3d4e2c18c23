//! The incremental engine against its oracle: whatever happened, what stands is what compiling the present world from nothing
//! gives, and who followed every difference has exactly that.

mod pool;
pub(crate) mod rng;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
};

use prost::Message;
use tailscale_gateway::{
    api::{Object, parse},
    compile::{Compiler, Made, OutputKey, Settings},
    model::{ClusterName, ObjectKey, ObjectName},
    pipeline::Pipeline,
    snapshot::{Resource, Snapshot, SnapshotCache, TypeUrl},
    store::{Change, Engine},
};
use tailscale_gateway_proto::envoy::config::route::v3::{
    RouteConfiguration, route::Action, route_action::ClusterSpecifier,
};

use self::{
    pool::{Pool, pool},
    rng::Rng,
};
use crate::support::tools::repository;

/// How many histories; each begins with its number as its seed.
const HISTORIES: u64 = 200;
/// How many commits in each.
const COMMITS: usize = 25;
/// The seed of the objects.
const POOL_SEED: u64 = 1;

type World = BTreeMap<ObjectKey, Object>;
/// A resource is known by Gateway, type and name.
type Served = BTreeMap<(ObjectName, TypeUrl, Arc<str>), Arc<Resource>>;

fn compiler() -> Compiler {
    let authorities = fs::read_to_string(repository().join("tests/golden/authorities.pem")).unwrap();
    Compiler::new(Settings { trusted_authorities: Some(authorities.into()), ..Settings::default() })
}

/// The program, and an Envoy of each Gateway that follows it by differences alone.
struct Incremental {
    cache: Arc<SnapshotCache>,
    pipeline: Pipeline,
    seen: BTreeMap<ObjectName, Arc<Snapshot>>,
    replayed: Served,
}

impl Incremental {
    fn new() -> Self {
        let cache = Arc::new(SnapshotCache::new());
        let pipeline = Pipeline::new(compiler(), Arc::clone(&cache));
        Self { cache, pipeline, seen: BTreeMap::new(), replayed: Served::new() }
    }

    fn apply(&mut self, changes: Vec<Change>) -> usize {
        let made = self.pipeline.apply(changes).made;
        // Those that have nothing any more are no longer listed.
        let gateways: BTreeSet<ObjectName> =
            self.cache.gateways().into_iter().chain(self.seen.keys().cloned()).collect();
        for gateway in gateways {
            let now = self.cache.current(&gateway);
            let before = self.seen.insert(gateway.clone(), Arc::clone(&now)).unwrap_or_default();
            for type_url in TypeUrl::ALL {
                let step = now.view(type_url).step_from(before.view(type_url));
                for resource in &step.updated {
                    let key = (gateway.clone(), type_url, Arc::clone(resource.name()));
                    self.replayed.insert(key, Arc::clone(resource));
                }
                for name in &step.removed {
                    let key = (gateway.clone(), type_url, Arc::clone(name));
                    assert!(self.replayed.remove(&key).is_some(), "{key:?} was removed and had never been there");
                }
            }
        }
        made
    }

    fn served(&self) -> Served {
        let mut served = Served::new();
        for gateway in self.cache.gateways() {
            let snapshot = self.cache.current(&gateway);
            for type_url in TypeUrl::ALL {
                for resource in snapshot.view(type_url).iter() {
                    served.insert((gateway.clone(), type_url, Arc::clone(resource.name())), Arc::clone(resource));
                }
            }
        }
        served
    }

    /// The versions of all views that have something.
    fn versions(&self) -> BTreeMap<(ObjectName, TypeUrl), String> {
        let gateways = self.cache.gateways();
        let all = gateways.iter().flat_map(|gateway| TypeUrl::ALL.map(|type_url| (gateway.clone(), type_url)));
        all.filter_map(|(gateway, type_url)| {
            let snapshot = self.cache.current(&gateway);
            let view = snapshot.view(type_url);
            (!view.is_empty()).then(|| ((gateway, type_url), view.version().to_string()))
        })
        .collect()
    }

    /// Compares with what compiling the world from nothing gives.
    fn check(&self, world: &World) {
        let mut scratch = Engine::new(compiler());
        scratch.commit(world.values().cloned().map(Change::Upsert));
        let outputs: BTreeMap<&OutputKey, &Made> = self.pipeline.engine().outputs().collect();
        let from_scratch: BTreeMap<&OutputKey, &Made> = scratch.outputs().collect();
        for (key, made) in &from_scratch {
            assert!(outputs.contains_key(key), "{key:?} was not made");
            assert_eq!(outputs[key], *made, "{key:?} is out of date");
        }
        for key in outputs.keys() {
            assert!(from_scratch.contains_key(key), "{key:?} is left over");
        }
        let mut expected = Served::new();
        let mut reports = BTreeMap::new();
        for (key, made) in from_scratch {
            if let Some((gateway, change)) = key.served(Some(made))
                && let Some(resource) = change.resource
            {
                expected.insert((gateway.clone(), change.type_url, change.name), resource);
            }
            if let (OutputKey::Report(object), Made::Report(Some(report))) = (key, made) {
                reports.insert(object.clone(), Arc::clone(report));
            }
        }
        same("served", &self.served(), &expected);
        same("replayed", &self.replayed, &expected);
        let published: BTreeMap<_, _> =
            self.pipeline.reports().iter().map(|(object, report)| (object.clone(), Arc::clone(report))).collect();
        assert_eq!(published, reports);
        assert_eq!(self.pipeline.engine().store().len(), world.len());
    }
}

fn same(what: &str, found: &Served, expected: &Served) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (key, resource) in found {
        assert_eq!(resource.version(), expected[key].version(), "{what}: {key:?}");
        assert_eq!(resource.message_bytes(), expected[key].message_bytes(), "{what}: {key:?} has other bytes");
        if resource.type_url() == TypeUrl::Route {
            let named = named_clusters(resource);
            assert!(named.iter().all(|cluster| resource.refers_to(cluster)), "{what}: {key:?} names more: {named:?}");
        }
    }
}

/// The clusters in a table's bytes, but for the one that never exists.
fn named_clusters(table: &Resource) -> BTreeSet<String> {
    let table = RouteConfiguration::decode(table.message_bytes()).expect("it is a table");
    let routes = table.virtual_hosts.into_iter().flat_map(|host| host.routes);
    let actions = routes.filter_map(|route| match route.action {
        Some(Action::Route(action)) => Some(action),
        _ => None,
    });
    let named = actions.flat_map(|action| {
        let mut named: Vec<String> = action.request_mirror_policies.into_iter().map(|mirror| mirror.cluster).collect();
        match action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => named.push(name),
            Some(ClusterSpecifier::WeightedClusters(all)) => {
                named.extend(all.clusters.into_iter().map(|cluster| cluster.name));
            }
            _ => {}
        }
        named
    });
    named.filter(|name| name != ClusterName::UNRESOLVED).collect()
}

/// Some changes, done to the world too.
fn changes(pool: &Pool, world: &mut World, rng: &mut Rng) -> Vec<Change> {
    let keys: Vec<&ObjectKey> = pool.keys().collect();
    (0..1 + rng.below(4))
        .map(|_| {
            let key = *rng.pick(&keys);
            if rng.one_in(3) {
                world.remove(key);
                Change::Remove(key.clone())
            } else {
                let object = rng.pick(&pool[key]).clone();
                world.insert(key.clone(), object.clone());
                Change::Upsert(object)
            }
        })
        .collect()
}

/// An equal object that shares nothing with this one.
fn copy(object: &Object) -> Object {
    parse(object.kind(), object.to_json()).object.unwrap()
}

/// A history that is told if it ends in a panic.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ =
                std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("in the history of seed {}\n", self.0));
        }
    }
}

#[test]
fn after_every_commit_of_random_histories_all_is_as_if_compiled_from_nothing() {
    let pool = pool(POOL_SEED);
    let mut divided = 0;
    for seed in 0..HISTORIES {
        let _told = Told(seed);
        let mut rng = Rng::new(seed);
        let mut world = World::new();
        let mut incremental = Incremental::new();
        // Half of the histories begin with a full world, so that they are about changes.
        if rng.one_in(2) {
            world.extend(pool.iter().map(|(key, forms)| (key.clone(), rng.pick(forms).clone())));
            incremental.apply(world.values().cloned().map(Change::Upsert).collect());
        }
        for _ in 0..COMMITS {
            incremental.apply(changes(&pool, &mut world, &mut rng));
            incremental.check(&world);
            divided +=
                usize::from(incremental.served().keys().any(|(_, type_url, _)| *type_url == TypeUrl::ScopedRoute));
        }
    }
    assert!(divided > 100, "{divided} worlds have divided tables");
}

#[test]
fn p80_the_way_to_a_world_leaves_no_trace_in_it() {
    let pool = pool(POOL_SEED);
    for seed in 0..HISTORIES {
        let _told = Told(seed);
        let mut rng = Rng::new(seed);
        let mut world = World::new();
        for (key, forms) in &pool {
            if !rng.one_in(3) {
                world.insert(key.clone(), rng.pick(forms).clone());
            }
        }
        let mut straight = Incremental::new();
        straight.apply(world.values().cloned().map(Change::Upsert).collect());

        // The other way: every object in other forms before, those that are not to be there for a while, in any order.
        let mut detours: Vec<Change> = Vec::new();
        for (key, forms) in &pool {
            if rng.one_in(2) {
                detours.push(Change::Upsert(rng.pick(forms).clone()));
            }
            if rng.one_in(4) {
                detours.push(Change::Remove(key.clone()));
            }
        }
        rng.shuffle(&mut detours);
        let mut last: Vec<Change> = pool
            .keys()
            .map(|key| world.get(key).map_or(Change::Remove(key.clone()), |object| Change::Upsert(object.clone())))
            .collect();
        rng.shuffle(&mut last);
        detours.extend(last);
        let mut winding = Incremental::new();
        let mut rest = detours.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at((1 + rng.below(20)).min(rest.len()));
            winding.apply(batch.to_vec());
            rest = later;
        }

        assert_eq!(straight.versions(), winding.versions());
        straight.check(&world);
        winding.check(&world);
    }
}

#[test]
fn an_equal_object_makes_nothing_again() {
    let pool = pool(POOL_SEED);
    let mut rng = Rng::new(7);
    let world: World = pool.iter().map(|(key, forms)| (key.clone(), rng.pick(forms).clone())).collect();
    let mut incremental = Incremental::new();
    incremental.apply(world.values().cloned().map(Change::Upsert).collect());
    for object in world.values() {
        assert_eq!(incremental.apply(vec![Change::Upsert(copy(object))]), 0, "{}", object.key());
    }
}

#[test]
fn when_every_object_is_gone_nothing_is_left() {
    let pool = pool(POOL_SEED);
    for seed in 0..20 {
        let _told = Told(seed);
        let mut rng = Rng::new(seed);
        let mut incremental = Incremental::new();
        let all = pool.values().map(|forms| Change::Upsert(rng.pick(forms).clone())).collect();
        incremental.apply(all);
        let mut keys: Vec<&ObjectKey> = pool.keys().collect();
        rng.shuffle(&mut keys);
        for some in keys.chunks(3) {
            incremental.apply(some.iter().map(|key| Change::Remove((*key).clone())).collect());
        }
        assert_eq!(incremental.pipeline.engine().outputs().count(), 0);
        incremental.check(&World::new());
    }
}

/// A Gateway and as many routes, each with a hostname and a Service of its own.
fn many(routes: usize) -> Incremental {
    let mut objects = vec![object(
        r#"{"kind": "Gateway", "metadata": {"name": "web"}, "spec": {"gatewayClassName": "tailscale",
            "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}]}}"#,
    )];
    for at in 0..routes {
        objects.push(route(at, 1));
        objects.push(object(&format!(
            r#"{{"kind": "Service", "metadata": {{"name": "s{at}"}}, "spec": {{"ports": [{{"port": 80}}]}}}}"#
        )));
        objects.push(slice(at, 1));
    }
    let mut incremental = Incremental::new();
    incremental.apply(objects.into_iter().map(Change::Upsert).collect());
    incremental
}

fn object(json: &str) -> Object {
    let manifest: serde_json::Value = serde_json::from_str(json).unwrap();
    let kinds = tailscale_gateway::model::Kind::ALL;
    let kind = kinds.into_iter().find(|kind| kind.as_str() == manifest["kind"]).unwrap();
    let parsed = parse(kind, manifest);
    parsed.object.unwrap_or_else(|| panic!("{:?}", parsed.findings))
}

fn route(at: usize, weight: u32) -> Object {
    object(&format!(
        r#"{{"kind": "HTTPRoute", "metadata": {{"name": "r{at}"}}, "spec": {{"parentRefs": [{{"name": "web"}}],
            "hostnames": ["h{at}.example.com"], "rules": [{{"backendRefs": [
                {{"name": "s{at}", "port": 80, "weight": {weight}}}, {{"name": "s0", "port": 80, "weight": 1}}]}}]}}}}"#
    ))
}

fn slice(at: usize, host: u32) -> Object {
    object(&format!(
        r#"{{"kind": "EndpointSlice", "metadata": {{"name": "s{at}", "labels": {{"kubernetes.io/service-name": "s{at}"}}}},
            "addressType": "IPv4", "ports": [{{"port": 80}}], "endpoints": [{{"addresses": ["10.0.0.{host}"]}}]}}"#
    ))
}

#[test]
fn a_changed_route_changes_one_part_of_a_divided_table() {
    let mut incremental = many(300);
    incremental.apply(vec![
        Change::Upsert(object(
            r#"{"kind": "GatewayClass", "metadata": {"name": "tailscale"}, "spec": {
                "controllerName": "gateway.tailscale.com/gateway-controller", "parametersRef": {
                "group": "gateway.tailscale.com", "kind": "TailscaleGatewayParameters", "namespace": "default", "name": "a"}}}"#,
        )),
        Change::Upsert(object(
            r#"{"kind": "TailscaleGatewayParameters", "metadata": {"name": "a"}, "spec": {"routeTables": "Divided"}}"#,
        )),
    ]);
    let before = incremental.served();
    // One more than in a whole table, which is there beside its parts.
    assert_eq!(incremental.apply(vec![Change::Upsert(route(1, 2))]), 6);
    let after = incremental.served();
    let changed = after.iter().filter(|(key, resource)| before[*key].version() != resource.version());
    let sizes: BTreeMap<&str, usize> = changed.map(|((_, _, name), one)| (&**name, one.delta_len())).collect();
    let (whole, parts): (Vec<_>, Vec<_>) = sizes.iter().partition(|(name, _)| !name.contains('#'));
    let ([(_, whole)], [(_, part)]) = (&whole[..], &parts[..]) else { panic!("a table and a part of it: {sizes:?}") };
    assert!(*part * 10 < **whole, "{sizes:?}");
}

#[test]
fn a_change_costs_what_it_changes_however_much_there_is() {
    for routes in [2, 300] {
        let mut incremental = many(routes);
        // The cluster's endpoints, and the same for the Gateway.
        assert_eq!(incremental.apply(vec![Change::Upsert(slice(1, 2))]), 2, "an endpoint among {routes} routes");
        // Its entries, the virtual host and the table that they are in, where it is attached, and its report.
        let made = incremental.apply(vec![Change::Upsert(route(1, 2))]);
        assert_eq!(made, 5, "a weight among {routes} routes");
        // The cluster, its endpoints and the route's entries come out equal, and nobody behind them is asked.
        let labelled = object(
            r#"{"kind": "Service", "metadata": {"name": "s1", "labels": {"a": "b"}}, "spec": {"ports": [{"port": 80}]}}"#,
        );
        assert_eq!(incremental.apply(vec![Change::Upsert(labelled)]), 3, "a label among {routes} routes");
    }
}
