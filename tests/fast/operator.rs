//! Plans: what should exist for Gateways, read beside the manifests that ask for it.
//!
//! `make generate` writes the outputs in `tests/golden/operator` anew; read what it changed. What makes plans anew is counted.

use std::{env, fmt::Write as _, fs, path::Path};

use serde_json::{Value, json};
use tailscale_gateway::{
    model::{Kind, ObjectName, client_certificate_name, gateway_label, infrastructure_name},
    operator::{DEFAULT_ENVOY_IMAGE, Plan, PlannedObject, Planner, Settings},
    source::FileWorld,
    store::Change,
};

use crate::{
    api::{accepted, sample, sample_with},
    support::golden::{Case, cases_in},
};

pub(crate) fn settings() -> Settings {
    Settings {
        xds: "tailscale-gateway.system.svc:18000".parse().unwrap(),
        server_name: None,
        envoy_image: DEFAULT_ENVOY_IMAGE.into(),
        own_image: Some("example.com/tailscale-gateway:1".into()),
        privileged_ports: false,
    }
}

#[test]
fn every_manifest_in_a_golden_file_asks_for_the_objects_that_stand_below_it() {
    let mut wrong = String::new();
    for case in cases_in("operator") {
        let output = planned(&case);
        if env::var_os("TSGW_GENERATE").is_some() {
            fs::write(&case.path, case.text(&output)).unwrap();
        } else if output != case.output {
            writeln!(wrong, "{}: the objects are\n{output}", case.name).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}`make generate` writes what is planned now; read it before you keep it");
}

/// The plans as YAML, with the kinds of object alone that the case shows.
fn planned(case: &Case) -> String {
    let mut world = FileWorld::new();
    world.load(Path::new(&case.name), case.input.as_bytes());
    assert_eq!(world.problems(), [], "{}", case.name);
    let has = |flag: &str| case.flags.iter().any(|known| known == flag);
    let mut settings = Settings { privileged_ports: has("--privileged-ports"), ..settings() };
    if has("--no-own-image") {
        settings.own_image = None;
    }
    let mut planner = Planner::new(settings);
    let changes: Vec<Change> = world.objects().cloned().map(Change::Upsert).collect();
    let plans = planner.apply(&changes);
    let shown = |kind: &str| case.shown.as_ref().is_none_or(|shown| shown.iter().any(|one| one == kind));
    let mut output = String::new();
    for (gateway, plan) in plans {
        let what = match plan.as_deref() {
            None => json!("nothing"),
            Some(Plan::Keep { .. }) => json!("what there is"),
            Some(Plan::Objects { certificate, objects }) => {
                let mut all: Vec<Value> = Vec::new();
                if shown("Secret") {
                    all.push(json!({"certificate": certificate.metadata, "gateway": certificate.gateway.to_string()}));
                }
                all.extend(objects.iter().filter(|one| shown(one.key.kind.as_str())).map(|one| one.manifest.clone()));
                Value::Array(all)
            }
        };
        output += &serde_saphyr::to_string(&json!({gateway.to_string(): what})).unwrap();
    }
    output
}

pub(crate) fn gateway(name: &str, pointer: &str, value: Value) -> Change {
    let mut manifest = sample_with(Kind::Gateway, pointer, value);
    manifest["metadata"]["name"] = json!(name);
    manifest["metadata"]["uid"] = json!(format!("uid-of-{name}"));
    Change::Upsert(accepted(Kind::Gateway, manifest))
}

fn class() -> Change {
    let mut class = sample(Kind::GatewayClass);
    class["metadata"]["name"] = json!("tailscale");
    Change::Upsert(accepted(Kind::GatewayClass, class))
}

fn names(plans: &[(ObjectName, Option<std::sync::Arc<Plan>>)]) -> Vec<String> {
    plans.iter().map(|(gateway, _)| gateway.name.to_string()).collect()
}

#[test]
fn a_change_makes_the_plans_anew_that_depend_on_it_and_no_others() {
    let mut planner = Planner::new(settings());
    let reference = json!({"parametersRef": {
        "group": "gateway.tailscale.com", "kind": "TailscaleGatewayParameters", "name": "sample"
    }});
    let first = [
        class(),
        gateway("plain", "/spec/infrastructure", json!({})),
        gateway("referring", "/spec/infrastructure", reference),
    ];
    assert_eq!(names(&planner.apply(&first)), ["plain", "referring"]);
    assert_eq!(names(&planner.apply(&first)), [""; 0], "equal objects");

    // What plans are not made from is not even kept.
    let others = Kind::ALL
        .into_iter()
        .filter(|kind| ![Kind::GatewayClass, Kind::Gateway, Kind::TailscaleGatewayParameters].contains(kind));
    let others: Vec<Change> = others.map(|kind| Change::Upsert(accepted(kind, sample(kind)))).collect();
    assert_eq!((names(&planner.apply(&others)), planner.objects()), (Vec::new(), 3));

    let parameters = |spec: Value| {
        [Change::Upsert(accepted(
            Kind::TailscaleGatewayParameters,
            sample_with(Kind::TailscaleGatewayParameters, "/spec", spec),
        ))]
    };
    assert_eq!(names(&planner.apply(&parameters(json!({})))), ["referring"]);
    assert_eq!(names(&planner.apply(&parameters(json!({"replicas": 2})))), [""; 0], "that is the default");
    assert_eq!(names(&planner.apply(&parameters(json!({"replicas": 3})))), ["referring"]);
    let log = json!({"replicas": 3, "accessLog": {"type": "Text"}});
    assert_eq!(names(&planner.apply(&parameters(log))), [""; 0], "that is told by xDS");
    // A listener changes the Service, and its routes nothing.
    let listeners =
        json!([{"name": "a", "port": 80, "protocol": "HTTP"}, {"name": "b", "port": 81, "protocol": "HTTP"}]);
    assert_eq!(names(&planner.apply(&[gateway("plain", "/spec/listeners", listeners)])), ["plain"]);
    let hostname = json!([{"name": "a", "port": 80, "protocol": "HTTP", "hostname": "a.b"}, {"name": "b", "port": 81, "protocol": "HTTP"}]);
    assert_eq!(names(&planner.apply(&[gateway("plain", "/spec/listeners", hostname)])), [""; 0]);
}

fn object<'a>(planner: &'a Planner, gateway: &str, kind: &str) -> &'a PlannedObject {
    let Some(Plan::Objects { objects, .. }) = planner.plan(&ObjectName::new("default", gateway)).map(|plan| &**plan)
    else {
        panic!("nothing is planned for {gateway}");
    };
    objects.iter().find(|object| object.key.kind.as_str() == kind).unwrap()
}

