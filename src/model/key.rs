//! Which object is meant: its kind, namespace and name.

use std::{fmt, sync::Arc};

/// The kinds of Kubernetes object that this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `gateway.networking.k8s.io/v1` GatewayClass (cluster-scoped).
    GatewayClass,
    /// `gateway.networking.k8s.io/v1` Gateway.
    Gateway,
    /// `gateway.networking.k8s.io/v1` HTTPRoute.
    HttpRoute,
    /// `gateway.networking.k8s.io/v1` GRPCRoute.
    GrpcRoute,
    /// `gateway.networking.k8s.io/v1` (or `v1alpha3`, `v1alpha2`) TLSRoute.
    TlsRoute,
    /// `gateway.networking.k8s.io/v1` (or `v1alpha2`) TCPRoute.
    TcpRoute,
    /// `gateway.networking.k8s.io/v1` (or `v1alpha2`) UDPRoute.
    UdpRoute,
    /// `gateway.networking.k8s.io/v1` ListenerSet.
    ListenerSet,
    /// `gateway.networking.k8s.io/v1beta1` (or `v1`) ReferenceGrant.
    ReferenceGrant,
    /// `v1` Namespace (cluster-scoped).
    Namespace,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Secret.
    Secret,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `apiextensions.k8s.io/v1` CustomResourceDefinition (cluster-scoped): of Gateway API's, the metadata.
    CustomResourceDefinition,
    /// `gateway.tailscale.com/v1alpha1` TailscaleTailnet (cluster-scoped).
    TailscaleTailnet,
    /// `gateway.tailscale.com/v1alpha1` TailscaleGateway.
    TailscaleGateway,
    /// `gateway.tailscale.com/v1alpha1` TailscaleGatewayParameters.
    TailscaleGatewayParameters,
    /// `gateway.tailscale.com/v1alpha1` TailscaleEndpoints.
    TailscaleEndpoints,
    /// `gateway.tailscale.com/v1alpha1` TailscaleRoutePolicy.
    TailscaleRoutePolicy,
    /// `gateway.tailscale.com/v1alpha1` TailscaleProxyGroup.
    TailscaleProxyGroup,
    /// `gateway.tailscale.com/v1alpha1` TailscaleService.
    TailscaleService,
    /// `gateway.tailscale.com/v1alpha1` TailscaleServices.
    TailscaleServices,
    /// `gateway.tailscale.com/v1alpha1` TailscaleGatewayRevision. This program writes these, and looks at them to see whether
    /// they are as it has written them.
    TailscaleGatewayRevision,
}

/// The API group of our own kinds.
const OURS: &str = "gateway.tailscale.com";
/// The API group of Gateway API.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// The annotation of Gateway API's definitions with the version that they are of.
pub const BUNDLE_VERSION_ANNOTATION: &str = "gateway.networking.k8s.io/bundle-version";

impl Kind {
    /// Every kind, in a fixed order.
    pub const ALL: [Kind; 24] = [
        Kind::GatewayClass,
        Kind::Gateway,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TlsRoute,
        Kind::TcpRoute,
        Kind::UdpRoute,
        Kind::ListenerSet,
        Kind::ReferenceGrant,
        Kind::Namespace,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Secret,
        Kind::ConfigMap,
        Kind::CustomResourceDefinition,
        Kind::TailscaleTailnet,
        Kind::TailscaleGateway,
        Kind::TailscaleGatewayParameters,
        Kind::TailscaleEndpoints,
        Kind::TailscaleRoutePolicy,
        Kind::TailscaleProxyGroup,
        Kind::TailscaleService,
        Kind::TailscaleServices,
        Kind::TailscaleGatewayRevision,
    ];

