//! Which Kubernetes object a resource of Envoy Gateway's was made from: read from its metadata, without decoding it.
//!
//! Envoy Gateway writes `filter_metadata["envoy-gateway"] = {resources: [{kind, namespace, name, sectionName?}]}` into virtual
//! hosts, routes and clusters (`envoy-gateway.md` §5.3).

use std::ops::Range;

use super::splice::{self, Field, fields, last, text};

/// The key of Envoy Gateway's part of the metadata.
const NAMESPACE: &str = "envoy-gateway";

/// The object that a resource was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    /// Its kind, such as `Gateway`; empty for what an Envoy Gateway has not from an API server.
    pub(super) kind: &'a str,
    /// Its namespace.
    pub(super) namespace: &'a str,
    /// Its name.
    pub(super) name: &'a str,
    /// The part of it: a Gateway's listener, a route's rule; empty when there is none.
    pub(super) section: &'a str,
}

impl Origin<'_> {
    /// Whether it may be of this kind.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.is_empty() || self.kind == kind
    }
}

/// Reads the first object that an `envoy.config.core.v3.Metadata` names. Nothing when it is of another form.
pub(super) fn origin(bytes: &[u8], metadata: Range<usize>) -> Option<Origin<'_>> {
    // Metadata.filter_metadata, then google.protobuf.Struct.fields, Value.list_value, ListValue.values, Value.struct_value.
    let ours = entry(bytes, metadata, 1, NAMESPACE)?;
    let resources = entry(bytes, ours.range(), 1, "resources")?;
    let list = last(bytes, resources.range(), 6)?;
    let first = fields(bytes, list.range()).find_map(|field| field.ok().filter(|field| field.is(1)))?;
    let object = last(bytes, first.range(), 5)?;
    let mut origin = Origin::default();
    for field in fields(bytes, object.range()) {
        let field = field.ok()?;
        let Some((key, value)) = key_and_value(bytes, &field) else { continue };
        let Some(value) = last(bytes, value.range(), 3).and_then(|value| text(bytes, &value)) else { continue };
        match key {
            "kind" => origin.kind = value,
            "namespace" => origin.namespace = value,
            "name" => origin.name = value,
            "sectionName" => origin.section = value,
            _ => {}
        }
    }
    (!origin.name.is_empty()).then_some(origin)
}

/// The value of a key in a map, which is the repeated field `number` of a message.
fn entry(bytes: &[u8], message: Range<usize>, number: u32, key: &str) -> Option<Field> {
    let mut found = None;
    for field in fields(bytes, message) {
        let field = field.ok()?;
        if field.number == number
            && let Some((its, value)) = key_and_value(bytes, &field)
            && its == key
        {
            found = Some(value);
        }
    }
    found
}

/// An entry of a map: `{key = 1, value = 2}`.
fn key_and_value<'a>(bytes: &'a [u8], entry: &Field) -> Option<(&'a str, Field)> {
    if entry.wire != splice::Wire::Delimited {
        return None;
    }
    let key = last(bytes, entry.range(), 1)?;
    Some((text(bytes, &key)?, last(bytes, entry.range(), 2)?))
}
