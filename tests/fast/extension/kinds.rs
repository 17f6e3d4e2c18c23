//! Of which kinds an Envoy Gateway's configuration is made: as long as one of these was never read, it is not known what belongs
//! into it.

use std::collections::{BTreeMap, BTreeSet};

use tailscale_gateway::{
    compile::{Made, OutputKey},
    model::Kind,
    pipeline::Pipeline,
    source::kubernetes::says_what_is_hosted,
    store::Change,
};

use crate::support::extension_cases::{Case, Played, cases};

/// What is put into configurations.
fn hosted(pipeline: &Pipeline) -> BTreeMap<OutputKey, Made> {
    let outputs = pipeline.engine().outputs().filter(|(key, made)| key.hosted(Some(made)).is_some());
    outputs.map(|(key, made)| (key.clone(), made.clone())).collect()
}

/// The kinds of a case without whose objects something would be taken from its configuration.
fn needed(case: &Case) -> BTreeSet<Kind> {
    let Played { world, mut pipeline, .. } = case.play();
    let whole = hosted(&pipeline);
    let kinds: BTreeSet<Kind> = world.objects().map(|object| object.kind()).collect();
    kinds
        .into_iter()
        .filter(|kind| {
            let of_kind: Vec<_> = world.objects().filter(|object| object.kind() == *kind).cloned().collect();
            pipeline.apply(of_kind.iter().map(|object| Change::Remove(object.key())));
            let is_needed = hosted(&pipeline) != whole;
            pipeline.apply(of_kind.into_iter().map(Change::Upsert));
            assert!(hosted(&pipeline) == whole, "{}: {kind} came back", case.name);
            is_needed
        })
        .collect()
}

/// Endpoints that a listener offers because of the labels of their namespace.
fn offered_by_label() -> Case {
    let listener = "{ name: http, protocol: HTTP, port: 8080";
    let all = cases().into_iter().find(|case| case.name == "api-routes.yaml").unwrap().input;
    assert!(all.contains(listener));
    let allowed = "allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {offers: \"yes\"}}}}";
    let namespace = "\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {offers: \"yes\"}}}";
    Case::of(&(all.replace(listener, &format!("{listener}, {allowed}")) + namespace))
}

#[test]
fn every_kind_whose_absence_takes_something_away_is_waited_for() {
    let needed: BTreeSet<Kind> = cases().iter().chain([&offered_by_label()]).flat_map(needed).collect();
    // Without these a replica does not begin at all.
    let begun = [Kind::GatewayClass, Kind::Gateway];
    let unwaited: Vec<Kind> =
        needed.iter().copied().filter(|kind| !says_what_is_hosted(*kind) && !begun.contains(kind)).collect();
    assert_eq!(unwaited, []);
    let known = [Kind::ListenerSet, Kind::Namespace, Kind::Secret, Kind::TailscaleEndpoints];
    assert!(known.iter().all(|kind| needed.contains(kind)), "{needed:?}");
}
