//! Clusters: one for each port of a Service, one for each tailnet endpoint.

use std::{net::IpAddr, sync::Arc, time::Duration as StdDuration};

use k8s_openapi::api::core::v1::Service;
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, OutlierDetection,
                circuit_breakers::Thresholds,
                cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy},
            },
            core::v3::{
                ConfigSource, HealthCheck as EnvoyHealthCheck, Http1ProtocolOptions, Http2ProtocolOptions, Locality,
                TransportSocket,
                health_check::{HealthChecker, HttpHealthCheck, TcpHealthCheck},
                transport_socket,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
                endpoint::HealthCheckConfig, lb_endpoint::HostIdentifier,
            },
        },
        extensions::{
            transport_sockets::tls::v3::{
                CertificateValidationContext, CommonTlsContext, SdsSecretConfig, SubjectAltNameMatcher, TlsParameters,
                UpstreamTlsContext,
                common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
                subject_alt_name_matcher::SanType,
                tls_parameters::TlsProtocol,
            },
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
                },
            },
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::{Duration, UInt32Value},
};

use super::{
    Settings, World,
    backend::{AppProtocol, service_port},
    endpoints::socket_address,
    listener::{any, from_ads},
    target::{Host, Target},
};
use crate::{
    api::{EndpointHealthCheck, EndpointProtocol, TailscaleEndpoint, TailscaleEndpoints},
    model::{AUTHORITIES, ClusterName, Reason, Traffic},
    snapshot::{Resource, TypeUrl},
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Option<Duration> = Some(Duration { seconds: 5, nanos: 0 });
/// The key of a cluster's HTTP options.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The cluster with this name, if what it stands for exists.
pub(super) fn cluster(settings: &Settings, name: &ClusterName, world: &mut World<'_>) -> Option<Arc<Resource>> {
    let message = match name {
        ClusterName::Service { service, port } => {
            let object = world.object::<Service>(service)?;
            let declared = service_port(&object, *port)?;
            let protocol = AppProtocol::parse(declared.app_protocol.as_deref()).ok()?;
            service_cluster(name, protocol)
        }
        ClusterName::Endpoint { endpoints, endpoint } => {
            let object = world.object::<TailscaleEndpoints>(endpoints)?;
            let endpoint = object.spec.endpoints.iter().find(|candidate| *candidate.name == **endpoint)?;
            let target = endpoint_target(endpoint).ok()?;
            if target.tls && settings.trusted_authorities.is_none() {
                return None;
            }
            endpoint_cluster(name, endpoint, &target, Home::ours())
        }
    };
    Some(Arc::new(Resource::new(TypeUrl::Cluster, name.to_string(), &message)))
}

/// Endpoints come apart from the cluster, so that a changed endpoint does not touch it.
fn service_cluster(name: &ClusterName, protocol: AppProtocol) -> Cluster {
    let protocol = match protocol {
        AppProtocol::Http1 | AppProtocol::WebSocket => {
            ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())
        }
        AppProtocol::Http2 => ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default()),
    };
    Cluster {
        name: name.to_string(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: from_ads(), ..Default::default() }),
        ..common(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(protocol) }))
    }
}

/// What all clusters have. Envoy's default limits of 1024 connections and requests would answer 503 where backends still have
/// room; a limit is the backend's to set.
pub(super) fn common(protocol: UpstreamProtocolOptions) -> Cluster {
    let unlimited = Some(UInt32Value { value: u32::MAX });
    let options = HttpProtocolOptions { upstream_protocol_options: Some(protocol), ..Default::default() };
    Cluster {
        connect_timeout: CONNECT_TIMEOUT,
        lb_policy: LbPolicy::LeastRequest as i32,
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_connections: unlimited,
                max_pending_requests: unlimited,
                max_requests: unlimited,
                max_retries: unlimited,
                ..Default::default()
            }],
            ..Default::default()
        }),
        typed_extension_protocol_options: [(HTTP_OPTIONS.to_owned(), any(&options))].into(),
        ..Default::default()
    }
}

/// Where an endpoint's requests go, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EndpointTarget {
    target: Target,
    tls: bool,
    http2: bool,
    traffic: Traffic,
    /// The Host that requests carry.
    pub(super) authority: String,
}

