//! The control plane fed by a real API server: what is applied there reaches Envoy, and what became of it is said there.

use serde_json::Value;

use crate::support::{
    backend::Backend,
    client,
    cluster::Cluster,
    envoy::{Envoy, Version},
    gateway::Gateway,
    ports::Port,
    wait::until,
};

/// A cluster of its own with all definitions: our controller is one for the whole cluster, so two tests would see each other's.
async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply_our_crds().await;
    cluster
}

const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tailscale}
spec: {controllerName: gateway.tailscale.com/gateway-controller}
---
";

/// A Gateway whose Envoy the test starts itself.
fn gateway(port: u16) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  namespace: default
  name: web
  annotations: {{gateway.tailscale.com/infrastructure: external}}
spec:
  gatewayClassName: tailscale
  addresses: [{{type: IPAddress, value: 127.0.0.1}}]
  listeners: [{{name: http, protocol: HTTP, port: {port}}}]
---
"
    )
}

/// An endpoint outside, which a route can lead to. An API server takes no EndpointSlice with a loopback address.
fn endpoint(name: &str, backend: &Backend) -> String {
    format!(
        "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: {{namespace: default, name: {name}}}
spec:
  tailnet: example
  endpoints: [{{name: {name}, tailscaleIP: 100.64.0.1, port: 80, externalTarget: '{}'}}]
---
",
        backend.address()
    )
}

fn route(name: &str, path: &str, to: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{namespace: default, name: {name}}}
spec:
  parentRefs: [{{name: web}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: {path}}}}}]
    backendRefs: [{{group: gateway.tailscale.com, kind: TailscaleEndpoints, name: {to}, port: 80}}]
---
"
    )
}

async fn object(cluster: &Cluster, kind: &str, name: &str) -> Value {
    let text = cluster.kubectl(&["get", kind, name, "--output", "json"]).await.expect_success();
    serde_json::from_str(&text).expect("kubectl prints JSON")
}

/// `STATUS/REASON` of a condition in a list of them; nothing when it is not there.
fn condition(conditions: &Value, name: &str) -> Option<String> {
    let found = conditions.as_array()?.iter().find(|condition| condition["type"] == name)?;
    Some(format!("{}/{}", found["status"].as_str()?, found["reason"].as_str()?))
}

/// Waits until a condition stands in the status of an object; `at` leads from the status to its conditions.
async fn wait_for(cluster: &Cluster, kind: &str, name: &str, at: &str, wanted: (&str, &str)) -> Value {
    until(&format!("{kind} {name} to be {wanted:?}"), async || {
        let object = object(cluster, kind, name).await;
        let conditions = object["status"].pointer(at).unwrap_or(&Value::Null);
        match condition(conditions, wanted.0) {
            Some(found) if found == wanted.1 => Ok(object.clone()),
            _ => Err(object["status"].to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn what_is_applied_to_the_api_server_answers_through_envoy_and_its_status_says_so() {
    let cluster = cluster().await;
    let (listener, envoy_admin) = (Port::lease(), Port::lease());
    let port = listener.address().port();
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    cluster.apply(&[CLASS, &gateway(port), &endpoint("blue", &blue), &route("all", "/", "blue")].concat()).await;
    let control_plane = Gateway::start_in_cluster(&cluster.kubeconfig(), &[]).await;
    let bootstrap = control_plane.bootstrap("default/web", &envoy_admin, &[]);

    // Nobody has taken the configuration yet.
    let object = wait_for(&cluster, "gateway", "web", "/conditions", ("Accepted", "True/Accepted")).await;
    assert_eq!(condition(&object["status"]["conditions"], "Programmed").as_deref(), Some("Unknown/Pending"));
    assert_eq!(object["status"]["listeners"][0]["attachedRoutes"], 1);

    let envoy = Envoy::start(Version::Latest, &bootstrap).await;
    envoy.ready().await;
    assert_eq!(client::get(listener.address(), "/").send().await.echo().backend, "blue");
    let object = wait_for(&cluster, "gateway", "web", "/conditions", ("Programmed", "True/Programmed")).await;
    assert_eq!(object["status"]["conditions"][0]["observedGeneration"], object["metadata"]["generation"]);
    wait_for(&cluster, "gatewayclass", "tailscale", "/conditions", ("Accepted", "True/Accepted")).await;
    let object = wait_for(&cluster, "httproute", "all", "/parents/0/conditions", ("Accepted", "True/Accepted")).await;
    assert_eq!(object["status"]["parents"][0]["controllerName"], "gateway.tailscale.com/gateway-controller");

    // A change goes all the way, and what is wrong is said where it was written.
    cluster.apply(&[endpoint("green", &green), route("all", "/", "green")].concat()).await;
    until("the new backend to answer", async || {
        let answer = client::get(listener.address(), "/").send().await;
        if answer.status == 200 && answer.echo().backend == "green" { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    cluster.apply(&route("all", "/", "nowhere")).await;
    let refused = ("ResolvedRefs", "False/BackendNotFound");
    wait_for(&cluster, "httproute", "all", "/parents/0/conditions", refused).await;
}
