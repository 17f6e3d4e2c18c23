//! TailscaleServices: a Tailscale Service over all TailscaleEndpoints with certain labels. Never registers it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::{Duration, patterns},
    ConnectionType, EndpointProtocol, TransportProtocol, half_a_minute, health_path, one, three, two, yes,
};

/// A Tailscale Service over all TailscaleEndpoints with certain labels.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.tailscale.com",
    version = "v1alpha1",
    kind = "TailscaleServices",
    plural = "tailscaleservices",
    singular = "tailscaleservices",
    namespaced,
    category = "tailscale-gateway",
    status = "TailscaleServicesStatus",
    derive = "PartialEq",
    doc = "A Tailscale Service, a virtual IP of a tailnet, over all TailscaleEndpoints with certain labels.",
    printcolumn(name = "VIP Service", type_ = "string", json_path = ".status.vipServiceStatus.serviceName"),
    printcolumn(name = "Backends", type_ = "integer", json_path = ".status.totalBackends"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.healthyBackends"),
    printcolumn(name = "DNS Name", type_ = "string", json_path = ".status.vipServiceStatus.dnsName"),
    printcolumn(name = "Strategy", type_ = "string", json_path = ".status.loadBalancingStatus.strategy"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleServicesSpec {
    /// Which TailscaleEndpoints of the same namespace, by their labels.
    pub selector: LabelSelector,
    /// The Tailscale Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip_service: Option<VipServiceTemplate>,
    /// How requests are shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
    /// Backends besides the TailscaleEndpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_discovery: Option<BackendDiscovery>,
    /// TailscaleEndpoints that are made when the selector finds none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_template: Option<EndpointTemplate>,
}

/// A Tailscale Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VipServiceTemplate {
    /// Name, beginning with `svc:`; `svc:` and the object's name by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::TAILSCALE_SERVICE))]
    pub name: Option<String>,
    /// Ports, such as `tcp:80`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// A remark that the tailnet's admins see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Annotations of the Tailscale Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whether proxies may answer for it without anyone's approval; yes by default.
    #[serde(default = "yes")]
    pub auto_approve: bool,
}

/// How requests are shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancing {
    /// By which rule; `round-robin` by default.
    #[serde(default)]
    pub strategy: LoadBalancingStrategy,
    /// How backends are found to be well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ServiceHealthCheck>,
    /// Share of the requests for each TailscaleEndpoints, by name, for `weighted`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, i32>,
    /// Who comes first, for `failover`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_config: Option<FailoverConfig>,
}

/// By which rule requests are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoadBalancingStrategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastConnections,
    /// In proportion to weights.
    Weighted,
    /// The second only while the first is not well.
    Failover,
}

/// How backends are found to be well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceHealthCheck {
    /// Whether they are checked; yes by default.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Path that is asked for with GET; `/health` by default.
    #[serde(default = "health_path")]
    pub path: String,
    /// Time between two checks; 30s by default.
    #[serde(default = "half_a_minute")]
    pub interval: Duration,
    /// How long an answer may take; 5s by default.
    #[serde(default = "five_seconds")]
    pub timeout: Duration,
    /// Good answers in a row after which a backend is well again; 2 by default.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub healthy_threshold: u32,
    /// Bad answers in a row after which a backend is not well; 3 by default.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub unhealthy_threshold: u32,
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// Who comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverConfig {
    /// Names of the TailscaleEndpoints that requests go to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primary_endpoints: Vec<String>,
    /// Names of those that requests go to while the others are not well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary_endpoints: Vec<String>,
    /// How long the first have to be well before requests go back to them; 60s by default.
    #[serde(default = "a_minute")]
    pub failback_delay: Duration,
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}

/// Backends besides the TailscaleEndpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendDiscovery {
    /// Services outside the tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_services: Vec<ExternalService>,
    /// Whether Tailscale Services are looked for; no by default.
    #[serde(rename = "discoverVIPServices", default)]
    pub discover_vip_services: bool,
    /// Which Tailscale Services; all when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip_service_selector: Option<VipServiceSelector>,
}

/// A service outside the tailnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalService {
    /// Name.
    pub name: String,
    /// Name or address of its host.
    pub address: String,
    /// Port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What it speaks; HTTP by default.
    #[serde(default)]
    pub protocol: EndpointProtocol,
    /// Share of the requests, in proportion to the weights of its peers; 1 by default.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: u32,
}

/// Which Tailscale Services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VipServiceSelector {
    /// Tags, one of which a service has to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_names: Vec<String>,
}

