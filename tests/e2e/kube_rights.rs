//! What may not be read or written, for a while: the rest goes on, nothing is taken away for it, and it is made up for later.

use std::fs;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};
use tailscale_gateway::model::Kind;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    kube_extension::{TAILNET, hosted, machines, revision, until_told},
    kube_serve::{CLASS, OPERATOR, cluster, condition, endpoint, gateway, may_all_but, object, route, wait_for},
    support::{
        backend::Backend,
        clock,
        cluster::{AuditEvent, Cluster},
        gateway::Gateway,
        ports::Port,
        wait::until,
    },
};

/// The rights of the operator's account are those of the role that `may_all_but` writes.
fn account() -> String {
    OPERATOR.replace("name: cluster-admin", "name: operator")
}

/// What the operator's account asked for.
async fn asked(cluster: &Cluster, wanted: impl Fn(&AuditEvent) -> bool) -> Vec<AuditEvent> {
    let events = cluster.audit_events().await.into_iter();
    events.filter(|event| event.user == "system:serviceaccount:default:operator" && wanted(event)).collect()
}

/// Lets the API server refuse the status of an HTTPRoute (422).
const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-status}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [gateway.networking.k8s.io], apiVersions: ['*'], operations: [UPDATE], resources: [httproutes/status]}
  validations:
  - expression: object.metadata.name != 'refused'
    message: nobody says anything of this route
    reason: Invalid
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-status}
spec: {policyName: no-status, validationActions: [Deny]}
---
";

/// Waits until the API server refuses the status of the route, or takes it.
async fn until_refused(cluster: &Cluster, refused: bool) {
    let patch = r#"{"status": {"parents": []}}"#;
    let dry_run = ["--subresource=status", "--type=merge", "--dry-run=server", "--patch", patch];
    let ask = [&["patch", "httproute", "refused"], &dry_run[..]].concat();
    until(&format!("the policy to hold: {refused}"), async || {
        let answer = cluster.kubectl(&ask).await;
        let said = answer.stderr.contains("nobody says anything of this route");
        if answer.success != refused && said == refused { Ok(()) } else { Err(answer.stderr) }
    })
    .await;
}

