//! README's guide for a cluster: what is applied there is applied here, and the Envoy that would run in a pod is a process with
//! the very bootstrap and certificate that the pod would have.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    backend::Backend,
    client,
    cluster::Cluster,
    envoy::{Envoy, Version},
    gateway::Gateway,
    ports::Port,
    tools::repository,
    wait::until,
};

const NAMESPACE: &str = "tailscale-gateway";

async fn object(cluster: &Cluster, kind: &str, name: &str) -> Result<Value, String> {
    let printed = cluster.kubectl(&["get", kind, name, "--output", "json"]).await;
    if !printed.success {
        return Err(printed.stderr);
    }
    serde_json::from_str(&printed.stdout).map_err(|error| error.to_string())
}

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
    let (listener, envoy_admin, probes) = (Port::lease(), Port::lease(), Port::lease());
    let backend = Backend::start("outside").await;
    let quickstart = fs::read_to_string(repository().join("manifests/quickstart-cluster.yaml")).expect("it is there");
    let quickstart = quickstart
        .replacen("port: 80\n", &format!("port: {}\n", listener.number()), 1)
        .replace("hello.example.com:80", &backend.address().to_string());
    cluster.apply(&quickstart).await;

    let account = cluster.service_account_kubeconfig(NAMESPACE, "tailscale-gateway").await;
    let flags = ["--namespace", NAMESPACE, "--xds-address", "{xds}"];
    let _control_plane = Gateway::start_secure_in_cluster(&account, &flags).await;

    // What a kubelet would do: mount the ConfigMap and the Secret, and start the Deployment's container.
    let wait = async |kind: &str, name: &str| {
        until(&format!("{kind} {name}"), async || object(&cluster, kind, name).await).await
    };
    let (config, deployment) = (wait("configmap", "web-tailscale").await, wait("deployment", "web-tailscale").await);
    let volumes = &deployment["spec"]["template"]["spec"]["volumes"];
    let secret = volumes.as_array().into_iter().flatten().find_map(|volume| volume["secret"]["secretName"].as_str());
    let secret = wait("secret", secret.expect("the pods mount the Secret with their certificate")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mounted = |text: &str| text.replace("/etc/tailscale-gateway/", &format!("{}/", folder.path().display()));
    for part in ["bootstrap", "tls"] {
        fs::create_dir(folder.path().join(part)).expect("a folder in it");
    }
    let mut bootstrap = String::new();
    for (name, text) in config["data"].as_object().expect("a ConfigMap has data") {
        let text = mounted(text.as_str().expect("text"));
        if name == "bootstrap.yaml" {
            bootstrap.clone_from(&text);
        }
        fs::write(folder.path().join("bootstrap").join(name), text).expect("it can be written");
    }
    for (name, value) in secret["data"].as_object().expect("a Secret has data") {
        let value: k8s_openapi::ByteString = serde_json::from_value(value.clone()).expect("base64");
        fs::write(folder.path().join("tls").join(name), value.0).expect("it can be written");
    }
    // The ports that a pod has for itself, and its name, which stands on its command line.
    let mut bootstrap: Value = serde_saphyr::from_str(&bootstrap).expect("a bootstrap is YAML");
    bootstrap["node"]["id"] = json!("web-tailscale-0");
    bootstrap["admin"]["address"]["socket_address"]["port_value"] = json!(envoy_admin.number());
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut().expect("the listener for probes");
    listeners[0]["address"]["socket_address"]["port_value"] = json!(probes.number());
    for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters") {
        if cluster["name"] != "xds" {
            let address = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address");
            address.expect("the cluster of the admin page")["socket_address"]["port_value"] =
                json!(envoy_admin.number());
        }
    }
    let envoy = Envoy::start(Version::Latest, &bootstrap.to_string()).await;
    envoy.ready().await;
    assert_eq!(client::get(probes.address(), "/ready").send().await.status, 200);
    let answer = client::get(listener.address(), "/hello").send().await;
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
}
