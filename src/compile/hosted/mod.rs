//! What is put into configurations that another controller makes: routes to tailnet endpoints for its Gateways, and clusters
//! for its routes' backends of our kinds. The extension server's hooks do it.
//!
//! Never says anything about objects of other controllers, and shares the compile functions of our own Gateways.

mod cluster;
mod gateway;
mod passing;
mod pointer;
mod route;

use std::sync::Arc;

pub(super) use cluster::{cluster, endpoints};
pub(super) use gateway::gateway;
pub(super) use pointer::pointer;
pub(super) use route::route;

/// What is told besides the world about Gateways of other controllers.
#[derive(Clone, Debug, Default)]
pub struct Hosting {
    /// Where Envoys of other controllers reach our xDS; without it they get endpoints and authorities through the other
    /// controller, and a change costs a translation there.
    pub xds: Option<XdsAddress>,
    /// How they show there whose they are; nothing where nobody is asked to.
    pub identity: Option<HostingIdentity>,
}

/// How Envoys of other controllers show our xDS whose they are, and know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostingIdentity {
    /// The namespace with the Secrets of their certificates; until there is one for a Gateway, its Envoys do not ask there.
    pub namespace: Arc<str>,
    /// The name or the address in our xDS's own certificate.
    pub server_name: Arc<str>,
}

/// Where our xDS is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdsAddress {
    /// A DNS name or an address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}
