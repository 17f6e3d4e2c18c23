//! The pods with a Gateway's Envoys: their ServiceAccount and their Deployment.
//!
//! The pods fit the Pod Security level "restricted" (Kubernetes, "Pod Security Standards"). Nothing in them depends on the
//! Gateway's listeners, so that a listener comes and goes without a restart.

use serde_json::{Value, json};

use super::{Source, bootstrap, metadata::is_reserved};
use crate::bootstrap::READY_PATH;

/// How many pods there are when nobody says.
pub(super) const DEFAULT_REPLICAS: u32 = 2;
/// How long a pod that is to end waits for its requests at most, in seconds.
const DEFAULT_DRAIN_SECONDS: u32 = 60;
/// What is left after that for Envoy to end, in seconds.
const GRACE_SECONDS: u32 = 10;
/// A user that is nobody; that of Envoy's distroless image.
const USER: u32 = 65_532;
/// The name of the port with the readiness.
const PROBES: &str = "probes";

/// Where the pod keeps a copy of this program, whose command `drain` the Envoy's container runs.
const HELPER_FOLDER: &str = "/opt/tailscale-gateway";
const HELPER: &str = "/opt/tailscale-gateway/tailscale-gateway";

/// The pods talk to nobody's API server.
pub(super) fn service_account(source: &Source<'_>) -> Value {
    json!({ "metadata": source.metadata(), "automountServiceAccountToken": false })
}

pub(super) fn deployment(source: &Source<'_>, checksum: &str) -> Value {
    let parameters = &source.parameters;
    // The autoscaler's number is not ours to write.
    let replicas = parameters.autoscaling.is_none().then(|| parameters.replicas.unwrap_or(DEFAULT_REPLICAS));
    json!({
        "metadata": source.metadata(),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 2,
            "selector": { "matchLabels": source.common.selector() },
            // A new pod is ready before an old one goes.
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": 0 } },
            "template": { "metadata": pod_metadata(source, checksum), "spec": pod(source) },
        },
    })
}

fn pod_metadata(source: &Source<'_>, checksum: &str) -> Value {
    let parameters = &source.parameters;
    let mut labels = source.common.labels.clone();
    for (key, value) in parameters.pod_labels.iter().flatten() {
        // Labels by which the pods are found, or known to be ours, stay.
        if !is_reserved(key) {
            labels.insert(key.clone(), value.clone());
        }
    }
    let mut annotations = source.common.annotations.clone();
    annotations.extend(parameters.pod_annotations.clone().unwrap_or_default());
    annotations.insert("gateway.tailscale.com/bootstrap".to_owned(), checksum.to_owned());
    json!({ "labels": labels, "annotations": annotations })
}

fn pod(source: &Source<'_>) -> Value {
    let parameters = &source.parameters;
    let drain = parameters.drain_seconds.unwrap_or(DEFAULT_DRAIN_SECONDS);
    let helper = source.settings.own_image.as_deref().filter(|_| drain > 0);
    let mut security = json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        // Whose group the files of Secrets are.
        "fsGroup": USER,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if source.settings.privileged_ports {
        // For this pod alone; one of the sysctls that Kubernetes calls safe.
        security["sysctls"] = json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]);
    }
    let mut volumes = vec![
        json!({ "name": "bootstrap", "configMap": { "name": &*source.objects.name } }),
        json!({ "name": "tls", "secret": { "secretName": &*source.certificate.name, "defaultMode": 0o440 } }),
    ];
    if helper.is_some() {
        volumes.push(json!({ "name": "helper", "emptyDir": { "sizeLimit": "128Mi" } }));
    }
    json!({
        "serviceAccountName": &*source.objects.name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": drain + GRACE_SECONDS,
        "securityContext": security,
        "imagePullSecrets": parameters.image_pull_secrets,
        "priorityClassName": parameters.priority_class_name,
        "nodeSelector": parameters.node_selector,
        "tolerations": parameters.tolerations,
        "affinity": parameters.affinity,
        "topologySpreadConstraints": spread(source),
        "initContainers": helper.map(|image| [install(image)]),
        "containers": [envoy(source, drain, helper.is_some())],
        "volumes": volumes,
    })
}

/// Over nodes and zones, where it can be done, unless the parameters say how.
fn spread(source: &Source<'_>) -> Value {
    let mut constraints = match &source.parameters.topology_spread_constraints {
        Some(constraints) => json!(constraints),
        None => ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
            .iter()
            .map(|key| json!({ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway" }))
            .collect(),
    };
    for constraint in constraints.as_array_mut().into_iter().flatten() {
        if constraint.get("labelSelector").is_none() {
            constraint["labelSelector"] = json!({ "matchLabels": source.common.selector() });
        }
    }
    constraints
}

fn security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

/// Puts a copy of this program where the Envoy's container has it: there is no shell in that.
fn install(image: &str) -> Value {
    json!({
        "name": "helper",
        "image": image,
        "args": ["install", "--to", HELPER],
        "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
        "securityContext": security(),
        "volumeMounts": [{ "name": "helper", "mountPath": HELPER_FOLDER }],
    })
}

fn envoy(source: &Source<'_>, drain: u32, has_helper: bool) -> Value {
    let parameters = &source.parameters;
    let image = parameters.image.as_deref().unwrap_or(&source.settings.envoy_image);
    let admin = format!("127.0.0.1:{}", source.ports.admin);
    let before_stop = match (drain, has_helper) {
        (0, _) => Value::Null,
        (_, true) => {
            json!({ "exec": { "command": [HELPER, "drain", "--admin", admin, "--seconds", drain.to_string()] } })
        }
        (_, false) => json!({ "sleep": { "seconds": drain } }),
    };
    let mut mounts = vec![
        json!({ "name": "bootstrap", "mountPath": bootstrap::FOLDER, "readOnly": true }),
        json!({ "name": "tls", "mountPath": bootstrap::TLS_FOLDER, "readOnly": true }),
    ];
    if has_helper {
        mounts.push(json!({ "name": "helper", "mountPath": HELPER_FOLDER, "readOnly": true }));
    }
    let usual = || json!({ "requests": { "cpu": "100m", "memory": "256Mi" } });
    json!({
        "name": "envoy",
        "image": image,
        "imagePullPolicy": parameters.image_pull_policy,
        "command": ["envoy"],
        "args": [
            "--config-path", format!("{}/{}", bootstrap::FOLDER, bootstrap::FILE),
            "--service-node", "$(POD_NAME)",
            "--log-level", parameters.log_level.unwrap_or_default(),
            "--disable-hot-restart",
            // An Envoy looks through each large route table for fields that it does not know, only to count and log them. The
            // sender is known.
            "--ignore-unknown-dynamic-fields",
        ],
        "env": [{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.name" } } }],
        "ports": [{ "name": PROBES, "containerPort": source.ports.probes, "protocol": "TCP" }],
        // There is no liveness probe: an Envoy waits for its first configuration as long as it takes, and one that was
        // restarted would wait anew.
        "readinessProbe": {
            "httpGet": { "path": READY_PATH, "port": PROBES },
            "periodSeconds": 5,
            "timeoutSeconds": 2,
        },
        "lifecycle": { "preStop": before_stop },
        "resources": parameters.resources.as_ref().map_or_else(usual, |resources| json!(resources)),
        "securityContext": security(),
        "volumeMounts": mounts,
    })
}
