//! The bootstrap of an Envoy that takes everything else from this control plane. Pure.
//!
//! Never holds what a Gateway says: no listener, no route, no cluster but those by which the Envoy is run.

mod probes;
mod tls;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use clap::ValueEnum;
use serde_json::{Value, json};

pub use probes::{METRICS_PATH, READY_PATH};
pub use tls::{SDS_AUTHORITIES_FILE, SDS_CERTIFICATE_FILE, Tls, TlsFiles, TlsSource, UnwatchableFiles};

use crate::{model, model::ObjectName};

/// How the Envoy is kept up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Incremental xDS: what changed.
    Delta,
    /// State of the world: all resources of a type that the Envoy asked for.
    Sotw,
}

/// Over how many streams the Envoy is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Discovery {
    /// One aggregated stream, on which the order of changes is kept across types. What to use.
    Ads,
    /// A stream for each type. Changes of different types have no order among them: for
    /// Envoys that can not do otherwise, and for comparing.
    PerType,
}

/// What a bootstrap depends on.
#[derive(Clone, Debug)]
pub struct Bootstrap<'a> {
    /// Which Gateway's configuration the Envoy asks for.
    pub gateway: &'a ObjectName,
    /// Where this control plane listens, as the Envoy sees it.
    pub xds: &'a HostPort,
    /// The Envoy's own name; the one of its flag `--service-node` when it is left out.
    pub node_id: Option<&'a str>,
    /// Where the Envoy's admin page listens.
    pub admin: SocketAddr,
    /// Where it answers how it is, if anywhere.
    pub probes: Option<SocketAddr>,
    /// How it is kept up to date.
    pub protocol: Protocol,
    /// Over how many streams.
    pub discovery: Discovery,
    /// Mutual TLS to the control plane, if it uses that.
    pub tls: Option<Tls<'a>>,
}

/// A host, by name or by address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A DNS name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "write HOST:PORT, such as 127.0.0.1:18000, [::1]:18000 or control-plane.example:18000".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port });
        }
        if !is_dns_name(host) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Envoy has no limit by itself, and asks for one on every start. The number is the one of its guide for the edge
/// (`docs/root/configuration/best_practices/edge.rst`).
const MAX_DOWNSTREAM_CONNECTIONS: u32 = 50_000;

impl Bootstrap<'_> {
    /// The bootstrap in YAML, for `envoy -c FILE`.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(&self.to_json()).expect("a JSON value with text keys is a YAML document")
    }

    /// The bootstrap as canonical JSON of `envoy.config.bootstrap.v3.Bootstrap`, with the fields' own names.
    pub fn to_json(&self) -> Value {
        let mut node = json!({ "cluster": self.gateway.to_string() });
        if let Some(id) = self.node_id {
            node["id"] = json!(id);
        }
        let (listeners, clusters) = match self.probes {
            Some(address) => {
                let (listener, admin) = probes::probes(address, self.admin);
                (vec![listener], vec![self.xds_cluster(), admin])
            }
            None => (Vec::new(), vec![self.xds_cluster()]),
        };
        let mut resources = json!({ "clusters": clusters });
        if !listeners.is_empty() {
            resources["listeners"] = json!(listeners);
        }
        json!({
            // The node in each first message decides which snapshot is served: the cluster is the Gateway.
            "node": node,
            "admin": { "address": socket_address(self.admin), "ignore_global_conn_limit": true },
            "dynamic_resources": self.dynamic_resources(),
            "static_resources": resources,
            // Egress to tailnets goes through internal listeners.
            "bootstrap_extensions": [{
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
                },
            }],
            // Half the time and two thirds of the memory for ten thousand clusters.
            "deferred_stat_options": { "enable_deferred_creation_stats": true },
            "overload_manager": {
                "resource_monitors": [{
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3\
                                  .DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MAX_DOWNSTREAM_CONNECTIONS,
                    },
                }],
            },
            "layered_runtime": {
                "layers": [{
                    "name": "static",
                    "static_layer": {
                        // Envoy refuses a whole route table for one regular expression whose program has more than 100
                        // instructions. The control plane checks expressions one by one instead.
                        "re2": { "max_program_size": { "error_level": u32::MAX, "warn_level": u32::MAX } },
                    },
                }],
            },
        })
    }

    fn dynamic_resources(&self) -> Value {
        // Until the first listeners have come, an Envoy is not ready (it would answer "connection refused" and say it is
        // well): it waits as long as it takes, and asks again by itself when the control plane restarts.
        let never = "0s";
        let source = |specifier: (&str, Value)| {
            let mut source = json!({ "resource_api_version": "V3", "initial_fetch_timeout": never });
            source[specifier.0] = specifier.1;
            source
        };
        let own = || match self.discovery {
            Discovery::Ads => source(("ads", json!({}))),
            Discovery::PerType => source(("api_config_source", self.api_config_source())),
        };
        let mut resources = json!({ "lds_config": own(), "cds_config": own() });
        // What listeners and clusters refer to is asked for as they were: resources name their own source.
        if self.discovery == Discovery::Ads {
            resources["ads_config"] = self.api_config_source();
        }
        resources
    }

    /// Without `rate_limit_settings`: they would hold back acknowledgements too, and these are the throttle.
    fn api_config_source(&self) -> Value {
        json!({
            "api_type": match self.protocol { Protocol::Delta => "DELTA_GRPC", Protocol::Sotw => "GRPC" },
            "transport_api_version": "V3",
            // The node has a list of all of the Envoy's extensions, some 50 kB.
            "set_node_on_first_message_only": true,
            "grpc_services": [{
                "envoy_grpc": {
                    "cluster_name": model::XDS_CLUSTER,
                    // Envoy would wait up to 30 s for a control plane that restarted.
                    "retry_policy": { "retry_back_off": { "base_interval": "0.5s", "max_interval": "5s" } },
                },
            }],
        })
    }

    fn xds_cluster(&self) -> Value {
        let HostPort { host, port } = self.xds;
        let mut cluster = json!({
            "name": model::XDS_CLUSTER,
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": model::XDS_CLUSTER,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": {
                    "socket_address": { "address": host, "port_value": port },
                } } }] }],
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {
                        // A control plane that is gone without a word is noticed within 35 s.
                        "connection_keepalive": { "interval": "30s", "timeout": "5s" },
                    } },
                },
            },
            "upstream_connection_options": { "tcp_keepalive": {} },
        });
        if host.parse::<IpAddr>().is_ok() {
            cluster["type"] = json!("STATIC");
        } else {
            cluster["type"] = json!("STRICT_DNS");
            // The control plane may listen on one family only, whatever addresses its name has.
            cluster["dns_lookup_family"] = json!("ALL");
        }
        if let Some(tls) = &self.tls {
            cluster["transport_socket"] = tls.transport_socket();
        }
        cluster
    }
}

fn socket_address(address: SocketAddr) -> Value {
    let mut socket = json!({ "address": address.ip().to_string(), "port_value": address.port() });
    if address.is_ipv6() && address.ip().is_unspecified() {
        // As a listener of a Gateway binds it: for both families.
        socket["ipv4_compat"] = json!(true);
    }
    json!({ "socket_address": socket })
}

fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    // A last label of digits alone would be a mistyped IPv4 address (RFC 3696 §2: top-level names are not all-numeric).
    let numeric_end = name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    !name.is_empty() && name.len() <= 253 && !numeric_end && name.split('.').all(is_label)
}

/// Underscores are no host name's (RFC 1123), but resolvers take them, and Compose and Windows give such names.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}
