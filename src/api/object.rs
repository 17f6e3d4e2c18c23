//! Any object of a kind that is read. Never copies one: the variants share what they hold.

use std::sync::Arc;

use super::{
    ConfigMap, CustomResourceDefinition, EndpointSlice, Finding, Gateway, GatewayClass, GrpcRoute, HttpRoute,
    ListenerSet, Namespace, ObjectMeta, ReferenceGrant, Secret, Service, TailscaleEndpoints, TailscaleGateway,
    TailscaleGatewayParameters, TailscaleGatewayRevision, TailscaleProxyGroup, TailscaleRoutePolicy, TailscaleService,
    TailscaleServices, TailscaleTailnet, TcpRoute, TlsRoute, UdpRoute,
};
use crate::model::{Kind, ObjectKey, ObjectName};

/// What an API server holds of an object besides what is compiled: what a writer has to know before it writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`: a write that names it fails when the object has changed since.
    pub resource_version: String,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// `metadata.generation`; 0 when it has none.
    pub generation: i64,
    /// `status`; null when there is none.
    pub status: serde_json::Value,
    /// Why nothing can be made of the object, if nothing can: it was stored before the API server had our schema.
    pub refused: Vec<Finding>,
}

macro_rules! objects {
    ($($kind:ident($object:ident),)*) => {
        /// An object of any kind that is read.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $(
                #[doc = concat!("A ", stringify!($object), ".")]
                $kind(Arc<$object>),
            )*
        }

        impl Object {
            /// What kind of object it is.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind,)* }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => &object.metadata,)* }
            }

            /// The object as JSON, with `apiVersion` and `kind`, as the API server would give it.
            pub fn to_json(&self) -> serde_json::Value {
                match self {
                    $(Self::$kind(object) => {
                        serde_json::to_value(&**object).expect("objects have string keys and no fallible serializer")
                    })*
                }
            }
        }

        $(
            impl From<$object> for Object {
                fn from(object: $object) -> Self {
                    Self::$kind(Arc::new(object))
                }
            }
        )*
    };
}

objects! {
    GatewayClass(GatewayClass),
    Gateway(Gateway),
    HttpRoute(HttpRoute),
    GrpcRoute(GrpcRoute),
    TlsRoute(TlsRoute),
    TcpRoute(TcpRoute),
    UdpRoute(UdpRoute),
    ListenerSet(ListenerSet),
    ReferenceGrant(ReferenceGrant),
    Namespace(Namespace),
    Service(Service),
    EndpointSlice(EndpointSlice),
    Secret(Secret),
    ConfigMap(ConfigMap),
    CustomResourceDefinition(CustomResourceDefinition),
    TailscaleTailnet(TailscaleTailnet),
    TailscaleGateway(TailscaleGateway),
    TailscaleGatewayParameters(TailscaleGatewayParameters),
    TailscaleEndpoints(TailscaleEndpoints),
    TailscaleRoutePolicy(TailscaleRoutePolicy),
    TailscaleProxyGroup(TailscaleProxyGroup),
    TailscaleService(TailscaleService),
    TailscaleServices(TailscaleServices),
    TailscaleGatewayRevision(TailscaleGatewayRevision),
}

impl Object {
    /// Which object it is. The namespace of a cluster-scoped object is empty, whatever its metadata says.
    pub fn key(&self) -> ObjectKey {
        let metadata = self.metadata();
        let namespace = match self.kind().namespaced() {
            true => metadata.namespace.as_deref().unwrap_or_default(),
            false => "",
        };
        ObjectKey::new(self.kind(), ObjectName::new(namespace, metadata.name.as_deref().unwrap_or_default()))
    }

    /// Its `metadata.generation`; 0 when it has none.
    pub fn generation(&self) -> i64 {
        self.metadata().generation.unwrap_or_default()
    }
}
