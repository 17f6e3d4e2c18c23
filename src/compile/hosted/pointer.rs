//! How Envoys of another controller's Gateway reach our xDS: a cluster, and with mutual TLS the certificate by which they show
//! whose they are. Never says what they fetch there.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily},
            },
            core::v3::{ConfigSource, Http2ProtocolOptions, KeepaliveSettings, TransportSocket},
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
        },
        extensions::{
            transport_sockets::tls::v3::SdsSecretConfig,
            upstreams::http::v3::http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
    },
    google::protobuf::Duration,
};

use super::HostingIdentity;
use crate::{
    compile::{
        Settings, World,
        cluster::{common, tls_socket},
        endpoints::socket_address,
        listener::from_ads,
        secret::client_secrets,
        target::Host,
    },
    model::{ObjectName, hosted_certificate_name, pointer_authorities_name, pointer_name},
    snapshot::Pointer,
};

/// How long the cluster waits for its Secrets, which come with it. An Envoy Gateway that does not hand them on
/// (`translation.secret.includeAll: false`) keeps Envoys from asking us, and from nothing else.
const FIRST_FETCH: Duration = Duration { seconds: 5, nanos: 0 };

/// The cluster that leads Envoys of a foreign Gateway to our xDS. Nothing when they do not ask there, and where connections are
/// mutual TLS as long as there is no certificate for them.
pub(in crate::compile) fn pointer(
    settings: &Settings,
    gateway: &ObjectName,
    world: &mut World<'_>,
) -> Option<Arc<Pointer>> {
    let hosting = settings.hosting.as_ref()?;
    let xds = hosting.xds.as_ref()?;
    let name = pointer_name(gateway);
    let tls = match &hosting.identity {
        Some(identity) => Some(tls(identity, gateway, &name, world)?),
        None => None,
    };
    let http2 = Http2ProtocolOptions {
        // A connection that is dead without a word would leave endpoints as they are for as long as TCP tries.
        connection_keepalive: Some(KeepaliveSettings {
            interval: Some(Duration { seconds: 30, nanos: 0 }),
            timeout: Some(Duration { seconds: 5, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let protocol = UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)),
    });
    let discovery = if xds.host.parse::<IpAddr>().is_ok() { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    let message = Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
        dns_lookup_family: DnsLookupFamily::V4Preferred as i32,
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                        address: Some(socket_address(xds.host.to_string(), xds.port)),
                        ..Default::default()
                    })),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        transport_socket: tls.as_ref().map(|tls| tls.socket.clone()),
        ..common(protocol)
    };
    let (secrets, secrets_version) = tls.map(|tls| (tls.secrets, tls.version)).unwrap_or_default();
    Some(Arc::new(Pointer { name: name.into(), cluster: message.encode_to_vec().into(), secrets, secrets_version }))
}

/// Mutual TLS towards our xDS.
struct Tls {
    socket: TransportSocket,
    secrets: Vec<(Arc<str>, Bytes)>,
    version: u128,
}

/// The Secrets travel with the other controller's configuration, which is there before any of ours can be asked for.
fn tls(identity: &HostingIdentity, gateway: &ObjectName, certificate: &str, world: &mut World<'_>) -> Option<Tls> {
    let secret = ObjectName::new(Arc::clone(&identity.namespace), hosted_certificate_name(gateway));
    let authorities = pointer_authorities_name(gateway);
    let found = client_secrets(&secret, certificate, &authorities, world)?;
    let by_ads = |name: &str| SdsSecretConfig {
        name: name.to_owned(),
        sds_config: from_ads().map(|ads| ConfigSource { initial_fetch_timeout: Some(FIRST_FETCH), ..ads }),
    };
    let host = match identity.server_name.parse::<IpAddr>() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Name(identity.server_name.to_string()),
    };
    let encoded = [(certificate, found.certificate), (authorities.as_str(), found.authorities)];
    Some(Tls {
        socket: tls_socket(&host, true, by_ads(&authorities), Some(by_ads(certificate))),
        secrets: encoded.map(|(name, secret)| (name.into(), secret.encode_to_vec().into())).into(),
        version: found.version,
    })
}
