//! Writing a status: what is ours is replaced, what is others' stays, and times change only with what they are the time of.

use jiff::Timestamp;
use serde_json::{Value, json};
use tailscale_gateway::{
    api::parse,
    compile::{Compiler, Settings},
    model::{Kind, ObjectKey, ObjectName, Programmed},
    pipeline::Pipeline,
    snapshot::SnapshotCache,
    status::{SUPPORTED_FEATURES, merge, status},
    store::Change,
};

const OURS: &str = "gateway.tailscale.com/gateway-controller";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a small number of seconds")
}

/// What the status of a route with these parents should be, beside a Gateway `web` of ours with one listener.
fn route_status(parents: &Value) -> tailscale_gateway::status::ObjectStatus {
    let gateway = json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"gatewayClassName": "tailscale", "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]},
    });
    let route = json!({
        "metadata": {"namespace": "default", "name": "all", "generation": 7},
        "spec": {"parentRefs": parents},
    });
    let changes = [(Kind::Gateway, gateway), (Kind::HttpRoute, route)]
        .map(|(kind, value)| Change::Upsert(parse(kind, value).object.expect("it is valid")));
    let mut pipeline = Pipeline::new(Compiler::new(Settings::default()), SnapshotCache::new().into());
    pipeline.apply(changes);
    let key = ObjectKey::new(Kind::HttpRoute, ObjectName::new("default", "all"));
    status(&pipeline.reports()[&key], &Programmed::Pending)
}

fn of_another_controller() -> Value {
    json!({
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "theirs"},
        "controllerName": "example.com/other",
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z"}],
    })
}

#[test]
fn entries_of_other_controllers_stay_and_ours_are_replaced() {
    let stale = json!({
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "former"},
        "controllerName": OURS, "conditions": [],
    });
    let current = json!({"parents": [stale, of_another_controller()]});
    let wanted = route_status(&json!([{"name": "web"}]));
    let merged = merge(Kind::HttpRoute, &current, Some(&wanted), OURS, at(0)).expect("it is new");
    let parents = merged["parents"].as_array().expect("a list");
    assert_eq!(parents.len(), 2);
    assert_eq!(parents[0], of_another_controller());
    assert_eq!((&parents[1]["controllerName"], &parents[1]["parentRef"]["name"]), (&json!(OURS), &json!("web")));
    assert_eq!(parents[1]["conditions"][0]["observedGeneration"], 7);

    let nothing = merge(Kind::HttpRoute, &merged, None, OURS, at(0)).expect("ours go");
    assert_eq!(nothing["parents"], json!([of_another_controller()]));
    assert_eq!(merge(Kind::HttpRoute, &nothing, None, OURS, at(0)), None);
}

#[test]
fn nobody_speaks_for_a_gateway_that_does_not_exist() {
    let wanted = route_status(&json!([{"name": "nowhere"}]));
    assert_eq!(merge(Kind::HttpRoute, &Value::Null, Some(&wanted), OURS, at(0)), None);
}

#[test]
fn what_is_the_same_is_not_written_and_a_time_changes_with_its_status_only() {
    let wanted = route_status(&json!([{"name": "web"}]));
    let first = merge(Kind::HttpRoute, &json!({}), Some(&wanted), OURS, at(0)).expect("it is new");
    let time = |status: &Value, place: usize| status["parents"][0]["conditions"][place]["lastTransitionTime"].clone();
    assert_eq!(time(&first, 0), "1970-01-01T00:00:00Z");
    assert_eq!(merge(Kind::HttpRoute, &first, Some(&wanted), OURS, at(100)), None);

    // An API server leaves out what is empty and keeps the order of its own.
    let mut stored = first.clone();
    let conditions = stored["parents"][0]["conditions"].as_array_mut().expect("a list");
    conditions.reverse();
    conditions[0].as_object_mut().expect("a mapping").retain(|_, value| value != "");
    assert_eq!(merge(Kind::HttpRoute, &stored, Some(&wanted), OURS, at(100)), None);

    let mut changed = wanted.clone();
    changed.parents[0].conditions[0].message = "other words".to_owned();
    changed.parents[0].conditions[1].status = tailscale_gateway::status::ConditionStatus::False;
    let second = merge(Kind::HttpRoute, &first, Some(&changed), OURS, at(100)).expect("it differs");
    assert_eq!((time(&second, 0), time(&second, 1)), (json!("1970-01-01T00:00:00Z"), json!("1970-01-01T00:01:40Z")));
}

