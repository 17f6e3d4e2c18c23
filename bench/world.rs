//! Worlds of any size to measure in, and the single changes that are measured.
//!
//! One Gateway with one HTTP listener; N HTTPRoutes, each to a Service of its own with one EndpointSlice. Never random, so
//! that two runs measure the same.

use std::sync::Arc;

use serde_json::{Value, json};
use tailscale_gateway::{
    api::Object, compile::Compiler, model::ObjectName, pipeline::Pipeline, snapshot::SnapshotCache, store::Change,
};

/// Where the routes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Each has a hostname of its own: as many virtual hosts as routes.
    Hosts,
    /// None has a hostname: one virtual host with all routes, told apart by their paths.
    OneHost,
}

/// A world of some size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// Where the routes stand.
    pub(crate) shape: Shape,
    /// How many routes there are, and Services, and EndpointSlices.
    pub(crate) routes: usize,
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The path that one route matches.
    Route,
    /// The Service that one route leads to: its cluster and endpoints come or go with it.
    Backend,
    /// The address in one EndpointSlice.
    Endpoint,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Kind; 3] = [Kind::Route, Kind::Backend, Kind::Endpoint];

    /// Its name in reports, and in the commands of `streams serve`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Route => "route",
            Kind::Backend => "backend",
            Kind::Endpoint => "endpoint",
        }
    }
}

const NAMESPACE: &str = "bench";

/// The Gateway.
pub(crate) fn gateway() -> ObjectName {
    ObjectName::new(NAMESPACE, "web")
}

impl World {
    /// A world in which every route has a hostname.
    pub(crate) fn hosts(routes: usize) -> Self {
        Self { shape: Shape::Hosts, routes }
    }

    /// A world in which all routes share a virtual host.
    pub(crate) fn one_host(routes: usize) -> Self {
        Self { shape: Shape::OneHost, routes }
    }

    /// Every object, as a source would hand them over at the start.
    pub(crate) fn changes(self) -> Vec<Change> {
        let mut objects = vec![
            read(
                "gateway.networking.k8s.io/v1",
                "Gateway",
                "web",
                json!({"spec": {
                    "gatewayClassName": "tailscale",
                    "listeners": [{"name": "http", "protocol": "HTTP", "port": 8080}],
                }}),
            ),
            // One more than there are routes: where a route leads whose backend changes.
            service(self.routes),
            slice(self.routes, false),
        ];
        for number in 0..self.routes {
            objects.extend([self.route(number, None), service(number), slice(number, false)]);
        }
        objects.into_iter().map(Change::Upsert).collect()
    }

    /// An object in the middle, after its change and as it was before.
    pub(crate) fn change(self, kind: Kind) -> [Change; 2] {
        let number = self.routes / 2;
        let [after, before] = match kind {
            Kind::Route | Kind::Backend => [self.route(number, Some(kind)), self.route(number, None)],
            Kind::Endpoint => [slice(number, true), slice(number, false)],
        };
        [Change::Upsert(after), Change::Upsert(before)]
    }

    fn route(self, number: usize, changed: Option<Kind>) -> Object {
        let version = if changed == Some(Kind::Route) { "v2" } else { "v1" };
        let (hostnames, path) = match self.shape {
            Shape::Hosts => (vec![format!("app-{number:05}.example.com")], format!("/{version}")),
            Shape::OneHost => (Vec::new(), format!("/app-{number:05}/{version}")),
        };
        let backend = if changed == Some(Kind::Backend) { self.routes } else { number };
        read(
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            &app(number),
            json!({"spec": {
                "parentRefs": [{"name": "web"}],
                "hostnames": hostnames,
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                    "backendRefs": [{"name": app(backend), "port": 80}],
                }],
            }}),
        )
    }
}

fn app(number: usize) -> String {
    format!("app-{number:05}")
}

fn service(number: usize) -> Object {
    read("v1", "Service", &app(number), json!({"spec": {"ports": [{"name": "http", "port": 80}]}}))
}

fn slice(number: usize, changed: bool) -> Object {
    let [_, high, middle, low] = u32::try_from(number).expect("worlds are smaller").to_be_bytes();
    let network = if changed { 10 } else { 11 } + high;
    let mut slice = json!({
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [format!("{network}.0.{middle}.{low}")]}],
    });
    slice["metadata"]["labels"]["kubernetes.io/service-name"] = app(number).into();
    read("discovery.k8s.io/v1", "EndpointSlice", &format!("{}-1", app(number)), slice)
}

/// An object as it is read from a manifest.
fn read(version: &str, kind: &str, name: &str, mut object: Value) -> Object {
    object["apiVersion"] = version.into();
    object["kind"] = kind.into();
    object["metadata"]["namespace"] = NAMESPACE.into();
    object["metadata"]["name"] = name.into();
    match kind {
        "Gateway" => Object::Gateway(parse(object)),
        "HTTPRoute" => Object::HttpRoute(parse(object)),
        "Service" => Object::Service(parse(object)),
        "EndpointSlice" => Object::EndpointSlice(parse(object)),
        _ => unreachable!("no world has a {kind}"),
    }
}

fn parse<T: serde::de::DeserializeOwned>(object: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(object).expect("the objects of a world are well-formed"))
}

/// A world, compiled and published.
pub(crate) struct Served {
    /// Takes changes.
    pub(crate) pipeline: Pipeline,
    /// Where snapshots are.
    pub(crate) cache: Arc<SnapshotCache>,
}

impl Served {
    /// Compiles a world.
    pub(crate) fn new(changes: Vec<Change>) -> Self {
        let cache = Arc::new(SnapshotCache::new());
        let mut pipeline = Pipeline::new(Compiler::default(), Arc::clone(&cache));
        let applied = pipeline.apply(changes);
        assert!(applied.problems.is_empty(), "a world has no problems: {:?}", applied.problems);
        cache.set_ready();
        Self { pipeline, cache }
    }
}
