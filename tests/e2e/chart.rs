//! The chart and the plain manifests made from it, as Helm and a real API server take them.

use std::{collections::BTreeSet, process::Command};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use tailscale_gateway::kubernetes::permissions::{Permission, Scope, permissions};

use crate::support::{
    cluster::{self, Cluster},
    tools::{build, repository, stdout},
};

/// Where the plain manifests install.
const NAMESPACE: &str = "tailscale-gateway";

fn chart() -> String {
    repository().join("manifests/chart").to_str().expect("a path in UTF-8").to_owned()
}

/// A cluster of its own with Gateway API: an installation belongs to the whole cluster.
async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster
}

async fn get(cluster: &Cluster, arguments: &str) -> Value {
    let arguments: Vec<&str> = ["get", "--output=json"].into_iter().chain(arguments.split(' ')).collect();
    let printed = cluster.kubectl(&arguments).await.expect_success();
    serde_json::from_str(&printed).expect("kubectl prints JSON")
}

#[test]
fn the_plain_manifests_are_what_helm_makes_of_the_chart() {
    let made = Command::new(repository().join("tools/manifests")).output().expect("tools/manifests can be started");
    let made = stdout(made, "tools/manifests");
    let kept = std::fs::read_to_string(repository().join("manifests/install.yaml")).expect("it is there");
    assert!(made == kept, "manifests/install.yaml is not what the chart makes: run `make manifests`");
}

/// Helm without a cluster.
fn helm(arguments: &[&str]) -> std::process::Output {
    Command::new(build("helm")).args(arguments).output().expect("helm can be started")
}

#[test]
fn helm_finds_no_fault_with_the_chart_and_refuses_values_that_it_does_not_have() {
    stdout(helm(&["lint", "--strict", "--kube-version", "1.33", &chart()]), "helm lint");
    let template = ["template", "x", &chart(), "--kube-version", "1.33"];
    for (setting, wanted) in [
        ("replicass=3", "additional properties 'replicass' not allowed"),
        ("log.level=loud", "value must be one of 'error', 'warn', 'info', 'debug', 'trace'"),
        ("gatewayClass.parametersRef.name=envoys", "if 'name' exists"),
        ("extension.tls.clientCaSecretName=ca", "extension/tls"),
        ("extraArgs={--lease=other}", "write the Lease tailscale-gateway and no other"),
    ] {
        let refused = helm(&[&template[..], &["--set", setting]].concat());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(wanted), "{setting}: {said}");
    }
}

