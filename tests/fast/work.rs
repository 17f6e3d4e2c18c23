//! What a change costs, counted and not timed: the outputs that are made and the bytes that are sent do not depend on how
//! much there is besides what changed.

#[path = "../../bench/envoy.rs"]
#[allow(dead_code, reason = "shared with the benches")]
mod envoy;
#[path = "../../bench/world.rs"]
#[allow(dead_code, reason = "shared with the benches")]
mod world;

use envoy::{Envoy, Names};
use tailscale_gateway::{pipeline::Applied, snapshot::TypeUrl, xds::Options};
use world::{Kind, Served, World, gateway};

/// A world and what one change, and taking it back, came to in it.
fn applied(world: World, kind: Kind) -> [Applied; 2] {
    let mut pipeline = Served::new(world.changes()).pipeline;
    world.change(kind).map(|change| pipeline.apply([change]))
}

#[track_caller]
fn assert_made(kind: Kind, at_most: usize, resources: &[(TypeUrl, usize)]) {
    for world in [World::hosts(10), World::hosts(10_000), World::one_host(1_000)] {
        for applied in applied(world, kind) {
            assert!(applied.made > 0, "{world:?}: nothing was made");
            assert!(applied.made <= at_most, "{world:?}: {} outputs were made, more than {at_most}", applied.made);
            assert_eq!(applied.objects.len(), 1, "{world:?}");
            assert_eq!(applied.resources.into_iter().collect::<Vec<_>>(), resources, "{world:?}");
        }
    }
}

#[test]
fn a_changed_route_makes_its_own_parts_again_and_nothing_else() {
    assert_made(Kind::Route, 6, &[(TypeUrl::Route, 1)]);
}

#[test]
fn a_changed_endpoint_makes_its_assignment_again_and_nothing_else() {
    assert_made(Kind::Endpoint, 2, &[(TypeUrl::Endpoints, 1)]);
}

#[test]
fn a_route_that_leads_elsewhere_brings_and_takes_away_two_clusters_at_most() {
    assert_made(Kind::Backend, 10, &[(TypeUrl::Cluster, 2), (TypeUrl::Endpoints, 2), (TypeUrl::Route, 1)]);
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
