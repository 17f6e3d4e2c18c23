//! The resource types that are served.

use std::fmt;

/// A type of xDS resource, in the order in which a change is sent: what is referred to goes before what refers to it
/// (`xds.md` P55).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypeUrl {
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
    /// `envoy.config.core.v3.TypedExtensionConfig` (ECDS).
    ExtensionConfig,
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoints,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Route,
    /// `envoy.config.route.v3.ScopedRouteConfiguration` (SRDS).
    ScopedRoute,
    /// `envoy.config.route.v3.VirtualHost` (VHDS).
    VirtualHost,
    /// `envoy.service.runtime.v3.Runtime` (RTDS).
    Runtime,
}

impl TypeUrl {
    /// How many types there are.
    pub const COUNT: usize = 9;

    /// Every type, in sending order.
    pub const ALL: [TypeUrl; Self::COUNT] = [
        TypeUrl::Secret,
        TypeUrl::ExtensionConfig,
        TypeUrl::Cluster,
        TypeUrl::Endpoints,
        TypeUrl::Listener,
        TypeUrl::Route,
        TypeUrl::ScopedRoute,
        TypeUrl::VirtualHost,
        TypeUrl::Runtime,
    ];

    /// Its place in [`TypeUrl::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The type URL as it stands in requests and responses.
    pub fn as_str(self) -> &'static str {
        match self {
            TypeUrl::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            TypeUrl::ExtensionConfig => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            TypeUrl::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            TypeUrl::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            TypeUrl::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            TypeUrl::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            TypeUrl::ScopedRoute => "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
            TypeUrl::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            TypeUrl::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
        }
    }

    /// The type with this URL, if it is one we serve.
    pub fn parse(url: &str) -> Option<TypeUrl> {
        Self::ALL.into_iter().find(|candidate| candidate.as_str() == url)
    }

    /// The short name used in metrics, logs and the admin pages: the resource's message name, such as `Cluster`.
    pub fn label(self) -> &'static str {
        let url = self.as_str();
        &url[url.rfind('.').map_or(0, |at| at + 1)..]
    }

    /// Whether a first request without names asks for all resources of the type (xDS protocol, "How the client specifies
    /// what resources to return"): Listener and Cluster by the specification, scoped routes and virtual hosts by
    /// Envoy's practice (`xds.md` P25, P28).
    pub fn has_wildcard(self) -> bool {
        matches!(self, TypeUrl::Listener | TypeUrl::Cluster | TypeUrl::ScopedRoute | TypeUrl::VirtualHost)
    }

    /// Whether a state-of-the-world response is the full state, so that absence means removal (`xds.md` P15).
    pub fn sotw_is_full_state(self) -> bool {
        matches!(self, TypeUrl::Listener | TypeUrl::Cluster | TypeUrl::ScopedRoute)
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
