//! README's guide for a cluster: what is applied there is applied here, and the Envoy that would run in a pod is a process with
//! the command line, the bootstrap, the certificate and the ports that the pod would have.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::support::{
    backend::Backend,
    client,
    cluster::Cluster,
    gateway::Gateway,
    namespace::Namespace,
    pod::{Pod, target_port},
    tools::repository,
    wait::until,
};

const NAMESPACE: &str = "tailscale-gateway";

/// What a table says, without its last column, which is the age, and with one blank between the others.
fn table(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.map(|words| words[..words.len() - 1].join(" ")).collect()
}

/// The output of `kubectl get` in README.
fn shown() -> String {
    let readme = fs::read_to_string(repository().join("README.md")).expect("README.md is there");
    let block = readme.split("\n```").find(|block| block.starts_with("text\nNAME")).expect("README shows a table");
    block["text\n".len()..].to_owned()
}

#[tokio::test]
async fn a_first_gateway_in_a_cluster_serves_and_says_what_the_readme_shows() {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply_plain_manifests().await.expect_success();
    let (pod, outside): (IpAddr, SocketAddr) = ([10, 244, 0, 1].into(), ([10, 244, 1, 1], 80).into());
    let network = Namespace::start(&[pod, outside.ip()]).await;
    let _backend = Backend::serve("outside", network.listen(outside).await, None);
    let quickstart = fs::read_to_string(repository().join("manifests/quickstart-cluster.yaml")).expect("it is there");
    let quickstart = quickstart.replace("hello.example.com:80", &outside.to_string());
    cluster.apply(&quickstart).await;

    let account = cluster.service_account_kubeconfig(NAMESPACE, "tailscale-gateway").await;
    let flags = ["--namespace", NAMESPACE, "--xds-address", "{xds}", "--log-level", "trace"];
    let control_plane = Gateway::start_secure_in_cluster(&account, &flags).await;
    network.lead_out(control_plane.xds(), control_plane.xds()).await;

    let envoy = Pod::start(&cluster, &network, "default/web-tailscale").await;
    envoy.ready().await;
    let port = target_port(&cluster, "default/web-tailscale", 80).await;
    let listener = network.lead_in((pod, port).into()).await;
    let answer = client::get(listener, "/hello").send().await;
    assert_eq!((answer.status, answer.echo().backend.as_str()), (200, "outside"));

    // What a cloud would do: give the Service an address.
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}).to_string();
    let patch =
        ["patch", "service", "web-tailscale", "--subresource", "status", "--type", "merge", "--patch", &address];
    cluster.kubectl(&patch).await.expect_success();
    let kinds = "gatewayclass,gateway,httproute,tailscaleendpoints";
    until("the table that README shows", async || {
        let seen = table(&cluster.kubectl(&["get", kinds]).await.stdout);
        if seen == table(&shown()) { Ok(()) } else { Err(format!("{seen:#?}")) }
    })
    .await;

    // The authority's key and the Envoy's: in Secrets, and nowhere else.
    let secrets = cluster.kubectl(&["get", "secrets", "--all-namespaces", "--output", "json"]).await.expect_success();
    let secrets: Value = serde_json::from_str(&secrets).expect("kubectl prints JSON");
    let mut shown = vec![control_plane.process().lines().join("\n")];
    for page in ["/debug/xds/dump", "/debug/xds/clients", "/debug/objects", "/metrics"] {
        shown.push(control_plane.admin(page).await.text());
    }
    for kind in ["configmaps", "events", "leases", "gateways"] {
        let printed = cluster.kubectl(&["get", kind, "--all-namespaces", "--output", "yaml"]).await;
        shown.push(printed.expect_success());
    }
    let mut keys = 0;
    for secret in secrets["items"].as_array().into_iter().flatten() {
        let Some(key) = secret["data"]["tls.key"].as_str() else { continue };
        keys += 1;
        let pem: ByteString = serde_json::from_value(json!(key)).expect("base64");
        let pem = String::from_utf8(pem.0).expect("PEM is text");
        let lines = pem.lines().filter(|line| line.len() > 20 && !line.starts_with('-'));
        for line in lines.chain([key]) {
            assert!(
                shown.iter().all(|text| !text.contains(line)),
                "the key of {} is shown",
                secret["metadata"]["name"]
            );
        }
    }
    assert!(keys == 2 && shown[0].contains("xDS response"), "{keys} keys");
}
