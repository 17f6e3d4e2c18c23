//! TailscaleRoutePolicy: what is done with requests by who sends them, on the tailnet. Never decides how Envoy does it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    super::{
        Duration, HttpHeaderFilter, HttpHeaderMatch, HttpMethod, HttpPathModifierType, PathMatchType,
        gateway_api::{found, service_kind},
        patterns,
    },
    DetailedError, OperationalMetrics, TargetReference,
};

/// What is done with requests, by who sends them and what they ask for.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.tailscale.com",
    version = "v1alpha1",
    kind = "TailscaleRoutePolicy",
    plural = "tailscaleroutepolicies",
    namespaced,
    category = "tailscale-gateway",
    status = "TailscaleRoutePolicyStatus",
    derive = "PartialEq",
    doc = "Routes, redirects, refuses or changes requests by the tailnet device and user that they come from.",
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRefs[*].name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleRoutePolicySpec {
    /// Gateways, HTTPRoutes and TailscaleGateways whose requests the policy is about.
    // An Envoy Gateway takes none of the policies behind one without targets.
    #[schemars(length(min = 1))]
    pub target_refs: Vec<TargetReference>,
    /// Rules; for each request the first one that takes it counts.
    pub rules: Vec<PolicyRule>,
}

/// What is done with which requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRule {
    /// Name of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which requests; any entry is enough, and within an entry every field has to match. Every request when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<PolicyMatch>,
    /// What is done, in order.
    pub actions: Vec<PolicyAction>,
}

/// Which requests: those that have all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyMatch {
    /// Device, and its user, that the request comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tailnet_device: Option<TailnetDeviceMatch>,
    /// Path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PolicyPathMatch>,
    /// Headers; all have to match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HttpHeaderMatch>,
    /// Method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<PolicyMethodMatch>,
}

/// Which devices of a tailnet: those that meet every list that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TailnetDeviceMatch {
    /// Tags, one of which the device has to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Hostnames, one of which the device has to have; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Addresses and address ranges, in one of which the device has to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// Login names, one of which the device's user has to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyPathMatch {
    /// How the value is compared.
    #[serde(rename = "type")]
    pub type_: PathMatchType,
    /// What the path is compared with.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// Which methods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyMethodMatch {
    /// Methods, one of which the request has to have.
    #[schemars(length(max = 9))]
    pub methods: Vec<HttpMethod>,
}

/// One thing that is done with a request. The field that belongs to `type` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAction {
    /// What is done.
    #[serde(rename = "type")]
    pub type_: PolicyActionType,
    /// Where the request goes, for `Route`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<PolicyRouteAction>,
    /// The redirect that answers it, for `Redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<PolicyRedirectAction>,
    /// Change of the request's headers, for `RequestHeaderModifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HttpHeaderFilter>,
    /// Change of the response's headers, for `ResponseHeaderModifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HttpHeaderFilter>,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyActionType {
    /// It goes to other backends.
    Route,
    /// It is answered with a redirect.
    Redirect,
    /// It is answered with 403.
    Deny,
    /// Its headers are changed.
    RequestHeaderModifier,
    /// The headers of its response are changed.
    ResponseHeaderModifier,
}

/// Where requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRouteAction {
    /// Backends, which share the requests in proportion to their weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<PolicyBackendRef>,
    /// How long a request may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<PolicyTimeout>,
}

/// Where a share of the requests goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyBackendRef {
    /// API group of the backend; empty, the default, for Kubernetes' core group.
    #[serde(default)]
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// Kind of the backend; `Service` by default.
    #[serde(default = "service_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Name of the backend.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the backend; by default the namespace of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
    /// Port of the backend. A Service needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Share of the requests, in proportion to the sum of all weights; 1 by default, 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
}

/// How long a request may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTimeout {
    /// From the whole request to the whole response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// For one attempt at a backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Duration>,
}

