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
use crate::model::{GatewayReport, ObjectKey, Problem, Programmed, Report, Severity, shortened};

/// Of one status at most; the rest stands in the conditions.
const AT_ONCE: usize = 5;

/// How many bytes an API server takes as the note of an Event (`NoteLengthLimit` of its validation of `events.k8s.io/v1`).
const NOTE: usize = 1024;
/// What stands at the end of a note that has more to say.
const MORE: &str = "… (more in the conditions)";

/// How many bytes of what Envoys or the API server say of a Gateway stand in its conditions at least.
const SAID: usize = 3072;

/// What is new in a status: errors that it did not name before, why a Gateway's Envoys do not have its configuration or nobody
/// reaches them, and that they have taken it.
pub(super) fn news(report: &Report, programmed: Option<&Programmed>, before: &Value, after: &Value) -> Vec<Event> {
    let event = |type_, reason: &str, note: String| Event {
        type_,
        reason: reason.to_owned(),
        note: Some(shortened(note, NOTE, MORE)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let of_problem = |problem: &Problem| {
        let note = match problem.field.as_str() {
            "" => problem.message.clone(),
            field => format!("{field}: {}", problem.message),
        };
        let type_ = match problem.severity() {
            Severity::Error => EventType::Warning,
            Severity::Warning => EventType::Normal,
        };
        event(type_, problem.reason.as_str(), note)
    };
    let errors = report.problems().into_iter().filter(|problem| problem.severity() == Severity::Error);
    let mut news: Vec<Event> =
        errors.filter(|problem| !says(before, &problem.message)).take(AT_ONCE).map(of_problem).collect();
    if let Report::Gateway(GatewayReport { unassigned: Some(problem), .. }) = report
        && is_unassigned_anew(problem, before, after)
    {
        news.push(of_problem(problem));
    }
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

/// Whether a Gateway's addresses are wrong in a way in which they were not before. The words name the addresses that there are,
/// which may come one by one: the same wrong is news again when the Gateway is another one.
fn is_unassigned_anew(problem: &Problem, before: &Value, after: &Value) -> bool {
    let (before, after) = (programmed_condition(before), programmed_condition(after));
    let reason = problem.reason.as_str();
    let is_said = after["reason"] == reason && says(after, &shortened(problem.message.clone(), SAID, ""));
    let is_known = before["reason"] == reason
        && (before["observedGeneration"] == after["observedGeneration"] || before["message"] == after["message"]);
    is_said && !is_known
}

fn programmed_condition(status: &Value) -> &Value {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.find(|one| one["type"] == "Programmed").unwrap_or(&Value::Null)
}

fn is_programmed(status: &Value) -> bool {
    programmed_condition(status)["status"] == "True"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Details, Kind, ObjectName, ObjectReport, Reason};

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

    /// Type, reason and note of what is new of a Gateway that lacks addresses, whose condition says so after and something else
    /// before: each with its generation.
    fn lacks(
        problem: &Problem,
        before: (&str, i64, &str),
        after: (&str, i64, &str),
    ) -> Vec<(EventType, String, String)> {
        let object = problem.object.clone();
        let (addresses, problems, listeners) = Default::default();
        let unassigned = Some(problem.clone());
        let report =
            Report::Gateway(GatewayReport { object, generation: after.1, addresses, unassigned, problems, listeners });
        let status = |(reason, generation, message): (&str, i64, &str)| {
            json!({"conditions": [{
                "type": "Programmed", "status": "False", "reason": reason, "message": message, "observedGeneration": generation,
            }]})
        };
        let news = news(&report, Some(&Programmed::Acknowledged), &status(before), &status(after));
        news.into_iter().map(|event| (event.type_, event.reason, event.note.unwrap_or_default())).collect()
    }

    #[test]
    fn that_nobody_reaches_a_gateway_is_told_once_for_each_state_of_it() {
        let gateway = ObjectKey::new(Kind::Gateway, ObjectName::new("default", "web"));
        let (usable, message) = (Reason::AddressNotUsable, "192.0.2.1 can not be used: it has 192.0.2.2");
        let field = "spec.addresses[0].value";
        let problem = Problem::new(gateway.clone(), field, usable, message);
        let said = &*format!("{field}: {message}");
        let told = [(EventType::Warning, "AddressNotUsable".to_owned(), said.to_owned())];
        let (pending, now) = (("Pending", 1, ""), ("AddressNotUsable", 1, said));
        assert_eq!(lacks(&problem, pending, now), told);
        assert_eq!(lacks(&problem, now, now), []);
        let fewer = ("AddressNotUsable", 1, "spec.addresses[0].value: 192.0.2.1 can not be used: it has no address");
        assert_eq!(lacks(&problem, fewer, now), [], "addresses come one by one");
        assert_eq!(
            lacks(&problem, ("AddressNotUsable", 0, "192.0.2.7 can not be used"), now),
            told,
            "another is asked for"
        );
        assert_eq!(lacks(&problem, ("AddressNotUsable", 0, said), now), [], "the Gateway has changed elsewhere");
        assert_eq!(
            lacks(&problem, now, ("Invalid", 1, "no listener can be served")),
            [],
            "the status says something else"
        );

        // One that is still to come is nothing to warn of.
        let waits = Problem::new(gateway, "", Reason::AddressNotAssigned, "Service default/web has no address yet");
        let told = [(EventType::Normal, "AddressNotAssigned".to_owned(), waits.message.clone())];
        assert_eq!(lacks(&waits, pending, ("AddressNotAssigned", 1, &waits.message)), told);
        assert_eq!(lacks(&waits, now, ("AddressNotAssigned", 1, &waits.message)), told);
    }
}