#[tokio::test]
async fn statuses_that_are_refused_hold_up_no_others_and_are_written_once_when_they_are_taken() {
    let cluster = cluster().await;
    let (listener, blue) = (Port::lease(), Backend::start("blue").await);
    let routes = ["all", "refused"].map(|name| route(name, &format!("/{name}"), "blue")).concat();
    let objects = [CLASS, &gateway(listener.address().port()), &endpoint("blue", &blue), &routes];
    cluster.apply(&[&account(), POLICY, &objects.concat()].concat()).await;
    until_refused(&cluster, true).await;
    let status = format!("{}/status", Kind::TailscaleEndpoints.plural());
    may_all_but(&cluster, &[&status]).await;
    let kubeconfig = cluster.service_account_kubeconfig("default", "operator").await;
    let control = Gateway::start_in_cluster(&kubeconfig, &["--replica", "only"]).await;

    // The one kind is forbidden (403), the one object is not taken (422): both are named, in the API server's words.
    let forbidden = control.process().wait_for_line("writing statuses of TailscaleEndpoints objects").await;
    assert!(forbidden.contains("forbidden") && forbidden.contains(&status), "{forbidden}");
    let invalid = control.process().wait_for_line("the API server does not take the status").await;
    assert!(invalid.contains("HTTPRoute default/refused"), "{invalid}");
    assert!(invalid.contains("nobody says anything of this route"), "{invalid}");
    let written = async |kind: &str, name: &str| {
        asked(&cluster, |event| {
            event.subresource == "status" && event.resource == kind && event.name == name && event.is_write()
        })
        .await
        .into_iter()
        .map(|event| event.code)
        .collect::<Vec<u16>>()
    };
    let accepted = ("Accepted", "True/Accepted");
    wait_for(&cluster, "httproute", "all", "/parents/0/conditions", accepted).await;
    wait_for(&cluster, "gateway", "web", "/conditions", accepted).await;
    wait_for(&cluster, "gatewayclass", "tailscale", "/conditions", accepted).await;
    for kind in ["TailscaleEndpoints", "HTTPRoute"] {
        let series = format!("tailscale_gateway_status_writes_total{{kind=\"{kind}\",result=\"failed\"}}");
        control.wait_for_metric(&series, |count| count.is_some_and(|count| count >= 1.0)).await;
    }
    assert_eq!(written("httproutes", "refused").await, [422], "the same is not said again");
    assert!(object(&cluster, "httproute", "refused").await["status"]["parents"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(object(&cluster, "tailscaleendpoints", "blue").await["status"]["conditions"], Value::Null);

    // The right comes, and nobody has to say so; the policy goes, and the object is another one.
    may_all_but(&cluster, &[]).await;
    wait_for(&cluster, "tailscaleendpoints", "blue", "/conditions", accepted).await;
    cluster.kubectl(&["delete", "validatingadmissionpolicybinding", "no-status"]).await.expect_success();
    until_refused(&cluster, false).await;
    cluster.kubectl(&["label", "httproute", "refused", "tried=again"]).await.expect_success();
    wait_for(&cluster, "httproute", "refused", "/parents/0/conditions", accepted).await;
    // What comes after shows that nothing more is written.
    cluster.apply(&route("all", "/last", "nobody")).await;
    let unresolved = ("ResolvedRefs", "False/BackendNotFound");
    wait_for(&cluster, "httproute", "all", "/parents/0/conditions", unresolved).await;
    for (kind, name, refusal) in [("tailscaleendpoints", "blue", 403), ("httproutes", "refused", 422)] {
        let codes = written(kind, name).await;
        let (last, before) = codes.split_last().expect("it was written");
        assert_eq!(*last, 200, "{kind} {name}: {codes:?}");
        assert!(before.iter().all(|code| *code == refusal), "{kind} {name}: {codes:?}");
    }
    // Each is said once.
    let lines = control.process().lines();
    for part in ["writing statuses of TailscaleEndpoints objects", "the API server does not take the status"] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{lines:#?}");
    }
}

#[tokio::test]
async fn what_is_put_into_envoy_gateways_stays_while_nobody_may_read_what_it_should_be() {
    let cluster = cluster().await;
    cluster.create_namespace("system", &[]).await;
    let (listener, extension, blue) = (Port::lease(), Port::lease(), Backend::start("blue").await);
    let own = [CLASS, &gateway(listener.address().port()), &endpoint("blue", &blue)].concat();
    let theirs = [TAILNET, "---", &hosted("eg", 8080), &machines("127.0.0.1:8001", "5s")].concat();
    cluster.apply(&[account(), own, theirs].concat()).await;
    may_all_but(&cluster, &[]).await;
    let kubeconfig = cluster.service_account_kubeconfig("default", "operator").await;
    let listen = extension.address().to_string();
    let flags = ["--namespace", "system", "--extension-listen", &listen, "--extension-xds", "{xds}"];
    let secrets: Api<Secret> = Api::namespaced(cluster.client().await, "system");
    let first = Gateway::start_secure_in_cluster(&kubeconfig, &flags).await;
    until("the certificate", async || certificate(&secrets, "xds.default.eg").await).await;
    until_told(&cluster, &first, "eg").await;
    assert!(first.terminate().await.success());
    let spec = async || revision(&cluster, "eg").await.map(|object| object.spec);
    let (told, given) = (spec().await, certificate(&secrets, "xds.default.eg").await);

    // A new one may not read which Gateways of others there are, for so long that it goes on without.
    may_all_but(&cluster, &[Kind::TailscaleGateway.plural()]).await;
    let folder = TempDir::new().expect("a temporary folder can be made");
    let later = folder.path().join("later");
    let flags = [&flags[..], &["--replica", "second"]].concat();
    let second = Gateway::begin_secure_in_cluster(&kubeconfig, &flags, clock::later(&later));
    second.process().wait_for_line("not allowed to list and watch tailscalegateways.gateway.tailscale.com").await;
    fs::write(&later, "").expect("the folder can be written");
    let line = second.process().wait_for_line("what they were told and given stays").await;
    assert!(line.contains("without any TailscaleGateway:"), "{line}");
    second.ready().await;
    second.process().wait_for_line("this replica writes").await;
    cluster.apply(&route("all", "/", "blue")).await;
    wait_for(&cluster, "httproute", "all", "/parents/0/conditions", ("Accepted", "True/Accepted")).await;
    assert_eq!((spec().await, certificate(&secrets, "xds.default.eg").await), (told, given.clone()));
    assert!(TcpStream::connect(extension.address()).await.is_err(), "who asks would be told that nothing is put in");

    // It may again: everything is as it was.
    may_all_but(&cluster, &[]).await;
    until("Envoy Gateways to be answered", async || {
        TcpStream::connect(extension.address()).await.map_err(|error| error.to_string())
    })
    .await;
    until_told(&cluster, &second, "eg").await;
    assert_eq!(certificate(&secrets, "xds.default.eg").await, given);
    let lost = |event: &AuditEvent| event.verb == "delete" && event.resource != "leases";
    assert_eq!(asked(&cluster, lost).await, []);
    // What nobody wants any more goes, as ever.
    cluster.kubectl(&["delete", "tailscalegateway", "eg"]).await.expect_success();
    until("what was put in to go", async || match (spec().await, secrets.get_opt("xds.default.eg").await) {
        (None, Ok(None)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(second.terminate().await.success());
}

/// The certificate of a Gateway's Envoys, as it is shown.
async fn certificate(secrets: &Api<Secret>, name: &str) -> Result<Vec<u8>, String> {
    let found = secrets.get_opt(name).await.map_err(|error| error.to_string())?;
    let data = found.and_then(|secret| secret.data).ok_or("it is not there")?;
    data.get("tls.crt").map(|part| part.0.clone()).ok_or_else(|| "there is no certificate".to_owned())
}

#[tokio::test]
async fn the_certificate_of_a_gateway_whose_parameters_are_missing_since_the_start_is_renewed() {
    let cluster = cluster().await;
    let listener = Port::lease();
    let web = gateway(listener.address().port());
    cluster.apply(&[CLASS, &web].concat()).await;
    let kubeconfig = cluster.kubeconfig();
    let lives = ["--namespace", "default", "--xds-certificate-lifetime", "6s", "--xds-authority-lifetime", "24s"];
    let secrets: Api<Secret> = Api::namespaced(cluster.client().await, "default");
    let first = Gateway::start_secure_in_cluster(&kubeconfig, &lives).await;
    until("the certificate", async || certificate(&secrets, "web-tailscale-xds").await).await;
    assert!(first.terminate().await.success());

    // Nobody knows any more what its Envoys are to be like, nor those of a Gateway that had none before.
    let parameters = json!({"group": "gateway.tailscale.com", "kind": "TailscaleGatewayParameters", "name": "gone"});
    let spec = json!({"spec": {"infrastructure": {"parametersRef": parameters}}}).to_string();
    let patch = async |name: &str, spec: &str| {
        cluster.kubectl(&["patch", "gateway", name, "--type=merge", "--patch", spec]).await.expect_success();
    };
    cluster.apply(&web.replace("name: web", "name: new")).await;
    patch("web", &spec).await;
    patch("new", &spec).await;
    let _second = Gateway::start_secure_in_cluster(&kubeconfig, &lives).await;
    for name in ["web", "new"] {
        let object = wait_for(&cluster, "gateway", name, "/conditions", ("Accepted", "False/InvalidParameters")).await;
        assert_eq!(condition(&object["status"]["conditions"], "Programmed").as_deref(), Some("False/Invalid"));
    }
    let mut known = certificate(&secrets, "web-tailscale-xds").await.expect("it is there");
    for turn in 1..=2 {
        known =
            until(&format!("certificate {turn}"), async || match certificate(&secrets, "web-tailscale-xds").await? {
                same if same == known => Err("it is as it was".to_owned()),
                other => Ok(other),
            })
            .await;
    }
    assert_eq!(certificate(&secrets, "new-tailscale-xds").await, Err("it is not there".to_owned()));
    // With parameters that can be used it gets one.
    patch("new", r#"{"spec": {"infrastructure": null}}"#).await;
    until("the certificate", async || certificate(&secrets, "new-tailscale-xds").await).await;
}
