//! What the statuses of our kinds say about failures, work done and the Tailscale API. Never filled in here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{super::Duration, TargetReference};

/// A failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetailedError {
    /// What failed, as one word for programs.
    pub code: String,
    /// What failed, in words.
    pub message: String,
    /// Which part of the program it failed in.
    pub component: ErrorComponent,
    /// When it failed first.
    pub timestamp: Time,
    /// How often it was tried again.
    #[serde(default)]
    pub retries: i32,
    /// When it was last tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_retry: Option<Time>,
    /// More about it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// Status code of the HTTP response that told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status_code: Option<i32>,
    /// Object that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_ref: Option<TargetReference>,
    /// How bad it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<ErrorSeverity>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution_hint: Option<String>,
}

/// A part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum ErrorComponent {
    Controller,
    ExtensionServer,
    #[serde(rename = "TailscaleAPI")]
    TailscaleApi,
    ServiceDiscovery,
    RouteGeneration,
    Validation,
    StatefulSet,
    HealthCheck,
    #[serde(rename = "OAuth")]
    OAuth,
    PolicyEngine,
}

/// How bad a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum ErrorSeverity {
    Critical,
    High,
    Medium,
    Low,
    Info,
}

/// How much work was done for an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationalMetrics {
    /// When the object was last looked at.
    pub last_reconcile_time: Time,
    /// How long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconcile_duration: Option<Duration>,
    /// How often it was looked at.
    #[serde(default)]
    pub reconcile_count: i64,
    /// How often all went well.
    #[serde(default)]
    pub successful_reconciles: i64,
    /// How often something failed.
    #[serde(default)]
    pub failed_reconciles: i64,
    /// Calls to the Tailscale API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_call_count: Option<i64>,
    /// How often the Tailscale API asked to slow down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_rate_limit_hits: Option<i64>,
    /// How long a look takes on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_reconcile_time: Option<Duration>,
    /// Share of looks in which something failed, such as `12.50%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<String>,
    /// Looks in an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_per_hour: Option<i64>,
}

/// How calls to the Tailscale API fare.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleApiStatus {
    /// Whether the last call was answered.
    #[serde(default)]
    pub connected: bool,
    /// When a call was last answered well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_call: Option<Time>,
    /// How many calls are left before the API asks to slow down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_remaining: Option<i32>,
    /// When that number starts afresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_reset: Option<Time>,
    /// What the last failure was, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What the credentials are allowed to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Where the API is.
    #[serde(rename = "baseURL", skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// How the program introduces itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Calls made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_count: Option<i64>,
    /// How long a call takes on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_response_time: Option<Duration>,
}

/// The state of an object that another one needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DependencyStatus {
    /// The object.
    pub resource_ref: TargetReference,
    /// Its state.
    pub status: DependencyState,
    /// When it was last looked at.
    pub last_checked: Time,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Why it holds up the object that needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocking_reason: Option<String>,
    /// Its resource version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Types of its conditions that are as they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready_conditions: Vec<String>,
    /// Types of its conditions that are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_conditions: Vec<String>,
    /// How much it is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependency_type: Option<DependencyType>,
    /// What does not work without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impact: Option<String>,
}

/// The state of an object that another one needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum DependencyState {
    Ready,
    Pending,
    Failed,
    NotFound,
    Unknown,
    Conflicted,
}

/// How much an object is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum DependencyType {
    Required,
    Optional,
    Soft,
    Hard,
}