#[test]
fn conditions_of_others_on_a_gateway_stay_and_those_of_ours_that_are_over_go() {
    let mut pipeline = Pipeline::new(Compiler::new(Settings::default()), SnapshotCache::new().into());
    let gateway = json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"gatewayClassName": "tailscale", "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]},
    });
    pipeline.apply([Change::Upsert(parse(Kind::Gateway, gateway).object.expect("it is valid"))]);
    let key = ObjectKey::new(Kind::Gateway, ObjectName::new("default", "web"));
    let wanted = status(&pipeline.reports()[&key], &Programmed::Acknowledged);
    let condition = |name: &str| {
        json!({"type": name, "status": "False", "reason": "R", "message": "",
        "lastTransitionTime": "2020-01-01T00:00:00Z"})
    };
    let current = json!({"conditions": [condition("example.com/Theirs"), condition("Effective")]});
    let merged = merge(Kind::Gateway, &current, Some(&wanted), OURS, at(0)).expect("it differs");
    let types: Vec<&str> = merged["conditions"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|condition| condition["type"].as_str())
        .collect();
    assert_eq!(types, ["Accepted", "Programmed", "example.com/Theirs"]);
    assert_eq!(merge(Kind::Gateway, &merged, Some(&wanted), OURS, at(9)), None);
    assert_eq!(merge(Kind::Gateway, &current, None, OURS, at(0)), None, "a Gateway of another class is not touched");
}

#[test]
fn what_an_envoy_gateway_says_of_a_policy_stays_beside_what_we_say() {
    let mut pipeline = Pipeline::new(Compiler::new(Settings::default()), SnapshotCache::new().into());
    let policy = json!({
        "metadata": {"namespace": "default", "name": "policy"},
        "spec": {"targetRefs": [{"name": "eg"}], "rules": [{"actions": [{"type": "Deny"}]}]},
    });
    let policy = parse(Kind::TailscaleRoutePolicy, policy).object.expect("it is valid");
    pipeline.apply([Change::Upsert(policy)]);
    let key = ObjectKey::new(Kind::TailscaleRoutePolicy, ObjectName::new("default", "policy"));
    let wanted = status(&pipeline.reports()[&key], &Programmed::Pending);
    let ancestors = json!([{
        "ancestorRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "eg", "namespace": "default"},
        "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z"}],
    }]);
    // An Envoy Gateway replaces the whole status.
    let theirs = json!({"ancestors": ancestors});
    let merged = merge(key.kind, &theirs, Some(&wanted), OURS, at(0)).expect("our conditions are missing");
    assert_eq!(merged["ancestors"], ancestors);
    let effective = merged["conditions"].as_array().expect("a list").iter().find(|one| one["type"] == "Effective");
    assert_eq!(effective.expect("it is not acted on yet")["reason"], "NotActedOn");
    assert_eq!(merge(key.kind, &merged, Some(&wanted), OURS, at(9)), None, "nothing is written twice");
}

#[test]
fn supported_features_are_sorted_as_the_api_wants_them() {
    assert!(SUPPORTED_FEATURES.is_sorted() && SUPPORTED_FEATURES.len() <= 64);
}

#[test]
fn what_was_programmed_stays_said_of_its_own_generation_and_a_new_listener_is_not_said_to_be() {
    let gateway = json!({
        "metadata": {"namespace": "default", "name": "web", "generation": 2},
        "spec": {"gatewayClassName": "tailscale", "listeners": [
            {"name": "old", "protocol": "HTTP", "port": 80}, {"name": "new", "protocol": "HTTP", "port": 81},
        ]},
    });
    let mut pipeline = Pipeline::new(Compiler::new(Settings::default()), SnapshotCache::new().into());
    pipeline.apply([Change::Upsert(parse(Kind::Gateway, gateway).object.expect("it is valid"))]);
    let report = &pipeline.reports()[&ObjectKey::new(Kind::Gateway, ObjectName::new("default", "web"))];
    let kept = |status_before: &str| {
        let before = json!([{"type": "Programmed", "status": status_before, "observedGeneration": 1}]);
        let before = json!({"conditions": before, "listeners": [{"name": "old", "conditions": before}]});
        let mut wanted = status(report, &Programmed::Pending);
        wanted.keep_programmed(&before);
        let said = |conditions: &Value| {
            let mut conditions = conditions.as_array().expect("a list").iter();
            let one = conditions.find(|one| one["type"] == "Programmed").expect("it is said").clone();
            (one["status"].as_str().expect("a word").to_owned(), one["observedGeneration"].clone())
        };
        let now = wanted.to_json();
        [&now["conditions"], &now["listeners"][0]["conditions"], &now["listeners"][1]["conditions"]].map(said)
    };
    let (of_before, open) = (("True".to_owned(), json!(1)), ("Unknown".to_owned(), json!(2)));
    assert_eq!(kept("True"), [of_before.clone(), of_before, open.clone()]);
    // A refusal of the former generation says nothing of this one.
    assert_eq!(kept("False"), [open.clone(), open.clone(), open]);
}
