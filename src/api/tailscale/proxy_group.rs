//! TailscaleProxyGroup: proxies that TailscaleGateways share. Never builds a pod.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{super::patterns, two};

/// Proxies that TailscaleGateways share.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.tailscale.com",
    version = "v1alpha1",
    kind = "TailscaleProxyGroup",
    plural = "tailscaleproxygroups",
    namespaced,
    category = "tailscale-gateway",
    status = "TailscaleProxyGroupStatus",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas"),
    derive = "PartialEq",
    doc = "Pods that are devices of a tailnet and carry traffic into it or out of it.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Tailnet", type_ = "string", json_path = ".spec.tailnet"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleProxyGroupSpec {
    /// Which way traffic goes: `Ingress`, from the tailnet to Envoy; `Egress`, from Envoy to the tailnet.
    #[serde(rename = "type")]
    pub type_: ProxyGroupType,
    /// The tailnet: the name of a TailscaleTailnet.
    #[schemars(length(min = 1, max = 253))]
    pub tailnet: String,
    /// How many pods; 2 by default.
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: u32,
    /// `Userspace` (the default): pods need no privileges; `Kernel`: pods use a network device, which is faster and needs
    /// the capability NET_ADMIN.
    #[serde(default)]
    pub networking: ProxyNetworking,
    /// Tags of the devices; those of the TailscaleTailnet by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = patterns::TAG)))]
    pub tags: Vec<String>,
    /// What the hostnames of the devices begin with; a dash and a number follow. The group's name by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::HOSTNAME_PREFIX))]
    pub hostname_prefix: Option<String>,
    /// Container image; that of the operator's settings by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub image: Option<String>,
    /// When the image is pulled; Kubernetes' own default when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets with credentials for the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Labels for the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations for the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// ServiceAccount of the pods; one of the group's own by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// CPU and memory of a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels of the nodes that pods may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that pods put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Nodes and pods that pods keep close to or away from; by default pods keep away from each other's nodes where they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods are spread over nodes and zones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
}

/// Which way the traffic of a group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProxyGroupType {
    /// From the tailnet.
    Ingress,
    /// To the tailnet.
    Egress,
}

/// How proxies are in the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProxyNetworking {
    /// By a network stack of their own, without privileges.
    #[default]
    Userspace,
    /// By a network device of the kernel.
    Kernel,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum ImagePullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// What is known about a TailscaleProxyGroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleProxyGroupStatus {
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions")]
    pub conditions: Vec<Condition>,
    /// Pods there are.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Devices that the pods are in the tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<ProxyGroupDevice>,
}

/// A device that a pod is in the tailnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyGroupDevice {
    /// Name of the pod.
    pub pod_name: String,
    /// Hostname in the tailnet.
    pub hostname: String,
    /// Addresses in the tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "tailnetIPs")]
    pub tailnet_ips: Vec<String>,
    /// Identifier of the node.
    #[serde(rename = "nodeID", skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Whether it is connected to the tailnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// When the tailnet last saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}