/// Answers with a redirect. What is left out stays as the request has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRedirectAction {
    /// Scheme of the `Location`: `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Hostname of the `Location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub hostname: Option<String>,
    /// Path of the `Location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PolicyPathModifier>,
    /// Port of the `Location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Status code; 302 by default.
    #[serde(default = "found")]
    #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
    pub status_code: u16,
}

/// Changes a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyPathModifier {
    /// What of the path is replaced.
    #[serde(rename = "type")]
    pub type_: HttpPathModifierType,
    /// What it is replaced with.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// What is known about a TailscaleRoutePolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleRoutePolicyStatus {
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions")]
    pub conditions: Vec<Condition>,
    /// What each controller, such as an Envoy Gateway, says about it for each Gateway. Never ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::revision::ancestors")]
    pub ancestors: Vec<Value>,
    /// How it fares with each target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applied_to: Vec<PolicyTargetStatus>,
    /// How each rule fares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rule_status: Vec<PolicyRuleStatus>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_errors: Vec<DetailedError>,
    /// How much work was done for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operational_metrics: Option<OperationalMetrics>,
    /// Policies that contradict it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_conflicts: Vec<PolicyConflict>,
}

/// How a policy fares with one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetStatus {
    /// The target.
    pub target_ref: TargetReference,
    /// Whether the policy is in force there.
    #[serde(default)]
    pub applied: bool,
    /// Why not, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the policy is in force there, as one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PolicyTargetState>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_applied: Option<Time>,
    /// Rules that are in force there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_rules: Option<i32>,
    /// Rules of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_rules: Option<i32>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<DetailedError>,
    /// Resource version of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Whether a policy is in force with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum PolicyTargetState {
    Applied,
    Pending,
    Failed,
    Conflicted,
    NotApplicable,
}

/// How a rule fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRuleStatus {
    /// The rule's name.
    pub rule_name: String,
    /// Whether it is in force.
    #[serde(default)]
    pub applied: bool,
    /// Requests that it took.
    #[serde(default)]
    pub match_count: i64,
    /// When it last took one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_match: Option<Time>,
    /// Whether it is as it should be.
    pub validation_status: PolicyValidation,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_errors: Vec<DetailedError>,
    /// How each of its actions fares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action_results: Vec<PolicyActionResult>,
    /// How long it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance_metrics: Option<PolicyPerformance>,
}

/// Whether a rule is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum PolicyValidation {
    Valid,
    Invalid,
    Warning,
}

/// How an action fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyActionResult {
    /// The action.
    pub action_type: String,
    /// Whether it is in force.
    #[serde(default)]
    pub success: bool,
    /// Requests that it was done with.
    #[serde(default)]
    pub execution_count: i64,
    /// When it was last done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_execution: Option<Time>,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// How long it takes on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_execution_time: Option<Duration>,
}

/// How long a rule takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPerformance {
    /// Requests that it was compared with.
    #[serde(default)]
    pub evaluation_count: i64,
    /// How long a comparison takes on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_evaluation_time: Option<Duration>,
    /// When it was last compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_evaluation_time: Option<Time>,
    /// Share of the requests that it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_rate: Option<String>,
}

/// A policy that contradicts another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyConflict {
    /// The other policy.
    pub conflicting_policy: TargetReference,
    /// What the two contradict each other in.
    pub conflict_type: PolicyConflictType,
    /// The same in words.
    pub conflict_description: String,
    /// What was done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<PolicyConflictResolution>,
    /// When it was noticed.
    pub detected_at: Time,
    /// How bad it is: Critical, Warning or Info.
    pub severity: PolicyConflictSeverity,
}

/// What two policies contradict each other in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum PolicyConflictType {
    OverlappingRule,
    ConflictingAction,
    PriorityConflict,
    TargetConflict,
}

/// What was done about a contradiction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum PolicyConflictResolution {
    Ignored,
    Overridden,
    Merged,
    Failed,
}

/// How bad a contradiction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the original operator's words, which say it")]
pub enum PolicyConflictSeverity {
    Critical,
    Warning,
    Info,
}
