//! The table of permissions is neither too short nor too long: the program runs with the chart's roles and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tailscale_gateway::kubernetes::permissions::permissions;

use crate::support::{
    cluster::{AuditEvent, Cluster},
    gateway::Gateway,
    tls::Authority,
    wait::until,
};

const NAMESPACE: &str = "tailscale-gateway";
const ACCOUNT: &str = "system:serviceaccount:tailscale-gateway:tailscale-gateway";

/// What the roles allow and no part of the program asks for yet. What begins to be used has to leave this list; once it is
/// empty, it goes.
const NOT_YET: [(&str, &str, &[&str]); 8] = [
    ("", "configmaps", &["create", "delete", "get", "patch"]),
    ("", "secrets", &["delete", "patch"]),
    ("", "serviceaccounts", &["create", "delete", "list", "patch", "watch"]),
    ("", "services", &["create", "delete", "patch"]),
    ("apps", "deployments", &["create", "delete", "list", "patch", "watch"]),
    ("autoscaling", "horizontalpodautoscalers", &["create", "delete", "list", "patch", "watch"]),
    ("events.k8s.io", "events", &["create", "patch"]),
    ("policy", "poddisruptionbudgets", &["create", "delete", "list", "patch", "watch"]),
];

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
/// operator, and a Gateway that names a Secret and a ConfigMap.
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
    let documents = [
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": certificate.certificate, "tls.key": certificate.key },
        }),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "ca.crt": Authority::new().pem() } }),
        gateway_api("Gateway", json!({ "gatewayClassName": "tailscale", "listeners": listeners })),
        gateway_api("HTTPRoute", json!({ "parentRefs": [{ "name": "web" }], "rules": [{ "backendRefs": [backend] }] })),
        ours("TailscaleTailnet", json!({ "oauthSecretName": "none", "oauthSecretNamespace": "default" })),
        ours(
            "TailscaleGateway",
            json!({ "gatewayRef": { "name": "web" }, "tailnets": [{ "name": "web", "tailscaleTailnetRef": { "name": "web" } }] }),
        ),
        ours("TailscaleGatewayParameters", json!({ "replicas": 1 })),
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
    let control_plane = Gateway::start_secure_in_cluster(&account, &[]).await;

    let all = |group: &str, resource: &str, verbs: &[&str]| -> Vec<Request> {
        verbs.iter().map(|verb| (group.to_owned(), resource.to_owned(), (*verb).to_owned())).collect()
    };
    let granted: BTreeSet<Request> =
        permissions().into_iter().flat_map(|one| all(one.group, &one.resource, one.verbs)).collect();
    let not_yet: BTreeSet<Request> =
        NOT_YET.into_iter().flat_map(|(group, resource, verbs)| all(group, resource, verbs)).collect();
    until("every permission to be used", async || {
        control_plane.process().assert_running();
        let events = cluster.audit_events().await;
        let mut unused = granted.clone();
        for event in events.iter().filter(|event| event.user == ACCOUNT && event.uri.starts_with("/api")) {
            assert_ne!(event.code, 403, "not in the table: {event:?}");
            let request = request(event);
            assert!(!not_yet.contains(&request), "used, and to be taken from the list: {request:?}");
            unused.remove(&request);
        }
        if unused == not_yet { Ok(()) } else { Err(format!("{:?}", &unused - &not_yet)) }
    })
    .await;
}
