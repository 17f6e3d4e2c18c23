//! From one value of a file to an object, or to what is wrong with it. Pure.
//!
//! Never compares objects with one another.

use serde_json::{Map, Value};

use super::{
    kinds::{Class, classify},
    located::Subject,
};
use crate::{
    api::{self, Finding, Object, Parsed},
    model::{Kind, ObjectKey, ObjectName, Reason},
};

/// Where an object is that does not say; [`api::parse`] puts it there.
const DEFAULT_NAMESPACE: &str = "default";

/// What became of one value of a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What the value is about.
    pub(super) subject: Subject,
    /// The object, unless its schema refuses it or it is of no kind that is read.
    pub(super) object: Option<Object>,
    /// What is wrong with it.
    pub(super) findings: Vec<Finding>,
}

impl Entry {
    fn wrong(subject: Subject, field: String, reason: Reason, message: impl Into<String>) -> Self {
        Self { subject, object: None, findings: vec![Finding { field, reason, message: message.into() }] }
    }
}

/// Makes an object of the value that stands at `path` in its document; nothing of what is none of our business.
///
/// An object's generation is the one it was written with, or 0: nobody counts the
/// edits of a file, and whoever compares generations would take an invented one for a true one.
pub(super) fn read_object(path: &str, value: Value) -> Option<Entry> {
    let at = |field: &str| match (path, field) {
        ("", field) => field.to_owned(),
        (path, "") => path.to_owned(),
        (path, field) => format!("{path}.{field}"),
    };
    let unreadable =
        |field: &str, message: &str| Some(Entry::wrong(Subject::Text, at(field), Reason::Unreadable, message));
    let Value::Object(fields) = value else {
        return unreadable("", "this is no object; a manifest has apiVersion, kind and metadata");
    };
    for field in ["apiVersion", "kind"] {
        match fields.get(field) {
            Some(Value::String(text)) if !text.is_empty() => {}
            None | Some(Value::Null) => return unreadable(field, "is missing; every object says what it is"),
            Some(_) => return unreadable(field, "is not a text that says what the object is"),
        }
    }
    let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let kind = match classify(&api_version, &kind) {
        Class::NotOurs => return None,
        Class::Unknown { field, message } => {
            let subject = Subject::Other(named(&kind, &fields));
            return Some(Entry::wrong(subject, field.to_owned(), Reason::UnknownKind, message));
        }
        Class::Read(kind) => kind,
    };
    let subject = match key(kind, &fields) {
        Some(key) => Subject::Object(key),
        None => Subject::Other(named(kind.as_str(), &fields)),
    };
    let Parsed { object, mut findings } = api::parse(kind, Value::Object(fields));
    findings.extend(object.iter().flat_map(api::file_findings));
    let subject = object.as_ref().map_or(subject, |object| Subject::Object(object.key()));
    Some(Entry { subject, object, findings })
}

fn metadata<'a>(fields: &'a Map<String, Value>, field: &str) -> &'a str {
    fields.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str).unwrap_or_default()
}

fn key(kind: Kind, fields: &Map<String, Value>) -> Option<ObjectKey> {
    let namespace = match (kind.namespaced(), metadata(fields, "namespace")) {
        (true, "") => DEFAULT_NAMESPACE,
        (true, namespace) => namespace,
        (false, _) => "",
    };
    let name = metadata(fields, "name");
    (!name.is_empty()).then(|| ObjectKey::new(kind, ObjectName::new(namespace, name)))
}

/// `Kind namespace/name`, as far as it is written.
fn named(kind: &str, fields: &Map<String, Value>) -> String {
    match (metadata(fields, "namespace"), metadata(fields, "name")) {
        (_, "") => format!("{kind} without a name"),
        ("", name) => format!("{kind} {name}"),
        (namespace, name) => format!("{kind} {namespace}/{name}"),
    }
}
