//! Which listeners a route is attached to, and for which domains (Gateway API, "attaching routes").

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::LabelSelector};

use super::{
    Compiler, Fact, GatewayListeners, ListenerSpec, Made, OutputKey, Topic, World,
    hostname::{self, Specificity},
    objects::selects,
    reference::referred,
};
use crate::{
    api::{FromNamespaces, Gateway, HttpRoute, ParentReference},
    model::{Kind, ObjectKey, ObjectName, ParentTarget, Problem, Reason, RouteTableName},
    store::Output,
};

/// What became of a route's parent references.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// One entry for each reference to a Gateway of our class, in the route's order.
    pub(super) parents: Vec<BoundParent>,
    /// The domains that requests reach the route by, sorted, each once.
    pub(super) claims: Vec<Claim>,
}

/// A domain of a table where a route stands, through the listener that the domain belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) table: RouteTableName,
    pub(super) domain: Arc<str>,
    /// Of the route's hostname by which it is there; of several the most specific one's.
    pub(super) specificity: Specificity,
    /// The table is served in parts.
    pub(super) divided: bool,
}

/// What became of one parent reference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BoundParent {
    pub(super) target: ParentTarget,
    /// The tables that the route stands in through this reference, sorted; or why there are none.
    pub(super) tables: Result<Vec<RouteTableName>, Problem>,
    /// Whether there is such a Gateway.
    pub(super) exists: bool,
}

/// Attaches a route, and states it for each of its listeners.
pub(super) fn binding(name: &ObjectName, world: &mut World<'_>) -> Output<Compiler> {
    let key = ObjectKey::new(Kind::HttpRoute, name.clone());
    let mut parents = Vec::new();
    let mut claims = Vec::new();
    let mut facts = Vec::new();
    if let Some(route) = world.object::<HttpRoute>(name) {
        for (place, parent) in route.spec.parent_refs.iter().enumerate() {
            if Kind::find(&parent.group, &parent.kind) != Some(Kind::Gateway) {
                continue;
            }
            let gateway = referred(&key, parent.namespace.as_deref(), &parent.name);
            let listeners = world.output(&OutputKey::Listeners(gateway.clone())).listeners();
            let mut exists = true;
            let tables = if listeners.ours {
                attach(&key, &route, place, parent, &gateway, &listeners, world, &mut claims, &mut facts)
            } else if world.object::<Gateway>(&gateway).is_some() {
                continue;
            } else {
                exists = false;
                let message = format!("there is no Gateway {gateway}");
                Err(Problem::new(
                    key.clone(),
                    format!("spec.parentRefs[{place}].name"),
                    Reason::NoMatchingParent,
                    message,
                ))
            };
            parents.push(BoundParent { target: target(parent), tables, exists });
        }
    }
    claims.sort_unstable_by(|one: &Claim, other| other.cmp(one));
    claims.dedup_by(|lower, higher| (&lower.table, &lower.domain) == (&higher.table, &higher.domain));
    claims.reverse();
    let tables: BTreeSet<&RouteTableName> =
        parents.iter().flat_map(|parent: &BoundParent| parent.tables.as_ref().ok()).flatten().collect();
    for table in tables {
        world.keep(OutputKey::RouteEntries(table.clone(), name.clone()));
    }
    Output { value: Made::Binding(Arc::new(Binding { parents, claims })), facts }
}