/// Reads where an endpoint's requests go: its `externalTarget`, or the machine itself by its tailnet address or name, which
/// works for an Envoy whose host is a member of the tailnet. Says which field is wrong, why, and how, otherwise.
pub(super) fn endpoint_target(endpoint: &TailscaleEndpoint) -> Result<EndpointTarget, (&'static str, Reason, String)> {
    endpoint_target_for(endpoint, Traffic::Http)
}

/// The same for what a route of another controller sends there.
pub(super) fn endpoint_target_for(
    endpoint: &TailscaleEndpoint,
    traffic: Traffic,
) -> Result<EndpointTarget, (&'static str, Reason, String)> {
    let protocol = endpoint.protocol;
    if let Some(message) = refusal(protocol, traffic) {
        return Err(("protocol", Reason::NotActedOn, message));
    }
    let (ip, name) = (set(endpoint.tailscale_ip.as_ref()), set(endpoint.tailscale_fqdn.as_ref()));
    let (field, text) = match (external_target(endpoint), ip, name) {
        (Some(target), _, _) => ("externalTarget", target),
        (None, Some(ip), _) => ("tailscaleIP", ip),
        (None, None, Some(name)) => ("tailscaleFQDN", name),
        (None, None, None) => {
            let message = "there is no externalTarget, tailscaleIP or tailscaleFQDN; say where requests go".to_owned();
            return Err(("externalTarget", Reason::UnsupportedValue, message));
        }
    };
    let target =
        Target::parse(text, Some(endpoint.port)).map_err(|message| (field, Reason::UnsupportedValue, message))?;
    let tls = match traffic {
        Traffic::Http | Traffic::Grpc => {
            target.tls.unwrap_or(protocol == EndpointProtocol::Https || target.port == 443)
        }
        Traffic::Connections => {
            target.tls.unwrap_or(matches!(protocol, EndpointProtocol::Https | EndpointProtocol::Tls))
        }
        Traffic::Passthrough | Traffic::Datagrams => false,
    };
    let http2 = traffic == Traffic::Grpc || protocol == EndpointProtocol::Grpc;
    Ok(EndpointTarget { authority: target.authority(tls), target, tls, http2, traffic })
}

/// The endpoint's `externalTarget`, if there is one.
pub(super) fn external_target(endpoint: &TailscaleEndpoint) -> Option<&str> {
    set(endpoint.external_target.as_ref())
}

