//! TailscaleGateway: which tailnets meet which Gateway. Never decides routes.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ResourceRequirements,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::{Duration, SecretObjectReference, patterns},
    DependencyStatus, DetailedError, GatewayReference, OperationalMetrics, TailnetReference, TailscaleApiStatus,
    TargetReference, half_a_minute, two, yes,
};

/// Which tailnets meet which Gateway.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.tailscale.com",
    version = "v1alpha1",
    kind = "TailscaleGateway",
    plural = "tailscalegateways",
    namespaced,
    category = "tailscale-gateway",
    status = "TailscaleGatewayStatus",
    derive = "PartialEq",
    doc = "Connects a Gateway with one or more tailnets.",
    printcolumn(name = "Gateway", type_ = "string", json_path = ".spec.gatewayRef.name"),
    printcolumn(name = "Tailnets", type_ = "string", json_path = ".spec.tailnets[*].name"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(
        name = "Extension",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="ExtensionServerReady")].status"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleGatewaySpec {
    /// The Gateway.
    pub gateway_ref: GatewayReference,
    /// The tailnets. Either this or `tailnetRef` has to be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub tailnets: Vec<TailnetAttachment>,
    /// The tailnet, in the form of the first version of this kind. It counts as one entry of `tailnets` under its own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tailnet_ref: Option<V0TailnetReference>,
    /// Discovery of subnet routes, in the form of the first version of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_discovery: Option<RouteDiscovery>,
    /// The server that an Envoy Gateway asks to extend its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_server: Option<ExtensionServer>,
    /// Name of the TailscaleProxyGroup, in the same namespace, whose proxies carry the traffic; a group of this gateway's
    /// own by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub proxy_group: Option<String>,
}

/// One tailnet of a TailscaleGateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailnetAttachment {
    /// What the tailnet is called in this object; TailscaleEndpoints may refer to it by this name.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_LABEL))]
    pub name: String,
    /// The TailscaleTailnet.
    pub tailscale_tailnet_ref: TailnetReference,
    /// Which services of the tailnet are found by themselves; none when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_discovery: Option<ServiceDiscovery>,
    /// Where routes for the tailnet's services appear; `/api/{endpoint}` when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_generation: Option<RouteGeneration>,
}

/// Which services of a tailnet are found by themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDiscovery {
    /// Whether any are; yes by default.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Names to take, `*` standing for any characters; every name when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// Names to leave out, `*` standing for any characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_patterns: Vec<String>,
    /// How long until the tailnet is asked again; 30s by default.
    #[serde(default = "half_a_minute")]
    pub sync_interval: Duration,
}

/// Where routes for a tailnet's services appear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteGeneration {
    /// For requests from the tailnet to services of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressRouteGeneration>,
    /// For requests from the cluster to services of the tailnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressRouteGeneration>,
}

/// Where requests from a tailnet to services of the cluster come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressRouteGeneration {
    /// Hostname, with `{service}`, `{tailnet}` and `{domain}` filled in; `{service}.{tailnet}.gateway.local` by default.
    #[serde(default = "ingress_host_pattern")]
    #[schemars(length(max = 253))]
    pub host_pattern: String,
    /// Path prefix, with the same filled in; `/` by default.
    #[serde(default = "ingress_path_prefix")]
    #[schemars(length(max = 1024))]
    pub path_prefix: String,
    /// Protocol; HTTPS by default.
    #[serde(default = "https")]
    pub protocol: RouteProtocol,
}

/// Where requests from the cluster to services of a tailnet come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressRouteGeneration {
    /// Hostname, with `{service}`, `{tailnet}` and `{domain}` filled in; `{service}.tailscale.local` by default.
    #[serde(default = "egress_host_pattern")]
    #[schemars(length(max = 253))]
    pub host_pattern: String,
    /// Path prefix, with the same filled in; `/tailscale/{service}/` by default.
    #[serde(default = "egress_path_prefix")]
    #[schemars(length(max = 1024))]
    pub path_prefix: String,
    /// Protocol; HTTP by default.
    #[serde(default = "http")]
    pub protocol: RouteProtocol,
}

/// The protocol that generated routes are served by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RouteProtocol {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

fn ingress_host_pattern() -> String {
    "{service}.{tailnet}.gateway.local".into()
}

fn ingress_path_prefix() -> String {
    "/".into()
}

fn egress_host_pattern() -> String {
    "{service}.tailscale.local".into()
}

fn egress_path_prefix() -> String {
    "/tailscale/{service}/".into()
}

fn https() -> RouteProtocol {
    RouteProtocol::Https
}

fn http() -> RouteProtocol {
    RouteProtocol::Http
}

/// Refers to a TailscaleTailnet in the form of the first version of TailscaleGateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct V0TailnetReference {
    /// Name of the TailscaleTailnet.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Has no effect, because a TailscaleTailnet belongs to no namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Discovery of subnet routes in the form of the first version of TailscaleGateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteDiscovery {
    /// Whether routes are looked for; no by default.
    #[serde(default)]
    pub enabled: bool,
    /// Which devices are looked at; all when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_selector: Option<DeviceSelector>,
    /// Which routes are taken, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route_filters: Vec<RouteFilter>,
    /// How long until the tailnet is asked again; 30s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_interval: Option<Duration>,
}

/// Which devices of a tailnet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSelector {
    /// Tags, all of which a device has to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Hostnames, one of which a device has to have; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Tags, none of which a device may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_tags: Vec<String>,
}

/// Which routes are taken or left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteFilter {
    /// Whether they are taken or left out.
    #[serde(rename = "type")]
    pub type_: RouteFilterType,
    /// Address ranges, such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// Hostnames; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
}

/// Whether routes are taken or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteFilterType {
    /// Taken.
    Include,
    /// Left out.
    Exclude,
}

