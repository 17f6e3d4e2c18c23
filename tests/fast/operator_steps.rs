//! From what should exist and what exists to what is done: what counts as different, what is repaired, what is left alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};
use tailscale_gateway::{
    api::{OwnedNews, OwnedObject},
    model::{Kind, ObjectName, OwnedKey, OwnedKind},
    operator::{
        Plan, PlannedObject,
        covers::{covers, differences},
        known::Known,
        steps::{Settled, Step, may_write, steps},
    },
    store::Change,
};

use crate::{
    api::{accepted, sample},
    operator::{gateway, settings},
};

fn paths(desired: Value, observed: Value) -> Vec<String> {
    differences(&desired, &observed).into_iter().map(|one| one.path).collect()
}

#[test]
fn what_others_say_is_no_difference() {
    for (desired, observed) in [
        (json!({"a": 1}), json!({"a": 1, "b": 2})),
        (json!({"a": {"b": [1, 2]}}), json!({"a": {"b": [1, 2], "c": null}})),
        // Entries of keyed lists stand beside each other, in any order, with defaults filled in.
        (
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 1}]}),
            json!({"ports": [
                {"port": 81, "protocol": "TCP"},
                {"port": 80, "protocol": "TCP", "targetPort": 1, "nodePort": 30000},
            ]}),
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "protocol": "TCP"}]}]}),
            json!({"containers": [{"name": "sidecar"}, {"name": "a", "ports": [
                {"containerPort": 2, "protocol": "TCP"}, {"containerPort": 1, "protocol": "TCP", "name": "x"}
            ]}]}),
        ),
        (json!({"ownerReferences": [{"uid": "1"}]}), json!({"ownerReferences": [{"uid": "2"}, {"uid": "1"}]})),
        // Defaults inside of the entries of other lists.
        (json!({"metrics": [{"type": "Resource"}]}), json!({"metrics": [{"type": "Resource", "x": 1}]})),
        // What is empty may be left out.
        (json!({"a": {}, "b": [], "c": "", "d": null}), json!({})),
        (json!({"a": {}}), json!({"a": {"b": 1}})),
        (json!({"a": 1}), json!({"a": 1.0})),
    ] {
        assert!(covers(&desired, &observed), "{desired} {:?}", differences(&desired, &observed));
    }
}

#[test]
fn what_is_missing_or_other_is_a_difference_with_its_place() {
    assert_eq!(paths(json!({"a": {"b": 1}}), json!({"a": {}})), ["a.b"]);
    assert_eq!(paths(json!({"a": {"b": 1}}), json!({})), ["a"]);
    assert_eq!(paths(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 2, "c": 2}})), ["a.b"]);
    assert_eq!(paths(json!({"a": false}), json!({})), ["a"], "false is something");
    assert_eq!(paths(json!({"a": 0}), json!({})), ["a"], "0 is something");
    // Lists without a key are one value: a word more or less, or in another place.
    assert_eq!(paths(json!({"args": ["a"]}), json!({"args": ["a", "b"]})), ["args"]);
    assert_eq!(paths(json!({"args": ["a", "b"]}), json!({"args": ["b", "a"]})), ["args[0]", "args[1]"]);
    assert_eq!(
        paths(
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 1}]}}),
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 2}]}}),
        ),
        ["spec.ports[80,TCP].targetPort"]
    );
    assert_eq!(
        paths(json!({"volumes": [{"name": "a"}, {"name": "b"}]}), json!({"volumes": [{"name": "a"}]})),
        ["volumes[b]"]
    );
}

/// The plan for a Gateway of this name.
fn plan(name: &str) -> Arc<Plan> {
    let mut class = sample(Kind::GatewayClass);
    class["metadata"]["name"] = json!("tailscale");
    let class = Change::Upsert(accepted(Kind::GatewayClass, class));
    let mut planner = tailscale_gateway::operator::Planner::new(settings());
    planner.apply(&[class, gateway(name, "/spec/infrastructure", json!({}))]);
    Arc::clone(planner.plan(&named(name)).unwrap())
}