#[test]
fn a_listener_that_comes_changes_the_service_and_leaves_the_pods_alone() {
    let mut planner = Planner::new(settings());
    planner.apply(&[class(), gateway("web", "/spec/infrastructure", json!({}))]);
    let before = object(&planner, "web", "Deployment").clone();
    let map = object(&planner, "web", "ConfigMap").clone();
    let service = object(&planner, "web", "Service").clone();
    let listeners = json!([{"name": "a", "port": 80, "protocol": "HTTP"}, {"name": "b", "port": 443, "protocol": "HTTPS",
        "tls": {"certificateRefs": [{"name": "a"}]}}]);
    planner.apply(&[gateway("web", "/spec/listeners", listeners)]);
    assert_eq!(*object(&planner, "web", "Deployment"), before);
    assert_eq!(*object(&planner, "web", "ConfigMap"), map);
    assert_ne!(*object(&planner, "web", "Service"), service);
    // Only where it would take the port of the readiness are the pods others: two can not bind one.
    let listeners =
        json!([{"name": "a", "port": 19000, "protocol": "HTTP"}, {"name": "b", "port": 19001, "protocol": "HTTP"}]);
    planner.apply(&[gateway("web", "/spec/listeners", listeners)]);
    let moved = &object(&planner, "web", "Deployment").manifest["spec"]["template"];
    assert_eq!(moved["spec"]["containers"][0]["ports"][0]["containerPort"], 19003);
    assert_ne!(moved["metadata"]["annotations"], before.manifest["spec"]["template"]["metadata"]["annotations"]);
}

