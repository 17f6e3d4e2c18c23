//! The control plane that other tests stand on is one: it refuses, remembers, forgets and comes back as a real one does.

use futures::StreamExt as _;
use k8s_openapi::api::{core::v1::ConfigMap, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Error,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams},
};

use crate::support::{
    cluster::{self, AuditEvent, Cluster},
    wait::within,
};

fn config_map(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..ConfigMap::default() }
}

async fn create(client: &Client, name: &str) {
    let created = Api::default_namespaced(client.clone()).create(&PostParams::default(), &config_map(name)).await;
    created.unwrap_or_else(|error| panic!("{name}: {error}"));
}

async fn names(client: &Client) -> Vec<String> {
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let listed = config_maps.list(&ListParams::default()).await.expect("the API server answers");
    listed.items.into_iter().filter_map(|one| one.metadata.name).collect()
}

#[tokio::test]
async fn a_service_account_may_do_what_a_role_binding_says_and_nothing_else() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("account").await;
    let namespace = namespace.as_str();
    for command in [
        "create serviceaccount reader",
        "create role reader --verb=list --resource=configmaps",
        &format!("create rolebinding reader --role=reader --serviceaccount={namespace}:reader"),
    ] {
        let arguments: Vec<&str> = ["--namespace", namespace].into_iter().chain(command.split(' ')).collect();
        cluster.kubectl(&arguments).await.expect_success();
    }
    let reader = cluster::client(&cluster.service_account_kubeconfig(namespace, "reader").await).await;
    let config_maps: Api<ConfigMap> = Api::namespaced(reader, namespace);
    config_maps.list(&ListParams::default()).await.expect("the role says so");
    match config_maps.create(&PostParams::default(), &config_map("mine")).await {
        Err(Error::Api(refusal)) => assert_eq!((refusal.code, refusal.reason.as_str()), (403, "Forbidden")),
        other => panic!("{other:?}"),
    }

    let user = format!("system:serviceaccount:{namespace}:reader");
    let seen: Vec<_> = cluster.audit_events().await.into_iter().filter(|event| event.user == user).collect();
    let told = |event: &AuditEvent| (event.verb.clone(), event.resource.clone(), event.code, event.is_write());
    assert_eq!(
        seen.iter().map(told).collect::<Vec<_>>(),
        [
            ("list".to_owned(), "configmaps".to_owned(), 200, false),
            ("create".to_owned(), "configmaps".to_owned(), 403, true)
        ]
    );
    assert!(seen.iter().all(|event| event.namespace == namespace && event.group.is_empty()), "{seen:?}");
}

#[tokio::test]
async fn a_control_plane_comes_back_with_its_objects_and_without_the_history_that_was_compacted() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    create(&client, "before").await;
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let old = config_maps.list(&ListParams::default()).await.expect("it answers").metadata.resource_version;
    let old = old.expect("a list has a version");
    create(&client, "after").await;
    config_maps.delete("before", &DeleteParams::default()).await.expect("it was there");

    cluster.restart_etcd().await;
    assert_eq!(names(&client).await, ["after"]);

    cluster.stop_apiserver().await;
    assert!(client.apiserver_version().await.is_err(), "nobody listens");
    cluster.compact_history().await;
    cluster.start_apiserver().await;
    assert_eq!(names(&client).await, ["after"]);
    create(&client, "later").await;

    let watch = config_maps.watch(&WatchParams::default(), &old).await;
    let refusal = match watch {
        Err(Error::Api(refusal)) => refusal,
        Err(other) => panic!("{other}"),
        Ok(events) => match within("an event", std::pin::pin!(events).next()).await {
            Some(Ok(WatchEvent::Error(refusal))) => refusal,
            other => panic!("{other:?}"),
        },
    };
    assert_eq!((refusal.code, refusal.reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn a_watch_is_one_request_in_the_audit_log_however_often_it_is_logged() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("watched").await;
    let config_maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, &namespace);
    let watching = WatchParams::default().timeout(1);
    let mut events = std::pin::pin!(config_maps.watch(&watching, "0").await.expect("it may be watched"));
    while within("the watch to end", events.next()).await.is_some() {}
    let watches = |event: &&AuditEvent| event.verb == "watch" && event.namespace == namespace;
    assert_eq!(cluster.audit_events().await.iter().filter(watches).count(), 1);
}

#[tokio::test]
async fn endpoints_on_loopback_are_as_good_as_others() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("endpoints").await;
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client().await, &namespace);
    let mut events = std::pin::pin!(slices.watch(&WatchParams::default(), "0").await.expect("it may be watched"));
    for ready in [vec!["127.0.0.1:8881"], vec!["127.0.0.1:8882", "127.0.0.2:8882"], vec![]] {
        let addresses: Vec<_> = ready.iter().map(|address| address.parse().expect("an address")).collect();
        cluster.set_endpoints(&namespace, "web", "http", &addresses).await;
        let slice = loop {
            match within("the slice", events.next()).await {
                Some(Ok(WatchEvent::Added(slice) | WatchEvent::Modified(slice))) => break slice,
                Some(Ok(WatchEvent::Bookmark(_))) => {}
                other => panic!("{other:?}"),
            }
        };
        let ports: Vec<i32> = slice.ports.into_iter().flatten().filter_map(|port| port.port).collect();
        let port = ports[0];
        let seen: Vec<_> = slice.endpoints.iter().map(|one| format!("{}:{port}", one.addresses[0])).collect();
        assert_eq!(seen, ready);
    }
    slices.delete("web-http", &DeleteParams::default()).await.expect("it is an object like others");
}
