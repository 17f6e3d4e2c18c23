//! Parsing: what is refused, in which words, what is filled in, and that nothing panics.

use std::time::Duration as StdDuration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tailscale_gateway::{
    api::{
        Duration, EndpointProtocol, FromNamespaces, HttpPathMatch, HttpRoute, HttpRouteRule, InvalidDuration, Object,
        Parsed, PathMatchType, TlsMode, parse,
    },
    model::{Kind, ObjectKey, ObjectName, Reason},
};

/// A manifest of each kind that is accepted without a finding.
pub(crate) fn sample(kind: Kind) -> Value {
    let spec = match kind {
        Kind::GatewayClass => json!({ "controllerName": "gateway.tailscale.com/gateway-controller" }),
        Kind::Gateway => json!({
            "gatewayClassName": "tailscale",
            "listeners": [{ "name": "http", "port": 80, "protocol": "HTTP" }],
        }),
        Kind::HttpRoute => json!({
            "parentRefs": [{ "name": "web" }],
            "rules": [{ "backendRefs": [{ "name": "app", "port": 8080 }] }],
        }),
        Kind::GrpcRoute => json!({
            "parentRefs": [{ "name": "web" }],
            "rules": [{
                "matches": [{ "method": { "service": "chat.Chat" }, "headers": [{ "name": "a", "value": "b" }] }],
                "backendRefs": [{ "name": "app", "port": 8080 }],
            }],
        }),
        Kind::TlsRoute => json!({
            "parentRefs": [{ "name": "web" }],
            "hostnames": ["*.example.com"],
            "rules": [{ "backendRefs": [{ "name": "app", "port": 8443 }] }],
        }),
        Kind::TcpRoute | Kind::UdpRoute => json!({
            "parentRefs": [{ "name": "web" }],
            "rules": [{ "backendRefs": [{ "name": "app", "port": 5353, "weight": 3 }] }],
        }),
        Kind::ListenerSet => json!({
            "parentRef": { "name": "web" },
            "listeners": [{ "name": "http", "port": 8080, "protocol": "HTTP" }],
        }),
        Kind::ReferenceGrant => json!({
            "from": [{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop" }],
            "to": [{ "group": "", "kind": "Service" }],
        }),
        Kind::Namespace => json!({}),
        Kind::Service => {
            json!({ "ports": [{ "port": 80, "targetPort": "http" }, { "name": "b", "port": 81, "targetPort": 8081 }] })
        }
        Kind::EndpointSlice => {
            return json!({
                "metadata": { "name": "sample", "labels": { "kubernetes.io/service-name": "app" } },
                "addressType": "IPv4",
                "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": true } }],
                "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            });
        }
        Kind::Secret => {
            return json!({ "metadata": { "name": "sample" }, "type": "Opaque", "data": { "key": "dmFsdWU=" } });
        }
        Kind::ConfigMap => return json!({ "metadata": { "name": "sample" }, "data": { "ca.crt": "PEM" } }),
        Kind::CustomResourceDefinition => return json!({ "metadata": { "name": "sample" } }),
        Kind::TailscaleTailnet => json!({ "oauthSecretName": "oauth" }),
        Kind::TailscaleGateway => json!({
            "gatewayRef": { "name": "web" },
            "tailnets": [{ "name": "corp", "tailscaleTailnetRef": { "name": "corp" } }],
        }),
        Kind::TailscaleGatewayParameters => json!({ "replicas": 3, "service": { "type": "NodePort" } }),
        Kind::TailscaleEndpoints => json!({
            "tailnet": "corp",
            "endpoints": [{ "name": "bin", "port": 80, "externalTarget": "httpbin.org:80", "healthCheck": {} }],
            "autoDiscovery": {},
        }),
        Kind::TailscaleRoutePolicy => json!({
            "targetRefs": [{ "name": "web" }],
            "rules": [{ "actions": [{ "type": "Redirect", "redirect": { "scheme": "https" } }] }],
        }),
        Kind::TailscaleProxyGroup => json!({ "type": "Ingress", "tailnet": "corp" }),
        Kind::TailscaleService => json!({ "vipService": { "ports": ["tcp:80"], "tags": ["tag:web"] } }),
        Kind::TailscaleServices => json!({ "selector": { "matchLabels": { "app": "web" } } }),
        Kind::TailscaleGatewayRevision => json!({
            "targetRefs": [{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "web" }],
            "revision": "0123456789abcdef0123456789abcdef",
        }),
    };
    json!({ "metadata": { "name": "sample" }, "spec": spec })
}

/// A sample with the value at a JSON Pointer replaced; parents that are missing are made.
pub(crate) fn sample_with(kind: Kind, pointer: &str, value: Value) -> Value {
    let mut manifest = sample(kind);
    let mut here = &mut manifest;
    for part in pointer.split('/').skip(1) {
        here = match here {
            Value::Array(items) => {
                let index: usize = part.parse().unwrap();
                if index == items.len() {
                    items.push(Value::Null);
                }
                &mut items[index]
            }
            other => {
                if !other.is_object() {
                    *other = json!({});
                }
                other.as_object_mut().unwrap().entry(part).or_insert(Value::Null)
            }
        };
    }
    *here = value;
    manifest
}

/// The findings as `reason field: message`.
pub(crate) fn found(parsed: &Parsed) -> Vec<String> {
    parsed.findings.iter().map(|finding| format!("{} {}: {}", finding.reason, finding.field, finding.message)).collect()
}

pub(crate) fn accepted(kind: Kind, manifest: Value) -> Object {
    let parsed = parse(kind, manifest);
    assert_eq!(found(&parsed), Vec::<String>::new());
    parsed.object.unwrap()
}

fn route(manifest: Value) -> HttpRoute {
    match accepted(Kind::HttpRoute, manifest) {
        Object::HttpRoute(route) => (*route).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_manifest_of_every_kind_is_accepted_without_a_finding_and_survives_a_round_trip() {
    for kind in Kind::ALL {
        let object = accepted(kind, sample(kind));
        assert_eq!(object.kind(), kind);
        let namespace = if kind.namespaced() { "default" } else { "" };
        assert_eq!(object.key(), ObjectKey::new(kind, ObjectName::new(namespace, "sample")));
        let written = object.to_json();
        assert_eq!(written["kind"], kind.as_str());
        assert_eq!(accepted(kind, written), object);
    }
}

#[test]
fn every_version_of_a_kind_is_read_as_the_same_object() {
    for kind in Kind::ALL {
        for version in kind.versions() {
            let mut manifest = sample(kind);
            manifest["apiVersion"] = json!(format!("{}/{version}", kind.group()));
            manifest["kind"] = json!(kind.as_str());
            assert_eq!(accepted(kind, manifest), accepted(kind, sample(kind)), "{kind} {version}");
        }
    }
}

#[test]
fn an_http_route_gets_the_defaults_of_gateway_api() {
    let spec = route(sample(Kind::HttpRoute)).spec;
    assert_eq!(
        (spec.parent_refs[0].group.as_str(), spec.parent_refs[0].kind.as_str()),
        ("gateway.networking.k8s.io", "Gateway")
    );
    let rule = &spec.rules[0];
    assert_eq!(rule.matches.len(), 1);
    assert_eq!(rule.matches[0].path, HttpPathMatch { type_: PathMatchType::PathPrefix, value: "/".into() });
    let backend = &rule.backend_refs[0];
    assert_eq!((backend.object.group.as_str(), backend.object.kind.as_str(), backend.weight), ("", "Service", 1));

    let spec = route(json!({ "metadata": { "name": "bare" }, "spec": {} })).spec;
    assert_eq!(spec.rules, [HttpRouteRule::default()]);
}

#[test]
fn an_empty_list_of_matches_takes_every_request_as_no_list_does() {
    let empty = route(sample_with(Kind::HttpRoute, "/spec/rules/0/matches", json!([])));
    assert_eq!(empty, route(sample(Kind::HttpRoute)));
    let without_path = route(sample_with(Kind::HttpRoute, "/spec/rules/0/matches", json!([{ "method": "GET" }])));
    assert_eq!(without_path.spec.rules[0].matches[0].path, HttpPathMatch::default());
}

#[test]
fn filters_get_the_defaults_of_gateway_api() {
    let filters = json!([
        { "type": "CORS", "cors": { "allowOrigins": ["*"] } },
        { "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "b", "port": 1 }, "fraction": { "numerator": 5 } } },
    ]);
    let spec = route(sample_with(Kind::HttpRoute, "/spec/rules/0/filters", filters)).spec;
    assert_eq!(spec.rules[0].filters[0].cors.as_ref().unwrap().max_age, 5);
    assert_eq!(spec.rules[0].filters[1].request_mirror.as_ref().unwrap().fraction.unwrap().denominator, 100);
    let redirect = json!({ "metadata": { "name": "r" }, "spec": { "rules": [{ "filters": [{ "type": "RequestRedirect", "requestRedirect": {} }] }] } });
    assert_eq!(route(redirect).spec.rules[0].filters[0].request_redirect.as_ref().unwrap().status_code, 302);
}

#[test]
fn a_gateway_and_endpoints_get_their_defaults() {
    let manifest = sample_with(
        Kind::Gateway,
        "/spec/listeners/1",
        json!({ "name": "https", "port": 443, "protocol": "HTTPS", "tls": { "certificateRefs": [{ "name": "c" }] } }),
    );
    let Object::Gateway(gateway) = accepted(Kind::Gateway, manifest) else { panic!() };
    assert_eq!(gateway.spec.listeners[0].allowed_routes.namespaces.from, FromNamespaces::Same);
    let tls = gateway.spec.listeners[1].tls.as_ref().unwrap();
    assert_eq!((tls.mode, tls.certificate_refs[0].kind.as_str()), (TlsMode::Terminate, "Secret"));

    let Object::TailscaleEndpoints(object) = accepted(Kind::TailscaleEndpoints, sample(Kind::TailscaleEndpoints))
    else {
        panic!()
    };
    let endpoint = &object.spec.endpoints[0];
    assert_eq!((endpoint.protocol, endpoint.weight), (EndpointProtocol::Http, 1));
    let check = endpoint.health_check.as_ref().unwrap();
    assert_eq!((check.enabled, check.path.as_str()), (true, "/health"));
    assert_eq!(
        (check.interval.as_std(), check.timeout.as_std()),
        (StdDuration::from_secs(10), StdDuration::from_secs(3))
    );
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (2, 3));
    assert_eq!(object.spec.auto_discovery.as_ref().unwrap().sync_interval.as_std(), StdDuration::from_secs(30));
}

#[test]
fn a_field_that_the_kind_does_not_have_is_named_and_ignored() {
    let cases = [
        (Kind::HttpRoute, "/spec/rules/0/backendref", "spec.rules[0].backendref"),
        (Kind::HttpRoute, "/spec/rules/0/backendRefs/0/wieght", "spec.rules[0].backendRefs[0].wieght"),
        (Kind::HttpRoute, "/sepc", "sepc"),
        (Kind::GrpcRoute, "/spec/rules/0/matches/0/methd", "spec.rules[0].matches[0].methd"),
        (Kind::TcpRoute, "/spec/rules/0/filters", "spec.rules[0].filters"),
        (Kind::UdpRoute, "/spec/hostnames", "spec.hostnames"),
        (Kind::ListenerSet, "/spec/listeners/0/hostnam", "spec.listeners[0].hostnam"),
        (Kind::HttpRoute, "/metadata/label", "metadata.label"),
        (Kind::Service, "/spec/ports/0/targetport", "spec.ports[0].targetport"),
        (Kind::EndpointSlice, "/endpoints/0/conditions/redy", "endpoints[0].conditions.redy"),
        (Kind::Secret, "/stringdata", "stringdata"),
        (Kind::TailscaleEndpoints, "/spec/endpoints/0/tailscaleIp", "spec.endpoints[0].tailscaleIp"),
    ];
    for (kind, pointer, field) in cases {
        let parsed = parse(kind, sample_with(kind, pointer, json!({ "any": [1] })));
        let message =
            format!("UnknownField {field}: is not a field of {kind} and is ignored; check its spelling and its place");
        assert_eq!(found(&parsed), [message]);
        assert_eq!(parsed.object.unwrap(), accepted(kind, sample(kind)));
    }
}

#[test]
fn a_null_is_as_good_as_no_field() {
    for kind in Kind::ALL {
        let mut manifest = sample(kind);
        for pointer in ["/metadata/annotations", "/metadata/namespace", "/status"] {
            manifest = {
                let mut with_null = manifest.clone();
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                with_null.pointer_mut(parent).unwrap()[name] = Value::Null;
                with_null
            };
        }
        assert_eq!(accepted(kind, manifest), accepted(kind, sample(kind)));
    }
    let nulls = json!({ "matches": null, "filters": null, "name": null, "backendRefs": [{ "name": "app", "port": 8080, "weight": null, "group": null }] });
    assert_eq!(route(sample_with(Kind::HttpRoute, "/spec/rules/0", nulls)), route(sample(Kind::HttpRoute)));
}

#[test]
fn the_namespace_of_a_cluster_scoped_object_is_ignored_with_a_word() {
    let parsed = parse(Kind::TailscaleTailnet, sample_with(Kind::TailscaleTailnet, "/metadata/namespace", json!("x")));
    assert_eq!(
        found(&parsed),
        ["UnknownField metadata.namespace: is ignored: a TailscaleTailnet belongs to no namespace"]
    );
    assert_eq!(parsed.object.unwrap(), accepted(Kind::TailscaleTailnet, sample(Kind::TailscaleTailnet)));
}

#[test]
fn a_secret_takes_plain_text_over_base64_and_base64_of_several_lines() {
    let manifest = json!({
        "metadata": { "name": "sample" },
        "stringData": { "a": "plain", "b": "over" },
        "data": { "b": "dW5kZXI=", "c": "dmFs\ndWU=\n" },
    });
    let Object::Secret(secret) = accepted(Kind::Secret, manifest) else { panic!() };
    let data = secret.data.as_ref().unwrap();
    let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    assert_eq!((text("a"), text("b"), text("c")), ("plain".into(), "over".into(), "value".into()));
    assert_eq!(secret.string_data, None);
}

#[test]
fn a_namespace_has_its_name_as_a_label() {
    let Object::Namespace(namespace) = accepted(Kind::Namespace, sample(Kind::Namespace)) else { panic!() };
    assert_eq!(namespace.metadata.labels.as_ref().unwrap()["kubernetes.io/metadata.name"], "sample");
}

#[test]
fn a_status_is_kept_when_it_can_be_read_and_dropped_when_not() {
    let condition = json!({
        "type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2025-06-23T10:00:00Z",
    });
    let status = json!({ "parents": [{ "parentRef": { "name": "web" }, "controllerName": "a.b/c", "conditions": [condition] }] });
    let kept = route(sample_with(Kind::HttpRoute, "/status", status));
    assert_eq!(kept.status.unwrap().parents[0].conditions[0].type_, "Accepted");
    let dropped = route(sample_with(Kind::HttpRoute, "/status", json!({ "parents": 7, "other": true })));
    assert_eq!(dropped, route(sample(Kind::HttpRoute)));
}

#[test]
fn what_is_no_mapping_is_refused_as_a_whole() {
    for value in [json!(null), json!([]), json!("text"), json!(1.5)] {
        let parsed = parse(Kind::Gateway, value);
        assert_eq!(parsed.object, None);
        assert_eq!((parsed.findings[0].field.as_str(), parsed.findings[0].reason), ("", Reason::SchemaViolation));
    }
}

#[test]
fn durations_are_read_as_go_reads_them() {
    let good = [
        ("10s", 10_000_000_000),
        ("1m30s", 90_000_000_000),
        ("500ms", 500_000_000),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("0", 0),
        ("+5s", 5_000_000_000),
        ("3us", 3_000),
        ("3µs", 3_000),
        ("3μs", 3_000),
        ("7ns", 7),
        ("1h1m1s1ms1us1ns", 3_661_001_001_001),
        ("0.0000000001s", 0),
    ];
    for (text, nanoseconds) in good {
        let duration: Duration = text.parse().unwrap();
        assert_eq!(duration.as_std(), StdDuration::from_nanos(nanoseconds), "{text}");
        assert_eq!(duration.as_str(), text);
    }
    for text in ["", "10", "s", "10 s", "1d", "10S", "+", ".s", "1e3s", "１s", "10s ", "1..5s"] {
        assert_eq!(text.parse::<Duration>(), Err(InvalidDuration::Syntax), "{text}");
    }
    assert_eq!("-1s".parse::<Duration>(), Err(InvalidDuration::Negative));
    for text in
        ["9999999999999999h", "99999999999999999999999999999999999999999999s", "9223372036854775808ns", "2562048h"]
    {
        assert_eq!(text.parse::<Duration>(), Err(InvalidDuration::TooLong), "{text}");
    }
    assert_eq!("60s".parse::<Duration>().unwrap(), "1m".parse().unwrap());
}

/// The pattern lets through what only arithmetic can refuse.
#[test]
fn a_duration_that_is_too_long_is_refused_with_its_field() {
    let parsed = parse(
        Kind::TailscaleEndpoints,
        sample_with(Kind::TailscaleEndpoints, "/spec/endpoints/0/healthCheck/interval", json!("9999999999h")),
    );
    assert_eq!(
        found(&parsed),
        ["SchemaViolation spec.endpoints[0].healthCheck.interval: can not be read: must not be longer than 292 years"]
    );
}

/// Every pointer into a value, the root left out.
fn pointers(value: &Value, here: &str, all: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => return,
    };
    for (name, member) in members {
        let pointer = format!("{here}/{name}");
        all.push(pointer.clone());
        pointers(member, &pointer, all);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-zµ*/.:0-9%-]{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "10s", "Exact", "HTTP", "/", "*", "svc:a", "1h1h1h1h", "::1", "-", "tag:a", "dmFsdWU="
        ])
        .prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "name",
        "namespace",
        "spec",
        "metadata",
        "labels",
        "type",
        "value",
        "path",
        "port",
        "rules",
        "matches",
        "filters",
        "status",
        "data",
        "stringData",
        "listeners",
        "tls",
        "endpoints",
        "0",
        "",
        "a.b/c",
        "~",
        "%",
    ]);
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|members| Value::Object(
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn parsing_never_panics_and_refuses_with_a_reason(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any_json()), 0..4),
        whole in prop::option::weighted(0.1, any_json()),
    ) {
        let mut manifest = whole.unwrap_or_else(|| sample(kind));
        for (place, value) in edits {
            let mut all = Vec::new();
            pointers(&manifest, "", &mut all);
            if !all.is_empty()
                && let Some(target) = manifest.pointer_mut(place.get(&all[..]).as_str())
            {
                *target = value;
            }
        }
        let parsed = parse(kind, manifest);
        let refused = parsed.findings.iter().any(|finding| finding.reason == Reason::SchemaViolation);
        prop_assert_eq!(parsed.object.is_none(), refused);
        for finding in &parsed.findings {
            prop_assert!(!finding.message.is_empty() && !finding.message.contains('\n'), "{:?}", finding);
        }
        if let Some(object) = parsed.object {
            let again = parse(kind, object.to_json());
            prop_assert_eq!(again.object.as_ref(), Some(&object), "{:?}", again.findings);
        }
    }
}
