//! How long it takes from an HTTPRoute that is given to the API server until Envoy serves it, with few and with many routes
//! there: the probe of gateway-api-bench (`tests/probe/probe.go`), with a real kube-apiserver, etcd and one real Envoy.
//!
//! ```text
//! cargo bench --bench kube                          a line of JSON for 1, 1 000 and 3 000 routes, in a whole table and in a divided one
//! cargo bench --bench kube -- 1 100                 for other numbers
//! cargo bench --bench kube -- --only Divided 3000   for one kind of table (Whole or Divided)
//! cargo test --bench kube                           see that it still works
//! ```
//!
//! The route is that of the probe, but that its backend is outside: an API server takes no endpoint on loopback. The clock
//! starts before the request that creates the route, so that the API server's own work is in it, and stops at the first answer
//! of Envoy that is not 404. That answer has to be 200: anything else is counted as an error.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, PostParams},
};
use serde_json::{Value, json};
use support::{
    backend::Backend,
    client::{self, Connection},
    cluster::Cluster,
    envoy::{Envoy, Version},
    gateway::Gateway,
    ports::Port,
    wait::until,
};
use tokio::time::{MissedTickBehavior, interval};

/// How long the probe waits between two requests. (The original waits 5 ms.)
const PAUSE: Duration = Duration::from_millis(1);
/// On how many connections requests are sent whose cost is looked at.
const CONNECTIONS: usize = 4;
/// The series that counts the statuses of routes that were written.
const STATUSES: &str = "tailscale_gateway_status_writes_total{kind=\"HTTPRoute\",result=\"ok\"}";

/// What is installed before.
const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tailscale}
spec: {controllerName: gateway.tailscale.com/gateway-controller}
";

/// How Envoy gets the routes: the values of `routeTables`.
const TABLES: [&str; 2] = ["Whole", "Divided"];

/// A cluster with a Gateway, and an Envoy that serves it.
struct World {
    _cluster: Cluster,
    control: Gateway,
    envoy: Envoy,
    _backend: Backend,
    listener: Port,
    routes: Api<DynamicObject>,
}

impl World {
    async fn start(tables: &str) -> Self {
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
  infrastructure: {{parametersRef: {{group: gateway.tailscale.com, kind: TailscaleGatewayParameters, name: tables}}}}
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleGatewayParameters
metadata: {{namespace: default, name: tables}}
spec: {{routeTables: {tables}}}
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
        // As in the pods that are provisioned.
        let arguments = ["--ignore-unknown-dynamic-fields"];
        let bootstrap = control.bootstrap("default/web", &admin, &[]);
        let envoy = Envoy::start_with(Version::Latest, &bootstrap, &arguments).await;
        envoy.ready().await;
        let resource = ApiResource {
            group: "gateway.networking.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "gateway.networking.k8s.io/v1".to_owned(),
            kind: "HTTPRoute".to_owned(),
            plural: "httproutes".to_owned(),
        };
        let routes = Api::namespaced_with(cluster.client().await, "default", &resource);
        Self { _cluster: cluster, control, envoy, _backend: backend, listener, routes }
    }

    async fn create(&self, number: usize) {
        // As in the probe: two rules, of which the second leads to a Service that is not there.
        let filters = json!([
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "added-header", "value": "added"}]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "added-header", "value": "added"}]}},
        ]);
        let rule = |path: String, backend: Value| {
            json!({
                "matches": [{"path": {"type": "PathPrefix", "value": path}}], "filters": filters, "backendRefs": [backend],
            })
        };
        let there = json!({"group": "gateway.tailscale.com", "kind": "TailscaleEndpoints", "name": "web", "port": 80});
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": format!("route-{number}")},
            "spec": {
                "parentRefs": [{"name": "web"}],
                "hostnames": [host(number)],
                "rules": [
                    rule(format!("/{number}"), there),
                    rule("/".to_owned(), json!({"name": "invalid-backend", "port": 80})),
                ],
            },
        });
        let route: DynamicObject = serde_json::from_value(route).expect("it is an object");
        self.routes.create(&PostParams::default(), &route).await.expect("the API server takes it");
    }

    /// Creates routes that nobody asks for; returns when they are served and have their statuses.
    async fn fill(&self, numbers: std::ops::Range<usize>) {
        let Some(last) = numbers.end.checked_sub(1) else { return };
        futures::stream::iter(numbers).for_each_concurrent(16, |number| self.create(number)).await;
        let request = self.request(last);
        until("all routes to be served", async || match request.send().await.status {
            200 => Ok(()),
            status => Err(status.to_string()),
        })
        .await;
        self.control.wait_for_metric(STATUSES, |count| count.is_some_and(|count| count > last as f64)).await;
    }

    fn request(&self, number: usize) -> client::Request {
        client::get(self.listener.address(), &format!("/{number}")).host(&host(number))
    }

    /// Creates a route, and asks for it until it is served.
    async fn probe(&self, connection: &mut Connection, number: usize) -> Sample {
        let request = self.request(number);
        assert_eq!(ask(connection, &request).await, 404);
        let (began, at) = (Instant::now(), Timestamp::now());
        let create = async {
            self.create(number).await;
            began.elapsed()
        };
        let serve = async {
            let mut ticks = interval(PAUSE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                match ask(connection, &request).await {
                    404 => {}
                    status => return (began.elapsed(), status == 200),
                }
            }
        };
        let (created, (served, good)) = tokio::join!(create, serve);
        Sample { at, created, served, good }
    }

    /// Sends requests for a route on some connections at once; how much processor time the Envoy takes for each.
    async fn request_cost(&self, number: usize, requests: usize) -> Duration {
        let request = self.request(number);
        let before = self.processor()[1];
        let connection = async || {
            let mut connection = Connection::open(&request).await.expect("Envoy takes connections");
            for _ in 0..requests / CONNECTIONS {
                assert_eq!(ask(&mut connection, &request).await, 200);
            }
        };
        futures::future::join_all((0..CONNECTIONS).map(|_| connection())).await;
        let rounded = u32::try_from(requests / CONNECTIONS * CONNECTIONS).expect("it is a number of requests");
        (self.processor()[1] - before) / rounded
    }

    /// How much processor time the control plane and the Envoy have taken.
    fn processor(&self) -> [Duration; 2] {
        [self.control.process(), self.envoy.process()].map(|process| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("it runs");
            // Of proc_pid_stat(5), fields 14 and 15, in hundredths of a second; the second field may hold blanks.
            let fields = stat.rsplit_once(')').expect("a name in parentheses").1;
            let ticks: u64 =
                fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
            Duration::from_millis(ticks * 10)
        })
    }

    /// When route tables changed, by the log.
    fn commits(&self) -> BTreeSet<Timestamp> {
        let lines = self.control.process().lines();
        let entries = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let commits = entries.filter_map(|entry| {
            let resources = entry["resources"].as_str()?;
            let at = entry["timestamp"].as_str()?.parse().ok()?;
            resources.contains("RouteConfiguration").then_some(at)
        });
        commits.collect()
    }
}

