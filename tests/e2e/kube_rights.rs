//! What may not be read or written, for a while: the rest goes on, nothing is taken away for it, and it is made up for later.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::json;

use crate::{
    kube_serve::{CLASS, cluster, condition, gateway, wait_for},
    support::{gateway::Gateway, ports::Port, wait::until},
};

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
