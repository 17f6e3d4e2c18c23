//! What a change costs: what changed, whatever there is besides, and once for all streams that take the same step.

use std::{sync::Arc, time::Instant};

use tailscale_gateway::{
    snapshot::{Snapshot, TypeUrl, ViewChange},
    xds::{DeltaRequest, DeltaStream, Machine, NameSets, Options, Response, Scope, SotwRequest, SotwStream},
};

use crate::xds_world::resource;

const MANY: usize = 10_000;

fn names() -> Vec<String> {
    (0..MANY).map(|number| format!("service/shop/backend-{number}/80")).collect()
}

/// As many endpoints and clusters.
fn world() -> Snapshot {
    let change = |type_url, name: &String| ViewChange {
        type_url,
        name: name.as_str().into(),
        resource: Some(resource(type_url, name, "1", &[])),
    };
    let types = [TypeUrl::Endpoints, TypeUrl::Cluster];
    Snapshot::default().with(names().iter().flat_map(|name| types.map(|type_url| change(type_url, name))))
}

fn changed(snapshot: &Snapshot, type_url: TypeUrl, content: &str) -> Arc<Snapshot> {
    let name = &names()[MANY / 2];
    let made = resource(type_url, name, content, &[]);
    Arc::new(snapshot.with([ViewChange { type_url, name: name.as_str().into(), resource: Some(made) }]))
}

/// Large enough for everything in one piece.
fn options(sets: &Arc<NameSets>) -> Options {
    Options { max_chunk: 1 << 30, names: Arc::clone(sets), ..Options::default() }
}

fn delta(type_url: TypeUrl, subscribe: Vec<String>) -> DeltaRequest {
    DeltaRequest { type_url: type_url.as_str().to_owned(), subscribe, ..DeltaRequest::default() }
}

fn accept(type_url: TypeUrl, response: &Response) -> DeltaRequest {
    DeltaRequest { response_nonce: response.nonce.to_string(), ..delta(type_url, Vec::new()) }
}

#[test]
fn streams_with_equal_subscriptions_share_them_whatever_the_order_they_were_made_in() {
    let sets = Arc::new(NameSets::default());
    let now = Instant::now();
    let mut ahead = DeltaStream::new(Scope::Aggregated, options(&sets));
    let mut back = DeltaStream::new(Scope::Aggregated, options(&sets));
    let mut listed = SotwStream::new(Scope::Aggregated, options(&sets));
    ahead.on_request(delta(TypeUrl::Endpoints, names()), now).expect("a good request");
    for part in names().rchunks(1000) {
        back.on_request(delta(TypeUrl::Endpoints, part.to_vec()), now).expect("a good request");
    }
    back.on_request(delta(TypeUrl::Endpoints, vec!["another".to_owned()]), now).expect("a good request");
    let away = DeltaRequest { unsubscribe: vec!["another".to_owned()], ..delta(TypeUrl::Endpoints, Vec::new()) };
    back.on_request(away, now).expect("a good request");
    let mut twice = names();
    twice.extend(names());
    let list = SotwRequest { type_url: TypeUrl::Endpoints.as_str().to_owned(), names: twice, ..SotwRequest::default() };
    listed.on_request(list, now).expect("a good request");
    for subscribed in [&ahead.status()[0], &back.status()[0], &listed.status()[0]] {
        assert_eq!(subscribed.subscribed, MANY);
    }
    assert_eq!(sets.in_use(), 1);
    drop((ahead, back, listed));
    assert_eq!(sets.in_use(), 0);
}

#[test]
fn a_set_of_names_is_told_from_one_that_lacks_a_name() {
    let sets = NameSets::default();
    let [a, b, c]: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
    let ab = sets.with(&sets.empty(), [&a, &b], []);
    let ba = sets.with(&sets.with(&sets.empty(), [&b, &c], []), [&a], [&c]);
    assert!(Arc::ptr_eq(&ab, &ba));
    assert!(!Arc::ptr_eq(&ab, &sets.with(&ab, [], [&a])));
    assert!(sets.is_list_of(&ab, ["b", "a"].into_iter()));
    assert!(!sets.is_list_of(&ab, ["b", "c"].into_iter()));
}