fn named(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

fn objects(plan: &Plan) -> &[PlannedObject] {
    match plan {
        Plan::Objects { objects, .. } => objects,
        Plan::Keep { .. } => panic!("nothing is planned"),
    }
}

/// What an API server has after a manifest was applied, changed by a test.
fn stored(kind: OwnedKind, manifest: &Value, change: impl Fn(&mut Value)) -> (OwnedKey, Arc<OwnedObject>) {
    let mut manifest = manifest.clone();
    manifest["metadata"]["uid"] = json!("object");
    manifest["metadata"]["resourceVersion"] = json!("5");
    manifest["metadata"]["managedFields"] = json!([{}]);
    manifest["status"] = json!({"ready": true});
    change(&mut manifest);
    let (key, object) = OwnedObject::read(kind, manifest).unwrap();
    (key, Arc::new(object))
}

fn all_stored(plan: &Plan) -> BTreeMap<OwnedKey, Arc<OwnedObject>> {
    let Plan::Objects { certificate, objects } = plan else { panic!("nothing is planned") };
    let secret = stored(OwnedKind::Secret, &json!({"metadata": certificate.metadata}), |_| {});
    objects.iter().map(|object| stored(object.key.kind, &object.manifest, |_| {})).chain([secret]).collect()
}

fn done(plan: Option<&Plan>, observed: &BTreeMap<OwnedKey, Arc<OwnedObject>>) -> Vec<String> {
    let steps = steps(&named("web"), plan, observed, &HashMap::new(), |_| true);
    steps
        .iter()
        .map(|step| match step {
            Step::Create(object) => format!("create {}", object.key),
            Step::Change { object, .. } => format!("change {}", object.key),
            Step::Delete { key, uid } => format!("delete {key} {uid}"),
            Step::Taken(key) => format!("taken {key}"),
        })
        .collect()
}

#[test]
fn what_is_not_there_is_created_in_order_and_what_is_there_is_left_alone() {
    let plan = plan("web");
    assert_eq!(
        done(Some(&plan), &BTreeMap::new()),
        ["ServiceAccount", "ConfigMap", "Service", "Deployment", "PodDisruptionBudget"]
            .map(|kind| format!("create {kind} default/web-tailscale"))
    );
    assert_eq!(done(Some(&plan), &all_stored(&plan)), [""; 0]);
    let Plan::Objects { certificate, .. } = &*plan else { panic!("nothing is planned") };
    for certificate in [None, Some(certificate.clone())] {
        let kept = Plan::Keep { certificate };
        assert_eq!(done(Some(&kept), &BTreeMap::new()), [""; 0]);
        assert_eq!(done(Some(&kept), &all_stored(&plan)), [""; 0]);
    }
}

#[test]
fn what_others_change_of_ours_is_repaired_and_what_they_add_is_kept() {
    let plan = plan("web");
    let service = objects(&plan).iter().find(|object| object.key.kind == OwnedKind::Service).unwrap();
    let changes: [(&str, Value, bool); 7] = [
        ("/spec/ports/0/targetPort", json!(1), true),
        ("/spec/type", json!("ClusterIP"), true),
        ("/metadata/ownerReferences", json!([]), true),
        ("/metadata/annotations", json!({}), true),
        ("/metadata/annotations/x", json!("y"), false),
        ("/metadata/labels/x", json!("y"), false),
        ("/spec/sessionAffinity", json!("None"), false),
    ];
    for (place, value, repaired) in changes {
        let mut observed = all_stored(&plan);
        let (key, object) = stored(OwnedKind::Service, &service.manifest, |manifest| {
            let (parent, field) = place.rsplit_once('/').unwrap();
            manifest.pointer_mut(parent).unwrap()[field] = value.clone();
        });
        observed.insert(key, object);
        let expected: Vec<String> =
            repaired.then(|| "change Service default/web-tailscale".to_owned()).into_iter().collect();
        assert_eq!(done(Some(&plan), &observed), expected, "{place}");
    }
    // What was planned before and is not any more shows in the hash alone.
    let mut observed = all_stored(&plan);
    let (key, object) = stored(OwnedKind::Service, &service.manifest, |manifest| {
        manifest["metadata"]["annotations"]["gateway.tailscale.com/applied"] = json!("of another manifest");
    });
    observed.insert(key, object);
    assert_eq!(done(Some(&plan), &observed), ["change Service default/web-tailscale"]);
}

#[test]
fn what_an_api_server_writes_in_its_own_way_is_applied_once() {
    let plan = plan("web");
    let deployment = objects(&plan).iter().find(|object| object.key.kind == OwnedKind::Deployment).unwrap();
    let memory = "/spec/template/spec/containers/0/resources/requests/memory";
    let (key, object) = stored(OwnedKind::Deployment, &deployment.manifest, |manifest| {
        *manifest.pointer_mut(memory).unwrap() = json!("0.25Gi");
    });
    let mut observed = all_stored(&plan);
    observed.insert(key.clone(), Arc::clone(&object));
    assert_eq!(done(Some(&plan), &observed), ["change Deployment default/web-tailscale"]);

    let settled = Settled::new(deployment.clone(), &object).unwrap();
    let remembered = HashMap::from([(key.clone(), settled)]);
    let again = |observed: &BTreeMap<OwnedKey, Arc<OwnedObject>>, plan: &Plan| {
        steps(&named("web"), Some(plan), observed, &remembered, |_| true).len()
    };
    assert_eq!(again(&observed, &plan), 0);
    // Anything else that differs is repaired all the same, and another plan is applied.
    let (key, other) = stored(OwnedKind::Deployment, &deployment.manifest, |manifest| {
        *manifest.pointer_mut(memory).unwrap() = json!("0.5Gi");
    });
    observed.insert(key, other);
    assert_eq!(again(&observed, &plan), 1);
    // And what was taken word by word is nothing to remember.
    let (_, same) = stored(OwnedKind::Deployment, &deployment.manifest, |_| {});
    assert_eq!(Settled::new(deployment.clone(), &same), None);
}

#[test]
fn what_should_not_exist_is_deleted_if_it_has_our_labels_and_the_gateway_as_its_owner() {
    let plan = plan("web");
    let all = all_stored(&plan);
    assert_eq!(
        done(None, &all),
        [
            "delete PodDisruptionBudget default/web-tailscale object",
            "delete Deployment default/web-tailscale object",
            "delete Service default/web-tailscale object",
            "delete Secret default/web-tailscale-xds object",
            "delete ConfigMap default/web-tailscale object",
            "delete ServiceAccount default/web-tailscale object",
        ]
    );
    // Of another name: as after a change of the class.
    let mut renamed = all.clone();
    let service = objects(&plan).iter().find(|object| object.key.kind == OwnedKind::Service).unwrap();
    let old = |change: fn(&mut Value)| {
        stored(OwnedKind::Service, &service.manifest, move |manifest| {
            manifest["metadata"]["name"] = json!("web-before");
            change(manifest);
        })
    };
    let mut with = |(key, object): (OwnedKey, Arc<OwnedObject>)| {
        renamed.insert(key, object);
        done(Some(&plan), &renamed)
    };
    assert_eq!(with(old(|_| {})), ["delete Service default/web-before object"]);
    assert_eq!(with(old(|manifest| manifest["metadata"]["ownerReferences"] = json!([]))), [""; 0]);
    assert_eq!(with(old(|manifest| manifest["metadata"]["labels"] = json!({}))), [""; 0]);
    assert_eq!(with(old(|manifest| manifest["metadata"]["ownerReferences"][0]["name"] = json!("other"))), [""; 0]);
    assert_eq!(
        with(old(|manifest| manifest["metadata"]["ownerReferences"][0]["apiVersion"] = json!("example.com/v1"))),
        [""; 0]
    );
    assert_eq!(
        with(old(|manifest| manifest["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"))),
        [""; 0]
    );
}

#[test]
fn an_object_of_another_gateway_or_of_nobody_is_not_taken_over() {
    let plan = plan("web");
    let service = objects(&plan).iter().find(|object| object.key.kind == OwnedKind::Service).unwrap();
    let with = |change: fn(&mut Value)| {
        let mut observed = all_stored(&plan);
        let (key, object) = stored(OwnedKind::Service, &service.manifest, change);
        let may = may_write(&named("web"), &object);
        observed.insert(key, object);
        (done(Some(&plan), &observed), may)
    };
    let taken = (vec!["taken Service default/web-tailscale".to_owned()], false);
    assert_eq!(with(|manifest| manifest["metadata"]["ownerReferences"][0]["name"] = json!("other")), taken);
    let nobodys = |manifest: &mut Value| {
        manifest["metadata"]["ownerReferences"] = json!([]);
        manifest["metadata"]["labels"] = json!({});
    };
    assert_eq!(with(nobodys), taken);
    // One that lost its labels, or its owner, is ours by the other.
    let mended = (vec!["change Service default/web-tailscale".to_owned()], true);
    assert_eq!(with(|manifest| manifest["metadata"]["labels"] = json!({})), mended);
    assert_eq!(with(|manifest| manifest["metadata"]["ownerReferences"] = json!([])), mended);
    // A Gateway that was deleted and made again has another uid: what is left of the first is taken on.
    assert_eq!(with(|manifest| manifest["metadata"]["ownerReferences"][0]["uid"] = json!("before")), mended);
    // One that goes is made again when it is gone.
    let going = with(|manifest| manifest["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(going, (Vec::new(), true));
}

#[test]
fn a_kind_that_is_not_seen_is_left_alone() {
    let plan = plan("web");
    let sees = |kind| kind != OwnedKind::Deployment;
    let kinds = |plan: Option<&Plan>, observed: &BTreeMap<OwnedKey, Arc<OwnedObject>>| -> Vec<OwnedKind> {
        let key = |step: Step| match step {
            Step::Create(object) | Step::Change { object, .. } => object.key.kind,
            Step::Delete { key, .. } | Step::Taken(key) => key.kind,
        };
        steps(&named("web"), plan, observed, &HashMap::new(), sees).into_iter().map(key).collect()
    };
    assert!(!kinds(Some(&plan), &BTreeMap::new()).contains(&OwnedKind::Deployment));
    assert!(!kinds(None, &all_stored(&plan)).contains(&OwnedKind::Deployment));
    assert_eq!((kinds(Some(&plan), &BTreeMap::new()).len(), kinds(None, &all_stored(&plan)).len()), (4, 5));
}

#[test]
fn a_number_of_pods_is_handed_over_when_an_autoscaler_takes_it() {
    let plan = plan("web");
    let deployment = objects(&plan).iter().find(|object| object.key.kind == OwnedKind::Deployment).unwrap();
    let mut scaled = deployment.clone();
    scaled.manifest["spec"].as_object_mut().unwrap().remove("replicas");
    scaled.manifest["metadata"]["annotations"]["gateway.tailscale.com/applied"] = json!("another");
    let Plan::Objects { certificate, .. } = &*plan else { panic!("nothing is planned") };
    let handed = |planned: &PlannedObject, there: &Value| {
        let plan = Plan::Objects { certificate: certificate.clone(), objects: vec![planned.clone()] };
        let observed = BTreeMap::from([stored(OwnedKind::Deployment, there, |_| {})]);
        match steps(&named("web"), Some(&plan), &observed, &HashMap::new(), |_| true).as_slice() {
            [Step::Change { keep_replicas, .. }] => *keep_replicas,
            other => panic!("{other:?}"),
        }
    };
    assert!(handed(&scaled, &deployment.manifest));
    assert!(!handed(deployment, &scaled.manifest));
}

fn touched(known: &mut Known, news: OwnedNews) -> Vec<(String, Vec<String>)> {
    let owners =
        |owners: std::collections::BTreeSet<ObjectName>| owners.iter().map(|one| one.name.to_string()).collect();
    known.take(news).into_iter().map(|touched| (touched.key.name.name.to_string(), owners(touched.owners))).collect()
}

#[test]
fn what_is_known_follows_lists_and_changes_by_owner_and_forgets_what_is_gone() {
    let map = |name: &str, owner: &str, version: &str| {
        let mut manifest = objects(&plan(owner))[1].manifest.clone();
        manifest["metadata"]["name"] = json!(name);
        stored(OwnedKind::ConfigMap, &manifest, |manifest| manifest["metadata"]["resourceVersion"] = json!(version))
    };
    let kind = OwnedKind::ConfigMap;
    let mut known = Known::default();
    assert!(!known.sees(kind));
    let listed = OwnedNews::Listed(kind, vec![map("a", "one", "1"), map("b", "two", "2")]);
    let one = |name: &str, owner: &str| (name.to_owned(), vec![owner.to_owned()]);
    assert_eq!(touched(&mut known, listed), [one("a", "one"), one("b", "two")]);
    assert!(known.sees(kind) && !known.has_looked(), "of the other kinds nothing is known");

    let (key, newer) = map("a", "one", "9");
    assert_eq!(touched(&mut known, OwnedNews::Changed(key.clone(), newer)), [], "only its version is another");
    let (_, older) = map("a", "two", "8");
    assert_eq!(touched(&mut known, OwnedNews::Changed(key.clone(), older)), [], "that was before");
    let (_, moved) = map("a", "two", "10");
    let both = ("a".to_owned(), vec!["one".to_owned(), "two".to_owned()]);
    assert_eq!(touched(&mut known, OwnedNews::Changed(key.clone(), moved)), [both]);
    assert_eq!(known.owners().map(|owner| owner.name.to_string()).collect::<Vec<_>>(), ["two"]);
    assert_eq!(known.of_gateway(&named("two")).count(), 2);

    // A list takes the place of what was known; a watch that fails takes nothing away.
    assert_eq!(touched(&mut known, OwnedNews::Failing(kind, "forbidden".into())), []);
    assert_eq!((known.sees(kind), known.failing(kind)), (true, Some("forbidden")));
    assert_eq!(touched(&mut known, OwnedNews::Listed(kind, vec![map("b", "two", "2")])), [one("a", "two")]);
    assert_eq!(known.failing(kind), None);
    let (key, _) = map("b", "two", "2");
    assert_eq!(touched(&mut known, OwnedNews::Gone(key)), [one("b", "two")]);
    assert_eq!(known.owners().count(), 0);
    for kind in OwnedKind::ALL {
        known.take(OwnedNews::Failing(kind, "forbidden".into()));
    }
    assert!(known.has_looked() && !known.sees(OwnedKind::Service));
}
