//! What a change costs, counted and not timed: the outputs that are made and the bytes that are sent do not depend on how
//! much there is besides what changed.

#[path = "../../bench/envoy.rs"]
#[allow(dead_code, reason = "shared with the benches")]
mod envoy;
#[path = "../../bench/world.rs"]
#[allow(dead_code, reason = "shared with the benches")]
pub(crate) mod world;

use envoy::{Envoy, Names};
use tailscale_gateway::{snapshot::TypeUrl, xds::Options};
use world::{Kind, Served, World, gateway};

/// For each kind of change, how many outputs may be made at most, and which resources change.
type Cost = (Kind, usize, &'static [(TypeUrl, usize)]);
const COSTS: [Cost; 3] = [
    // Its binding, entries and report; its virtual host, and the table.
    (Kind::Route, 5, &[(TypeUrl::Route, 1)]),
    // The same, and a cluster with its endpoints that goes, and another that comes.
    (Kind::Backend, 9, &[(TypeUrl::Cluster, 2), (TypeUrl::Endpoints, 2), (TypeUrl::Route, 1)]),
    // The endpoints, and that the Gateway serves them.
    (Kind::Endpoint, 2, &[(TypeUrl::Endpoints, 1)]),
];

#[track_caller]
fn assert_costs(world: World) {
    let mut pipeline = Served::new(world.changes()).pipeline;
    for (kind, at_most, resources) in COSTS {
        for change in world.change(kind) {
            let applied = pipeline.apply([change]);
            assert_eq!(applied.objects.len(), 1, "{kind:?}");
            assert!(applied.made <= at_most, "{kind:?}: {} outputs were made, more than {at_most}", applied.made);
            assert_eq!(applied.resources.into_iter().collect::<Vec<_>>(), resources, "{kind:?}");
        }
    }
}

#[test]
fn a_change_among_ten_routes_makes_its_own_parts_again_and_nothing_else() {
    assert_costs(World::hosts(10));
}

#[test]
fn a_change_among_ten_thousand_routes_makes_no_more_outputs_than_among_ten() {
    assert_costs(World::hosts(10_000));
}

#[test]
fn a_change_of_a_virtual_host_with_a_thousand_routes_makes_no_more_outputs() {
    assert_costs(World::one_host(1_000));
}

#[test]
fn an_equal_object_makes_nothing() {
    let world = World::hosts(100);
    let mut pipeline = Served::new(world.changes()).pipeline;
    let applied = pipeline.apply(world.changes());
    assert_eq!((applied.made, applied.objects.len(), applied.gateways.len()), (0, 0, 0));
}

#[test]
fn an_endpoint_that_changes_and_changes_back_in_one_commit_sends_nothing() {
    let world = World::hosts(100);
    let mut pipeline = Served::new(world.changes()).pipeline;
    let applied = pipeline.apply(world.change(Kind::Endpoint));
    assert!(applied.resources.is_empty() && applied.gateways.is_empty(), "{applied:?}");
}

#[test]
fn an_envoy_is_sent_the_endpoints_that_changed_and_no_others() {
    let sent = [10, 1_000].map(|routes| {
        let world = World::hosts(routes);
        let Served { mut pipeline, cache } = Served::new(world.changes());
        let mut envoy = Envoy::connect(&Options::default(), Names::Explicit, &cache.current(&gateway()));
        let [change, _] = world.change(Kind::Endpoint);
        pipeline.apply([change]);
        envoy.answer(&cache.current(&gateway()))
    });
    assert_eq!(sent[0].0, 1, "one response");
    assert_eq!(sent[0].0, sent[1].0, "as many in a large world as in a small one");
    assert!(sent[1].1 < 512 && sent[0].1.abs_diff(sent[1].1) < 16, "as large, but for its numbers: {sent:?}");
}
