//! The objects by which Envoy Gateways notice that they have to translate again, at an API server.
//!
//! Never decides what stands in them or when they are written.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, ValidationDirective},
};

use super::{FIELD_MANAGER, Leadership, apply::words};
use crate::{
    api::TailscaleGatewayRevision,
    model::{GatewayRevision, ObjectName},
};

/// How long a request may take, unless the Lease allows less.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Applies the object of a Gateway, and gives its `metadata.generation`.
///
/// # Errors
///
/// When the API server does not take it, in its words.
pub async fn write(
    client: &Client,
    leader: &Leadership,
    gateway: &ObjectName,
    revision: &GatewayRevision,
) -> Result<i64, String> {
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        force: true,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let object = TailscaleGatewayRevision::of(gateway, revision);
    let api = api(client, gateway);
    let applied = timely(leader, api.patch(&gateway.name, &params, &Patch::Apply(&object))).await?;
    Ok(applied.map_err(|error| words(&error))?.metadata.generation.unwrap_or_default())
}

/// Deletes the object of a Gateway. One that is gone is as good as deleted.
///
/// # Errors
///
/// When the API server does not do it, in its words.
pub async fn remove(client: &Client, leader: &Leadership, gateway: &ObjectName) -> Result<(), String> {
    let api = api(client, gateway);
    match timely(leader, api.delete(&gateway.name, &DeleteParams::background())).await? {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        answer => answer.map(drop).map_err(|error| words(&error)),
    }
}

fn api(client: &Client, gateway: &ObjectName) -> Api<TailscaleGatewayRevision> {
    Api::namespaced(client.clone(), &gateway.namespace)
}

async fn timely<T>(leader: &Leadership, request: impl Future<Output = T>) -> Result<T, String> {
    leader.write(TIMEOUT, request).await.map_err(|not_written| not_written.to_string())
}
