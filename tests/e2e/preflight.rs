//! `preflight` at a real API server: the guide for an Envoy Gateway is done as it stands, all is found well, and then each thing
//! that is broken is named.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{
    cluster::Cluster,
    gateway, preflight_cases,
    process::Process,
    tools::{build, repository, stdout},
    wait::until,
};

/// Where the plain manifests install, and where the guide has the Envoy Gateway.
const NAMESPACE: &str = "tailscale-gateway";
const THEIRS: &str = "envoy-gateway-system";
/// The two replicas that would be ready.
const READY: [&str; 2] = ["10.0.0.1:5005", "10.0.0.2:5005"];

/// What Envoy Gateway's own installation makes, as far as it is looked at.
fn envoy_gateway() -> String {
    let metadata = json!({ "name": "envoy-gateway", "namespace": THEIRS });
    let labels = json!({ "control-plane": "envoy-gateway" });
    let container = json!({
        "name": "envoy-gateway", "image": "docker.io/envoyproxy/gateway:v1.9.1",
        "env": [{ "name": "KUBERNETES_CLUSTER_DOMAIN", "value": "cluster.local" }],
    });
    let documents = [
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": { "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": { "serviceAccountName": "envoy-gateway", "containers": [container] },
            } },
        }),
    ];
    documents.map(|document| document.to_string()).join("\n---\n")
}

async fn set_ready(cluster: &Cluster, addresses: &[&str]) {
    let addresses: Vec<_> = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    cluster.set_endpoints(NAMESPACE, "tailscale-gateway", "extension", &addresses).await;
}

/// A cluster with an Envoy Gateway in it, before anything of ours.
async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.create_namespace(THEIRS, &[]).await;
    cluster.apply(&envoy_gateway()).await;
    set_ready(&cluster, &READY).await;
    cluster
}

/// The guide's blocks of a kind, in order.
fn blocks(kind: &str) -> Vec<String> {
    let guide = fs::read_to_string(repository().join("manifests/envoy-gateway/README.md")).expect("it is there");
    let found = guide.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(&format!("{kind}\n")));
    found.map(str::to_owned).collect()
}

/// The guide's commands, as they are given; returns what they print.
async fn follow_the_guide(cluster: &Cluster, folder: &Path) -> Vec<String> {
    let bin = folder.join("bin");
    fs::create_dir(&bin).expect("a folder for programs");
    for (name, program) in
        [("tailscale-gateway", env!("CARGO_BIN_EXE_tailscale-gateway").into()), ("kubectl", build("kubectl"))]
    {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\nexec {} \"$@\"\n", program.display())).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    for name in ["crds", "manifests"] {
        std::os::unix::fs::symlink(repository().join(name), folder.join(name)).expect("a link");
    }
    let script = format!("set -euo pipefail\n{}", blocks("sh").join("\n"));
    let mut command = Command::new("bash");
    command.current_dir(folder).arg("-c").arg(script);
    command
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH is set")))
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("HOME", folder);
    let shell = Process::spawn("the guide", command);
    let status = shell.wait().await;
    assert!(status.success(), "the guide's commands end with {status}: {:#?}", shell.lines());
    shell.lines()
}

/// What `preflight` prints, and whether it finds an error.
pub fn preflight(kubeconfig: &Path, arguments: &[&str]) -> (Vec<String>, bool) {
    let kubeconfig = kubeconfig.to_str().expect("a path in UTF-8");
    let output = gateway::run(&[&["preflight", "--kubeconfig", kubeconfig], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, "", "it says what it finds on standard output");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    (printed.lines().map(str::to_owned).collect(), !output.status.success())
}

/// The lines that are not "ok".
pub fn bad(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| !line.starts_with("ok: ")).collect()
}

