//! TailscaleTailnet: a tailnet and the credentials for its API. Never holds a secret itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DetailedError, OperationalMetrics, TailscaleApiStatus};

/// Which tailnet it is, and where the credentials for it are.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.tailscale.com",
    version = "v1alpha1",
    kind = "TailscaleTailnet",
    plural = "tailscaletailnets",
    category = "tailscale-gateway",
    status = "TailscaleTailnetStatus",
    derive = "PartialEq",
    doc = "A Tailscale network (tailnet), and where the credentials for its API are.",
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Tailnet", type_ = "string", json_path = ".status.tailnetInfo.name"),
    printcolumn(name = "Organization", type_ = "string", json_path = ".status.tailnetInfo.organization"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleTailnetSpec {
    /// Name of the tailnet as the Tailscale API knows it, such as `example.com`. `-`, an empty string and nothing all mean
    /// the tailnet that the credentials belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub tailnet: Option<String>,
    /// Name of the Secret with the OAuth client: keys `client_id` and `client_secret` (`client-id` and `client-secret` are
    /// understood too).
    #[serde(rename = "oauthSecretName")]
    #[schemars(length(min = 1, max = 253))]
    pub oauth_secret_name: String,
    /// Namespace of that Secret; by default the namespace that the operator runs in.
    #[serde(rename = "oauthSecretNamespace", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub oauth_secret_namespace: Option<String>,
    /// Tags of the devices that are added to the tailnet where nothing nearer says otherwise; `tag:k8s-operator` by
    /// default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What is known about a tailnet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleTailnetStatus {
    /// Conditions, one of each type: `Ready`, `Authenticated`, `Validated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions")]
    pub conditions: Vec<Condition>,
    /// The tailnet itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tailnet_info: Option<TailnetInfo>,
    /// When the Tailscale API was last asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// How calls to the Tailscale API fare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_status: Option<TailscaleApiStatus>,
    /// The credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_status: Option<CredentialStatus>,
    /// How much work was done for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operational_metrics: Option<OperationalMetrics>,
    /// The latest failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_errors: Vec<DetailedError>,
    /// Devices in the tailnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_count: Option<i32>,
    /// Devices that are connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_devices: Option<i32>,
    /// Features that are switched on for the tailnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feature_flags: Vec<String>,
}

/// What the Tailscale API says about a tailnet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailnetInfo {
    /// MagicDNS domain of the tailnet, such as `tail1234.ts.net`.
    pub name: String,
    /// MagicDNS suffix, when it is not the name.
    #[serde(rename = "magicDNSSuffix", skip_serializing_if = "Option::is_none")]
    pub magic_dns_suffix: Option<String>,
    /// `Personal` or `Organization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Identifier of the tailnet.
    #[serde(rename = "tailnetID", skip_serializing_if = "Option::is_none")]
    pub tailnet_id: Option<String>,
    /// Plan that the tailnet is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_type: Option<String>,
    /// Region that the tailnet is kept in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// When the tailnet was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// When any of this last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
}

/// The state of credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// Whether the Tailscale API takes them.
    #[serde(default)]
    pub valid: bool,
    /// When they were last tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_validated: Option<Time>,
    /// When the present access token ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When an access token was last fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refresh: Option<Time>,
    /// What they are allowed to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Access tokens fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_refresh_count: Option<i64>,
    /// Resource version of the Secret that they were read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_version: Option<String>,
    /// What is wrong with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_errors: Vec<DetailedError>,
}