#[test]
fn what_is_off_by_default_is_well_formed_when_it_is_on() {
    let on = [
        "metrics.serviceMonitor.create=true",
        "metrics.dashboard.create=true",
        "networkPolicy.adminFrom[0].namespaceSelector.matchLabels.team=monitoring",
        "networkPolicy.xdsFrom[0].ipBlock.cidr=192.0.2.0/24",
        "gatewayClass.parametersRef.name=envoys",
        "gatewayClass.parametersRef.namespace=default",
        "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "image.pullSecrets={registry}",
        "networkPolicy.extensionFrom[0].ipBlock.cidr=192.0.2.1/32",
        "extension.tls.secretName=port",
        "extension.tls.clientCaSecretName=clients",
        "envoyGateway.rbac.create=true",
        "envoyGateway.namespace=theirs",
        "envoyGateway.serviceAccount=them",
        "admin.openDebug=true",
        "extraArgs={--privileged-ports}",
        "extraEnv[0].name=A",
        "extraEnv[0].value=b",
        "podAnnotations.a=b",
        "podLabels.c=d",
        "serviceAccount.annotations.e=f",
        "nodeSelector.disk=fast",
        "tolerations[0].operator=Exists",
        "affinity.nodeAffinity.x=y",
        "priorityClassName=high",
        "topologySpreadConstraints[0].topologyKey=zone",
    ];
    let chart = chart();
    let mut arguments = vec!["template", "x", &chart, "--kube-version", "1.33"];
    arguments.extend(on.iter().flat_map(|setting| ["--set", setting]));
    let documents: Vec<Value> = serde_saphyr::from_multiple(&stdout(helm(&arguments), "helm template")).expect("YAML");
    let find = |kind: &str| {
        let found = documents.iter().find(|document| document["kind"] == kind);
        found.unwrap_or_else(|| panic!("there is no {kind}"))
    };

    let pod = &find("Deployment")["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["image"], format!("tailscale-gateway@{}", &on[6]["image.digest=".len()..]));
    for flag in ["--privileged-ports", "--admin-open-debug"] {
        assert!(container["args"].as_array().is_some_and(|all| all.contains(&json!(flag))), "{flag}");
    }
    assert!(container["env"].as_array().is_some_and(|all| all.contains(&json!({ "name": "A", "value": "b" }))));
    assert_eq!((&pod["metadata"]["annotations"]["a"], &pod["metadata"]["labels"]["c"]), (&json!("b"), &json!("d")));
    let spec = &pod["spec"];
    assert_eq!(spec["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!((&spec["nodeSelector"], &spec["priorityClassName"]), (&json!({ "disk": "fast" }), &json!("high")));
    assert_eq!(spec["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(spec["topologySpreadConstraints"], json!([{ "topologyKey": "zone" }]));
    assert_eq!(spec["affinity"]["nodeAffinity"]["x"], "y");
    assert_eq!(find("ServiceAccount")["metadata"]["annotations"]["e"], "f");
    let parameters = json!({
        "group": "gateway.tailscale.com", "kind": "TailscaleGatewayParameters", "name": "envoys", "namespace": "default"
    });
    assert_eq!(find("GatewayClass")["spec"]["parametersRef"], parameters);
    let ingress = &find("NetworkPolicy")["spec"]["ingress"];
    // Envoys in their Gateway's namespace: those that are created here, and an Envoy Gateway's that has them there.
    let of_gateway = json!([{ "key": "gateway.networking.k8s.io/gateway-name", "operator": "Exists" }]);
    assert_eq!(
        (&ingress[0]["from"][0]["namespaceSelector"], &ingress[0]["from"][0]["podSelector"]["matchExpressions"]),
        (&json!({}), &of_gateway)
    );
    let theirs = json!({ "matchLabels": { "kubernetes.io/metadata.name": "theirs" } });
    assert_eq!(ingress[0]["from"][1]["namespaceSelector"], theirs);
    assert_eq!(ingress[0]["from"][2], json!({ "ipBlock": { "cidr": "192.0.2.0/24" } }));
    assert_eq!(
        (&ingress[1]["ports"], &ingress[1]["from"][0]["namespaceSelector"]),
        (&json!([{ "port": "extension" }]), &theirs)
    );
    assert_eq!(ingress[1]["from"][1], json!({ "ipBlock": { "cidr": "192.0.2.1/32" } }));
    assert_eq!(ingress[2]["ports"], json!([{ "port": "admin" }]));
    // The Lease that the program is told of is the one that it may write.
    assert!(container["args"].as_array().is_some_and(|all| all.contains(&json!("--lease=tailscale-gateway"))));
    let rules = find("Role")["rules"].as_array().expect("rules");
    let named: Vec<&Value> = rules.iter().filter_map(|rule| rule.get("resourceNames")).collect();
    assert_eq!(named, [&json!(["tailscale-gateway"])]);
    // Where the program looks for a certificate is where it is mounted.
    let args = container["args"].as_array().expect("arguments").iter().filter_map(Value::as_str);
    let args: Vec<&str> = args.filter(|arg| arg.starts_with("--extension-")).collect();
    let mount = |at: usize| container["volumeMounts"][at]["mountPath"].as_str().expect("a mount");
    let wanted = [
        "--extension-listen=0.0.0.0:5005".to_owned(),
        format!("--extension-tls-cert={}/tls.crt", mount(0)),
        format!("--extension-tls-key={}/tls.key", mount(0)),
        format!("--extension-client-ca={}/ca.crt", mount(1)),
    ];
    assert_eq!(args, wanted);
    let volumes = &spec["volumes"];
    assert_eq!(
        (&volumes[0]["secret"]["secretName"], &volumes[1]["secret"]["secretName"]),
        (&json!("port"), &json!("clients"))
    );
    let granted =
        documents.iter().find(|one| one["kind"] == "ClusterRoleBinding" && one["subjects"][0]["name"] == "them");
    assert_eq!(granted.expect("it is bound")["subjects"][0]["namespace"], "theirs");
    assert_eq!(find("ServiceMonitor")["spec"]["endpoints"][0]["port"], "admin");
    let dashboard = find("ConfigMap")["data"]["tailscale-gateway.json"].as_str().expect("a text");
    serde_json::from_str::<Value>(dashboard).expect("the dashboard is still JSON");
}

#[test]
fn without_the_extension_server_nothing_of_it_is_left() {
    let made = helm(&[
        "template",
        "x",
        &chart(),
        "--kube-version",
        "1.33",
        "--set",
        "extension.enabled=false,crds.install=false",
    ]);
    let made = stdout(made, "helm template");
    assert!(
        made.contains("--extension-listen=off") && !made.contains("5005") && !made.contains("envoy-gateway"),
        "{made}"
    );
}

#[tokio::test]
async fn the_plain_manifests_install_what_runs_under_restricted_pod_security() {
    let cluster = cluster().await;
    let applied = cluster.apply_plain_manifests().await;
    assert_eq!(applied.stderr, "", "not even a warning");
    applied.expect_success();
    // Once more changes nothing.
    cluster.apply_plain_manifests().await.expect_success();

    let deployment = get(&cluster, &format!("deployment tailscale-gateway --namespace {NAMESPACE}")).await;
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("one");
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    cluster.try_apply(&pod.to_string()).await.expect_success();
    // The namespace does refuse what is not restricted.
    pod["metadata"]["name"] = json!("two");
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let said = cluster.try_apply(&pod.to_string()).await.expect_failure();
    assert!(said.contains("violates PodSecurity \"restricted:latest\""), "{said}");

    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let selects = |selector: &Value| {
        let wanted = selector.as_object().expect("a selector is a mapping");
        !wanted.is_empty() && wanted.iter().all(|(name, value)| labels[name] == *value)
    };
    let named = format!("tailscale-gateway --namespace {NAMESPACE}");
    assert!(selects(&get(&cluster, &format!("service {named}")).await["spec"]["selector"]));
    for kind in ["poddisruptionbudget", "networkpolicy"] {
        let object = get(&cluster, &format!("{kind} {named}")).await;
        let selector =
            if kind == "networkpolicy" { &object["spec"]["podSelector"] } else { &object["spec"]["selector"] };
        assert!(selects(&selector["matchLabels"]), "{kind}");
    }
    let class = get(&cluster, "gatewayclass tailscale").await;
    assert_eq!(class["spec"]["controllerName"], "gateway.tailscale.com/gateway-controller");
}

#[tokio::test]
async fn the_service_account_may_do_what_the_table_says_and_no_more() {
    let cluster = cluster().await;
    cluster.apply_plain_manifests().await.expect_success();
    let account = cluster.service_account_kubeconfig(NAMESPACE, "tailscale-gateway").await;
    let account = cluster::client(&account).await;
    let mut may = BTreeSet::new();
    for Permission { scope, group, resource, name, verbs, .. } in permissions() {
        let namespace = (scope == Scope::OwnNamespace).then_some(NAMESPACE);
        for verb in verbs {
            let asked = format!("{verb} {resource}.{group} {name:?} in {namespace:?}");
            assert!(allowed(&account, group, &resource, verb, namespace, name).await, "{asked}");
            may.insert((group, resource.clone(), *verb));
        }
        // A permission in one namespace is none in others.
        assert!(scope == Scope::Cluster || !allowed(&account, group, &resource, verbs[0], Some("default"), name).await);
    }
    // Every verb of every resource that it has anything to do with, and some that it has not.
    let resources: BTreeSet<(&str, String)> =
        may.iter().map(|(group, resource, _)| (*group, resource.clone())).collect();
    let others = [("", "pods"), ("", "nodes"), ("rbac.authorization.k8s.io", "clusterroles"), ("apps", "daemonsets")];
    let others = others.into_iter().map(|(group, resource)| (group, resource.to_owned()));
    for (group, resource) in resources.into_iter().chain(others) {
        for verb in
            ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "bind", "escalate"]
        {
            let wanted = group != "coordination.k8s.io" && may.contains(&(group, resource.clone(), verb));
            let got = allowed(&account, group, &resource, verb, None, None).await;
            assert_eq!(got, wanted, "{verb} {resource}.{group}");
        }
    }
}

/// Whether the user of this client may do something, as the API server says.
async fn allowed(
    client: &Client,
    group: &str,
    resource: &str,
    verb: &str,
    namespace: Option<&str>,
    name: Option<&str>,
) -> bool {
    let (resource, part) = resource.split_once('/').map_or((resource, None), |(resource, part)| (resource, Some(part)));
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: part.map(str::to_owned),
        verb: Some(verb.to_owned()),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec =
        SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answered = Api::all(client.clone()).create(&PostParams::default(), &review).await;
    answered.expect("everybody may ask").status.expect("an answer has a status").allowed
}

#[tokio::test]
async fn helm_installs_upgrades_and_removes_and_leaves_the_definitions() {
    let cluster = cluster().await;
    let chart = chart();
    let helm = async |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        cluster.helm(&[&arguments[..], &["--namespace", "gateways"]].concat()).await.expect_success()
    };
    let notes = helm(&format!("install mine {chart} --create-namespace")).await;
    assert!(notes.contains("Gateways that name the class tailscale are served"), "{notes}");
    let listed = cluster.kubectl(&["get", "deployment,pdb", "--namespace", "gateways", "--output=name"]).await;
    assert_eq!(
        listed.expect_success(),
        "deployment.apps/tailscale-gateway\npoddisruptionbudget.policy/tailscale-gateway\n"
    );
    let kept = get(&cluster, "crd tailscaletailnets.gateway.tailscale.com").await;
    let limit = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/operationalMetrics/type";
    assert_eq!(kept.pointer(limit), Some(&json!("object")), "the definition is whole");

    helm(&format!("upgrade mine {chart} --set replicas=1")).await;
    let listed = cluster.kubectl(&["get", "deployment,pdb", "--namespace", "gateways", "--output=name"]).await;
    assert_eq!(listed.expect_success(), "deployment.apps/tailscale-gateway\n", "one replica has no disruption budget");

    helm("uninstall mine").await;
    let listed = cluster.kubectl(&[
        "get",
        "deployment,clusterrole,gatewayclass",
        "--namespace",
        "gateways",
        "--selector=app.kubernetes.io/name=tailscale-gateway",
        "--output=name",
    ]);
    assert_eq!(listed.await.expect_success(), "");
    get(&cluster, "crd tailscaletailnets.gateway.tailscale.com").await;
}
