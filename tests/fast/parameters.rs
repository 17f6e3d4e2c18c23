//! What the Envoys of a Gateway are created with: what is refused, and whose word counts.

use std::sync::Arc;

use serde_json::{Value, json};
use tailscale_gateway::{
    api::{Object, TailscaleGatewayParametersSpec, parse},
    compile::Compiler,
    gateways::{DEFAULT_JSON, FormatProblem, check_format},
    model::Kind,
    pipeline::Pipeline,
    snapshot::{SnapshotCache, TypeUrl},
    store::Change,
};

use crate::api::{accepted, found, sample_with};

const KIND: Kind = Kind::TailscaleGatewayParameters;

#[track_caller]
fn refused(spec: Value, problem: &str) {
    let parsed = parse(KIND, sample_with(KIND, "/spec", spec));
    assert_eq!(found(&parsed), [format!("SchemaViolation {problem}")]);
    assert_eq!(parsed.object, None);
}

fn spec(spec: Value) -> TailscaleGatewayParametersSpec {
    match accepted(KIND, sample_with(KIND, "/spec", spec)) {
        Object::TailscaleGatewayParameters(object) => object.spec.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    refused(
        json!({"replicas": 1, "autoscaling": {"maxReplicas": 2}}),
        "spec: replicas and autoscaling exclude each other",
    );
    refused(
        json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}),
        "spec.autoscaling: minReplicas must be at most maxReplicas",
    );
    refused(
        json!({"service": {"type": "ClusterIP", "externalTrafficPolicy": "Local"}}),
        "spec.service: externalTrafficPolicy has no meaning with type ClusterIP",
    );
    for field in [
        json!({"loadBalancerClass": "a"}),
        json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
        json!({"allocateLoadBalancerNodePorts": false}),
    ] {
        for type_ in ["NodePort", "ClusterIP"] {
            let mut service = field.clone();
            service["type"] = json!(type_);
            refused(
                json!({"service": service}),
                "spec.service: loadBalancerClass, loadBalancerSourceRanges and allocateLoadBalancerNodePorts need type \
                 LoadBalancer",
            );
        }
        spec(json!({"service": field}));
    }
    for service in [json!({}), json!({"ipFamilyPolicy": "SingleStack"})] {
        let mut service = service;
        service["ipFamilies"] = json!(["IPv4", "IPv6"]);
        refused(
            json!({"service": service}),
            "spec.service: two ipFamilies need ipFamilyPolicy PreferDualStack or RequireDualStack",
        );
    }
    refused(json!({"accessLog": {"text": "a"}}), "spec.accessLog: text needs type Text");
    refused(json!({"accessLog": {"type": "Text", "json": {"a": "b"}}}), "spec.accessLog: json needs type Json");
    for budget in [json!({}), json!({"minAvailable": 1, "maxUnavailable": "50%"})] {
        refused(
            json!({"podDisruptionBudget": budget}),
            "spec.podDisruptionBudget: one of minAvailable and maxUnavailable is needed, and not both",
        );
    }
    spec(json!({
        "autoscaling": {"minReplicas": 2, "maxReplicas": 2},
        "service": {"type": "NodePort", "externalTrafficPolicy": "Local"},
        "accessLog": {"type": "Json", "json": {"a": "b"}},
        "podDisruptionBudget": {"minAvailable": "50%"},
    }));
}

/// What the class says, what the Gateway says, and what comes of it.
#[track_caller]
fn merged(class: Value, gateway: Value, both: Value) {
    assert_eq!(spec(gateway).over(spec(class)), spec(both));
}

#[test]
fn a_field_of_the_gateways_wins_over_the_classs_and_the_rest_stays() {
    merged(
        json!({"replicas": 2, "image": "a", "podLabels": {"a": "1"}, "tolerations": [{"key": "x"}]}),
        json!({"image": "b", "podLabels": {"b": "2"}, "tolerations": []}),
        json!({"replicas": 2, "image": "b", "podLabels": {"b": "2"}, "tolerations": []}),
    );
    merged(json!({"drainSeconds": 5}), json!({}), json!({"drainSeconds": 5}));
}

