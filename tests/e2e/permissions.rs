//! The table of permissions is neither too short nor too long: the program runs with the chart's roles and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tailscale_gateway::kubernetes::permissions::permissions;
use tempfile::TempDir;

use crate::support::{
    cluster::{AuditEvent, Cluster},
    gateway::Gateway,
    tls::Authority,
    wait::until,
};

const NAMESPACE: &str = "tailscale-gateway";
const ACCOUNT: &str = "system:serviceaccount:tailscale-gateway:tailscale-gateway";

/// Group, resource and verb.
type Request = (String, String, String);

fn request(event: &AuditEvent) -> Request {
    let resource = match event.subresource.as_str() {
        "" => event.resource.clone(),
        part => format!("{}/{part}", event.resource),
    };
    (event.group.clone(), resource, event.verb.clone())
}

/// An object of each kind whose status is ours, with something to say about it; one with a finalizer of the original
/// operator, and a Gateway that names a Secret and a ConfigMap. And a Gateway of an Envoy Gateway that something is put into.
fn objects() -> String {
    let certificate = Authority::new().issue(&["web.example"]);
    let metadata = json!({ "namespace": "default", "name": "web" });
    let ours = |kind: &str, spec: Value| {
        let finalizers = json!(["gateway.tailscale.com/tailnet-finalizer"]);
        let metadata = json!({ "namespace": "default", "name": "web", "finalizers": finalizers });
        json!({ "apiVersion": "gateway.tailscale.com/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
    };
    let gateway_api = |kind: &str, spec: Value| json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec });
    let listeners = json!([
        { "name": "http", "protocol": "HTTP", "port": 80 },
        { "name": "https", "protocol": "HTTPS", "port": 443, "tls": { "certificateRefs": [{ "name": "web" }] } },
    ]);
    let backend = json!({ "name": "web", "port": 80 });
    let parameters = json!({ "group": "gateway.tailscale.com", "kind": "TailscaleGatewayParameters", "name": "web" });
    let infrastructure = json!({ "parametersRef": parameters });
    let documents = [
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": certificate.certificate, "tls.key": certificate.key },
        }),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "ca.crt": Authority::new().pem() } }),
        gateway_api(
            "Gateway",
            json!({ "gatewayClassName": "tailscale", "listeners": listeners, "infrastructure": infrastructure }),
        ),
        gateway_api("HTTPRoute", json!({ "parentRefs": [{ "name": "web" }], "rules": [{ "backendRefs": [backend] }] })),
        ours("TailscaleTailnet", json!({ "oauthSecretName": "none", "oauthSecretNamespace": "default" })),
        ours(
            "TailscaleGateway",
            json!({ "gatewayRef": { "name": "web" }, "tailnets": [{ "name": "web", "tailscaleTailnetRef": { "name": "web" } }] }),
        ),
        ours("TailscaleGatewayParameters", json!({ "autoscaling": { "maxReplicas": 3 } })),
        ours("TailscaleEndpoints", json!({ "tailnet": "web" })),
        ours(
            "TailscaleRoutePolicy",
            json!({ "targetRefs": [{ "kind": "HTTPRoute", "name": "web" }], "rules": [{ "actions": [{ "type": "Deny" }] }] }),
        ),
        ours("TailscaleProxyGroup", json!({ "type": "Ingress", "tailnet": "web" })),
        ours(
            "TailscaleService",
            json!({ "vipService": { "name": "svc:web", "ports": ["tcp:80"], "tags": ["tag:web"] }, "backends": [{ "type": "external", "address": "example.com:80" }], "tailnet": "web" }),
        ),
        ours("TailscaleServices", json!({ "selector": { "matchLabels": { "app": "web" } } })),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": { "name": "eg" },
            "spec": { "controllerName": "gateway.envoyproxy.io/gatewayclass-controller" },
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "namespace": "default", "name": "eg" },
            "spec": { "gatewayClassName": "eg", "listeners": [{ "name": "http", "protocol": "HTTP", "port": 80 }] },
        }),
        json!({
            "apiVersion": "gateway.tailscale.com/v1alpha1", "kind": "TailscaleGateway",
            "metadata": { "namespace": "default", "name": "eg" },
            "spec": {
                "gatewayRef": { "name": "eg" },
                "tailnets": [{ "name": "corp", "tailscaleTailnetRef": { "name": "corp" } }],
            },
        }),
        json!({
            "apiVersion": "gateway.tailscale.com/v1alpha1", "kind": "TailscaleTailnet", "metadata": { "name": "corp" },
            "spec": { "oauthSecretName": "none", "oauthSecretNamespace": "default" },
        }),
        json!({
            "apiVersion": "gateway.tailscale.com/v1alpha1", "kind": "TailscaleEndpoints",
            "metadata": { "namespace": "default", "name": "machines" },
            "spec": { "tailnet": "corp", "endpoints": [{ "name": "web", "port": 80, "externalTarget": "192.0.2.1:80" }] },
        }),
    ];
    documents.map(|document| document.to_string()).join("\n---\n")
}

