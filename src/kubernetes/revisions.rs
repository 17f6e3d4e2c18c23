//! The objects by which Envoy Gateways notice that they have to translate again, at an API server.
//!
//! Never decides what stands in them or when they are written.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, ValidationDirective},
};
use tokio::time;

use super::{FIELD_MANAGER, apply::words};
use crate::{
    api::TailscaleGatewayRevision,
    model::{GatewayRevision, ObjectName},
};

/// How long a request may take: shorter than what is left of a lease when its holder stops.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Applies the object of a Gateway, and gives its `metadata.generation`.
///
/// # Errors
///
/// When the API server does not take it, in its words.
pub async fn write(client: &Client, gateway: &ObjectName, revision: &GatewayRevision) -> Result<i64, String> {
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        force: true,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let object = TailscaleGatewayRevision::of(gateway, revision);
    let api = api(client, gateway);
    let applied = timely(api.patch(&gateway.name, &params, &Patch::Apply(&object))).await?;
    Ok(applied.map_err(|error| words(&error))?.metadata.generation.unwrap_or_default())
}

/// Deletes the object of a Gateway. One that is gone is as good as deleted.
///
/// # Errors
///
/// When the API server does not do it, in its words.
pub async fn remove(client: &Client, gateway: &ObjectName) -> Result<(), String> {
    let api = api(client, gateway);
    match timely(api.delete(&gateway.name, &DeleteParams::background())).await? {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        answer => answer.map(drop).map_err(|error| words(&error)),
    }
}

fn api(client: &Client, gateway: &ObjectName) -> Api<TailscaleGatewayRevision> {
    Api::namespaced(client.clone(), &gateway.namespace)
}

async fn timely<T>(request: impl Future<Output = T>) -> Result<T, String> {
    let late = |_| format!("no answer within {} s", TIMEOUT.as_secs());
    time::timeout(TIMEOUT, request).await.map_err(late)
}