    /// The API group; empty for Kubernetes' core group.
    pub fn group(self) -> &'static str {
        match self {
            Kind::GatewayClass | Kind::Gateway | Kind::HttpRoute | Kind::ReferenceGrant => GATEWAY_API,
            Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute | Kind::UdpRoute | Kind::ListenerSet => GATEWAY_API,
            Kind::Namespace | Kind::Service | Kind::Secret | Kind::ConfigMap => "",
            Kind::EndpointSlice => "discovery.k8s.io",
            Kind::CustomResourceDefinition => "apiextensions.k8s.io",
            _ => OURS,
        }
    }

    /// The versions of the group that are read as this kind; all have one shape.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Kind::GatewayClass | Kind::Gateway | Kind::HttpRoute | Kind::ReferenceGrant => &["v1", "v1beta1"],
            Kind::TlsRoute => &["v1", "v1alpha3", "v1alpha2"],
            Kind::TcpRoute | Kind::UdpRoute => &["v1", "v1alpha2"],
            Kind::GrpcRoute | Kind::ListenerSet => &["v1"],
            Kind::Namespace | Kind::Service | Kind::Secret | Kind::ConfigMap | Kind::EndpointSlice => &["v1"],
            Kind::CustomResourceDefinition => &["v1"],
            _ => &["v1alpha1"],
        }
    }

    /// The `kind` field, such as `HTTPRoute`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::GatewayClass => "GatewayClass",
            Kind::Gateway => "Gateway",
            Kind::HttpRoute => "HTTPRoute",
            Kind::GrpcRoute => "GRPCRoute",
            Kind::TlsRoute => "TLSRoute",
            Kind::TcpRoute => "TCPRoute",
            Kind::UdpRoute => "UDPRoute",
            Kind::ListenerSet => "ListenerSet",
            Kind::ReferenceGrant => "ReferenceGrant",
            Kind::Namespace => "Namespace",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Secret => "Secret",
            Kind::ConfigMap => "ConfigMap",
            Kind::CustomResourceDefinition => "CustomResourceDefinition",
            Kind::TailscaleTailnet => "TailscaleTailnet",
            Kind::TailscaleGateway => "TailscaleGateway",
            Kind::TailscaleGatewayParameters => "TailscaleGatewayParameters",
            Kind::TailscaleEndpoints => "TailscaleEndpoints",
            Kind::TailscaleRoutePolicy => "TailscaleRoutePolicy",
            Kind::TailscaleProxyGroup => "TailscaleProxyGroup",
            Kind::TailscaleService => "TailscaleService",
            Kind::TailscaleServices => "TailscaleServices",
            Kind::TailscaleGatewayRevision => "TailscaleGatewayRevision",
        }
    }

    /// The resource's name in the API server's paths, such as `httproutes`.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::GatewayClass => "gatewayclasses",
            Kind::Gateway => "gateways",
            Kind::HttpRoute => "httproutes",
            Kind::GrpcRoute => "grpcroutes",
            Kind::TlsRoute => "tlsroutes",
            Kind::TcpRoute => "tcproutes",
            Kind::UdpRoute => "udproutes",
            Kind::ListenerSet => "listenersets",
            Kind::ReferenceGrant => "referencegrants",
            Kind::Namespace => "namespaces",
            Kind::Service => "services",
            Kind::EndpointSlice => "endpointslices",
            Kind::Secret => "secrets",
            Kind::ConfigMap => "configmaps",
            Kind::CustomResourceDefinition => "customresourcedefinitions",
            Kind::TailscaleTailnet => "tailscaletailnets",
            Kind::TailscaleGateway => "tailscalegateways",
            Kind::TailscaleGatewayParameters => "tailscalegatewayparameters",
            Kind::TailscaleEndpoints => "tailscaleendpoints",
            Kind::TailscaleRoutePolicy => "tailscaleroutepolicies",
            Kind::TailscaleProxyGroup => "tailscaleproxygroups",
            Kind::TailscaleService => "tailscaleservice",
            Kind::TailscaleServices => "tailscaleservices",
            Kind::TailscaleGatewayRevision => "tailscalegatewayrevisions",
        }
    }

    /// Whether objects of this kind in a cluster are followed. No output reads a ConfigMap: what may refer to one is accepted
    /// and not acted on. Whoever changes that makes the kind followed, and on demand.
    pub fn is_followed(self) -> bool {
        self != Kind::ConfigMap
    }

    /// Whether a cluster holds many objects of this kind that are none of our business, and that may be secret: only those
    /// that some output reads are fetched.
    pub fn is_on_demand(self) -> bool {
        self == Kind::Secret
    }

    /// Whether nothing but the metadata of objects of this kind is asked for.
    pub fn is_metadata_alone(self) -> bool {
        self == Kind::CustomResourceDefinition
    }

    /// Whether an object of this kind with this name is followed. Of the definitions in a cluster only Gateway API's are.
    pub fn follows(self, name: &str) -> bool {
        let is_gateway_api = |name: &str| name.split_once('.').is_some_and(|(_, group)| group == GATEWAY_API);
        self != Kind::CustomResourceDefinition || is_gateway_api(name)
    }

    /// Whether this program writes the status of objects of this kind, all or a part of it.
    pub fn has_our_status(self) -> bool {
        !matches!(
            self,
            Kind::GrpcRoute
                | Kind::TlsRoute
                | Kind::TcpRoute
                | Kind::UdpRoute
                | Kind::ListenerSet
                | Kind::ReferenceGrant
                | Kind::Namespace
                | Kind::Service
                | Kind::EndpointSlice
                | Kind::Secret
                | Kind::ConfigMap
                | Kind::CustomResourceDefinition
                | Kind::TailscaleGatewayRevision
        )
    }

    /// Whether objects of this kind live in a namespace.
    pub fn namespaced(self) -> bool {
        !matches!(self, Kind::GatewayClass | Kind::Namespace | Kind::CustomResourceDefinition | Kind::TailscaleTailnet)
    }

    /// The kind with this group and kind name, if it is one we read.
    pub fn find(group: &str, kind: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|candidate| candidate.group() == group && candidate.as_str() == kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A namespace and a name; the namespace of a cluster-scoped object is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The namespace, or nothing for a cluster-scoped object.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// Names an object.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Reads `NAMESPACE/NAME`, both as Kubernetes allows them: an RFC 1123 label and an RFC 1123 subdomain.
    pub fn parse_namespaced(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let label = |text: &str| {
            let edge = |byte: Option<u8>| byte.is_some_and(allowed);
            edge(text.bytes().next())
                && edge(text.bytes().next_back())
                && text.bytes().all(|byte| allowed(byte) || byte == b'-')
        };
        // Of a subdomain Kubernetes limits the whole and not its labels.
        let subdomain = name.len() <= 253 && name.split('.').all(label);
        (namespace.len() <= 63 && label(namespace) && subdomain).then(|| Self::new(namespace, name))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An object of a kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// What it is.
    pub kind: Kind,
    /// Which one it is.
    pub name: ObjectName,
}

impl ObjectKey {
    /// Names an object of a kind.
    pub fn new(kind: Kind, name: ObjectName) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