#[test]
fn envoys_bind_ipv6_where_the_cluster_or_the_parameters_ask_for_it_and_ipv4_alone_elsewhere() {
    let service = |namespace: &str, name: &str, family: &str| {
        let mut service = sample_with(Kind::Service, "/spec/ipFamilies", json!([family]));
        service["metadata"] = json!({"namespace": namespace, "name": name});
        Change::Upsert(accepted(Kind::Service, service))
    };
    let mut planner = Planner::new(settings());
    let reference = json!({"parametersRef": {
        "group": "gateway.tailscale.com", "kind": "TailscaleGatewayParameters", "name": "sample"
    }});
    let parameters = |service: Value| {
        let sample = sample_with(Kind::TailscaleGatewayParameters, "/spec/service", service);
        [Change::Upsert(accepted(Kind::TailscaleGatewayParameters, sample))]
    };
    let binds = |planner: &Planner| {
        let files = &object(planner, "web", "ConfigMap").manifest["data"]["bootstrap.yaml"];
        let bootstrap: Value = serde_saphyr::from_str(files.as_str().unwrap()).unwrap();
        bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"].clone()
    };
    let (four, six) = (
        json!({"address": "0.0.0.0", "port_value": 19001}),
        json!({"address": "::", "port_value": 19001, "ipv4_compat": true}),
    );
    planner.apply(&[
        class(),
        gateway("web", "/spec/infrastructure", reference),
        service("default", "kubernetes", "IPv4"),
    ]);
    planner.apply(&parameters(json!({})));
    assert_eq!(binds(&planner), four);
    let kept = planner.objects();
    assert_eq!(names(&planner.apply(&[service("default", "other", "IPv6")])), [""; 0]);
    assert_eq!(planner.objects(), kept, "of Services that of the API server alone");
    for service in [json!({"ipFamilyPolicy": "PreferDualStack"}), json!({"ipFamilies": ["IPv6"]})] {
        planner.apply(&parameters(service.clone()));
        assert_eq!(binds(&planner), six, "{service}");
        let spec = &object(&planner, "web", "Service").manifest["spec"];
        assert_eq!(
            (&spec["ipFamilyPolicy"], &spec["ipFamilies"]),
            (&service["ipFamilyPolicy"], &service["ipFamilies"])
        );
    }
    planner.apply(&parameters(json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]})));
    assert_eq!(binds(&planner), four);
    planner.apply(&[service("default", "kubernetes", "IPv6")]);
    assert_eq!(binds(&planner), six);
}

#[test]
fn nothing_is_done_for_a_gateway_that_is_about_to_go_and_nothing_should_exist_for_one_that_is_gone() {
    let mut planner = Planner::new(settings());
    let [(_, Some(before))] = &planner.apply(&[class(), gateway("web", "/spec/infrastructure", json!({}))])[..] else {
        panic!("there is one Gateway")
    };
    let Plan::Objects { certificate, .. } = &**before else { panic!("{before:?}") };
    let plans = planner.apply(&[gateway("web", "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))]);
    let kept = Plan::Keep { certificate: Some(certificate.clone()) };
    assert_eq!(plans.into_iter().map(|(_, plan)| plan.as_deref().cloned()).collect::<Vec<_>>(), [Some(kept)]);
    let name = ObjectName::new("default", "web");
    let key = tailscale_gateway::model::ObjectKey::new(Kind::Gateway, name.clone());
    assert_eq!(planner.apply(&[Change::Remove(key)]), [(name, None)]);
}

#[test]
fn a_gateway_whose_parameters_are_missing_has_the_certificate_that_it_has_with_them() {
    let mut planner = Planner::new(settings());
    let reference = json!({"parametersRef": {
        "group": "gateway.tailscale.com", "kind": "TailscaleGatewayParameters", "name": "sample"
    }});
    planner.apply(&[class(), gateway("web", "/spec/infrastructure", reference)]);
    let name = ObjectName::new("default", "web");
    let kept = std::sync::Arc::clone(planner.plan(&name).unwrap());
    let Plan::Keep { certificate: Some(kept) } = &*kept else { panic!("{kept:?}") };
    planner
        .apply(&[Change::Upsert(accepted(Kind::TailscaleGatewayParameters, sample(Kind::TailscaleGatewayParameters)))]);
    let Plan::Objects { certificate, .. } = &**planner.plan(&name).unwrap() else { panic!("it can be planned") };
    assert_eq!(certificate, kept);
}

#[test]
fn names_are_those_of_gep_1762_and_fit_where_they_stand() {
    assert_eq!(infrastructure_name("my-gateway", "example"), "my-gateway-example");
    let fitting = |name: &str| {
        assert!(name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{name}");
        assert!(!name.ends_with('-'), "{name}");
    };
    let long = "a".repeat(253);
    let mut seen = std::collections::BTreeSet::new();
    for (gateway, class) in [
        ("a.b", "c"),
        ("a-b", "c.d"),
        ("a.b-c", "d"),
        ("1", "c"),
        ("gw-1", "c.d"),
        (&long, "c"),
        (&long, "d"),
        ("c", &long),
        (&format!("{}-", "b".repeat(45))[..], "c.d"),
    ] {
        let name = infrastructure_name(gateway, class);
        fitting(&name);
        assert!(seen.insert(name.clone()), "{name} stands for two");
        assert_eq!(client_certificate_name(gateway, class), format!("{name}-xds"));
    }
    // 63 characters are not too many.
    assert_eq!(infrastructure_name(&"a".repeat(61), "c"), format!("{}-c", "a".repeat(61)));
    // The example in the text.
    let long = "example-very-very-very-very-very-very-very-very-very-long-gateway-name";
    assert_eq!(gateway_label(long), "example-very-very-ve-65cb6f84bc9e50270d0a6c2f845fd98c6fe8d89f");
    assert_eq!(gateway_label(&long[..63]), long[..63]);
}