/// An empty text is as good as none: so the original operator read it, and wrote what was left out.
fn set(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// Why an endpoint of a protocol takes none of some traffic, if it takes none.
fn refusal(protocol: EndpointProtocol, traffic: Traffic) -> Option<String> {
    use EndpointProtocol as Protocol;
    let spoken = protocol.as_str();
    match (traffic, protocol) {
        (Traffic::Http | Traffic::Grpc, Protocol::Tcp | Protocol::Tls) => Some(format!(
            "endpoints of protocol {spoken} take connections of TCPRoutes and TLSRoutes of an Envoy Gateway only; HTTP requests go \
             to those of HTTP, HTTPS and GRPC"
        )),
        (Traffic::Http | Traffic::Grpc, Protocol::Udp) => Some(
            "endpoints of protocol UDP take datagrams of UDPRoutes of an Envoy Gateway only; HTTP requests go to those of HTTP, \
             HTTPS and GRPC"
                .to_owned(),
        ),
        (Traffic::Connections | Traffic::Passthrough, Protocol::Udp) => {
            Some("endpoints of protocol UDP take no connections; those of any other protocol do".to_owned())
        }
        (Traffic::Datagrams, Protocol::Udp) => None,
        (Traffic::Datagrams, _) => Some(format!("endpoints of protocol {spoken} take no datagrams; those of UDP do")),
        _ => None,
    }
}

impl EndpointTarget {
    /// Whether it is reached over TLS.
    pub(super) fn tls(&self) -> bool {
        self.tls
    }

    /// Its address, when it has one and needs nothing else that depends on it: a name in a certificate.
    pub(super) fn plain_address(&self) -> Option<IpAddr> {
        match self.target.host {
            Host::Address(ip) if !self.tls => Some(ip),
            _ => None,
        }
    }
}

/// The configuration that a cluster is made for.
pub(super) struct Home {
    /// Where it fetches the authorities, and their name there.
    pub(super) authorities: SdsSecretConfig,
    /// Where it fetches endpoints that have an address, if not from itself.
    pub(super) endpoints: Option<ConfigSource>,
    /// Endpoints say for themselves which Host their requests carry; else routes do.
    pub(super) endpoints_name_host: bool,
}

impl Home {
    /// For Envoys of our own Gateways.
    fn ours() -> Self {
        let authorities = SdsSecretConfig { name: AUTHORITIES.to_owned(), sds_config: from_ads() };
        Self { authorities, endpoints: None, endpoints_name_host: false }
    }
}

/// The cluster of an endpoint.
pub(super) fn endpoint_cluster(
    name: &ClusterName,
    endpoint: &TailscaleEndpoint,
    target: &EndpointTarget,
    home: Home,
) -> Cluster {
    let protocol = if target.http2 {
        let options = ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default());
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(options) })
    } else if target.tls {
        UpstreamProtocolOptions::AutoConfig(AutoHttpConfig {
            http_protocol_options: Some(Http1ProtocolOptions::default()),
            http2_protocol_options: Some(Http2ProtocolOptions::default()),
            ..Default::default()
        })
    } else {
        let options = ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default());
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(options) })
    };
    let mut cluster = Cluster {
        name: name.to_string(),
        transport_socket: target.tls.then(|| tls_socket(&target.target.host, target.http2, home.authorities, None)),
        health_checks: endpoint
            .health_check
            .iter()
            .filter(|check| check.enabled)
            .filter_map(|check| health_check(check, endpoint, target, home.endpoints_name_host))
            .collect(),
        outlier_detection: Some(outlier_detection()),
        ..common(protocol)
    };
    if !target.traffic.is_http() {
        cluster.typed_extension_protocol_options.clear();
    }
    if target.traffic == Traffic::Datagrams {
        // Nothing answers, and nothing can be connected to.
        (cluster.health_checks, cluster.outlier_detection) = (Vec::new(), None);
    }
    match (target.plain_address(), home.endpoints) {
        (Some(_), Some(source)) => Cluster {
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
            eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(source), service_name: name.to_string() }),
            ..cluster
        },
        _ => Cluster {
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(match &target.target.host {
                Host::Address(_) => DiscoveryType::Static,
                Host::Name(_) => DiscoveryType::StrictDns,
            } as i32)),
            dns_lookup_family: DnsLookupFamily::V4Preferred as i32,
            load_assignment: Some(assignment(name, target, home.endpoints_name_host)),
            ..cluster
        },
    }
}

/// The one endpoint of a target's cluster. If it names the Host of its requests, health checks carry that, too.
pub(super) fn assignment(name: &ClusterName, target: &EndpointTarget, names_host: bool) -> ClusterLoadAssignment {
    let host = target.target.host.to_string();
    let hostname = if names_host { target.authority.clone() } else { host.clone() };
    let health_check_config =
        names_host.then(|| HealthCheckConfig { hostname: hostname.clone(), ..Default::default() });
    ClusterLoadAssignment {
        cluster_name: name.to_string(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
                    address: Some(socket_address(host, target.target.port)),
                    hostname,
                    health_check_config,
                    ..Default::default()
                })),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What goes to several targets without TLS, in proportion to their weights, as far as Envoy is told by the discovery of a
/// cluster: each is a locality with this name and weight.
pub(super) fn mixture(name: &str, parts: &[(String, u32, EndpointTarget)]) -> Cluster {
    let is_name = |target: &EndpointTarget| matches!(target.target.host, Host::Name(_));
    let discovery = match parts.iter().any(|(.., target)| is_name(target)) {
        true => DiscoveryType::StrictDns,
        false => DiscoveryType::Static,
    };
    let locality = |(region, weight, target): &(String, u32, EndpointTarget)| LocalityLbEndpoints {
        locality: Some(Locality { region: region.clone(), ..Default::default() }),
        load_balancing_weight: Some(UInt32Value { value: *weight }),
        lb_endpoints: vec![LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
                address: Some(socket_address(target.target.host.to_string(), target.target.port)),
                ..Default::default()
            })),
            ..Default::default()
        }],
        ..Default::default()
    };
    let datagrams = parts.iter().any(|(.., target)| target.traffic == Traffic::Datagrams);
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
        dns_lookup_family: DnsLookupFamily::V4Preferred as i32,
        outlier_detection: (!datagrams).then(outlier_detection),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: parts.iter().map(locality).collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// TLS towards a target, its name checked against the certificate. With a certificate of one's own it is towards our xDS, which