#[tokio::test]
async fn the_guide_works_as_it_stands_and_each_thing_that_is_broken_then_is_named() {
    let cluster = cluster().await;
    let folder = tempfile::tempdir().expect("a folder");
    let lines = follow_the_guide(&cluster, folder.path()).await;
    let shown = blocks("text").remove(0);
    for line in shown.lines() {
        assert!(lines.iter().any(|said| said.contains(line)), "nothing says {line:?}: {lines:#?}");
    }
    let kubeconfig = cluster.kubeconfig();
    let (lines, failed) = preflight(&kubeconfig, &[]);
    assert!(bad(&lines).is_empty() && !failed, "{lines:#?}");
    assert!(
        lines[0].starts_with("ok: ConfigMap envoy-gateway-system/envoy-gateway-config: data[envoy-gateway.yaml]: ")
    );

    let named = async |what: &str, wanted: &[&str]| {
        let (lines, failed) = preflight(&kubeconfig, &[]);
        let found = bad(&lines);
        for wanted in wanted {
            assert!(found.iter().any(|line| line.starts_with(wanted)), "{what}: wanted {wanted}\nfound {lines:#?}");
        }
        assert_eq!(found.len(), wanted.len(), "{what}: {found:#?}");
        assert_eq!(failed, wanted.iter().any(|line| line.starts_with("error: ")), "{what}");
    };
    let kubectl = async |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        cluster.kubectl(&arguments).await.expect_success()
    };
    let apply = async |path: &str| {
        let path = repository().join(path);
        kubectl(&format!("apply --server-side --force-conflicts --filename {}", path.display())).await
    };

    kubectl("delete clusterrolebinding tailscale-gateway-envoy-gateway").await;
    let account = "ServiceAccount envoy-gateway-system/envoy-gateway: may not";
    let to_read = |plural: &str| {
        format!("error: {account} list {plural}.gateway.tailscale.com, nor watch {plural}.gateway.tailscale.com; ")
    };
    let reads =
        ["tailscaleendpoints", "tailscaleservice", "tailscaleroutepolicies", "tailscalegatewayrevisions"].map(to_read);
    let to_write = |plural: &str| {
        format!(
            "warning: {account} get {plural}.gateway.tailscale.com, nor update {plural}/status.gateway.tailscale.com; "
        )
    };
    let writes = ["tailscaleroutepolicies", "tailscalegatewayrevisions"].map(to_write);
    let all: Vec<&str> = reads.iter().chain(&writes).map(String::as_str).collect();
    named("no rights", &all).await;
    apply("manifests/envoy-gateway/rbac.yaml").await;

    kubectl("delete crd tailscalegatewayrevisions.gateway.tailscale.com").await;
    named(
        "no definition",
        &[
            "error: CustomResourceDefinition tailscalegatewayrevisions.gateway.tailscale.com: is missing; ",
            "error: extensionManager.policyResources[0]: the API server has no TailscaleGatewayRevision of gateway.tailscale.com/v1alpha1; ",
        ],
    )
    .await;
    let crds = "crds";
    apply(crds).await;
    kubectl("wait --for=condition=Established crd --all --timeout=60s").await;

    // What an older definition let through.
    let policies = "crd tailscaleroutepolicies.gateway.tailscale.com";
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let older = json!([
        { "op": "remove", "path": format!("{schema}/required") },
        { "op": "remove", "path": format!("{schema}/properties/spec/properties/rules") },
        { "op": "replace", "path": format!("{schema}/properties/spec/required"), "value": ["targetRefs"] },
    ]);
    kubectl(&format!("patch {policies} --type=json --patch {older}")).await;
    let empty = json!({
        "apiVersion": "gateway.tailscale.com/v1alpha1", "kind": "TailscaleRoutePolicy",
        "metadata": { "name": "empty", "namespace": "default" },
    });
    until("the older definition to hold", async || {
        let applied = cluster.try_apply(&empty.to_string()).await;
        if applied.success { Ok(()) } else { Err(applied.stderr) }
    })
    .await;
    named(
        "an older definition",
        &[
            "error: CustomResourceDefinition tailscaleroutepolicies.gateway.tailscale.com: is older than this version: it lacks spec.rules, ",
            "error: TailscaleRoutePolicy default/empty: has no spec; Envoy Gateway stops reading policies there: ",
        ],
    )
    .await;
    apply(crds).await;
    named("a policy of an older definition", &["error: TailscaleRoutePolicy default/empty: has no spec; "]).await;
    kubectl("delete tailscaleroutepolicy empty --namespace default").await;

    set_ready(&cluster, &READY[..1]).await;
    named(
        "one replica",
        &["warning: Service tailscale-gateway/tailscale-gateway: one pod alone answers on port 5005; "],
    )
    .await;
    set_ready(&cluster, &[]).await;
    named(
        "no replica",
        &["error: Service tailscale-gateway/tailscale-gateway: no pod that is ready answers on port 5005; "],
    )
    .await;
    set_ready(&cluster, &READY).await;

    let elsewhere = json!([{ "op": "remove", "path": "/spec/ingress/1" }]);
    kubectl(&format!("patch networkpolicy tailscale-gateway --namespace {NAMESPACE} --type=json --patch {elsewhere}"))
        .await;
    named(
        "a closed network",
        &["error: NetworkPolicy tailscale-gateway/tailscale-gateway: lets no pod of an Envoy Gateway in "],
    )
    .await;
    apply("manifests/install.yaml").await;

    kubectl("delete clusterrole tailscale-gateway").await;
    let (lines, failed) = preflight(&kubeconfig, &[]);
    let gone = "error: ServiceAccount tailscale-gateway/tailscale-gateway: may not list, watch httproutes.gateway.networking.k8s.io, ";
    assert!(failed && lines.iter().any(|line| line.starts_with(gone)), "{lines:#?}");
    apply("manifests/install.yaml").await;

    // TLS on this side, as the guide's Secrets have it and the chart mounts them; then on the other, too.
    let tls = ["--set", "extension.tls.secretName=tailscale-gateway-extension", "--set", "crds.install=false"];
    let chart = repository().join("manifests/chart");
    let template =
        ["template", "x", chart.to_str().expect("UTF-8"), "--kube-version", "1.33", "--namespace", NAMESPACE];
    let made = Command::new(build("helm")).args(template).args(tls).output().expect("helm can be started");
    let applied = cluster.try_apply(&stdout(made, "helm template")).await;
    applied.expect_success();
    let deployment = "Deployment tailscale-gateway/tailscale-gateway";
    named(
        "TLS on one side",
        &[&format!("error: extensionManager.service.tls: is missing, and {deployment} uses TLS; ")],
    )
    .await;
    let configuration =
        fs::read_to_string(repository().join("manifests/envoy-gateway/envoy-gateway.yaml")).expect("shipped");
    let mut configuration: Value = serde_saphyr::from_str(&configuration).expect("YAML");
    configuration["extensionManager"]["service"]["tls"] =
        json!({ "certificateRef": { "name": "tailscale-gateway-extension-ca" } });
    let told = async |configuration: &Value| {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "envoy-gateway-config", "namespace": THEIRS },
            "data": { "envoy-gateway.yaml": configuration.to_string() },
        });
        cluster.try_apply(&map.to_string()).await.expect_success();
    };
    told(&configuration).await;
    named("TLS on both sides", &[]).await;
    let mut other = configuration.clone();
    other["extensionManager"]["service"]["fqdn"]["hostname"] = json!("tailscale-gateway.tailscale-gateway.svc");
    told(&other).await;
    named(
        "another name",
        &["error: Secret tailscale-gateway/tailscale-gateway-extension: the certificate of this program is not for tailscale-gateway.tailscale-gateway.svc; "],
    )
    .await;
    told(&configuration).await;
    kubectl("delete secret tailscale-gateway-extension-ca --namespace envoy-gateway-system").await;
    named("no authority", &["error: Secret envoy-gateway-system/tailscale-gateway-extension-ca: is missing; "]).await;

    kubectl("delete service tailscale-gateway --namespace tailscale-gateway").await;
    named(
        "no Service",
        &[
            "error: Service tailscale-gateway/tailscale-gateway: is missing; ",
            "error: Secret envoy-gateway-system/tailscale-gateway-extension-ca: is missing; ",
        ],
    )
    .await;
}

