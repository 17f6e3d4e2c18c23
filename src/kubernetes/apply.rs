//! Makes objects what they should be, by server-side apply: one manager of fields, ours by force, others' fields kept.
//!
//! Never decides what should be, and never touches an object that is not ours. Asks for nothing when this replica does not lead.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions, ValidationDirective,
    },
};
use serde_json::{Value, json};
use thiserror::Error;

use super::{FIELD_MANAGER, Leadership, NotWritten};
use crate::{
    api::OwnedObject,
    model::{OwnedKey, OwnedKind},
};

/// Who holds a number of pods between us and an autoscaler.
const HANDOVER_MANAGER: &str = "tailscale-gateway-handover";
/// How long a request may take, unless the Lease allows less.
const TIMEOUT: Duration = Duration::from_secs(2);

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// What is known is out of date: look again and go on.
    Now,
    /// Not before this time has passed, and after a multiple of it when it failed before.
    After(Duration),
}

/// Why an object is not as it should be, in one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// Something else has the object's name.
    #[error("{0} exists and was not made for this Gateway; delete or rename it")]
    Taken(OwnedKey),
    /// The API server does not let us look for objects of a kind.
    #[error("{kind}s can not be looked after: {words}")]
    Unseen {
        /// The kind.
        kind: OwnedKind,
        /// What the API server says.
        words: String,
    },
    /// The object has changed meanwhile.
    #[error("{key}: {words}")]
    Outdated {
        /// The object.
        key: OwnedKey,
        /// What the API server says.
        words: String,
    },
    /// The API server refuses it.
    #[error("{key}: {words}")]
    Refused {
        /// The object.
        key: OwnedKey,
        /// What the API server says.
        words: String,
    },
    /// The API server does not answer, or not now.
    #[error("{key}: {words}")]
    Unanswered {
        /// The object.
        key: OwnedKey,
        /// What went wrong.
        words: String,
    },
}

impl Retry {
    /// The earlier of the two.
    pub fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(one), Self::After(other)) => Self::After(one.min(other)),
            _ => Self::Now,
        }
    }
}

impl ApplyError {
    /// Whether the API server was asked for a change at all.
    pub fn was_asked(&self) -> bool {
        !matches!(self, Self::Taken(_) | Self::Unseen { .. })
    }

    /// When to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Outdated { .. } => Retry::Now,
            Self::Unanswered { .. } => Retry::After(Duration::from_secs(1)),
            // Somebody has to do something about these first, and a watch may not tell that it was done.
            Self::Taken(_) | Self::Unseen { .. } | Self::Refused { .. } => Retry::After(Duration::from_secs(10)),
        }
    }

    fn of(key: &OwnedKey, error: &kube::Error) -> Self {
        let key = key.clone();
        match error {
            kube::Error::Api(status) => {
                let words = status.message.clone();
                match status.code {
                    409 => Self::Outdated { key, words },
                    408 | 429 | 500.. => Self::Unanswered { key, words },
                    _ => Self::Refused { key, words },
                }
            }
            other => Self::Unanswered { key, words: words(other) },
        }
    }
}

/// An error's words, and those of what caused it: "client error" alone helps nobody.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = next.source();
    }
    words
}

/// The resource of a kind.
pub fn owned_resource(kind: OwnedKind) -> ApiResource {
    ApiResource {
        group: kind.group().to_owned(),
        version: kind.version().to_owned(),
        api_version: kind.api_version(),
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

/// Applies an object, which makes it if it is not there, and gives what came of it.
///
/// # Errors
///
/// When the API server does not take it.
pub async fn apply(
    client: &Client,
    leader: &Leadership,
    key: &OwnedKey,
    manifest: &Value,
) -> Result<OwnedObject, ApplyError> {
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        force: true,
        // A field that this API server does not know is said, and not dropped in silence.
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    patch(client, leader, key, &params, manifest).await
}

/// Leaves the number of pods of a Deployment as it is when we stop saying one: hands it to a manager that says nothing else
/// (Kubernetes documentation, "Server-Side Apply: transferring ownership").
///
/// # Errors
///
/// When the API server does not take it.
pub async fn hand_over_replicas(client: &Client, leader: &Leadership, key: &OwnedKey) -> Result<(), ApplyError> {
    let Some(object) = get(client, leader, key).await? else { return Ok(()) };
    let ours = object.metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    });
    let replicas = &object.data["spec"]["replicas"];
    if !ours || !replicas.is_number() {
        return Ok(());
    }
    let manifest = json!({
        "apiVersion": key.kind.api_version(),
        "kind": key.kind.as_str(),
        "metadata": { "namespace": &*key.name.namespace, "name": &*key.name.name },
        "spec": { "replicas": replicas },
    });
    patch(client, leader, key, &PatchParams::apply(HANDOVER_MANAGER), &manifest).await.map(drop)
}

/// The object with a name, whoever made it.
///
/// # Errors
///
/// When the API server does not say.
pub async fn find(client: &Client, leader: &Leadership, key: &OwnedKey) -> Result<Option<OwnedObject>, ApplyError> {
    Ok(get(client, leader, key).await?.and_then(|object| read(key.kind, object)))
}

/// Deletes the object that has this uid. One that is gone is as good as deleted.
///
/// # Errors
///
/// When the API server does not do it.
pub async fn delete(client: &Client, leader: &Leadership, key: &OwnedKey, uid: &str) -> Result<(), ApplyError> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match leader.write(TIMEOUT, api(client, key).delete(&key.name.name, &params)).await {
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        answer => settle(key, answer).map(drop),
    }
}

async fn patch(
    client: &Client,
    leader: &Leadership,
    key: &OwnedKey,
    params: &PatchParams,
    manifest: &Value,
) -> Result<OwnedObject, ApplyError> {
    let api = api(client, key);
    let answer = leader.write(TIMEOUT, api.patch(&key.name.name, params, &Patch::Apply(manifest))).await;
    let applied = settle(key, answer)?;
    let nameless = || ApplyError::Unanswered { key: key.clone(), words: "the answer has no name".to_owned() };
    read(key.kind, applied).ok_or_else(nameless)
}

/// By a list, which needs no permission that watching does not need.
async fn get(client: &Client, leader: &Leadership, key: &OwnedKey) -> Result<Option<DynamicObject>, ApplyError> {
    let only = ListParams::default().fields(&format!("metadata.name={}", key.name.name));
    let answer = leader.write(TIMEOUT, api(client, key).list(&only)).await;
    Ok(settle(key, answer)?.items.into_iter().next())
}

fn api(client: &Client, key: &OwnedKey) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), &key.name.namespace, &owned_resource(key.kind))
}

fn settle<T>(key: &OwnedKey, answer: Result<Result<T, kube::Error>, NotWritten>) -> Result<T, ApplyError> {
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ApplyError::of(key, &error)),
        Err(not_written) => Err(ApplyError::Unanswered { key: key.clone(), words: not_written.to_string() }),
    }
}

/// An object of a kind that we create, as it is looked at.
fn read(kind: OwnedKind, object: DynamicObject) -> Option<OwnedObject> {
    let value = serde_json::to_value(object).expect("an object that was read from JSON can be written as JSON");
    OwnedObject::read(kind, value).map(|(_, object)| object)
}
