//! Which kinds an Envoy Gateway has to watch for this program, and as what.

use super::{
    Finding,
    configuration::{BACKENDS, Declared, FILTERS, Manager, POLICIES},
    fields::closest,
};
use crate::model::Kind;

/// The kinds that belong in each list, and what is lost without one.
const WANTED: [(Kind, &str, &str); 4] = [
    (
        Kind::TailscaleEndpoints,
        BACKENDS,
        "Envoy Gateway refuses HTTPRoutes with such a backend (ResolvedRefs: False) and answers their requests with 500",
    ),
    (
        Kind::TailscaleService,
        BACKENDS,
        "Envoy Gateway refuses HTTPRoutes with such a backend (ResolvedRefs: False) and answers their requests with 500",
    ),
    (
        Kind::TailscaleGatewayRevision,
        POLICIES,
        "Envoy Gateway does not notice when routes to tailnet endpoints change, and its Envoys get them only when something of its own changes",
    ),
    (Kind::TailscaleRoutePolicy, POLICIES, "Envoy Gateway does not notice when such a policy changes"),
];

/// What is wrong with the lists of kinds.
pub(super) fn check(manager: &Manager<'_>) -> Vec<Finding> {
    let declared = manager.all_kinds();
    let mut findings: Vec<Finding> = declared.iter().filter_map(misplaced).collect();
    for (at, one) in declared.iter().enumerate() {
        let same = |other: &&Declared| (&other.group, &other.kind, other.list) == (&one.group, &one.kind, one.list);
        if declared[..at].iter().any(|other| same(&other)) {
            findings.push(
                Finding::warning(&one.place, format!("{} is there twice", one.kind))
                    .effect("Envoy Gateway reads all of them twice")
                    .remedy("remove one"),
            );
        }
    }
    for (kind, list, effect) in WANTED {
        if !declared.iter().any(|one| one.ours() == Some(kind) && one.list == list) {
            let remedy = format!("add {{group: {}, version: {}, kind: {kind}}}", kind.group(), kind.versions()[0]);
            let what = format!("{kind} is missing");
            let missing = match kind {
                // Nothing is acted on there yet.
                Kind::TailscaleRoutePolicy => Finding::warning(manager.place(list), what),
                _ => Finding::error(manager.place(list), what),
            };
            findings.push(missing.effect(effect).remedy(remedy));
        }
    }
    findings
}

/// What is wrong with one of them, if it is meant to be ours.
fn misplaced(declared: &Declared) -> Option<Finding> {
    let Declared { place, list, group, version, kind } = declared;
    let ours = Kind::TailscaleGateway.group();
    let names = || Kind::ALL.into_iter().filter(|kind| kind.group() == ours);
    let Some(found) = declared.ours() else {
        let by_name = names().find(|known| known.as_str() == kind);
        if let Some(meant) = by_name {
            return Some(
                Finding::error(place, format!("{meant} is of group {ours}, and not of {group:?}"))
                    .effect(absent(list))
                    .remedy(format!("write group: {ours}")),
            );
        }
        if group != ours {
            return None;
        }
        let meant = closest(kind, names().map(Kind::as_str));
        return Some(
            Finding::error(place, format!("there is no kind {kind} in {ours}"))
                .effect(absent(list))
                .remedy(meant.map_or("remove it".to_owned(), |meant| format!("write kind: {meant}"))),
        );
    };
    if !found.versions().contains(&version.as_str()) {
        let known = found.versions()[0];
        return Some(
            Finding::error(place, format!("{kind} has no version {version:?}"))
                .effect(absent(list))
                .remedy(format!("write version: {known}")),
        );
    }
    match WANTED.iter().find(|(wanted, ..)| *wanted == found).map(|(_, wanted, _)| *wanted) {
        Some(wanted) if wanted == *list => None,
        Some(BACKENDS) if *list == FILTERS => Some(
            Finding::warning(place, format!("{kind} is a backend, and no filter of routes"))
                .effect("Envoy Gateway takes an ExtensionRef to one as a filter, and nothing happens to its requests")
                .remedy(format!("move it to {BACKENDS}")),
        ),
        wanted => {
            let is = match wanted {
                Some(POLICIES) => format!("is a policy and belongs in {POLICIES}"),
                Some(wanted) => format!("belongs in {wanted}"),
                None => "is for this program alone, and Envoy Gateway has no use for it".to_owned(),
            };
            let effect = match *list {
                POLICIES => {
                    "Envoy Gateway finds no target in the first such object and leaves out that one and all policies behind it"
                }
                BACKENDS => "HTTPRoutes may have such a backend, and their requests go nowhere",
                _ => "Envoy Gateway takes an ExtensionRef to one as a filter, and nothing happens to its requests",
            };
            let remedy = wanted.map_or("remove it".to_owned(), |wanted| format!("move it to {wanted}"));
            Some(Finding::error(place, format!("{kind} {is}")).effect(effect).remedy(remedy))
        }
    }
}

/// What becomes of an Envoy Gateway that is told of a kind that the API server does not have.
pub(super) fn absent(list: &str) -> &'static str {
    if list == BACKENDS {
        "Envoy Gateway ignores all such objects until it is started again, and up to v1.9.0 it ends and starts without end"
    } else {
        "Envoy Gateway waits for objects of the kind, gives up, ends and starts again without end, and nothing changes in any of its Gateways"
    }
}
