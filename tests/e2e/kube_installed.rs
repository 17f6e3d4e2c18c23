//! The control plane as the chart installs it: by the chart's ServiceAccount, with mutual TLS whose certificates it makes, and an
//! Envoy that has what a pod of a Gateway has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::Api;
use serde_json::{Value, json};
use tailscale_gateway::{identity::Credentials, kubernetes::identity::AUTHORITIES_SECRET};

use crate::support::{
    backend::Backend,
    client,
    cluster::Cluster,
    envoy::{Envoy, Version},
    gateway::{Gateway, run},
    load::Load,
    namespace::Namespace,
    pod::{Pod, target_port},
    ports::Port,
    relay::Relay,
    wait::until,
};

const NAMESPACE: &str = "tailscale-gateway";
/// Where the pod finds the control plane: what a Service would be.
const XDS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18000);
/// The pod's addresses.
const POD: [&str; 2] = ["10.244.0.1", "fd00:10:244::1"];
/// A host outside of the cluster.
const OUTSIDE: &str = "10.244.1.1:80";

/// A Gateway whose Service has addresses of both families, and another one whose Envoys are somebody else's.
const OBJECTS: &str = "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleGatewayParameters
metadata: {namespace: default, name: both}
spec: {service: {ipFamilyPolicy: RequireDualStack}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: default, name: web}
spec:
  gatewayClassName: tailscale
  infrastructure:
    parametersRef: {group: gateway.tailscale.com, kind: TailscaleGatewayParameters, name: both}
  addresses: [{value: 203.0.113.7}]
  listeners: [{name: http, protocol: HTTP, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: default, name: other, annotations: {gateway.tailscale.com/infrastructure: external}}
spec:
  gatewayClassName: tailscale
  listeners: [{name: http, protocol: HTTP, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: default, name: all}
spec:
  parentRefs: [{name: web}]
  rules:
  - backendRefs: [{group: gateway.tailscale.com, kind: TailscaleEndpoints, name: outside, port: 80}]
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: {namespace: default, name: outside}
spec:
  tailnet: example
  endpoints: [{name: outside, tailscaleIP: 100.64.0.1, port: 80, externalTarget: '10.244.1.1:80'}]
";

/// The installation, and the network of a pod.
struct Site {
    cluster: Cluster,
    network: Namespace,
    replicas: Vec<Gateway>,
    /// The Service in front of the replicas.
    relay: Relay,
    _backend: Backend,
}

impl Site {
    /// With replicas of these names; the first one writes.
    async fn start(replicas: &[&str], flags: &[&str]) -> Self {
        let cluster = Cluster::start().await;
        cluster.apply_gateway_api().await;
        cluster.apply_plain_manifests().await.expect_success();
        cluster.apply(OBJECTS).await;
        let outside: SocketAddr = OUTSIDE.parse().expect("an address");
        let addresses = POD.map(|address| address.parse().expect("an address"));
        let network = Namespace::start(&[addresses[0], outside.ip(), addresses[1]]).await;
        let backend = Backend::serve("outside", network.listen(outside).await, None);
        let account = cluster.service_account_kubeconfig(NAMESPACE, "tailscale-gateway").await;
        let mut started = Vec::new();
        for replica in replicas {
            let xds = XDS.to_string();
            let fixed = ["--namespace", NAMESPACE, "--replica", replica, "--xds-address", &xds];
            started.push(Gateway::start_secure_in_cluster(&account, &[&fixed, flags].concat()).await);
            if started.len() == 1 {
                started[0].process().wait_for_line("this replica writes").await;
            }
        }
        let relay = Relay::start(started[0].xds()).await;
        network.lead_out(XDS, relay.address()).await;
        Self { cluster, network, replicas: started, relay, _backend: backend }
    }

    /// The Gateway's pod, ready, and where its listener is on each of its addresses, seen from outside of its network.
    async fn pod(&self) -> (Pod, [SocketAddr; 2]) {
        let pod = Pod::start(&self.cluster, &self.network, "default/web-tailscale").await;
        pod.ready().await;
        let port = target_port(&self.cluster, "default/web-tailscale", 80).await;
        let inside = |address: &str| SocketAddr::new(address.parse().expect("an address"), port);
        let listeners = [self.network.lead_in(inside(POD[0])).await, self.network.lead_in(inside(POD[1])).await];
        (pod, listeners)
    }

    async fn get(&self, kind: &str, name: &str) -> Value {
        let named: &[&str] = if name.is_empty() { &[] } else { &[name] };
        let all = [&["get", kind][..], named, &["--output", "json"]].concat();
        let printed = self.cluster.kubectl(&all).await.expect_success();
        serde_json::from_str(&printed).expect("kubectl prints JSON")
    }

    /// Waits until the condition `Programmed` of the Gateway is so, and returns its message.
    async fn until_programmed(&self, wanted: &str) -> String {
        until(&format!("Programmed to be {wanted}"), async || {
            let status = self.get("gateway", "web").await["status"].clone();
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|one| one["type"] == "Programmed");
            let found = found.map(|one| (one["status"].clone(), one["reason"].clone(), one["message"].clone()));
            let Some((holds, reason, message)) = found else { return Err(status.to_string()) };
            let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
            let said = format!("{} {}", text(holds), text(reason));
            if said == wanted { Ok(text(message)) } else { Err(status.to_string()) }
        })
        .await
    }

    /// The Events of the Gateway with this reason.
    async fn told(&self, reason: &str) -> Vec<Value> {
        let events = self.get("events.v1.events.k8s.io", "").await["items"].as_array().cloned().unwrap_or_default();
        let is_of = |event: &Value| event["regarding"]["name"] == "web" && event["reason"] == reason;
        events.into_iter().filter(is_of).collect()
    }

    /// What a load balancer would do: give the Service these addresses.
    async fn balance(&self, addresses: &[&str]) {
        let ingress: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
        let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}}).to_string();
        let patch =
            ["patch", "service", "web-tailscale", "--subresource", "status", "--type", "merge", "--patch", &patch];
        self.cluster.kubectl(&patch).await.expect_success();
    }

    /// The bootstrap of an Envoy elsewhere, with the certificate that the Gateway's Secret has now in it.
    async fn bootstrap(&self, gateway: &str, admin: &Port) -> Value {
        let kubeconfig = self.cluster.kubeconfig().display().to_string();
        let (xds, admin) = (self.replicas[0].xds().to_string(), admin.address().to_string());
        let arguments =
            ["bootstrap", "--gateway", gateway, "--kubeconfig", &kubeconfig, "--xds", &xds, "--admin", &admin];
        until(&format!("a bootstrap for {gateway}"), async || {
            let printed = run(&arguments);
            if !printed.status.success() {
                return Err(String::from_utf8_lossy(&printed.stderr).into_owned());
            }
            serde_saphyr::from_str(&String::from_utf8_lossy(&printed.stdout)).map_err(|error| error.to_string())
        })
        .await
    }
}

