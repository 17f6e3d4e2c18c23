//! Which documents are objects that this program reads, which are none of its business, and which look like a mistake.
//!
//! Never looks further than `apiVersion` and `kind`.

use crate::model::Kind;

/// What a document's `apiVersion` and `kind` make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// An object that this program reads.
    Read(Kind),
    /// One of Kubernetes' own kinds that it has no use for, such as a Deployment: not worth a word.
    NotOurs,
    /// Anything else: what to say about it, and of which field.
    Unknown {
        /// `apiVersion` or `kind`.
        field: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Kinds of Gateway API that exist and are not acted on.
const GATEWAY_API_OTHERS: [&str; 4] = ["BackendTLSPolicy", "XBackendTrafficPolicy", "XListenerSet", "XMesh"];

/// Kubernetes' core group, but for the kinds that are read.
const CORE_OTHERS: [&str; 12] = [
    "Binding",
    "ComponentStatus",
    "Event",
    "LimitRange",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "ServiceAccount",
];

/// The other groups of Kubernetes, and Kustomize's, whose files stand beside manifests.
const OTHER_GROUPS: [&str; 25] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "config.kubernetes.io",
    "coordination.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "kustomize.config.k8s.io",
    "metrics.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Looks at a document's `apiVersion` and `kind`.
pub(super) fn classify(api_version: &str, kind: &str) -> Class {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    // First: a folder's definitions are not those of an API server that the objects come from.
    if OTHER_GROUPS.contains(&group) {
        return Class::NotOurs;
    }
    if let Some(found) = Kind::find(group, kind) {
        if found.versions().contains(&version) {
            return Class::Read(found);
        }
        let message = format!("{kind} is read as {}, not as {api_version:?}", versions(found));
        return Class::Unknown { field: "apiVersion", message };
    }
    if group.is_empty() && kind == "Endpoints" {
        let message = "Endpoints are not read, and these have no effect; write an EndpointSlice of discovery.k8s.io/v1";
        return Class::Unknown { field: "kind", message: message.to_owned() };
    }
    if group.is_empty() && CORE_OTHERS.contains(&kind) {
        return Class::NotOurs;
    }
    if group == GATEWAY_API && GATEWAY_API_OTHERS.contains(&kind) {
        let message = format!("objects of kind {kind} are not acted on; this one is left out");
        return Class::Unknown { field: "kind", message };
    }
    let ours = Kind::ALL.into_iter().filter(|known| known.group() == group);
    if let Some(meant) = nearest(kind, ours, Kind::as_str, kind.len() / 4 + 1) {
        let message = format!("{api_version} has no kind {kind:?}; did you mean {meant}?");
        return Class::Unknown { field: "kind", message };
    }
    let namesakes = Kind::ALL.into_iter().filter(|known| known.as_str() == kind);
    if let Some(meant) = nearest(group, namesakes, Kind::group, 5) {
        let message = format!("{kind} is read as {}, not as {api_version:?}; did you mean that?", versions(meant));
        return Class::Unknown { field: "apiVersion", message };
    }
    let message = format!("{kind} of {api_version} is no kind that this program reads; it is left out");
    Class::Unknown { field: "kind", message }
}

/// `gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1`.
fn versions(kind: Kind) -> String {
    let spelled = |version: &&str| {
        if kind.group().is_empty() { (*version).to_owned() } else { format!("{}/{version}", kind.group()) }
    };
    kind.versions().iter().map(spelled).collect::<Vec<_>>().join(" or ")
}

/// The kind whose name is at most `most` edits away from what is written, and fewest.
fn nearest(
    written: &str,
    kinds: impl Iterator<Item = Kind>,
    name: fn(Kind) -> &'static str,
    most: usize,
) -> Option<Kind> {
    kinds
        .map(|kind| (distance(written, name(kind)), kind))
        .min()
        .filter(|(edits, _)| *edits <= most)
        .map(|(_, kind)| kind)
}

/// How many characters have to be put in, left out or replaced (Levenshtein), capital letters counting as small ones.
fn distance(left: &str, right: &str) -> usize {
    // What is this long is no misspelling, and the table below grows with the product of the lengths.
    const LONGEST: usize = 80;
    if left.len() > LONGEST || right.len() > LONGEST {
        return usize::MAX;
    }
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().expect("a row has at least the empty prefix")
}