/// The server that an Envoy Gateway asks to extend its configuration. The program is that server itself; the fields about
/// a Deployment are those of earlier versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionServer {
    /// Image of a server of this gateway's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How many servers; 2 by default.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub replicas: u32,
    /// CPU and memory of a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// ServiceAccount of a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Port that the server listens on; 5005 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// TLS of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ExtensionServerTls>,
}

/// TLS of an extension server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionServerTls {
    /// Secret with certificate and key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_ref: Option<SecretObjectReference>,
    /// Whether the certificate goes unchecked; no by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
}

/// What is known about a TailscaleGateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleGatewayStatus {
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions")]
    pub conditions: Vec<Condition>,
    /// The state of each tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tailnet_status: Vec<GatewayTailnetStatus>,
    /// The state of the extension server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_server_status: Option<ExtensionServerStatus>,
    /// How many routes were generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated_routes: Option<GeneratedRoutes>,
    /// Tailscale Services that stand for routes of this gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<GatewayServiceStatus>,
    /// Subnet routes found, in the form of the first version of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovered_routes: Option<DiscoveredRoutes>,
    /// The latest failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_errors: Vec<DetailedError>,
    /// How much work was done for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operational_metrics: Option<OperationalMetrics>,
    /// The state of the objects that this one needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependency_status: Vec<DependencyStatus>,
    /// HTTPRoutes of the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_route_refs: Vec<TargetReference>,
}

/// The state of one tailnet of a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayTailnetStatus {
    /// What the tailnet is called in the gateway.
    pub name: String,
    /// Services found in it.
    #[serde(default)]
    pub discovered_services: i32,
    /// When it was last asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<Time>,
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions")]
    pub conditions: Vec<Condition>,
    /// How calls to the Tailscale API fare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_status: Option<TailscaleApiStatus>,
    /// The latest failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<DetailedError>,
    /// How the search for services went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_discovery_details: Option<ServiceDiscoveryDetails>,
}

/// How a search for services went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDiscoveryDetails {
    /// Services in the tailnet.
    #[serde(default)]
    pub total_services: i32,
    /// Services that were left out.
    #[serde(default)]
    pub filtered_services: i32,
    /// How long the search took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_discovery_duration: Option<Duration>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discovery_errors: Vec<DetailedError>,
    /// Patterns that took something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns_matched: Vec<String>,
    /// Patterns that left something out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns_excluded: Vec<String>,
}

/// The state of an extension server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionServerStatus {
    /// Servers that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Servers that there should be.
    #[serde(default)]
    pub desired_replicas: i32,
    /// Where it is, `HOST:PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_endpoint: Option<String>,
    /// Whether all servers are ready.
    #[serde(default)]
    pub ready: bool,
    /// When an Envoy Gateway last asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_hook_call: Option<Time>,
    /// Where it is, in the form of the first version of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How often an Envoy Gateway asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook_call_metrics: Option<HookCallMetrics>,
    /// The state of each server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replica_status: Vec<ReplicaStatus>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deployment_errors: Vec<DetailedError>,
}

/// How often an Envoy Gateway asked its extension server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookCallMetrics {
    /// Questions.
    #[serde(default)]
    pub total_calls: i64,
    /// Questions answered well.
    #[serde(default)]
    pub successful_calls: i64,
    /// Questions answered with an error.
    #[serde(default)]
    pub failed_calls: i64,
    /// How long an answer takes on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_response_time: Option<Duration>,
    /// How long the last answer took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_call_duration: Option<Duration>,
    /// The same for each kind of question.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hook_type_metrics: BTreeMap<String, HookTypeMetrics>,
}

/// How often an Envoy Gateway asked one kind of question.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookTypeMetrics {
    /// Questions.
    #[serde(default)]
    pub calls: i64,
    /// Questions answered well.
    #[serde(default)]
    pub successes: i64,
    /// Questions answered with an error.
    #[serde(default)]
    pub failures: i64,
    /// How long an answer takes on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_response_time: Option<Duration>,
}

/// The state of one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Name of the pod.
    pub name: String,
    /// Whether it is ready.
    #[serde(default)]
    pub ready: bool,
    /// Phase of the pod.
    pub phase: PodPhase,
    /// When it was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_health_check: Option<Time>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<DetailedError>,
    /// Version of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The phase of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

/// How many routes were generated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GeneratedRoutes {
    /// For requests from the tailnet.
    #[serde(default)]
    pub ingress_routes: i32,
    /// For requests to the tailnet.
    #[serde(default)]
    pub egress_routes: i32,
    /// When they were last generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_generation: Option<Time>,
}

/// The state of a Tailscale Service that stands for routes of a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayServiceStatus {
    /// Name, beginning with `svc:`.
    pub name: String,
    /// Its addresses in the tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vip_addresses: Vec<String>,
    /// The operator that owns it.
    #[serde(default)]
    pub owner_cluster: String,
    /// How many operators use it.
    #[serde(default)]
    pub consumer_count: i32,
    /// Its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<GatewayServiceState>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// When it last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Operators that use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumer_clusters: Vec<String>,
}

/// The state of a Tailscale Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum GatewayServiceState {
    Ready,
    Pending,
    Failed,
    Unknown,
}

/// Subnet routes found, in the form of the first version of TailscaleGateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveredRoutes {
    /// How many.
    #[serde(default)]
    pub count: i32,
    /// When they were last looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_discovery_time: Option<Time>,
    /// Which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<DiscoveredDeviceRoutes>,
}

/// Subnet routes of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveredDeviceRoutes {
    /// Hostname of the device.
    pub device_hostname: String,
    /// Address of the device.
    #[serde(rename = "deviceIP")]
    pub device_ip: String,
    /// Address ranges.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Tags of the device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}
