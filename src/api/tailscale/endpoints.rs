//! TailscaleEndpoints: services of a tailnet, and what stands behind them. Never decides how Envoy reaches them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::{Duration, patterns},
    DetailedError, EndpointStatus, OperationalMetrics, ProxyPort, ProxySpec, TailscaleApiStatus, half_a_minute,
    health_path, one, three, two, yes,
};

/// Services of a tailnet, and what stands behind them.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.tailscale.com",
    version = "v1alpha1",
    kind = "TailscaleEndpoints",
    plural = "tailscaleendpoints",
    singular = "tailscaleendpoints",
    namespaced,
    category = "tailscale-gateway",
    status = "TailscaleEndpointsStatus",
    derive = "PartialEq",
    doc = "Services of a tailnet, declared one by one or found by themselves.",
    printcolumn(name = "Tailnet", type_ = "string", json_path = ".spec.tailnet"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.totalEndpoints"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.healthyEndpoints"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Last Sync", type_ = "date", json_path = ".status.lastSync", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleEndpointsSpec {
    /// The tailnet: the name of a TailscaleTailnet, the name that a TailscaleGateway gives to one, or the domain of one
    /// (`example.ts.net`). `-` and an empty string mean the only TailscaleTailnet there is.
    #[schemars(length(max = 253))]
    pub tailnet: String,
    /// Services that are declared here. Names are unique among all endpoints of the tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<TailscaleEndpoint>,
    /// Services that are found by themselves; none when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_discovery: Option<AutoDiscovery>,
    /// Tags of the devices that proxies of these endpoints become.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Proxies of these endpoints' own; those of the TailscaleGateway when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySpec>,
    /// Ports that the proxies of `proxy` serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ProxyPort>,
}

/// One service of a tailnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleEndpoint {
    /// Name, a DNS label: requests for `/api/NAME` go here.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_LABEL))]
    pub name: String,
    /// Address of the service's device in the tailnet, such as `100.64.0.1`. Not needed with `externalTarget` or
    /// `tailscaleFQDN`.
    #[serde(rename = "tailscaleIP", skip_serializing_if = "Option::is_none")]
    pub tailscale_ip: Option<String>,
    /// Name of the service's device in the tailnet, such as `web.example.ts.net`. Not needed with `externalTarget` or
    /// `tailscaleIP`.
    #[serde(rename = "tailscaleFQDN", skip_serializing_if = "Option::is_none")]
    pub tailscale_fqdn: Option<String>,
    /// Port of the service in the tailnet. An HTTPRoute's `backendRefs[].port` picks the endpoint with this port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What the service speaks; HTTP by default.
    #[serde(default)]
    pub protocol: EndpointProtocol,
    /// Tags of the devices that proxies of this endpoint become.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How the service is found to be well; not at all when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<EndpointHealthCheck>,
    /// Share of the requests, in proportion to the weights of its peers; 1 by default.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: u32,
    /// Where requests go, `HOST:PORT`: a name or an address outside the tailnet or in the cluster, such as
    /// `httpbin.org:80` or `web.shop.svc.cluster.local:8080`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub external_target: Option<String>,
}

/// What a service speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum EndpointProtocol {
    /// HTTP in clear text.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
    /// Bytes.
    Tcp,
    /// Datagrams.
    Udp,
    /// Bytes over TLS.
    Tls,
    /// gRPC: HTTP/2 in clear text.
    Grpc,
}

impl EndpointProtocol {
    /// The name as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Tls => "TLS",
            Self::Grpc => "GRPC",
        }
    }
}

/// How a service is found to be well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointHealthCheck {
    /// Whether it is checked; yes by default.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Path that is asked for with GET, for HTTP and HTTPS; `/health` by default. Other protocols are only connected to.
    #[serde(default = "health_path")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Time between two checks; 10s by default.
    #[serde(default = "ten_seconds")]
    pub interval: Duration,
    /// How long an answer may take; 3s by default.
    #[serde(default = "three_seconds")]
    pub timeout: Duration,
    /// Good answers in a row after which the service is well again; 2 by default.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub healthy_threshold: u32,
    /// Bad answers in a row after which the service is not well; 3 by default.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub unhealthy_threshold: u32,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn three_seconds() -> Duration {
    Duration::from_secs(3)
}

impl Default for EndpointHealthCheck {
    /// Every field at its default.
    fn default() -> Self {
        Self {
            enabled: true,
            path: health_path(),
            interval: ten_seconds(),
            timeout: three_seconds(),
            healthy_threshold: two(),
            unhealthy_threshold: three(),
        }
    }
}

/// Which services of a tailnet are found by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoDiscovery {
    /// Whether any are; yes by default.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Names of devices to take, `*` standing for any characters; every name when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include_patterns: Vec<String>,
    /// Names of devices to leave out, `*` standing for any characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_patterns: Vec<String>,
    /// Tags, all of which a device has to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_tags: Vec<String>,
    /// Conditions on the tags of a device, all of which it has to meet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag_selectors: Vec<TagSelector>,
    /// Tailscale Services to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_discovery: Option<VipServiceDiscovery>,
    /// How long until the tailnet is asked again; 30s by default.
    #[serde(default = "half_a_minute")]
    pub sync_interval: Duration,
}

