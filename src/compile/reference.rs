//! References to objects of other namespaces (Gateway API, ReferenceGrant).

use super::World;
use crate::{
    api::ReferenceGrant,
    model::{Kind, ObjectKey, ObjectName},
    store::IndexKey,
};

/// Whether `from` may refer to `to`: in one namespace always, else when a ReferenceGrant beside `to` permits it.
pub(super) fn permitted(from: &ObjectKey, to: &ObjectKey, world: &mut World<'_>) -> bool {
    if from.name.namespace == to.name.namespace {
        return true;
    }
    let grants = world.index(IndexKey::InNamespace(Kind::ReferenceGrant, to.name.namespace.clone()));
    grants.iter().any(|name| {
        world.object::<ReferenceGrant>(name).is_some_and(|grant| {
            let from_ok = grant.spec.from.iter().any(|entry| {
                entry.group == from.kind.group()
                    && entry.kind == from.kind.as_str()
                    && *entry.namespace == *from.name.namespace
            });
            let to_ok = grant.spec.to.iter().any(|entry| {
                entry.group == to.kind.group()
                    && entry.kind == to.kind.as_str()
                    && entry.name.as_deref().is_none_or(|name| *name == *to.name.name)
            });
            from_ok && to_ok
        })
    })
}

/// What a person is told whose reference is not permitted.
pub(super) fn not_permitted(from: &ObjectKey, to: &ObjectKey) -> String {
    format!(
        "no ReferenceGrant in namespace {} lets {}s of namespace {} refer to {} {}; add one there, or refer to something in {}",
        to.name.namespace, from.kind, from.name.namespace, to.kind, to.name.name, from.name.namespace
    )
}

/// The object that a reference names: in the given namespace, or beside the object that refers.
pub(super) fn referred(from: &ObjectKey, namespace: Option<&str>, name: &str) -> ObjectName {
    ObjectName::new(namespace.unwrap_or(&from.name.namespace), name)
}