#[test]
fn every_field_is_taken_from_the_class_and_from_the_gateway() {
    let every = |text: &str, number: u32| {
        json!({
            "replicas": number,
            "image": text,
            "imagePullPolicy": if number == 1 { "Always" } else { "Never" },
            "imagePullSecrets": [{"name": text}],
            "resources": {"limits": {"cpu": text}},
            "service": {
                "type": "LoadBalancer",
                "annotations": {"a": text},
                "externalTrafficPolicy": if number == 1 { "Local" } else { "Cluster" },
                "loadBalancerClass": text,
                "loadBalancerSourceRanges": [text],
                "allocateLoadBalancerNodePorts": number == 1,
                "ipFamilyPolicy": if number == 1 { "PreferDualStack" } else { "RequireDualStack" },
                "ipFamilies": if number == 1 { ["IPv4", "IPv6"] } else { ["IPv6", "IPv4"] },
            },
            "nodeSelector": {"a": text},
            "tolerations": [{"key": text}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": number, "preference": {}}
            ]}},
            "topologySpreadConstraints": [{"maxSkew": number, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway"}],
            "priorityClassName": text,
            "podAnnotations": {"a": text},
            "podLabels": {"a": text},
            "logLevel": if number == 1 { "debug" } else { "error" },
            "accessLog": {"type": "Text", "text": text},
            "routeTables": if number == 1 { "Divided" } else { "Whole" },
            "drainSeconds": number,
            "podDisruptionBudget": {"minAvailable": number},
        })
    };
    let (one, two) = (every("one", 1), every("two", 2));
    merged(one.clone(), two.clone(), two.clone());
    merged(one.clone(), json!({}), one.clone());
    merged(json!({}), two.clone(), two.clone());
    merged(one.clone(), json!({"service": {}}), one);
    // Every field there is stands above, but for the two that exclude others.
    let properties = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let schema = tailscale_gateway::api::crds().into_iter().find(|crd| crd.spec.names.kind == KIND.as_str()).unwrap();
    let schema = serde_json::to_value(schema).unwrap();
    let schema = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let mut known = properties(schema);
    known.retain(|field| field != "autoscaling");
    assert_eq!(properties(&two), known);
    assert_eq!(properties(&two["service"]), properties(&schema["service"]["properties"]));
}

#[test]
fn a_number_of_pods_takes_the_place_of_an_autoscaler_and_the_other_way_round() {
    let scaled = || json!({"autoscaling": {"maxReplicas": 9}});
    let fixed = || json!({"replicas": 3});
    merged(scaled(), fixed(), fixed());
    merged(fixed(), scaled(), scaled());
}

#[test]
fn the_classs_fields_that_the_gateways_type_of_service_has_no_use_for_are_left_out() {
    let class = || {
        json!({"service": {
            "annotations": {"a": "b"},
            "externalTrafficPolicy": "Local",
            "loadBalancerClass": "x",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "allocateLoadBalancerNodePorts": false,
        }})
    };
    merged(
        class(),
        json!({"service": {"type": "ClusterIP"}}),
        json!({"service": {"type": "ClusterIP", "annotations": {"a": "b"}}}),
    );
    merged(
        class(),
        json!({"service": {"type": "NodePort"}}),
        json!({"service": {"type": "NodePort", "annotations": {"a": "b"}, "externalTrafficPolicy": "Local"}}),
    );
}

#[test]
fn a_gateway_that_wants_one_family_does_not_get_the_classs_two() {
    let class = || json!({"service": {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}});
    let single = || json!({"service": {"ipFamilyPolicy": "SingleStack"}});
    merged(class(), single(), single());
    let preferred = || json!({"service": {"ipFamilyPolicy": "PreferDualStack"}});
    merged(
        class(),
        preferred(),
        json!({"service": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}}),
    );
}

