//! What `translate` prints: everything that would be served, and the status every object would get. Never prints it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    api::Object,
    compile::{Compiler, Settings},
    dump::{self, DumpError},
    model::{ObjectName, Programmed},
    pipeline::{Pipeline, Reports},
    snapshot::{SnapshotCache, TypeUrl},
    status::status,
    store::Change,
};

/// The outcome of compiling some objects, for people and for golden files.
pub struct Translation {
    /// By Gateway and type, each a list of resources in canonical JSON, `Any`s opened, private keys taken out.
    pub resources: Value,
    /// Each object with the status it would get, by kind and name.
    pub objects: Value,
    /// What was found about each object.
    pub reports: Reports,
}

/// Compiles objects as `serve` would.
///
/// # Errors
///
/// When a resource can not be shown, which is a bug: its type is missing among the known ones.
pub fn translate<'a>(
    objects: impl Iterator<Item = &'a Object>,
    settings: Settings,
    only: Option<&ObjectName>,
) -> Result<Translation, DumpError> {
    let (pipeline, cache) = compiled(objects, settings);
    let mut resources = Map::new();
    for gateway in cache.gateways() {
        if only.is_none_or(|only| *only == gateway) {
            resources.insert(gateway.to_string(), of_gateway(&cache, &gateway)?);
        }
    }
    let reports = pipeline.reports().clone();
    let objects = reports.values().map(|report| {
        let status = status(report, &Programmed::Pending);
        let mut object = json!({"kind": status.object.kind.as_str(), "name": &*status.object.name.name});
        if status.object.kind.namespaced() {
            object["namespace"] = json!(&*status.object.name.namespace);
        }
        object["status"] = status.to_json();
        object
    });
    Ok(Translation { resources: Value::Object(resources), objects: objects.collect(), reports })
}

/// What is found about objects: what [`translate`] finds, without showing anything.
pub fn reports<'a>(objects: impl Iterator<Item = &'a Object>, settings: Settings) -> Reports {
    compiled(objects, settings).0.reports().clone()
}

fn compiled<'a>(objects: impl Iterator<Item = &'a Object>, settings: Settings) -> (Pipeline, Arc<SnapshotCache>) {
    let cache = Arc::new(SnapshotCache::new());
    let mut pipeline = Pipeline::new(Compiler::new(settings), Arc::clone(&cache));
    pipeline.apply(objects.cloned().map(Change::Upsert));
    (pipeline, cache)
}

fn of_gateway(cache: &SnapshotCache, gateway: &ObjectName) -> Result<Value, DumpError> {
    let snapshot = cache.current(gateway);
    let mut types = Map::new();
    for type_url in TypeUrl::ALL {
        let view = snapshot.view(type_url);
        if !view.is_empty() {
            let list: Result<Vec<Value>, DumpError> =
                view.iter().map(|resource| dump::to_json(type_url.as_str(), &resource.message_bytes())).collect();
            types.insert(type_url.label().to_owned(), Value::Array(list?));
        }
    }
    Ok(Value::Object(types))
}
