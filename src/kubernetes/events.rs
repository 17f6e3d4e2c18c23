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
use crate::model::{ObjectKey, Programmed, Report, Severity, shortened};

/// Of one status at most; the rest stands in the conditions.
const AT_ONCE: usize = 5;

/// How many bytes an API server takes as the note of an Event (`NoteLengthLimit` of its validation of `events.k8s.io/v1`).
const NOTE: usize = 1024;
/// What stands at the end of a note that has more to say.
const MORE: &str = "… (more in the conditions)";

/// How many bytes of what Envoys or the API server say of a Gateway stand in its conditions at least.
const SAID: usize = 3072;

/// What is new in a status: errors that it did not name before, why a Gateway's Envoys do not have its configuration, and that
/// they have taken it.
pub(super) fn news(report: &Report, programmed: Option<&Programmed>, before: &Value, after: &Value) -> Vec<Event> {
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
    let failed = match programmed {
        Some(Programmed::Refused(words)) => Some(("Refused", "an Envoy refused the configuration: ", words)),
        Some(Programmed::NotProvisioned(words)) => Some(("NoResources", "", words)),
        Some(Programmed::Pending | Programmed::Acknowledged) | None => None,
    };
    if let Some((reason, lead, words)) = failed {
        let said = shortened(words.clone(), SAID, "");
        // A Gateway that has no listener to serve says that instead.
        if says(after, &said) && !says(before, &said) {
            news.push(event(EventType::Warning, reason, format!("{lead}{words}")));
        }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Details, Kind, ObjectName, ObjectReport};

    /// Type, reason and note of what is new.
    fn told(programmed: &Programmed, before: &str, after: &str) -> Vec<(EventType, String, String)> {
        let object = ObjectKey::new(Kind::Gateway, ObjectName::new("default", "web"));
        let report =
            Report::Object(ObjectReport { object, generation: 1, problems: Vec::new(), details: Details::None });
        let status =
            |message: &str| json!({"conditions": [{"type": "Programmed", "status": "False", "message": message}]});
        let news = news(&report, Some(programmed), &status(before), &status(after));
        news.into_iter().map(|event| (event.type_, event.reason, event.note.unwrap_or_default())).collect()
    }

    #[test]
    fn why_envoys_do_not_have_a_configuration_is_told_once() {
        let refused = Programmed::Refused("web-1: cannot bind".to_owned());
        let condition = "an Envoy refused the configuration: web-1: cannot bind";
        let expected = [(EventType::Warning, "Refused".to_owned(), condition.to_owned())];
        assert_eq!(told(&refused, "", condition), expected);
        assert_eq!(told(&refused, "an Envoy refused the configuration: web-1: other", condition), expected);
        assert_eq!(told(&refused, condition, condition), []);
        assert_eq!(told(&refused, "", "no listener can be served"), [], "the status says something else");

        let words = format!("Deployment a/b: {}", "no ".repeat(5_000));
        let missing = Programmed::NotProvisioned(words.clone());
        let condition = shortened(words, 4096, "…");
        let [(type_, reason, note)] = &told(&missing, "", &condition)[..] else { panic!("one") };
        assert_eq!((type_, reason.as_str()), (&EventType::Warning, "NoResources"));
        assert!(note.starts_with("Deployment a/b: no ") && note.len() <= NOTE, "{note}");
        assert_eq!(told(&missing, &condition, &condition), []);
    }
}
