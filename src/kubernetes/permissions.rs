//! What this program may do in a cluster: the table that the chart's roles are made from.
//!
//! A test runs the program as that ServiceAccount against a real API server and finds neither a request that the table does
//! not allow nor an entry that nothing needs. Never asks an API server for anything.

use crate::model::Kind;

/// Where a permission holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// In every namespace, and for what has none.
    Cluster,
    /// In the namespace that the program itself is installed in.
    OwnNamespace,
}

/// Some requests about one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Where.
    pub scope: Scope,
    /// The API group; empty for Kubernetes' core group.
    pub group: &'static str,
    /// The resource, such as `httproutes`, or a part of it, such as `httproutes/status`.
    pub resource: String,
    /// The only object that is meant, when it is one.
    pub name: Option<&'static str>,
    /// The verbs of RBAC (Kubernetes documentation, "Authorization Overview"), in alphabetical order.
    pub verbs: &'static [&'static str],
    /// What it is good for: the end of a sentence that begins with "To".
    pub why: &'static str,
}

/// The name of the Lease that replicas agree by, unless a flag says otherwise.
pub const LEASE: &str = "tailscale-gateway";

/// What an Envoy of a Gateway is made of: group, resource, and whether it is followed for another reason already.
const PROVISIONED: [(&str, &str, bool); 7] = [
    ("", "configmaps", false),
    ("", "secrets", true),
    ("", "serviceaccounts", false),
    ("", "services", true),
    ("apps", "deployments", false),
    ("autoscaling", "horizontalpodautoscalers", false),
    ("policy", "poddisruptionbudgets", false),
];

/// All that the program does in a cluster, each verb once.
pub fn permissions() -> Vec<Permission> {
    let mut all: Vec<Permission> = Kind::ALL.into_iter().flat_map(of_kind).collect();
    for (group, resource, followed) in PROVISIONED {
        let why = "make the Envoys of Gateways, and remove them with their Gateway";
        all.push(permission(Scope::Cluster, group, resource, &["create", "delete", "patch"], why));
        if !followed {
            let why = "see and mend what others change of the Envoys";
            all.push(permission(Scope::Cluster, group, resource, &["list", "watch"], why));
        }
    }
    let why = "say once what somebody would want to see once";
    all.push(permission(Scope::Cluster, "events.k8s.io", "events", &["create"], why));
    let why = "agree with the other replicas on the one that writes";
    let lease = |verbs| permission(Scope::OwnNamespace, "coordination.k8s.io", "leases", verbs, why);
    all.push(lease(&["create"]));
    all.push(Permission { name: Some(LEASE), ..lease(&["get", "update"]) });
    let why = "tell the other replicas what the Envoys here say, and hear of theirs";
    let verbs = &["delete", "list", "patch", "watch"];
    all.push(permission(Scope::OwnNamespace, "coordination.k8s.io", "leases", verbs, why));
    all
}

/// What is done with the objects of a kind that we read.
fn of_kind(kind: Kind) -> Vec<Permission> {
    if !kind.is_followed() {
        return Vec::new();
    }
    let about = |part: &str, verbs, why| {
        permission(Scope::Cluster, kind.group(), &format!("{}{part}", kind.plural()), verbs, why)
    };
    let why = match kind {
        Kind::CustomResourceDefinition => "say whether Gateway API's definitions are of a version that is supported",
        _ => "follow what is declared",
    };
    let mut all = vec![about("", &["list", "watch"], why)];
    if kind == Kind::Secret {
        all.push(about("", &["get"], "read those that a manifest refers to; of the others only the names are watched"));
    }
    if kind.has_our_status() {
        all.push(about("/status", &["patch"], "report"));
    }
    if kind == Kind::TailscaleGatewayRevision {
        let why = "have Envoy Gateways translate again when what they are told changes";
        all.push(about("", &["create", "delete", "patch"], why));
    } else if kind.group() == Kind::TailscaleGateway.group() {
        all.push(about("", &["patch"], "remove finalizers that the original operator left"));
    }
    all
}

fn permission(
    scope: Scope,
    group: &'static str,
    resource: &str,
    verbs: &'static [&'static str],
    why: &'static str,
) -> Permission {
    Permission { scope, group, resource: resource.to_owned(), name: None, verbs, why }
}