#[tokio::test]
async fn who_may_read_little_is_told_what_was_not_looked_at_and_the_rest_is_checked() {
    let cluster = cluster().await;
    cluster.apply_plain_manifests().await.expect_success();
    cluster.kubectl(&["create", "serviceaccount", "reader", "--namespace", "default"]).await.expect_success();
    let reader = cluster.service_account_kubeconfig("default", "reader").await;
    let file = repository().join("manifests/envoy-gateway/envoy-gateway.yaml");
    let file = file.to_str().expect("UTF-8");

    // Which kinds there are everybody may ask.
    let (lines, failed) = preflight(&reader, &["--envoy-gateway-config", file]);
    assert!(!failed && lines.iter().all(|line| !line.starts_with("error: ")), "{lines:#?}");
    for wanted in [
        "warning: Deployment envoy-gateway-system/envoy-gateway: is not looked at: deployments.apps \"envoy-gateway\" is forbidden: ",
        "warning: CustomResourceDefinition tailscaleendpoints.gateway.tailscale.com: is not looked at: ",
        "warning: ServiceAccount envoy-gateway-system/envoy-gateway: what it may do is not known: ",
        "warning: TailscaleRoutePolicy objects: are not looked at: ",
        "warning: Service tailscale-gateway/tailscale-gateway: is not looked at: ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(wanted)), "nothing says {wanted}: {lines:#?}");
    }
    let mut broken = fs::read_to_string(file).expect("it is shipped");
    broken = broken.replace("kind: TailscaleService}", "kind: TailscaleServicee}").replace("failOpen", "failopen");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.yaml");
    fs::write(&path, broken).expect("it can be written");
    let (lines, failed) = preflight(&reader, &["--envoy-gateway-config", path.to_str().expect("UTF-8")]);
    for wanted in [
        "error: extensionManager.failopen: is no field of an Envoy Gateway's configuration; it is ignored without a word; write failOpen",
        "error: extensionManager.backendResources[1]: there is no kind TailscaleServicee in gateway.tailscale.com; ",
        "error: extensionManager.backendResources[1]: the API server has no TailscaleServicee of gateway.tailscale.com/v1alpha1; ",
    ] {
        assert!(failed && lines.iter().any(|line| line.starts_with(wanted)), "nothing says {wanted}: {lines:#?}");
    }

    // Without the file there is nothing to check.
    let output = gateway::run(&["preflight", "--kubeconfig", reader.to_str().expect("UTF-8")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty());
    let wanted =
        "ConfigMap envoy-gateway-system/envoy-gateway-config: configmaps \"envoy-gateway-config\" is forbidden: ";
    assert!(said.contains(wanted) && said.contains("--envoy-gateway-config FILE"), "{said}");

    cluster.stop_apiserver().await;
    let admin = cluster.kubeconfig();
    let (lines, failed) = preflight(&admin, &["--envoy-gateway-config", file, "--output", "json"]);
    let report: Value = serde_json::from_str(&lines.join("\n")).expect("JSON");
    assert!(failed && report["errors"] == 1 && report["warnings"] == 0, "{report:#}");
    assert_eq!(report["findings"][0]["level"], "ok");
    assert_eq!(report["findings"][1]["where"], "cluster");
    assert!(
        report["findings"][1]["what"].as_str().is_some_and(|what| what.starts_with("the API server does not answer: "))
    );
    let output = gateway::run(&["preflight", "--kubeconfig", admin.to_str().expect("UTF-8")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("the API server does not answer: "), "{said}");
}

#[test]
fn without_a_cluster_a_file_is_checked_for_what_it_says() {
    let run = |arguments: &[&str]| {
        let mut command = gateway::command(&[&["preflight"], arguments].concat());
        command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST").current_dir(repository());
        // A home in which there is nothing.
        command.env("HOME", env!("CARGO_TARGET_TMPDIR"));
        let output = command.output().expect("our binary can be started");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (text(output.stdout), text(output.stderr), output.status.success())
    };
    for file in ["manifests/envoy-gateway/envoy-gateway.yaml", "manifests/envoy-gateway/values.yaml"] {
        let (printed, _, success) = run(&["--envoy-gateway-config", file]);
        let lines: Vec<&str> = printed.lines().collect();
        assert!(success && lines.len() == 2, "{printed}");
        assert!(lines[0].starts_with("ok: ") && lines[1].starts_with("warning: cluster: there is none: "), "{printed}");
    }
    let original = "manifests/examples/original/envoy-gateway.yaml";
    let (printed, _, success) = run(&["--envoy-gateway-config", original]);
    assert!(!success && printed.contains("is as the original operator's examples have it"), "{printed}");
    for (arguments, wanted) in [
        (&[][..], "no cluster: not running in one, and no kubeconfig could be used; "),
        (&["--envoy-gateway-config", "nowhere.yaml"], "--envoy-gateway-config nowhere.yaml: No such file or directory"),
    ] {
        let (printed, said, success) = run(arguments);
        assert!(!success && printed.is_empty() && said.contains(wanted), "{said}");
    }
}

/// What an Envoy Gateway says once it has taken its configuration.
const TAKEN: &str = "Start runners";
/// What it says instead: how it is used.
const NOT_TAKEN: &str = "help for server";
/// What is said of a configuration that it does not take.
const REFUSED: &str = "one that starts ends at once";

#[tokio::test]
async fn a_real_envoy_gateway_refuses_just_those_configurations_of_which_that_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, cases) = preflight_cases::cases();
    let mut refused = 0;
    for case in cases {
        let file = folder.path().join("envoy-gateway.yaml");
        fs::write(&file, case.configuration.to_string()).expect("it can be written");
        let mut command = Command::new(build("envoy-gateway"));
        // Without a cluster and without files it ends, one way or the other.
        command.args(["server", "--config-path"]).arg(&file).env_clear().env("HOME", folder.path());
        command.current_dir(folder.path());
        let envoy_gateway = Process::spawn(format!("Envoy Gateway: {}", case.title), command);
        let verdict = async || {
            let lines = envoy_gateway.lines();
            let line = lines.iter().find(|line| line.contains(TAKEN) || line.contains(NOT_TAKEN));
            line.map(|line| line.contains(NOT_TAKEN)).ok_or_else(|| format!("{lines:#?}"))
        };
        let is_refused = until("it to take the configuration or not", verdict).await;
        let is_said = case.found.iter().any(|line| line.contains(REFUSED));
        assert_eq!(is_refused, is_said, "{}: {:#?}", case.title, envoy_gateway.lines());
        refused += usize::from(is_refused);
    }
    assert!(refused >= 10, "only {refused}");
}