/// TailscaleEndpoints that are made when there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointTemplate {
    /// The tailnet: the name of a TailscaleTailnet.
    #[schemars(length(max = 253))]
    pub tailnet: String,
    /// Tags of the devices that proxies become.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Labels; those that the selector asks for belong here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is put behind this object's name; `-endpoints` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_suffix: Option<String>,
    /// Proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<TemplateProxy>,
    /// Ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<TemplatePort>,
}

/// Proxies of TailscaleEndpoints that are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateProxy {
    /// How many pods; 2 by default.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub replicas: u32,
    /// Which way traffic goes; both ways by default.
    #[serde(default)]
    pub connection_type: ConnectionType,
}

/// A port of TailscaleEndpoints that are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplatePort {
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Protocol; TCP by default.
    #[serde(default)]
    pub protocol: TransportProtocol,
    /// Where its traffic goes, `HOST:PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub external_target: Option<String>,
}

/// What is known about TailscaleServices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleServicesStatus {
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions")]
    pub conditions: Vec<Condition>,
    /// TailscaleEndpoints that the selector finds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected_endpoints: Vec<SelectedEndpoints>,
    /// The Tailscale Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip_service_status: Option<VipServiceStatus>,
    /// How requests are shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancing_status: Option<LoadBalancingStatus>,
    /// Backends besides the TailscaleEndpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discovered_services: Vec<DiscoveredService>,
    /// Backends.
    #[serde(default)]
    pub total_backends: i32,
    /// Backends that are well.
    #[serde(default)]
    pub healthy_backends: i32,
    /// Backends that are not.
    #[serde(default)]
    pub unhealthy_backends: i32,
    /// When any of this last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
    /// Which operators have a part in the Tailscale Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_info: Option<ServiceInfo>,
}

/// The state of a Tailscale Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VipServiceStatus {
    /// Whether it exists.
    #[serde(default)]
    pub created: bool,
    /// Name, beginning with `svc:`.
    pub service_name: String,
    /// Backends.
    #[serde(default)]
    pub backend_count: i32,
    /// Backends that are well.
    #[serde(default)]
    pub healthy_backend_count: i32,
    /// Its addresses in the tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Its name in the tailnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<String>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registration_errors: Vec<String>,
    /// When it was last registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_registration: Option<Time>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_tags: Vec<String>,
}

/// TailscaleEndpoints that a selector finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectedEndpoints {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Its state.
    pub status: SelectedEndpointsState,
    /// Its devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Since when it is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_selected: Option<Time>,
    /// Whether its devices are well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_status: Option<MachineHealth>,
}

/// The state of TailscaleEndpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum SelectedEndpointsState {
    Ready,
    Pending,
    Failed,
    NotFound,
}

/// Whether devices are well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineHealth {
    /// Those that are.
    #[serde(default)]
    pub healthy_machines: i32,
    /// Those that are not.
    #[serde(default)]
    pub unhealthy_machines: i32,
    /// When they were last checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_health_check: Option<Time>,
}

/// How requests are shared at the moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancingStatus {
    /// By which rule.
    pub strategy: String,
    /// Share of each TailscaleEndpoints, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_weights: BTreeMap<String, i32>,
    /// Requests that each TailscaleEndpoints got, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub request_counts: BTreeMap<String, i64>,
    /// Who is first at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_status: Option<FailoverStatus>,
}

/// Who is first at the moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// `primary` or `secondary`.
    pub active_tier: String,
    /// When requests last went over to the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<Time>,
    /// When requests last went back to the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failback: Option<Time>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_reason: Option<String>,
}

/// A backend besides the TailscaleEndpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveredService {
    /// Name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub type_: DiscoveredServiceType,
    /// Name or address of its host.
    pub address: String,
    /// Port.
    pub port: u16,
    /// What it speaks.
    pub protocol: String,
    /// How it became known.
    pub discovery_source: String,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// When it was last found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_discovered: Option<Time>,
}

/// What a backend besides the TailscaleEndpoints is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiscoveredServiceType {
    /// A Tailscale Service.
    VipService,
    /// A service outside the tailnet.
    ExternalService,
}

/// Which operators have a part in a Tailscale Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceInfo {
    /// Whether more than one has.
    #[serde(default)]
    pub multi_operator_service: bool,
    /// The one that owns it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_operator: Option<String>,
    /// Those that use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumer_operators: Vec<String>,
    /// What they find each other by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_registry_key: Option<String>,
    /// When they last spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_coordination: Option<Time>,
}
