//! What is known about a single endpoint of a TailscaleEndpoints. Never filled in here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{super::Duration, DetailedError, EndpointHealthCheck};

/// The state of one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// The endpoint's name.
    pub name: String,
    /// Its address in the tailnet; empty when it has none.
    #[serde(rename = "tailscaleIP", default)]
    pub tailscale_ip: String,
    /// Whether it is well.
    pub health_status: EndpointHealth,
    /// When that was last checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_health_check: Option<Time>,
    /// How the endpoint became known.
    pub discovery_source: DiscoverySource,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its share of the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// Where its requests go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_target: Option<String>,
    /// The latest failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<DetailedError>,
    /// The state of its connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_status: Option<ConnectionStatus>,
    /// How its checks went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_details: Option<HealthCheckDetails>,
}

/// Whether an endpoint is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum EndpointHealth {
    Healthy,
    Unhealthy,
    Unknown,
    Disabled,
}

/// How an endpoint became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DiscoverySource {
    /// It is declared.
    Manual,
    /// It is a device that was found.
    AutoDiscovery,
    /// It is a Tailscale Service that was found.
    #[serde(rename = "VIPService")]
    VipService,
    /// It is a device that one of `tagSelectors` took.
    TagSelector,
}

/// The state of an endpoint's connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// Whether requests from the tailnet can come.
    #[serde(default)]
    pub ingress_ready: bool,
    /// Whether requests to the tailnet can go.
    #[serde(default)]
    pub egress_ready: bool,
    /// Whether its proxies are connected to the tailnet.
    #[serde(default)]
    pub tailscale_connected: bool,
    /// When a connection was last tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_connection_attempt: Option<Time>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connection_errors: Vec<DetailedError>,
}

/// How the checks of an endpoint went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckDetails {
    /// Whether it is checked.
    #[serde(default)]
    pub enabled: bool,
    /// Good answers in a row.
    #[serde(default)]
    pub successive_successes: i32,
    /// Bad answers in a row.
    #[serde(default)]
    pub successive_failures: i32,
    /// Checks.
    #[serde(default)]
    pub total_checks: i64,
    /// Good answers.
    #[serde(default)]
    pub successful_checks: i64,
    /// How long the last check took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check_duration: Option<Duration>,
    /// How long a check takes on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_response_time: Option<Duration>,
    /// The last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check_response: Option<HealthCheckResponse>,
    /// The latest bad answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_failures: Vec<HealthCheckFailure>,
    /// How it is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<EndpointHealthCheck>,
}

/// The answer to a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckResponse {
    /// Status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<i32>,
    /// Whether it was good.
    pub success: bool,
    /// How long it took.
    pub response_time: Duration,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub response_headers: BTreeMap<String, String>,
    /// When it came.
    pub timestamp: Time,
}

/// A bad answer to a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckFailure {
    /// When it came.
    pub timestamp: Time,
    /// What kind of failure it was.
    pub error_type: HealthCheckErrorType,
    /// What was wrong, in words.
    pub error_message: String,
    /// Status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<i32>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// How often it was tried before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_attempt: Option<i32>,
}

/// What kind of failure a bad answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum HealthCheckErrorType {
    Timeout,
    ConnectionRefused,
    #[serde(rename = "DNSResolution")]
    DnsResolution,
    #[serde(rename = "HTTPError")]
    HttpError,
    #[serde(rename = "TCPError")]
    TcpError,
    #[serde(rename = "UDPError")]
    UdpError,
    #[serde(rename = "TLSError")]
    TlsError,
    Unknown,
}
