//! The flags of `preflight`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::preflight::Version;

/// What `preflight` is told.
#[derive(Clone, Debug, Args)]
pub struct PreflightConfig {
    /// The kubeconfig with the API server; what it is asked is asked with the rights of its user [default: the cluster that
    /// this runs in, else KUBECONFIG or ~/.kube/config].
    #[arg(long, env = "TAILSCALE_GATEWAY_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context [default: its current one].
    #[arg(long, env = "TAILSCALE_GATEWAY_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of the Envoy Gateway.
    #[arg(
        long,
        env = "TAILSCALE_GATEWAY_ENVOY_GATEWAY_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "envoy-gateway-system"
    )]
    pub envoy_gateway_namespace: String,
    /// The configuration of the Envoy Gateway before it is applied: the YAML itself, a ConfigMap with it, or values of Envoy
    /// Gateway's chart. Without a cluster, what it says itself is checked [default: the ConfigMap envoy-gateway-config].
    #[arg(long, env = "TAILSCALE_GATEWAY_ENVOY_GATEWAY_CONFIG", value_name = "FILE")]
    pub envoy_gateway_config: Option<PathBuf>,
    /// The version of the Envoy Gateway [default: that of its Deployment's image].
    #[arg(long, env = "TAILSCALE_GATEWAY_ENVOY_GATEWAY_VERSION", value_name = "VERSION")]
    pub envoy_gateway_version: Option<Version>,
    /// The ServiceAccount of the Envoy Gateway [default: that of its Deployment, else envoy-gateway].
    #[arg(long, env = "TAILSCALE_GATEWAY_SERVICE_ACCOUNT", value_name = "NAME")]
    pub service_account: Option<String>,
    /// The language of the output.
    #[arg(short, long, env = "TAILSCALE_GATEWAY_OUTPUT", value_enum, default_value_t = ReportFormat::Text)]
    pub output: ReportFormat,
}

/// The language of what `preflight` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// One line for each finding.
    Text,
    /// JSON.
    Json,
}
