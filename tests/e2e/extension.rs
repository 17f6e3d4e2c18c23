//! What the golden files of the extension server record is what real Envoys take: an Envoy Gateway's configuration with us in
//! it, nothing of it refused, everything of it in use, and requests that arrive.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use tailscale_gateway::{
    compile::XdsAddress,
    metrics::Metrics,
    model::ObjectName,
    snapshot::{Resource, Segment, SnapshotCache, TypeUrl, ViewChange},
    xds::{self, Registry, ServerOptions},
};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    golden::{Versions, assert_got_all, assert_uses},
    support::{
        backend::Backend,
        client,
        envoy::{Envoy, Version},
        envoy_gateway::{Resources, name_of},
        extension_cases::{Case, cases},
        gateway,
        ports::Port,
        tools::stdout,
    },
};

/// The address that the Envoys of each version listen on, where nobody else does: cases say which ports.
const ADDRESSES: [(Version, &str); 2] = [(Version::Latest, "127.9.7.6"), (Version::Older, "127.9.7.7")];

/// The target that most cases have.
const TARGET: &str = "127.0.0.1:8090";

/// Requests that must arrive there: the case, host and path, and the path there.
const REQUESTS: [(&str, &str, &str, &str); 11] = [
    ("api-routes.yaml", "any.example", "/api/web/status", "/status"),
    ("api-routes.yaml", "b.example.com", "/api/web", "/"),
    ("api-routes-inline.yaml", "any.example", "/api/web/status", "/status"),
    ("api-routes-v2.yaml", "any.example", "/api/web/status", "/status"),
    ("custom-backends.yaml", "any.example", "/0-alone/x", "/0-alone/x"),
    ("merged.yaml", "one.example", "/api/web/status", "/status"),
    ("missing-virtual-hosts.yaml", "any.example", "/tailnet/web/status", "/status"),
    ("missing-virtual-hosts.yaml", "web.inside.example", "/status", "/status"),
    ("missing-virtual-hosts-v2.yaml", "any.example", "/api/web/status", "/status"),
    ("standalone.yaml", "any.example", "/api/web/status", "/status"),
    ("two-hooks.yaml", "any.example", "/api/web/status", "/status"),
];

#[tokio::test]
async fn a_real_envoy_takes_every_configuration_of_an_envoy_gateway_with_ours_in_it() {
    let backend = Backend::start("target").await;
    let mut requests = 0;
    for case in cases() {
        for (version, address) in ADDRESSES {
            let running = Running::start(&case, version, address, &backend).await;
            let what = format!("{} in Envoy {}", case.name, version.number());
            assert_uses(&what, &running.envoy, &running.expected).await;
            // Servers of this test ask for no certificate, and have none.
            if case.identity.is_none() {
                assert_got_all(&what, &running.envoy).await;
            }
            for (_, host, path, there) in REQUESTS.iter().filter(|(of, ..)| *of == case.name) {
                let to = format!("{address}:8080").parse().expect("an address");
                let response = client::get(to, path).host(host).send().await;
                assert_eq!(response.status, 200, "{what}: {host}{path}");
                assert_eq!(response.echo().path, *there, "{what}: {host}{path}");
                requests += 1;
            }
        }
    }
    assert_eq!(requests, REQUESTS.len() * ADDRESSES.len(), "a case of {REQUESTS:?} is gone");
}

/// An Envoy with a case's configuration, which asks us for the rest.
struct Running {
    envoy: Envoy,
    /// What it must end up with.
    expected: Versions,
    _admin: Port,
    _servers: [Server; 2],
}

impl Running {
    async fn start(case: &Case, version: Version, address: &str, backend: &Backend) -> Self {
        let ours = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut here = Case::of(&case.input.replace(TARGET, &backend.address().to_string()));
        address.clone_into(&mut here.configuration.address);
        if let Some(xds) = &mut here.xds {
            let host = if xds.host.parse::<IpAddr>().is_ok() { "127.0.0.1" } else { "localhost" };
            *xds = XdsAddress { host: host.into(), port: ours.local_addr().expect("it is bound").port() };
        }
        let played = here.play();
        let resources = played.configuration(&here, &played.hosted());

        let theirs = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (admin, xds) = (Port::lease(), theirs.local_addr().expect("it is bound").to_string());
        let gateway = &here.gateways[0];
        let cache = Arc::new(SnapshotCache::new());
        let expected = publish(&cache, gateway, &resources);
        let servers = [Server::start(ours, played.cache), Server::start(theirs, cache)];

        let (gateway, to) = (gateway.to_string(), admin.address().to_string());
        let bootstrap = gateway::run(&["bootstrap", "--gateway", &gateway, "--xds", &xds, "--admin", &to]);
        let envoy = Envoy::start(version, &stdout(bootstrap, "tailscale-gateway bootstrap")).await;
        Self { envoy, expected, _admin: admin, _servers: servers }
    }
}

/// Publishes what an Envoy Gateway has made, as it is. Returns the versions by which an Envoy's own are recognised.
pub(crate) fn publish(cache: &SnapshotCache, gateway: &ObjectName, resources: &Resources) -> Versions {
    let lists = [
        (TypeUrl::Cluster, &resources.clusters),
        (TypeUrl::Endpoints, &resources.endpoints),
        (TypeUrl::Secret, &resources.secrets),
        (TypeUrl::Listener, &resources.listeners),
        (TypeUrl::Route, &resources.routes),
    ];
    let mut versions = BTreeMap::new();
    for (type_url, list) in lists {
        for bytes in list {
            let name: Arc<str> = name_of(bytes).into();
            let resource = Resource::spliced(type_url, Arc::clone(&name), &(), Segment::new(bytes.clone()), None);
            if matches!(type_url, TypeUrl::Cluster | TypeUrl::Listener | TypeUrl::Route) {
                versions.insert((type_url.label(), name.to_string()), resource.version().to_string());
            }
            cache.publish(gateway, [ViewChange { type_url, name, resource: Some(Arc::new(resource)) }]);
        }
    }
    versions
}

/// An xDS server in this process; ended when it is dropped.
pub(crate) struct Server(AbortHandle);

impl Server {
    pub(crate) fn start(listener: TcpListener, cache: Arc<SnapshotCache>) -> Self {
        cache.set_ready();
        let (registry, metrics) = (Arc::<Registry>::default(), Arc::new(Metrics::new(Arc::clone(&cache))));
        let never = std::future::pending();
        let serving = xds::server::serve(listener, cache, registry, metrics, ServerOptions::default(), never);
        Self(tokio::spawn(serving).abort_handle())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}
