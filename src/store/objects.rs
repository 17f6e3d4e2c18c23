//! The objects themselves.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret, Service},
    discovery::v1::EndpointSlice,
};

use super::{Change, IndexKey, index::index_keys};
use crate::{
    api::{
        CustomResourceDefinition, Gateway, GatewayClass, GrpcRoute, HttpRoute, ListenerSet, Object, ReferenceGrant,
        TailscaleEndpoints, TailscaleGateway, TailscaleGatewayParameters, TailscaleGatewayRevision,
        TailscaleProxyGroup, TailscaleRoutePolicy, TailscaleService, TailscaleServices, TailscaleTailnet, TcpRoute,
        TlsRoute, UdpRoute,
    },
    model::{Kind, ObjectKey, ObjectName},
};

/// All objects, by key and by index.
#[derive(Default)]
pub struct Store {
    objects: HashMap<ObjectKey, Object, RandomState>,
    indexes: HashMap<IndexKey, BTreeSet<ObjectName>, RandomState>,
}

/// What a change touched: recorded reads of these are out of date.
#[derive(Default)]
pub(super) struct Touched {
    pub(super) objects: Vec<ObjectKey>,
    pub(super) indexes: Vec<IndexKey>,
}

impl Store {
    /// The object with this key.
    pub fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The keys of all objects, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    pub(super) fn index(&self, key: &IndexKey) -> Option<&BTreeSet<ObjectName>> {
        self.indexes.get(key)
    }

    /// Applies a change; an object equal to the one that is there touches nothing.
    pub(super) fn apply(&mut self, change: Change, touched: &mut Touched) {
        let (key, new) = match change {
            Change::Upsert(object) => (object.key(), Some(object)),
            Change::Remove(key) => (key, None),
        };
        let new_keys = new.as_ref().map(index_keys).unwrap_or_default();
        let old = match new {
            Some(object) => {
                if self.objects.get(&key) == Some(&object) {
                    return;
                }
                self.objects.insert(key.clone(), object)
            }
            None => match self.objects.remove(&key) {
                Some(old) => Some(old),
                None => return,
            },
        };
        let old_keys = old.as_ref().map(index_keys).unwrap_or_default();
        for left in old_keys.iter().filter(|index| !new_keys.contains(index)) {
            if let Some(members) = self.indexes.get_mut(left) {
                members.remove(&key.name);
                if members.is_empty() {
                    self.indexes.remove(left);
                }
            }
            touched.indexes.push(left.clone());
        }
        for joined in new_keys.into_iter().filter(|index| !old_keys.contains(index)) {
            self.indexes.entry(joined.clone()).or_default().insert(key.name.clone());
            touched.indexes.push(joined);
        }
        touched.objects.push(key);
    }
}

/// A type of object that the store holds.
pub trait Stored: Sized {
    /// Its kind.
    const KIND: Kind;

    /// The object as this type, if it is of this type.
    fn of(object: &Object) -> Option<&Arc<Self>>;
}

macro_rules! stored {
    ($($variant:ident: $type:ty,)*) => {
        $(impl Stored for $type {
            const KIND: Kind = Kind::$variant;

            fn of(object: &Object) -> Option<&Arc<Self>> {
                match object {
                    Object::$variant(object) => Some(object),
                    _ => None,
                }
            }
        })*
    };
}

stored! {
    GatewayClass: GatewayClass,
    Gateway: Gateway,
    HttpRoute: HttpRoute,
    GrpcRoute: GrpcRoute,
    TlsRoute: TlsRoute,
    TcpRoute: TcpRoute,
    UdpRoute: UdpRoute,
    ListenerSet: ListenerSet,
    ReferenceGrant: ReferenceGrant,
    Namespace: Namespace,
    Service: Service,
    EndpointSlice: EndpointSlice,
    Secret: Secret,
    ConfigMap: ConfigMap,
    CustomResourceDefinition: CustomResourceDefinition,
    TailscaleTailnet: TailscaleTailnet,
    TailscaleGateway: TailscaleGateway,
    TailscaleGatewayParameters: TailscaleGatewayParameters,
    TailscaleEndpoints: TailscaleEndpoints,
    TailscaleRoutePolicy: TailscaleRoutePolicy,
    TailscaleProxyGroup: TailscaleProxyGroup,
    TailscaleService: TailscaleService,
    TailscaleServices: TailscaleServices,
    TailscaleGatewayRevision: TailscaleGatewayRevision,
}