#[test]
fn a_format_with_what_every_envoy_knows_is_taken() {
    for format in [
        "",
        "plain text\n",
        "%%",
        "100%% %PROTOCOL%",
        "%UPSTREAM_HOST%%RESPONSE_CODE%",
        "%RESPONSE_CODE%:%DURATION%",
        "%REQ(:PATH)%",
        "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):80%",
        "%RESP(a)% %TRAILER(a_b.c~):4294967295%",
        "%START_TIME%",
        "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ %z)%",
        "%EMIT_TIME_LOCAL()%",
    ] {
        assert_eq!(check_format(format), Ok(()), "{format}");
    }
    for (name, format) in DEFAULT_JSON {
        assert_eq!(check_format(format), Ok(()), "{name}");
    }
}

#[test]
fn a_format_that_some_envoy_refuses_is_not_sent_to_it() {
    let unknown = |name: &str| FormatProblem::Unknown(name.to_owned());
    let argument = |name: &str| FormatProblem::Argument(name.to_owned());
    for (format, problem) in [
        ("a % b", FormatProblem::Stray),
        ("100%", FormatProblem::Stray),
        ("%%%", FormatProblem::Stray),
        ("%path%", FormatProblem::Stray),
        ("100%OK", FormatProblem::Stray),
        ("%NO_SUCH_THING%", unknown("NO_SUCH_THING")),
        ("%DYNAMIC_METADATA(a:b)%", unknown("DYNAMIC_METADATA")),
        ("%PROTOCOL", argument("PROTOCOL")),
        ("%PROTOCOL(a)%", argument("PROTOCOL")),
        ("%BYTES_SENT:5%", argument("BYTES_SENT")),
        ("%REQ%", argument("REQ")),
        ("%REQ()%", argument("REQ")),
        ("%REQ(a b)%", argument("REQ")),
        ("%REQ(a\n)%", argument("REQ")),
        ("%REQ(ä)%", argument("REQ")),
        ("%REQ(A?B?C)%", argument("REQ")),
        ("%REQ(A?)%", argument("REQ")),
        ("%REQ(A", argument("REQ")),
        ("%REQ(A)x%", argument("REQ")),
        ("%REQ(A):%", argument("REQ")),
        ("%REQ(A):x%", argument("REQ")),
        ("%REQ(A):4294967296%", argument("REQ")),
        ("%START_TIME:3%", argument("START_TIME")),
        ("%START_TIME(%Y):3%", argument("START_TIME")),
        ("%START_TIME(%n)%", argument("START_TIME")),
        ("%START_TIME(a%-5En)%", argument("START_TIME")),
        ("%START_TIME(a\nb)%", argument("START_TIME")),
    ] {
        assert_eq!(check_format(format), Err(problem), "{format}");
    }
}

/// Commits objects and says how many resources of each type that made or changed.
fn commit(pipeline: &mut Pipeline, objects: impl IntoIterator<Item = (Kind, Value)>) -> Vec<(TypeUrl, usize)> {
    let changes = objects.into_iter().map(|(kind, value)| Change::Upsert(accepted(kind, value)));
    pipeline.apply(changes.collect::<Vec<_>>()).resources.into_iter().collect()
}

#[test]
fn parameters_change_the_listeners_of_the_gateways_that_refer_to_them_by_their_access_log_only() {
    let mut pipeline = Pipeline::new(Compiler::default(), Arc::new(SnapshotCache::new()));
    let reference = json!({"group": "gateway.tailscale.com", "kind": KIND.as_str(), "name": "sample"});
    let gateway = |name: &str, infrastructure: Value| {
        let mut gateway = crate::api::sample(Kind::Gateway);
        gateway["metadata"]["name"] = json!(name);
        gateway["spec"]["infrastructure"] = infrastructure;
        (Kind::Gateway, gateway)
    };
    let parameters = |spec: Value| [(KIND, sample_with(KIND, "/spec", spec))];
    commit(&mut pipeline, [gateway("one", json!({"parametersRef": reference})), gateway("other", json!({}))]);
    assert_eq!(commit(&mut pipeline, parameters(json!({"replicas": 1}))), []);
    assert_eq!(commit(&mut pipeline, parameters(json!({"replicas": 2}))), []);
    let log = json!({"accessLog": {"type": "Text"}});
    assert_eq!(commit(&mut pipeline, parameters(log)), [(TypeUrl::Listener, 1)]);
}