#[tokio::test]
async fn with_the_charts_roles_nothing_is_refused_and_nothing_is_for_naught() {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply_plain_manifests().await.expect_success();
    cluster.apply(&objects()).await;
    let account = cluster.service_account_kubeconfig(NAMESPACE, "tailscale-gateway").await;
    let folder = TempDir::new().expect("a temporary folder can be made");
    let socket = format!("unix:{}", folder.path().join("extension").display());
    let flags = ["--namespace", NAMESPACE, "--extension-listen", &socket];
    let control_plane = Gateway::start_secure_in_cluster(&account, &flags).await;

    let all = |group: &str, resource: &str, verbs: &[&str]| -> Vec<Request> {
        verbs.iter().map(|verb| (group.to_owned(), resource.to_owned(), (*verb).to_owned())).collect()
    };
    let granted: BTreeSet<Request> =
        permissions().into_iter().flat_map(|one| all(one.group, &one.resource, one.verbs)).collect();
    let missing = async || {
        let events = cluster.audit_events().await;
        let mut unused = granted.clone();
        for event in events.iter().filter(|event| event.user == ACCOUNT && event.uri.starts_with("/api")) {
            assert_ne!(event.code, 403, "not in the table: {event:?}");
            let (group, resource, verb) = request(event);
            // An apply that creates is a patch in the log, and the API server asks for both verbs.
            if verb == "patch" && event.code == 201 {
                unused.remove(&(group.clone(), resource.clone(), "create".to_owned()));
            }
            unused.remove(&(group, resource, verb));
        }
        unused
    };
    let until_used = async |but: &BTreeSet<Request>| {
        until("every permission to be used", async || {
            control_plane.process().assert_running();
            let unused = missing().await;
            if unused.is_subset(but) { Ok(()) } else { Err(format!("{:?}", &unused - but)) }
        })
        .await;
    };
    // Needed only when a Gateway goes, and to end well.
    let deletes = granted.iter().filter(|(_, _, verb)| verb == "delete").cloned().collect();
    until_used(&deletes).await;
    // Nobody collects garbage here, so what is left of the Gateway is the program's to delete.
    cluster.kubectl(&["delete", "gateway", "web"]).await.expect_success();
    cluster.kubectl(&["delete", "tailscalegateway", "eg"]).await.expect_success();
    until_used(&BTreeSet::from_iter(all("coordination.k8s.io", "leases", &["delete"]))).await;
    assert!(control_plane.terminate().await.success());
    assert_eq!(missing().await, BTreeSet::new());

    // Another Lease is not the chart's to write, and that is said.
    let flags = ["--namespace", NAMESPACE, "--lease", "other"];
    let control_plane = Gateway::start_secure_in_cluster(&account, &flags).await;
    let said = control_plane.process().wait_for_line("the lease can not be written, so nothing is").await;
    assert!(said.contains("ERROR") && said.contains("see --lease"), "{said}");
}
