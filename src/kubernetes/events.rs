//! Kubernetes Events: what somebody who looks at an object would want to see once.
//!
//! They come with the status that says the same for good, so what the status said already is not news.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::Value;

use super::FIELD_MANAGER;
use crate::model::{ObjectKey, Report, Severity, shortened};

/// Of one status at most; the rest stands in the conditions.
const AT_ONCE: usize = 5;

/// How many bytes an API server takes as the note of an Event (`NoteLengthLimit` of its validation of `events.k8s.io/v1`).
const NOTE: usize = 1024;
/// What stands at the end of a note that has more to say.
const MORE: &str = "… (more in the conditions)";

/// What is new in a status: errors that it did not name before, and that the Envoys have taken a Gateway's configuration.
pub(super) fn news(report: &Report, before: &Value, after: &Value) -> Vec<Event> {
    let event = |type_, reason: &str, note: String| Event {
        type_,
        reason: reason.to_owned(),
        note: Some(shortened(note, NOTE, MORE)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let errors = report.problems().into_iter().filter(|problem| problem.severity() == Severity::Error);
    let mut news: Vec<Event> = errors
        .filter(|problem| !says(before, &problem.message))
        .take(AT_ONCE)
        .map(|problem| {
            let note = match problem.field.as_str() {
                "" => problem.message.clone(),
                field => format!("{field}: {}", problem.message),
            };
            event(EventType::Warning, problem.reason.as_str(), note)
        })
        .collect();
    if is_programmed(after) && !is_programmed(before) {
        let note = "the Envoys have taken the configuration".to_owned();
        news.push(event(EventType::Normal, "Programmed", note));
    }
    news
}

/// Publishes events about an object. One that can not be published is only logged: the status says the same.
pub(super) async fn publish(client: Client, replica: String, object: ObjectKey, uid: String, news: Vec<Event>) {
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(replica) };
    let recorder = Recorder::new(client, reporter);
    let reference = reference(&object, uid);
    for event in &news {
        if let Err(error) = recorder.publish(event, &reference).await {
            tracing::debug!(%object, %error, "an event was not published");
        }
    }
}

fn reference(object: &ObjectKey, uid: String) -> ObjectReference {
    let (group, version) = (object.kind.group(), object.kind.versions()[0]);
    ObjectReference {
        api_version: Some(if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }),
        kind: Some(object.kind.as_str().to_owned()),
        name: Some(object.name.name.to_string()),
        namespace: object.kind.namespaced().then(|| object.name.namespace.to_string()),
        uid: Some(uid),
        ..ObjectReference::default()
    }
}

fn says(value: &Value, words: &str) -> bool {
    match value {
        Value::String(text) => text.contains(words),
        Value::Array(items) => items.iter().any(|item| says(item, words)),
        Value::Object(fields) => fields.values().any(|field| says(field, words)),
        _ => false,
    }
}

fn is_programmed(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Programmed" && one["status"] == "True")
}
