//! How long it takes from an HTTPRoute that is given to the API server until Envoy serves it, with few and with many routes
//! there: the probe of gateway-api-bench (`tests/probe.sh`), with a real kube-apiserver, etcd and one real Envoy.
//!
//! ```text
//! cargo bench --bench kube                 the table, in Markdown
//! cargo bench --bench kube -- 1 100        after so many routes instead of 1, 1 000 and 3 000
//! ```
//!
//! The clock starts before the request that creates the route, so that the API server's own work is in it, and stops at the
//! first answer of Envoy that is not 404. That answer has to be 200: anything else is counted as an error.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, PostParams},
};
use serde_json::json;
use support::{
    backend::Backend,
    client,
    cluster::Cluster,
    envoy::{Envoy, Version},
    gateway::Gateway,
    ports::Port,
    wait::until,
};

/// Routes that are measured one after the other at each size.
const SAMPLES: usize = 50;

/// What is installed before.
const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tailscale}
spec: {controllerName: gateway.tailscale.com/gateway-controller}
";

/// A cluster with a Gateway, and an Envoy that serves it.
struct World {
    _cluster: Cluster,
    _control: Gateway,
    _envoy: Envoy,
    _backend: Backend,
    listener: Port,
    routes: Api<DynamicObject>,
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        cluster.apply_gateway_api().await;
        cluster.apply_our_crds().await;
        let (listener, admin, backend) = (Port::lease(), Port::lease(), Backend::start("web").await);
        let objects = format!(
            "{CLASS}---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{namespace: default, name: web, annotations: {{gateway.tailscale.com/infrastructure: external}}}}
spec:
  gatewayClassName: tailscale
  addresses: [{{type: IPAddress, value: 127.0.0.1}}]
  listeners: [{{name: http, protocol: HTTP, port: {}}}]
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: {{namespace: default, name: web}}
spec:
  tailnet: example
  endpoints: [{{name: web, tailscaleIP: 100.64.0.1, port: 80, externalTarget: '{}'}}]
",
            listener.number(),
            backend.address()
        );
        cluster.apply(&objects).await;
        let control = Gateway::start_in_cluster(&cluster.kubeconfig(), &[]).await;
        let envoy = Envoy::start(Version::Latest, &control.bootstrap("default/web", &admin, &[])).await;
        envoy.ready().await;
        let resource = ApiResource {
            group: "gateway.networking.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "gateway.networking.k8s.io/v1".to_owned(),
            kind: "HTTPRoute".to_owned(),
            plural: "httproutes".to_owned(),
        };
        let routes = Api::namespaced_with(cluster.client().await, "default", &resource);
        Self { _cluster: cluster, _control: control, _envoy: envoy, _backend: backend, listener, routes }
    }

    async fn create(&self, number: usize) {
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": format!("route-{number}")},
            "spec": {
                "parentRefs": [{"name": "web"}],
                "hostnames": [host(number)],
                "rules": [{"backendRefs": [{
                    "group": "gateway.tailscale.com", "kind": "TailscaleEndpoints", "name": "web", "port": 80,
                }]}],
            },
        });
        let route: DynamicObject = serde_json::from_value(route).expect("it is an object");
        self.routes.create(&PostParams::default(), &route).await.expect("the API server takes it");
    }

    async fn status(&self, number: usize) -> u16 {
        client::get(self.listener.address(), "/").host(&host(number)).send().await.status
    }

    /// Creates a route; how long until it is served, and whether nothing but 404 came before and 200 then.
    async fn probe(&self, number: usize) -> (Duration, bool) {
        assert_eq!(self.status(number).await, 404);
        let began = Instant::now();
        let served = async {
            loop {
                match self.status(number).await {
                    404 => {}
                    status => return (began.elapsed(), status == 200),
                }
            }
        };
        let ((), served) = tokio::join!(self.create(number), served);
        served
    }
}

fn host(number: usize) -> String {
    format!("route-{number}.example")
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1, 1000, 3000] } else { sizes };
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    runtime.block_on(measure(&sizes));
}

#[expect(clippy::print_stdout, reason = "the table is the purpose")]
async fn measure(sizes: &[usize]) {
    let world = World::start().await;
    let mut there = 0;
    println!("| routes there | median | 90 % | slowest | errors |\n|---|---:|---:|---:|---:|");
    for size in sizes {
        let fill = there..size.saturating_sub(1);
        there = there.max(fill.end);
        let last = fill.end.checked_sub(1);
        futures::stream::iter(fill).for_each_concurrent(16, |number| world.create(number)).await;
        if let Some(last) = last {
            until("all routes to be served", async || match world.status(last).await {
                200 => Ok(()),
                status => Err(status.to_string()),
            })
            .await;
        }
        let mut times = Vec::new();
        let mut errors = 0;
        for number in there..there + SAMPLES {
            let (took, good) = world.probe(number).await;
            times.push(took);
            errors += usize::from(!good);
        }
        there += SAMPLES;
        times.sort_unstable();
        let at = |share: f64| format!("{:.1} ms", times[(share * (SAMPLES - 1) as f64) as usize].as_secs_f64() * 1e3);
        println!("| {size} | {} | {} | {} | {errors} |", at(0.5), at(0.9), at(1.0));
    }
}
