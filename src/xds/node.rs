//! Who is at the other end of a stream: the few facts about an Envoy that are kept.
//!
//! Never keeps the message itself: Envoy's list of extensions alone is 50 KB (`xds.md` P06).

use thiserror::Error;

use super::wire;
use crate::model::{GATEWAY_HEADER, ObjectName};

/// The client of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// `node.id`: the pod, or whatever its bootstrap says; may be empty.
    pub id: Box<str>,
    /// The Gateway whose snapshot it gets, from `node.cluster`.
    pub gateway: ObjectName,
    /// `region/zone/sub_zone`; empty when the node has no locality.
    pub locality: Box<str>,
    /// The program and its version, such as `envoy 1.40.0`.
    pub user_agent: Box<str>,
    /// What it can do beyond the basics.
    pub features: ClientFeatures,
}

impl NodeInfo {
    /// Whether it is a gRPC client that routes by itself. All of gRPC's libraries begin their name with the same word: `gRPC
    /// C-core`, `gRPC Go`, `gRPC Java`, `gRPC Node`.
    pub fn is_proxyless(&self) -> bool {
        self.user_agent.starts_with("gRPC ")
    }
}

/// Capabilities that a client declares in `node.client_features` (`xds.md` P08).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientFeatures {
    /// `envoy.lb.does_not_support_overprovisioning`.
    pub no_overprovisioning: bool,
    /// `xds.config.supports-resource-ttl`: a resource may have a lifetime.
    pub resource_ttl: bool,
    /// `xds.config.resource-in-sotw`, also spelled `xds.config.supports-resource-in-sotw`: state-of-the-world responses may
    /// wrap resources in `envoy.service.discovery.v3.Resource`.
    pub resource_in_sotw: bool,
}

/// Why a node is not served.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NodeError {
    /// The first request of a stream has no node.
    #[error("the first request of a stream must carry `node`")]
    Missing,
    /// `node.cluster` does not name a Gateway.
    #[error(
        "node.cluster is {0:?}, and must be NAMESPACE/GATEWAY, the Gateway that this Envoy serves; \
         `tailscale-gateway bootstrap --gateway NAMESPACE/GATEWAY` prints a bootstrap that is right"
    )]
    Cluster(String),
    /// The header that takes its place does not name a Gateway.
    #[error("the header {GATEWAY_HEADER} is {0:?}, and must be NAMESPACE/GATEWAY")]
    Header(String),
}

/// Reads the node of a stream's first request. The stream's header [`GATEWAY_HEADER`] names the Gateway, if there is one: the
/// node of an Envoy that another controller configures says what that one wants.
pub fn parse_node(node: Option<&wire::Node>, header: Option<&str>) -> Result<NodeInfo, NodeError> {
    let node = node.ok_or(NodeError::Missing)?;
    let short = |text: &str| text.chars().take(512).collect::<String>();
    // Nothing that could not be a Gateway takes room in the cache.
    let gateway = match header {
        Some(header) => ObjectName::parse_namespaced(header).ok_or_else(|| NodeError::Header(short(header)))?,
        None => ObjectName::parse_namespaced(&node.cluster).ok_or_else(|| NodeError::Cluster(short(&node.cluster)))?,
    };
    Ok(NodeInfo {
        id: node.id.as_str().into(),
        gateway,
        locality: node.locality.as_ref().map_or_else(Default::default, |locality| {
            format!("{}/{}/{}", locality.region, locality.zone, locality.sub_zone).into()
        }),
        user_agent: user_agent(node).into(),
        features: features(&node.client_features),
    })
}

fn user_agent(node: &wire::Node) -> String {
    let version = match node.user_agent_build_version.as_ref().and_then(|build| build.version.as_ref()) {
        Some(version) => format!("{}.{}.{}", version.major_number, version.minor_number, version.patch),
        None => node.user_agent_version.clone(),
    };
    format!("{} {version}", node.user_agent_name).trim().to_owned()
}

fn features(names: &[String]) -> ClientFeatures {
    let mut features = ClientFeatures::default();
    for name in names {
        match name.as_str() {
            "envoy.lb.does_not_support_overprovisioning" => features.no_overprovisioning = true,
            "xds.config.supports-resource-ttl" => features.resource_ttl = true,
            "xds.config.resource-in-sotw" | "xds.config.supports-resource-in-sotw" => features.resource_in_sotw = true,
            _ => {}
        }
    }
    features
}