/// takes TLS 1.3 alone: more than what Envoy offers as a client unless it is told to.
pub(super) fn tls_socket(
    host: &Host,
    http2: bool,
    authorities: SdsSecretConfig,
    own: Option<SdsSecretConfig>,
) -> TransportSocket {
    let (sni, kind, name) = match host {
        Host::Name(name) => (name.clone(), SanType::Dns, name.clone()),
        Host::Address(ip) => (String::new(), SanType::IpAddress, ip.to_string()),
    };
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
                san_type: kind as i32,
                matcher: Some(StringMatcher { match_pattern: Some(MatchPattern::Exact(name)), ..Default::default() }),
                ..Default::default()
            }],
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(authorities),
        ..Default::default()
    };
    let context = UpstreamTlsContext {
        sni,
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: if http2 { vec!["h2".to_owned()] } else { Vec::new() },
            tls_params: own.is_some().then(|| TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv13 as i32,
                tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
                ..Default::default()
            }),
            tls_certificate_sds_secret_configs: own.into_iter().collect(),
            validation_context_type: Some(ValidationContextType::CombinedValidationContext(validation)),
            ..Default::default()
        }),
        ..Default::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}

/// Which field of a health check is wrong, and how, so that it can not be made. Envoy writes the path into the request as it
/// is, and refuses a cluster over a line break in it, or over a time of zero.
pub(super) fn health_check_problem(endpoint: &TailscaleEndpoint) -> Option<(&'static str, String)> {
    let check = endpoint.health_check.as_ref().filter(|check| check.enabled)?;
    for (field, time) in [("healthCheck.interval", &check.interval), ("healthCheck.timeout", &check.timeout)] {
        if time.as_std() < StdDuration::from_millis(1) {
            return Some((
                field,
                format!("{time} must be at least a millisecond; without it there is no health check"),
            ));
        }
    }
    let path = &check.path;
    let good = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    (endpoint.protocol != EndpointProtocol::Grpc && !good).then(|| {
        let message = format!("{path:?} must begin with a slash and have no spaces, line breaks or letters outside ASCII; without it there is no health check");
        ("healthCheck.path", message)
    })
}

/// Other protocols than HTTP and HTTPS are only connected to, as the field's description says.
fn health_check(
    check: &EndpointHealthCheck,
    endpoint: &TailscaleEndpoint,
    target: &EndpointTarget,
    endpoints_name_host: bool,
) -> Option<EnvoyHealthCheck> {
    if health_check_problem(endpoint).is_some() {
        return None;
    }
    let checker = match endpoint.protocol {
        EndpointProtocol::Grpc => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
        _ if !target.traffic.is_http() => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
        _ => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host: if endpoints_name_host { String::new() } else { target.authority.clone() },
            path: check.path.clone(),
            ..Default::default()
        }),
    };
    let count = |count: u32| Some(UInt32Value { value: count.max(1) });
    Some(EnvoyHealthCheck {
        interval: duration(check.interval.as_std()),
        // Envoy asks a cluster that was never sent a request only once a minute otherwise.
        no_traffic_interval: duration(check.interval.as_std()),
        timeout: duration(check.timeout.as_std()),
        healthy_threshold: count(check.healthy_threshold),
        unhealthy_threshold: count(check.unhealthy_threshold),
        health_checker: Some(checker),
        ..Default::default()
    })
}

fn duration(duration: StdDuration) -> Option<Duration> {
    Some(Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("below 10^9"),
    })
}

/// Takes a target out for a while after five failures in a row, of its own making or of the connection's.
fn outlier_detection() -> OutlierDetection {
    let count = |value| Some(UInt32Value { value });
    OutlierDetection {
        consecutive_5xx: count(5),
        consecutive_gateway_failure: count(5),
        interval: Some(Duration { seconds: 10, nanos: 0 }),
        base_ejection_time: Some(Duration { seconds: 30, nanos: 0 }),
        max_ejection_percent: count(50),
        ..Default::default()
    }
}