#[tokio::test]
async fn a_gateway_has_the_addresses_that_it_asks_for_or_says_that_it_has_not() {
    let site = Site::start(&["only"], &[]).await;
    let (_pod, listeners) = site.pod().await;
    for listener in listeners {
        let answer = client::get(listener, "/").send().await;
        assert_eq!((answer.status, answer.echo().backend.as_str()), (200, "outside"), "{listener}");
    }
    let service = site.get("service", "web-tailscale").await["spec"].clone();
    assert_eq!((&service["ipFamilies"], &service["loadBalancerIP"]), (&json!(["IPv4", "IPv6"]), &json!("203.0.113.7")));

    let message = site.until_programmed("False AddressNotUsable").await;
    assert!(message.contains("203.0.113.7 can not be used") && message.contains("has no address"), "{message}");
    let told =
        until("an Event that says so", async || site.told("AddressNotUsable").await.pop().ok_or("none".into())).await;
    assert_eq!((&told["type"], told["note"].as_str()), (&json!("Warning"), Some(&*message)));
    // One for each of seventeen nodes, and not the one that is asked for.
    let mut nodes: Vec<String> = (1..=17).map(|node| format!("198.51.100.{node}")).collect();
    site.balance(&nodes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    until("as many addresses as the API server takes", async || {
        let status = site.get("gateway", "web").await["status"].clone();
        if status["addresses"].as_array().is_some_and(|all| all.len() == 16) { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    site.until_programmed("False AddressNotUsable").await;
    nodes.push("203.0.113.7".to_owned());
    site.balance(&nodes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    site.until_programmed("True Programmed").await;
    until("an Event that says so", async || site.told("Programmed").await.pop().ok_or("none".into())).await;
    assert_eq!(site.told("AddressNotUsable").await.len(), 1, "it is told once, whatever addresses come meanwhile");
    let addresses = site.get("gateway", "web").await["status"]["addresses"].clone();
    assert_eq!((addresses[0]["value"].as_str(), addresses.as_array().map(Vec::len)), (Some("203.0.113.7"), Some(16)));
}

/// When the Envoy last took in its listener.
async fn listener_taken_in(envoy: &Envoy) -> String {
    let dump = envoy.config_dump().await;
    let mut sections = dump["configs"].as_array().expect("a list").iter();
    let listener = sections.find_map(|section| section["dynamic_listeners"].get(0)).expect("there is a listener");
    listener["active_state"]["last_updated"].as_str().expect("a time").to_owned()
}

/// A metric that counts, 0 when it is not there.
async fn counted(control_plane: &Gateway, series: &str) -> f64 {
    control_plane.metrics().await.get(series).copied().unwrap_or_default()
}

async fn authorities(secrets: &Api<Secret>) -> ByteString {
    let secret = secrets.get(AUTHORITIES_SECRET).await.expect("it is there");
    secret.data.and_then(|mut data| data.remove("tls.crt")).expect("it has a certificate")
}

/// The certificate in a bootstrap.
fn certificate(bootstrap: &Value) -> Credentials {
    let context = &bootstrap["static_resources"]["clusters"][0]["transport_socket"]["typed_config"];
    let certificate = &context["common_tls_context"]["tls_certificates"][0];
    let part = |name: &str| certificate[name]["inline_string"].as_str().expect("it stands there").as_bytes().to_vec();
    Credentials::read(&part("certificate_chain"), &part("private_key")).expect("a certificate and its key")
}

/// By the replica that writes.
const ISSUED: &str = "tailscale_gateway_xds_certificates_issued_total{of=\"client\"}";
const MATCHED: &str = "tailscale_gateway_xds_irv_matched_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_operator_rotates_certificates_of_seconds_and_an_envoy_moves_between_replicas() {
    // An authority lives for four lives of a certificate.
    let lives = ["--xds-certificate-lifetime", "8s", "--xds-authority-lifetime", "32s"];
    let site = Site::start(&["first", "second"], &lives).await;
    let (pod, [listener, _]) = site.pod().await;
    let admins: Vec<Port> = (0..3).map(|_| Port::lease()).collect();
    let secrets: Api<Secret> = Api::namespaced(site.cluster.client().await, NAMESPACE);
    let authority = authorities(&secrets).await;
    let taken_in = listener_taken_in(&pod.envoy).await;

    // Operator, Secret, volume, Envoy: until both Gateways' certificates have been made four times, and a new authority signs.
    let load = Load::start(&client::get(listener, "/"), 2);
    let mut turns = 0;
    while counted(&site.replicas[0], ISSUED).await < 8.0 || authorities(&secrets).await == authority {
        turns += 1;
        let replica = &site.replicas[turns % 2];
        let before = counted(replica, MATCHED).await;
        site.relay.lead_to(replica.xds());
        replica.wait_for_metric(MATCHED, |count| count.is_some_and(|count| count >= before + 3.0)).await;
        pod.wait_until_replaced(pod.replaced() + 1).await;
        load.wait_for(10).await;
    }
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert!(turns >= 4 && pod.replaced() >= 4, "{turns} turns, {} replacements", pod.replaced());
    for replica in &site.replicas {
        let metrics = replica.metrics().await;
        let failed = |series: &&String| series.contains("handshake_failures") || series.contains("xds_denied");
        assert_eq!(metrics.keys().find(failed), None, "{metrics:#?}");
        // The same bytes and versions at both: an Envoy that moves is sent nothing that it has.
        assert_eq!(metrics.get("tailscale_gateway_xds_irv_resent_total"), Some(&0.0), "{metrics:#?}");
    }
    assert_eq!(listener_taken_in(&pod.envoy).await, taken_in);

    // One that the new authority has signed, when its time is over.
    let before = site.bootstrap("default/web", &admins[0]).await;
    let mut expired = before.clone();
    while certificate(&expired) == certificate(&before) {
        pod.wait_until_replaced(pod.replaced() + 1).await;
        expired = site.bootstrap("default/web", &admins[0]).await;
    }
    let ends = certificate(&expired).facts().expect("good").not_after;
    while Timestamp::now() <= ends {
        pod.wait_until_replaced(pod.replaced() + 1).await;
    }

    // Who has an expired certificate, another Gateway's, or none, gets nothing, and the metric says why.
    let mut other = site.bootstrap("default/other", &admins[1]).await;
    other["node"]["cluster"] = json!("default/web");
    let mut none = site.bootstrap("default/web", &admins[2]).await;
    let context = &mut none["static_resources"]["clusters"][0]["transport_socket"]["typed_config"];
    context["common_tls_context"].as_object_mut().expect("an object").remove("tls_certificates").expect("it is there");
    let mut envoys = Vec::new();
    for (bootstrap, what, reason) in [
        (&other, "xds_denied", "other_gateway"),
        (&expired, "xds_tls_handshake_failures", "expired"),
        (&none, "xds_tls_handshake_failures", "no_certificate"),
    ] {
        envoys.push(Envoy::start(Version::Latest, &bootstrap.to_string()).await);
        let series = format!("tailscale_gateway_{what}_total{{reason=\"{reason}\"}}");
        site.replicas[0].wait_for_metric(&series, |count| count.is_some_and(|count| count >= 1.0)).await;
    }
    for envoy in &envoys {
        assert_eq!(envoy.admin("/ready").await.status, 503);
        assert_eq!(envoy.stat("cluster_manager.cds.update_success").await, 0);
    }
}