/// A condition on the tags of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TagSelector {
    /// The tag, such as `tag:web`.
    pub tag: String,
    /// `Exists` (the default): the device has the tag; `DoesNotExist`: it has not; `In` and `NotIn`: the same for any of
    /// the tags made of `tag`, a colon and one of `values`.
    #[serde(default)]
    pub operator: TagOperator,
    /// Values for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a condition on tags is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the operators of label selectors under their own names")]
pub enum TagOperator {
    In,
    NotIn,
    #[default]
    Exists,
    DoesNotExist,
}

/// Which Tailscale Services are found by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VipServiceDiscovery {
    /// Whether any are; no by default.
    #[serde(default)]
    pub enabled: bool,
    /// Names to take, such as `svc:web`; every name when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_names: Vec<String>,
    /// Tags, one of which a service has to have; every service when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_tags: Vec<String>,
}

/// What is known about TailscaleEndpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleEndpointsStatus {
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions")]
    pub conditions: Vec<Condition>,
    /// Endpoints that were found by themselves.
    #[serde(default)]
    pub discovered_endpoints: i32,
    /// Endpoints, declared and found.
    #[serde(default)]
    pub total_endpoints: i32,
    /// Endpoints that are well.
    #[serde(default)]
    pub healthy_endpoints: i32,
    /// Endpoints that are not.
    #[serde(default)]
    pub unhealthy_endpoints: i32,
    /// When the tailnet was last asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<Time>,
    /// The state of each endpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoint_status: Vec<EndpointStatus>,
    /// StatefulSets of single endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stateful_set_refs: Vec<StatefulSetReference>,
    /// How the search for endpoints went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_discovery_status: Option<AutoDiscoveryStatus>,
    /// What each of `tagSelectors` took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag_selector_results: Vec<TagSelectorResult>,
    /// The latest failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_errors: Vec<DetailedError>,
    /// How much work was done for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operational_metrics: Option<OperationalMetrics>,
    /// Devices that the proxies are in the tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<EndpointDevice>,
    /// StatefulSets of the proxies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stateful_sets: Vec<EndpointStatefulSet>,
}

/// A StatefulSet of a single endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetReference {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// The endpoint.
    pub endpoint_name: String,
    /// Which way its traffic goes.
    pub connection_type: SingleDirection,
    /// Its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatefulSetState>,
    /// Pods that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Pods that there should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// When its state last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status_change: Option<Time>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

/// Which way traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SingleDirection {
    /// From the tailnet.
    Ingress,
    /// To the tailnet.
    Egress,
}

/// The state of a StatefulSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum StatefulSetState {
    Ready,
    Pending,
    Failed,
    Scaling,
    Unknown,
}

/// How a search for endpoints went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoDiscoveryStatus {
    /// Whether there is one.
    #[serde(default)]
    pub enabled: bool,
    /// Devices that were looked at.
    #[serde(default)]
    pub total_devices_scanned: i32,
    /// Devices that were taken.
    #[serde(default)]
    pub devices_matching_criteria: i32,
    /// When it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_discovery_time: Option<Time>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_duration: Option<Duration>,
    /// Tailscale Services that were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip_services_discovered: Option<i32>,
    /// How many of `tagSelectors` were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_selectors_applied: Option<i32>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discovery_errors: Vec<DetailedError>,
    /// How calls to the Tailscale API fare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_status: Option<TailscaleApiStatus>,
}

/// What one of `tagSelectors` took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagSelectorResult {
    /// The selector.
    pub selector: TagSelector,
    /// Devices that it took.
    #[serde(default)]
    pub matched_devices: i32,
    /// When.
    pub last_applied: Time,
    /// Whether it could be looked at.
    #[serde(default)]
    pub success: bool,
    /// Devices that it left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_devices: Option<i32>,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Names of the devices that it took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matched_device_names: Vec<String>,
}

/// A device that a proxy is in the tailnet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointDevice {
    /// Hostname.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Address in the tailnet.
    #[serde(rename = "tailscaleIP", skip_serializing_if = "Option::is_none")]
    pub tailscale_ip: Option<String>,
    /// Name in the tailnet.
    #[serde(rename = "tailscaleFQDN", skip_serializing_if = "Option::is_none")]
    pub tailscale_fqdn: Option<String>,
    /// Identifier of the node.
    #[serde(rename = "nodeID", skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Pod that the proxy runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stateful_set_pod: Option<String>,
    /// Whether it is connected to the tailnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// Whether the tailnet sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// When the tailnet last saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Identifier of the key that it joined with.
    #[serde(rename = "authKeyID", skip_serializing_if = "Option::is_none")]
    pub auth_key_id: Option<String>,
}

/// A StatefulSet of proxies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatefulSet {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Which way its traffic goes.
    #[serde(rename = "type")]
    pub type_: String,
    /// Pods that there should be.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Service in front of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
}
