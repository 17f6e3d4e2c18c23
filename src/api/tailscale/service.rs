//! TailscaleService: one Tailscale Service with its backends and proxies. Never registers it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{super::patterns, ProxySpec, VipServiceStatus, one, yes};

/// A Tailscale Service with its backends and proxies.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.tailscale.com",
    version = "v1alpha1",
    kind = "TailscaleService",
    plural = "tailscaleservice",
    singular = "tailscaleservice",
    namespaced,
    category = "tailscale-gateway",
    status = "TailscaleServiceStatus",
    derive = "PartialEq",
    doc = "A Tailscale Service, a virtual IP of a tailnet, with its backends and proxies.",
    printcolumn(name = "VIP Service", type_ = "string", json_path = ".status.vipServiceStatus.serviceName"),
    printcolumn(name = "Backends", type_ = "integer", json_path = ".status.totalBackends"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.healthyBackends"),
    printcolumn(name = "DNS Name", type_ = "string", json_path = ".status.vipServiceStatus.dnsName"),
    printcolumn(name = "Ready Replicas", type_ = "integer", json_path = ".status.proxyStatus.readyReplicas"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleServiceSpec {
    /// The Tailscale Service.
    pub vip_service: VipService,
    /// Where its requests go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<ServiceBackend>,
    /// Proxies that answer for it; those of the TailscaleGateway when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySpec>,
    /// The tailnet: the name of a TailscaleTailnet. Needed with `proxy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub tailnet: Option<String>,
}

/// A Tailscale Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VipService {
    /// Name, beginning with `svc:`; `svc:` and the object's name by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::TAILSCALE_SERVICE))]
    pub name: Option<String>,
    /// Ports, such as `tcp:80`.
    #[schemars(length(min = 1))]
    pub ports: Vec<String>,
    /// Tags.
    #[schemars(length(min = 1))]
    pub tags: Vec<String>,
    /// A remark that the tailnet's admins see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether proxies may answer for it without anyone's approval; yes by default.
    #[serde(default = "yes")]
    pub auto_approve: bool,
}

/// Where a share of a service's requests goes. The field that belongs to `type` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBackend {
    /// What it is.
    #[serde(rename = "type")]
    pub type_: ServiceBackendType,
    /// Service of the cluster, `NAME.NAMESPACE.svc.cluster.local:PORT`, for `kubernetes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Host outside the cluster, `HOST:PORT`, for `external`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Service of the tailnet, for `tailscale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tailscale_service: Option<String>,
    /// Share of the requests, in proportion to the weights of its peers; 1 by default.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: u32,
    /// Requests go to the backends with the lowest number that are well; 0 by default.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub priority: u32,
}

/// What a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceBackendType {
    /// A Service of the cluster.
    Kubernetes,
    /// A host outside the cluster.
    External,
    /// A service of the tailnet.
    Tailscale,
}

/// What is known about a TailscaleService.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleServiceStatus {
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions")]
    pub conditions: Vec<Condition>,
    /// The Tailscale Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip_service_status: Option<VipServiceStatus>,
    /// The proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_status: Option<ProxyStatus>,
    /// The state of each backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_status: Vec<ServiceBackendStatus>,
    /// Backends.
    #[serde(default)]
    pub total_backends: i32,
    /// Backends that are well.
    #[serde(default)]
    pub healthy_backends: i32,
    /// When any of this last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
}

/// The state of proxies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// StatefulSet that they are pods of.
    pub stateful_set_name: String,
    /// Pods that there should be.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Service in front of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// When they were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// Devices that they are in the tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<ProxyDevice>,
}

/// A device that a proxy is in the tailnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyDevice {
    /// Hostname.
    pub hostname: String,
    /// Whether it is connected to the tailnet.
    #[serde(default)]
    pub connected: bool,
    /// Address in the tailnet.
    #[serde(rename = "tailscaleIP", skip_serializing_if = "Option::is_none")]
    pub tailscale_ip: Option<String>,
    /// Identifier of the node.
    #[serde(rename = "nodeID", skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Name of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// When the tailnet last saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

/// The state of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBackendStatus {
    /// What it is.
    #[serde(rename = "type")]
    pub type_: String,
    /// Where it is.
    pub target: String,
    /// Whether it is well.
    #[serde(default)]
    pub healthy: bool,
    /// Its share of the requests.
    #[serde(default)]
    pub weight: i32,
    /// Its priority.
    #[serde(default)]
    pub priority: i32,
    /// When it was last checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_health_check: Option<Time>,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_error: Option<String>,
}