#[test]
fn one_change_among_ten_thousand_is_one_resource_made_once_for_all_streams() {
    let sets = Arc::new(NameSets::default());
    let now = Instant::now();
    let first = Arc::new(world());
    let mut streams: Vec<DeltaStream> = (0..20).map(|_| DeltaStream::new(Scope::Aggregated, options(&sets))).collect();
    let mut loads = Vec::new();
    for stream in &mut streams {
        stream.on_snapshot(&first, now);
        stream.on_request(delta(TypeUrl::Endpoints, names()), now).expect("a good request");
        let load = stream.next_response(now).expect("the load");
        assert_eq!(load.resources, MANY);
        stream.on_request(accept(TypeUrl::Endpoints, &load), now).expect("a good request");
        assert!(stream.next_response(now).is_none());
        loads.push(load.body);
    }
    assert!(loads.iter().all(|body| Arc::ptr_eq(body, &loads[0])), "a load that fits in one response is shared");

    let next = changed(&first, TypeUrl::Endpoints, "2");
    let step = next.view(TypeUrl::Endpoints).step_from(first.view(TypeUrl::Endpoints));
    assert_eq!((step.updated.len(), step.removed.len()), (1, 0));
    for stream in &mut streams {
        stream.on_snapshot(&next, now);
        let update = stream.next_response(now).expect("the change");
        assert_eq!((update.resources, update.removed), (1, 0));
        assert!(Arc::ptr_eq(&update.body, &step.delta_body()), "the same bytes for every stream");
    }
    assert_eq!(sets.in_use(), 1);
}

#[test]
fn a_full_state_is_made_once_for_all_streams() {
    let sets = Arc::new(NameSets::default());
    let now = Instant::now();
    let first = Arc::new(world());
    let next = changed(&first, TypeUrl::Cluster, "2");
    for _ in 0..3 {
        let mut stream = SotwStream::new(Scope::Aggregated, options(&sets));
        let type_url = TypeUrl::Cluster.as_str().to_owned();
        stream.on_request(SotwRequest { type_url, ..SotwRequest::default() }, now).expect("a good request");
        for snapshot in [&first, &next] {
            stream.on_snapshot(snapshot, now);
            let state = stream.next_response(now).expect("the state");
            assert_eq!(state.resources, MANY);
            assert!(Arc::ptr_eq(&state.body, &snapshot.view(TypeUrl::Cluster).sotw_body()));
        }
    }
}

#[test]
fn a_client_that_reconnects_with_everything_is_sent_nothing() {
    let sets = Arc::new(NameSets::default());
    let now = Instant::now();
    let snapshot = Arc::new(world());
    let view = snapshot.view(TypeUrl::Endpoints);
    let mut stream = DeltaStream::new(Scope::Only(TypeUrl::Endpoints), options(&sets));
    let has = view.iter().map(|resource| (resource.name().to_string(), resource.version().to_string()));
    let request = DeltaRequest { initial_versions: has.collect(), ..delta(TypeUrl::Endpoints, names()) };
    stream.on_request(request, now).expect("a good request");
    stream.on_snapshot(&snapshot, now);
    assert!(stream.next_response(now).is_none());
    stream.on_snapshot(&changed(&snapshot, TypeUrl::Endpoints, "2"), now);
    assert_eq!(stream.next_response(now).expect("the change").resources, 1);
}

#[test]
fn a_stream_of_which_something_is_refused_still_costs_what_changes() {
    let sets = Arc::new(NameSets::default());
    let now = Instant::now();
    let first = world();
    let mut stream = DeltaStream::new(Scope::Aggregated, options(&sets));
    stream.on_snapshot(&Arc::new(first.clone()), now);
    stream.on_request(delta(TypeUrl::Endpoints, names()), now).expect("a good request");
    let load = stream.next_response(now).expect("the load");
    stream.on_request(accept(TypeUrl::Endpoints, &load), now).expect("a good request");
    let bad = changed(&first, TypeUrl::Endpoints, "bad");
    stream.on_snapshot(&bad, now);
    let refused = stream.next_response(now).expect("the change");
    let error = Some(tailscale_gateway::xds::ErrorDetail { code: 3, message: "bad".to_owned() });
    let nack = DeltaRequest { error, ..accept(TypeUrl::Endpoints, &refused) };
    stream.on_request(nack, now).expect("a good request");
    assert!(stream.next_response(now).is_none());
    let other = ViewChange {
        type_url: TypeUrl::Endpoints,
        name: names()[0].as_str().into(),
        resource: Some(resource(TypeUrl::Endpoints, &names()[0], "2", &[])),
    };
    stream.on_snapshot(&Arc::new(bad.with([other])), now);
    assert_eq!(stream.next_response(now).expect("the other change").resources, 1);
}