#[expect(clippy::too_many_arguments, reason = "one call, one subject: what a reference is checked against")]
fn attach(
    key: &ObjectKey,
    route: &HttpRoute,
    place: usize,
    parent: &ParentReference,
    gateway: &ObjectName,
    listeners: &GatewayListeners,
    world: &mut World<'_>,
    claims: &mut Vec<Claim>,
    facts: &mut Vec<(Topic, Fact)>,
) -> Result<Vec<RouteTableName>, Problem> {
    let refuse = |field: &str, reason, message: String| {
        Err(Problem::new(key.clone(), format!("spec.parentRefs[{place}]{field}"), reason, message))
    };
    let named: Vec<&ListenerSpec> = listeners
        .listeners
        .iter()
        .filter(|listener| parent.section_name.as_deref().is_none_or(|section| *section == *listener.name))
        .filter(|listener| parent.port.is_none_or(|port| port == listener.port))
        .collect();
    if named.is_empty() {
        let field = if parent.section_name.is_some() { ".sectionName" } else { ".port" };
        let message = format!("Gateway {gateway} has no listener with this name and port");
        return refuse(field, Reason::NoMatchingParent, message);
    }
    let allowed: Vec<&ListenerSpec> = named
        .into_iter()
        .filter(|listener| listener.kinds.contains(&Kind::HttpRoute))
        .filter(|listener| namespace_allowed(listener, gateway, &key.name.namespace, world))
        .collect();
    if allowed.is_empty() {
        let message = format!(
            "no listener of Gateway {gateway} takes HTTPRoutes of namespace {}; see its allowedRoutes",
            key.name.namespace
        );
        return refuse("", Reason::NotAllowedByListeners, message);
    }
    let hostnames: Vec<Option<String>> = match route.spec.hostnames.as_slice() {
        [] => vec![None],
        some => some.iter().map(|hostname| Some(hostname.to_ascii_lowercase())).collect(),
    };
    let mut tables = Vec::new();
    let mut matched = false;
    for listener in allowed {
        let domains: Vec<(Arc<str>, Specificity)> = hostnames
            .iter()
            .filter_map(|hostname| {
                let domain = hostname::intersection(listener.hostname.as_deref(), hostname.as_deref())?;
                Some((domain, Specificity::of(hostname.as_deref())))
            })
            .collect();
        if domains.is_empty() {
            continue;
        }
        matched = true;
        facts.push((Topic::Attached(gateway.clone(), Arc::clone(&listener.name)), Fact::Route(key.name.clone())));
        if !listener.served {
            continue;
        }
        let table = listener.table(gateway);
        let divided = listeners.divides(&table);
        for (domain, specificity) in domains {
            if listeners.owner(&table, &domain).is_some_and(|owner| owner.name == listener.name) {
                claims.push(Claim { table: table.clone(), domain: Arc::clone(&domain), specificity, divided });
            }
            world.keep(OutputKey::VirtualHost(table.clone(), domain));
        }
        tables.push(table);
    }
    if !matched {
        let message = format!("none of its hostnames is one of a listener of Gateway {gateway}");
        return Err(Problem::new(key.clone(), "spec.hostnames", Reason::NoMatchingListenerHostname, message));
    }
    tables.sort_unstable();
    tables.dedup();
    Ok(tables)
}

/// Whether a listener takes routes of a namespace (`allowedRoutes.namespaces`).
pub(super) fn namespace_allowed(
    listener: &ListenerSpec,
    gateway: &ObjectName,
    namespace: &Arc<str>,
    world: &mut World<'_>,
) -> bool {
    let own = &listener.set.as_ref().unwrap_or(gateway).namespace;
    is_one_of(namespace, listener.from, listener.selector.as_ref(), own, world)
}

/// Whether a namespace is one of those that somebody in the namespace `own` lets in.
pub(super) fn is_one_of(
    namespace: &Arc<str>,
    from: FromNamespaces,
    selector: Option<&LabelSelector>,
    own: &Arc<str>,
    world: &mut World<'_>,
) -> bool {
    match from {
        FromNamespaces::All => true,
        FromNamespaces::Same => namespace == own,
        FromNamespaces::None => false,
        FromNamespaces::Selector => selector.is_some_and(|selector| {
            let object = world.object::<Namespace>(&ObjectName::new("", Arc::clone(namespace)));
            let mut labels = object.and_then(|object| object.metadata.labels.clone()).unwrap_or_default();
            // Kubernetes sets this label on every namespace; in files the Namespace object may be left out.
            labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| namespace.to_string());
            selects(selector, &labels)
        }),
    }
}

fn target(parent: &ParentReference) -> ParentTarget {
    ParentTarget {
        group: parent.group.clone(),
        kind: parent.kind.clone(),
        namespace: parent.namespace.clone(),
        name: parent.name.clone(),
        section_name: parent.section_name.clone(),
        port: parent.port,
    }
}
