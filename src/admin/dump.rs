//! `/debug/xds/dump`: what is served, as canonical JSON with private keys left out.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Asked, bad_request};
use crate::{
    dump::to_json,
    snapshot::{Resource, Snapshot, SnapshotCache, TypeUrl},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    gateway: Option<String>,
    r#type: Option<String>,
    name: Option<String>,
}

pub(super) async fn page(State(admin): State<Admin>, asked: Asked<Parameters>) -> Response {
    let parameters = match asked {
        Ok(query) => query.0,
        Err(error) => return bad_request(error.body_text()),
    };
    // Ten thousand resources take seconds to print: not on a thread that serves streams.
    let printed = tokio::task::spawn_blocking(move || dump(&admin.cache, &parameters));
    printed.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn dump(cache: &SnapshotCache, parameters: &Parameters) -> Response {
    let types = match parameters.r#type.as_deref().map(parse_type) {
        None => TypeUrl::ALL.to_vec(),
        Some(Some(of)) => vec![of],
        Some(None) => {
            let known = TypeUrl::ALL.map(TypeUrl::label).join(", ");
            return bad_request(format!("type: one of {known}, or a type URL"));
        }
    };
    let mut gateways = cache.gateways();
    if let Some(wanted) = &parameters.gateway {
        gateways.retain(|gateway| gateway.to_string() == *wanted);
        if gateways.is_empty() {
            let known: Vec<String> = cache.gateways().iter().map(ToString::to_string).collect();
            let error = format!("gateway: {wanted} is not served; there are: {}", known.join(", "));
            return (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response();
        }
    }
    let mut found = Vec::new();
    for gateway in gateways {
        let snapshot = cache.current(&gateway);
        for of in &types {
            let resources: Vec<Value> =
                select(&snapshot, *of, parameters.name.as_deref()).iter().map(|resource| show(resource)).collect();
            if !resources.is_empty() {
                found.push(json!({
                    "gateway": gateway.to_string(),
                    "typeUrl": of.as_str(),
                    "versionInfo": snapshot.view(*of).version().to_string(),
                    "resources": resources,
                }));
            }
        }
    }
    if let (Some(name), true) = (&parameters.name, found.is_empty()) {
        return (StatusCode::NOT_FOUND, Json(json!({ "error": format!("name: nothing is called {name}") })))
            .into_response();
    }
    Json(json!({ "dump": found })).into_response()
}

fn select(snapshot: &Snapshot, of: TypeUrl, name: Option<&str>) -> Vec<Arc<Resource>> {
    let view = snapshot.view(of);
    match name {
        Some(name) => view.get(name).cloned().into_iter().collect(),
        None => view.iter().cloned().collect(),
    }
}

fn show(resource: &Resource) -> Value {
    let shown = match to_json(resource.type_url().as_str(), &resource.message_bytes()) {
        Ok(json) => ("resource", json),
        Err(error) => ("error", Value::String(error.to_string())),
    };
    let (key, value) = shown;
    json!({ "name": &**resource.name(), "version": resource.version().to_string(), key: value })
}

/// A type by its label, whatever its case, or by its URL.
fn parse_type(text: &str) -> Option<TypeUrl> {
    TypeUrl::parse(text).or_else(|| TypeUrl::ALL.into_iter().find(|of| of.label().eq_ignore_ascii_case(text)))
}
