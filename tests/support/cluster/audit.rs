//! What was asked of the API server, by whom, and with what result (Kubernetes documentation, "Auditing").

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::super::wait::until;

/// The log, in the cluster's folder.
pub const FILE: &str = "audit.log";

/// How the names begin that are asked for only to find a place in the log.
pub const MARK: &str = "audit-mark-";

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, or `deletecollection`; server-side apply is `patch`.
    pub verb: String,
    /// Who asked, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The API group; empty for Kubernetes' core group.
    pub group: String,
    /// The plural, such as `httproutes`; empty when the request is about no object.
    pub resource: String,
    /// `status`, `scale`, …; empty when the object itself is meant.
    pub subresource: String,
    /// The namespace; empty for a cluster-scoped object and for a list of all namespaces.
    pub namespace: String,
    /// The name; empty for lists.
    pub name: String,
    /// The status code of the response. A watch has the one that it began with.
    pub code: u16,
    /// The path and the query.
    pub uri: String,
}

impl AuditEvent {
    /// Whether it asks for something to change.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    fn of(event: &Value) -> Self {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
        Self {
            verb: text("/verb"),
            user: text("/user/username"),
            group: text("/objectRef/apiGroup"),
            resource: text("/objectRef/resource"),
            subresource: text("/objectRef/subresource"),
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            code: u16::try_from(code).expect("a status code has three digits"),
            uri: text("/requestURI"),
        }
    }
}

/// The file that the API server writes.
#[derive(Debug)]
pub struct AuditLog {
    file: PathBuf,
}

impl AuditLog {
    /// That of the cluster in this folder.
    pub fn new(folder: &Path) -> Self {
        Self { file: folder.join(FILE) }
    }

    /// The requests up to the one for an object named `mark`, which is left out; waits until that is in the log.
    pub async fn until(&self, mark: &str) -> Vec<AuditEvent> {
        until("the audit log to hold the latest request", async || {
            let mut events = self.read();
            match events.iter().position(|event| event.name == mark) {
                Some(end) => {
                    events.truncate(end);
                    events.retain(|event| !event.name.starts_with(MARK));
                    Ok(events)
                }
                None => Err(format!("{} requests so far", events.len())),
            }
        })
        .await
    }

    fn read(&self) -> Vec<AuditEvent> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let mut events: Vec<AuditEvent> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        // The last line may be half written.
        for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let id = event["auditID"].as_str().unwrap_or_default().to_owned();
            let read = AuditEvent::of(&event);
            // A watch has a line when it starts and another when it ends.
            match places.get(&id) {
                Some(&place) => events[place] = read,
                None => {
                    places.insert(id, events.len());
                    events.push(read);
                }
            }
        }
        events
    }
}

/// What is logged: everything but the API server's own work.
pub fn policy() -> String {
    let policy = serde_json::json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "None", "users": ["system:apiserver"] },
            { "level": "None", "nonResourceURLs": ["/*"] },
            { "level": "Metadata" },
        ],
    });
    policy.to_string()
}