/// The status of a request on a connection that is kept.
async fn ask(connection: &mut Connection, request: &client::Request) -> u16 {
    assert!(connection.is_open().await, "Envoy keeps connections");
    connection.send(request).await.expect("Envoy answers").status
}

/// What came of one route.
struct Sample {
    /// When its creation was asked for.
    at: Timestamp,
    /// From then until the API server had answered.
    created: Duration,
    /// From then until Envoy served it.
    served: Duration,
    /// Whether nothing but 404 came before, and 200 then.
    good: bool,
}

fn host(number: usize) -> String {
    format!("route-{number}.example")
}

fn main() {
    let measures = std::env::args().any(|argument| argument == "--bench");
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (sizes, samples) = match (measures, sizes.is_empty()) {
        (true, true) => (vec![1, 1000, 3000], 200),
        (true, false) => (sizes, 200),
        (false, _) => (vec![1, 10], 3),
    };
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    for tables in TABLES.into_iter().filter(|tables| only.as_deref().is_none_or(|only| only == *tables)) {
        runtime.block_on(measure(tables, &sizes, samples));
    }
}

#[expect(clippy::print_stdout, reason = "the result is the purpose")]
async fn measure(tables: &str, sizes: &[usize], samples: usize) {
    let world = World::start(tables).await;
    let mut there = 0;
    for size in sizes {
        let end = size.saturating_sub(1).max(there);
        world.fill(there..end).await;
        there = end;
        let mut connection = Connection::open(&world.request(there)).await.expect("Envoy takes connections");
        let mut taken = Vec::new();
        let before = world.processor();
        for number in there..there + samples {
            taken.push(world.probe(&mut connection, number).await);
        }
        there += samples;
        let after = world.processor();
        let request_cost = world.request_cost(there - 1, if samples < 100 { 40 } else { 40_000 }).await;
        let processor = |at: usize| (after[at] - before[at]).as_secs_f64() * 1e3 / samples as f64;
        // A request may be served before the line about it has been read.
        let last = taken.iter().map(|sample| sample.at).max().expect("there are samples");
        let commits = until("the last route to be in the log", async || {
            let commits = world.commits();
            let is_there = commits.range(last..).next().is_some();
            is_there.then_some(commits).ok_or_else(|| "its commit is missing".to_owned())
        })
        .await;
        let committed = |sample: &Sample| {
            let at = commits.range(sample.at..).next().expect("what is served was committed");
            at.duration_since(sample.at).unsigned_abs()
        };
        println!(
            "{}",
            json!({
                "tables": tables,
                "routes": size,
                "samples": samples,
                "errors": taken.iter().filter(|sample| !sample.good).count(),
                "ours_processor_ms": processor(0),
                "envoy_processor_ms": processor(1),
                "envoy_processor_request_us": request_cost.as_secs_f64() * 1e6,
                "created_ms": distribution(taken.iter().map(|sample| sample.created)),
                "committed_ms": distribution(taken.iter().map(committed)),
                "served_ms": distribution(taken.iter().map(|sample| sample.served)),
                // The original starts its clock here.
                "served_after_answer_ms":
                    distribution(taken.iter().map(|sample| sample.served.saturating_sub(sample.created))),
            })
        );
    }
}

/// Mean, median, nine tenths and the slowest, in milliseconds.
fn distribution(times: impl Iterator<Item = Duration>) -> Value {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[(share * (times.len() - 1) as f64).round() as usize];
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    json!({"mean": mean, "median": at(0.5), "p90": at(0.9), "max": at(1.0)})
}
