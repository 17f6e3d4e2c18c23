//! What is refused, in which words: schemas, names, limits, and the rules that no schema can say.

use serde_json::{Value, json};
use tailscale_gateway::{api::parse, model::Kind};

use crate::api::{accepted, found, sample_with};

/// Asserts that one value in an otherwise good manifest is refused with one finding.
#[track_caller]
fn refused(kind: Kind, pointer: &str, value: Value, field: &str, message: &str) {
    let parsed = parse(kind, sample_with(kind, pointer, value));
    assert_eq!(found(&parsed), [format!("SchemaViolation {field}: {message}")]);
    assert_eq!(parsed.object, None);
}

#[track_caller]
fn taken(kind: Kind, pointer: &str, value: Value) {
    accepted(kind, sample_with(kind, pointer, value));
}

#[test]
fn routes_of_other_kinds_are_refused_where_an_api_server_refuses_them() {
    use Kind::{GrpcRoute, TcpRoute, TlsRoute, UdpRoute};
    let parents = json!([{ "name": "web" }, { "name": "web" }]);
    for kind in [GrpcRoute, TlsRoute, TcpRoute, UdpRoute] {
        let field = "spec.parentRefs[1].sectionName";
        let message = "must differ from that of the other references to the same parent";
        refused(kind, "/spec/parentRefs", parents.clone(), field, message);
        let backends = json!([{ "name": "app" }]);
        let field = "spec.rules[0].backendRefs[0].port";
        refused(kind, "/spec/rules/0/backendRefs", backends, field, "is required for a Service");
        let ours = json!([{ "group": "gateway.tailscale.com", "kind": "TailscaleEndpoints", "name": "machines" }]);
        taken(kind, "/spec/rules/0/backendRefs", ours);
    }
    refused(
        GrpcRoute,
        "/spec/rules/0/filters",
        json!([{ "type": "URLRewrite", "urlRewrite": { "hostname": "b" } }]),
        "spec.rules[0].filters[0].type",
        "must be one of RequestHeaderModifier, ResponseHeaderModifier, RequestMirror, ExtensionRef in a GRPCRoute",
    );
    for kind in [TlsRoute, TcpRoute, UdpRoute] {
        let message = "must have at least 1 entry; it has 0";
        refused(kind, "/spec/rules", json!([]), "spec.rules", message);
    }
}

#[test]
fn what_a_schema_refuses_is_said_with_the_field_and_what_to_write() {
    use Kind::{
        ConfigMap, EndpointSlice, Gateway, HttpRoute, Service, TailscaleEndpoints, TailscaleGatewayRevision,
        TailscaleProxyGroup,
    };
    refused(
        HttpRoute,
        "/spec/rules/0/matches",
        json!([{}, { "path": { "type": "Regex" } }]),
        "spec.rules[0].matches[1].path.type",
        "must be one of Exact, PathPrefix, RegularExpression; got Regex",
    );
    refused(
        HttpRoute,
        "/spec/rules/0/backendRefs/0/port",
        json!(70000),
        "spec.rules[0].backendRefs[0].port",
        "must be at most 65535; got 70000",
    );
    refused(
        HttpRoute,
        "/spec/rules/0/backendRefs/0/port",
        json!(0),
        "spec.rules[0].backendRefs[0].port",
        "must be at least 1; got 0",
    );
    refused(
        HttpRoute,
        "/spec/rules/0/backendRefs/0/port",
        json!("8080"),
        "spec.rules[0].backendRefs[0].port",
        "must be a whole number; got 8080",
    );
    refused(
        HttpRoute,
        "/spec/rules/0/timeouts",
        json!({ "request": "10 s" }),
        "spec.rules[0].timeouts.request",
        "must be a duration such as 10s, 1m30s or 500ms: one to four whole numbers, each with h, m, s or ms; got 10 s",
    );
    refused(
        HttpRoute,
        "/spec/hostnames",
        json!(["Example.com"]),
        "spec.hostnames[0]",
        "must be a hostname: lower-case letters, digits, inner dashes and dots, and *. at most in front; got Example.com",
    );
    refused(
        HttpRoute,
        "/spec/rules/0/matches",
        json!([{ "headers": [{ "name": "x", "value": "" }] }]),
        "spec.rules[0].matches[0].headers[0].value",
        "must not be empty",
    );
    refused(
        HttpRoute,
        "/spec/rules/0/matches",
        json!([{ "headers": [{ "name": "x", "value": true }] }]),
        "spec.rules[0].matches[0].headers[0].value",
        "must be a text; got true; put it in quotes",
    );
    refused(
        HttpRoute,
        "/spec/rules/0/matches",
        json!([{ "queryParams": [{ "name": "a", "value": "1" }, { "name": "b", "value": "1" }, { "name": "a", "value": "2" }] }]),
        "spec.rules[0].matches[0].queryParams[2]",
        "must differ from entry 0 in name",
    );
    refused(
        HttpRoute,
        "/spec/parentRefs",
        json!({ "name": "web" }),
        "spec.parentRefs",
        "must be a list; got a mapping",
    );
    refused(HttpRoute, "/spec/parentRefs", json!([null]), "spec.parentRefs[0]", "must be a mapping; got null");
    refused(Gateway, "/spec/gatewayClassName", Value::Null, "spec.gatewayClassName", "is required");
    refused(Gateway, "/spec/listeners", json!([]), "spec.listeners", "must have at least 1 entry; it has 0");
    refused(
        TailscaleEndpoints,
        "/spec/endpoints/0/protocol",
        json!("FTP"),
        "spec.endpoints[0].protocol",
        "must be one of HTTP, HTTPS, TCP, UDP, TLS, GRPC; got FTP",
    );
    refused(
        TailscaleEndpoints,
        "/spec/endpoints/0/weight",
        json!(101),
        "spec.endpoints[0].weight",
        "must be at most 100; got 101",
    );
    refused(
        TailscaleEndpoints,
        "/spec/endpoints/0/name",
        json!("Web"),
        "spec.endpoints[0].name",
        "must be a DNS label: lower-case letters, digits and inner dashes; got Web",
    );
    refused(
        TailscaleEndpoints,
        "/spec/endpoints/0/healthCheck/interval",
        json!("-5s"),
        "spec.endpoints[0].healthCheck.interval",
        "must be a duration such as 10s, 1m30s or 500ms; got -5s",
    );
    refused(TailscaleProxyGroup, "/spec/type", json!("Both"), "spec.type", "must be one of Ingress, Egress; got Both");
    // An Envoy Gateway that meets a policy without a target does not get beyond it.
    let least = "must have at least 1 entry; it has 0";
    refused(TailscaleGatewayRevision, "/spec/targetRefs", json!([]), "spec.targetRefs", least);
    refused(Service, "/spec/ports/0/port", json!("http"), "spec.ports[0].port", "must be a whole number; got http");
    refused(
        Service,
        "/spec/ports/0/targetPort",
        json!([]),
        "spec.ports[0].targetPort",
        "must be a whole number or a text; got a list",
    );
    refused(EndpointSlice, "/endpoints/0/addresses", Value::Null, "endpoints[0].addresses", "is required");
    refused(ConfigMap, "/data/ca.crt", json!(1), "data[ca.crt]", "must be a text; got 1; put it in quotes");
    refused(
        ConfigMap,
        "/metadata/labels",
        json!({ "example.com/on": true }),
        "metadata.labels[example.com/on]",
        "must be a text; got true; put it in quotes",
    );
}

#[test]
fn names_and_namespaces_are_checked_as_an_api_server_does() {
    let long = "a".repeat(254);
    refused(Kind::HttpRoute, "/metadata/name", Value::Null, "metadata.name", "is required");
    refused(Kind::HttpRoute, "/metadata", Value::Null, "metadata.name", "is required");
    refused(
        Kind::HttpRoute,
        "/metadata",
        json!({ "generateName": "x-" }),
        "metadata.name",
        "is required; generateName has no meaning without an API server",
    );
    refused(Kind::HttpRoute, "/metadata", json!([]), "metadata", "must be a mapping; got a list");
    refused(
        Kind::HttpRoute,
        "/metadata/name",
        json!("My_Route"),
        "metadata.name",
        "must be a DNS name of at most 253 lower-case letters, digits, inner dashes and dots; got My_Route",
    );
    refused(
        Kind::HttpRoute,
        "/metadata/name",
        json!(long),
        "metadata.name",
        &format!(
            "must be a DNS name of at most 253 lower-case letters, digits, inner dashes and dots; got {}…",
            &long[..60]
        ),
    );
    refused(
        Kind::HttpRoute,
        "/metadata/name",
        json!("a..b"),
        "metadata.name",
        "must be a DNS name of at most 253 lower-case letters, digits, inner dashes and dots; got a..b",
    );
    refused(
        Kind::Namespace,
        "/metadata/name",
        json!("a.b"),
        "metadata.name",
        "must be a DNS label of at most 63 lower-case letters, digits and inner dashes; got a.b",
    );
    refused(
        Kind::HttpRoute,
        "/metadata/namespace",
        json!("a.b"),
        "metadata.namespace",
        "must be a DNS label of at most 63 lower-case letters, digits and inner dashes; got a.b",
    );
    taken(Kind::HttpRoute, "/metadata/name", json!("a.b-c.0"));
    let object = accepted(Kind::HttpRoute, sample_with(Kind::HttpRoute, "/metadata/namespace", json!("")));
    assert_eq!(&*object.key().name.namespace, "default");
}

#[test]
fn the_limits_are_those_of_gateway_api() {
    fn both(kind: Kind, pointer: &str, good: Value, bad: Value, field: &str, message: &str) {
        taken(kind, pointer, good);
        refused(kind, pointer, bad, field, message);
    }
    let hostnames = |count: usize| (0..count).map(|n| json!(format!("h{n}.example.com"))).collect::<Value>();
    both(
        Kind::HttpRoute,
        "/spec/hostnames",
        hostnames(16),
        hostnames(17),
        "spec.hostnames",
        "must have at most 16 entries; it has 17",
    );
    let rules = |count: usize| (0..count).map(|_| json!({})).collect::<Value>();
    both(Kind::HttpRoute, "/spec/rules", rules(16), rules(17), "spec.rules", "must have at most 16 entries; it has 17");
    refused(Kind::HttpRoute, "/spec/rules", json!([]), "spec.rules", "must have at least 1 entry; it has 0");
    let matches = |count: usize| (0..count).map(|n| json!({ "path": { "value": format!("/{n}") } })).collect::<Value>();
    both(
        Kind::HttpRoute,
        "/spec/rules/0/matches",
        matches(64),
        matches(65),
        "spec.rules[0].matches",
        "must have at most 64 entries; it has 65",
    );
    refused(
        Kind::HttpRoute,
        "/spec/rules",
        json!([{ "matches": matches(64) }, { "matches": matches(64) }, { "matches": matches(1) }]),
        "spec.rules",
        "must have at most 128 matches in all rules together; they have 129",
    );
    both(
        Kind::HttpRoute,
        "/spec/rules/0/backendRefs/0/weight",
        json!(1_000_000),
        json!(1_000_001),
        "spec.rules[0].backendRefs[0].weight",
        "must be at most 1000000; got 1000001",
    );
    both(
        Kind::HttpRoute,
        "/spec/rules/0/backendRefs/0/weight",
        json!(0),
        json!(-1),
        "spec.rules[0].backendRefs[0].weight",
        "must be at least 0; got -1",
    );
    let path = |length: usize| json!([{ "path": { "value": format!("/{}", "a".repeat(length - 1)) } }]);
    both(
        Kind::HttpRoute,
        "/spec/rules/0/matches",
        path(1024),
        path(1025),
        "spec.rules[0].matches[0].path.value",
        "must be at most 1024 characters long; it has 1025",
    );
    let listeners = |count: u16| {
        (0..count).map(|n| json!({ "name": format!("l{n}"), "port": 1000 + n, "protocol": "HTTP" })).collect::<Value>()
    };
    both(
        Kind::Gateway,
        "/spec/listeners",
        listeners(64),
        listeners(65),
        "spec.listeners",
        "must have at most 64 entries; it has 65",
    );
    let options = |count: usize| {
        let options: Value = Value::Object((0..count).map(|n| (format!("example.com/o{n}"), json!("v"))).collect());
        json!([{ "name": "s", "port": 443, "protocol": "HTTPS", "tls": { "options": options } }])
    };
    both(
        Kind::Gateway,
        "/spec/listeners",
        options(16),
        options(17),
        "spec.listeners[0].tls.options",
        "must have at most 16 entries; it has 17",
    );
    let label = |length: usize| json!({ "labels": { "a": "b".repeat(length) } });
    both(
        Kind::Gateway,
        "/spec/infrastructure",
        label(63),
        label(64),
        "spec.infrastructure.labels.a",
        "must be at most 63 characters long; it has 64",
    );
}

#[test]
fn a_route_that_breaks_a_rule_that_no_schema_can_say_is_refused() {
    let rule = |pointer: &str, value: Value, field: &str, message: &str| {
        refused(Kind::HttpRoute, &format!("/spec/rules/0{pointer}"), value, &format!("spec.rules[0]{field}"), message);
    };
    let path = |value: &str| json!([{ "path": { "type": "Exact", "value": value } }]);
    rule("/matches", path("api"), ".matches[0].path.value", "must begin with a slash; got api");
    rule("/matches", path("/a//b"), ".matches[0].path.value", "must not contain //; got /a//b");
    rule("/matches", path("/a/../b"), ".matches[0].path.value", "must not contain /../; got /a/../b");
    rule("/matches", path("/a%2Fb"), ".matches[0].path.value", "must not contain %2F; got /a%2Fb");
    rule("/matches", path("/a/."), ".matches[0].path.value", "must not end with /.; got /a/.");
    rule(
        "/matches",
        path("/a b"),
        ".matches[0].path.value",
        "must be made of letters, digits, -/._~!$&'()*+,;=:@ and percent-encoded bytes; got /a b",
    );
    rule(
        "/matches",
        path("/a%2"),
        ".matches[0].path.value",
        "must be made of letters, digits, -/._~!$&'()*+,;=:@ and percent-encoded bytes; got /a%2",
    );
    rule("/backendRefs", json!([{ "name": "app" }]), ".backendRefs[0].port", "is required for a Service");
    taken(
        Kind::HttpRoute,
        "/spec/rules/0/backendRefs",
        json!([{ "group": "gateway.tailscale.com", "kind": "TailscaleEndpoints", "name": "app" }]),
    );
    rule(
        "/timeouts",
        json!({ "request": "1s", "backendRequest": "1s1ms" }),
        ".timeouts.backendRequest",
        "must not be longer than request, which is 1s; got 1s1ms",
    );
    taken(Kind::HttpRoute, "/spec/rules/0/timeouts", json!({ "request": "0s", "backendRequest": "5s" }));
    rule(
        "/filters",
        json!([{ "type": "RequestRedirect", "requestRedirect": {} }]),
        ".filters[0]",
        "must not redirect in a rule with backendRefs",
    );
    rule(
        "/filters",
        json!([{ "type": "URLRewrite" }]),
        ".filters[0].urlRewrite",
        "is required when type is URLRewrite",
    );
    rule(
        "/filters",
        json!([{ "type": "URLRewrite", "urlRewrite": {}, "cors": {} }]),
        ".filters[0].cors",
        "must not be set when type is URLRewrite",
    );
    rule(
        "/filters",
        json!([{ "type": "URLRewrite", "urlRewrite": {} }, { "type": "URLRewrite", "urlRewrite": {} }]),
        ".filters[1]",
        "must not be a second filter of type URLRewrite",
    );
    rule(
        "/filters",
        json!([{ "type": "URLRewrite", "urlRewrite": { "path": { "type": "ReplaceFullPath" } } }]),
        ".filters[0].urlRewrite.path.replaceFullPath",
        "is required by type",
    );
    let prefix = json!([{ "type": "URLRewrite", "urlRewrite": { "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" } } }]);
    taken(Kind::HttpRoute, "/spec/rules/0/filters", prefix.clone());
    refused(
        Kind::HttpRoute,
        "/spec/rules",
        json!([{ "matches": path("/a"), "filters": prefix }]),
        "spec.rules[0].filters[0].urlRewrite.path.replacePrefixMatch",
        "needs a rule with exactly one match, whose path is of type PathPrefix",
    );
    let mirror = |extra: Value| {
        let mut mirror = json!({ "backendRef": { "name": "b", "port": 1 } });
        mirror.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([{ "type": "RequestMirror", "requestMirror": mirror }])
    };
    rule(
        "/filters",
        mirror(json!({ "percent": 1, "fraction": { "numerator": 1 } })),
        ".filters[0].requestMirror.fraction",
        "must not be set beside percent",
    );
    rule(
        "/filters",
        mirror(json!({ "fraction": { "numerator": 3, "denominator": 2 } })),
        ".filters[0].requestMirror.fraction.numerator",
        "must be at most the denominator",
    );
    rule(
        "/filters",
        mirror(json!({ "backendRef": { "name": "b" } })),
        ".filters[0].requestMirror.backendRef.port",
        "is required for a Service",
    );
    rule(
        "/filters",
        json!([{ "type": "CORS", "cors": { "allowOrigins": ["*", "https://a.example"] } }]),
        ".filters[0].cors.allowOrigins",
        "must not have * beside other entries",
    );
    refused(
        Kind::HttpRoute,
        "/spec/parentRefs",
        json!([{ "name": "web" }, { "name": "web" }]),
        "spec.parentRefs[1].sectionName",
        "must differ from that of the other references to the same parent",
    );
    refused(
        Kind::HttpRoute,
        "/spec/parentRefs",
        json!([{ "name": "web" }, { "name": "web", "sectionName": "a" }]),
        "spec.parentRefs[1].sectionName",
        "must be set in every reference, or in none, to the same parent",
    );
    taken(
        Kind::HttpRoute,
        "/spec/parentRefs",
        json!([{ "name": "web", "sectionName": "b" }, { "name": "web", "sectionName": "a" }]),
    );
}

#[test]
fn several_mirrors_stand_beside_each_other() {
    let mirror =
        json!({ "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "b", "port": 1 }, "percent": 0 } });
    taken(Kind::HttpRoute, "/spec/rules/0/filters", json!([mirror, mirror]));
}

#[test]
fn a_gateway_that_breaks_a_rule_that_no_schema_can_say_is_refused() {
    let listener = |value: Value, field: &str, message: &str| {
        refused(Kind::Gateway, "/spec/listeners/1", value, &format!("spec.listeners[1]{field}"), message);
    };
    listener(json!({ "name": "http", "port": 81, "protocol": "HTTP" }), "", "must differ from entry 0 in name");
    listener(
        json!({ "name": "b", "port": 80, "protocol": "HTTP" }),
        "",
        "must differ from listener http in port, protocol or hostname",
    );
    listener(
        json!({ "name": "b", "port": 81, "protocol": "HTTP", "tls": { "certificateRefs": [{ "name": "c" }] } }),
        ".tls",
        "must not be set with protocol HTTP",
    );
    listener(
        json!({ "name": "b", "port": 81, "protocol": "HTTPS", "tls": { "mode": "Passthrough" } }),
        ".tls.mode",
        "must be Terminate with protocol HTTPS",
    );
    listener(
        json!({ "name": "b", "port": 81, "protocol": "HTTPS", "tls": {} }),
        ".tls.certificateRefs",
        "must name a Secret when mode is Terminate",
    );
    listener(json!({ "name": "b", "port": 81, "protocol": "TLS" }), ".tls", "is required with protocol TLS");
    listener(
        json!({ "name": "b", "port": 81, "protocol": "TCP", "hostname": "a.example" }),
        ".hostname",
        "must not be set with protocol TCP",
    );
    taken(
        Kind::Gateway,
        "/spec/listeners/1",
        json!({ "name": "b", "port": 80, "protocol": "HTTP", "hostname": "*.example.com" }),
    );
    refused(
        Kind::Gateway,
        "/spec/addresses",
        json!([{ "value": "10.0.0.256" }]),
        "spec.addresses[0].value",
        "must be an IPv4 or IPv6 address",
    );
    refused(
        Kind::Gateway,
        "/spec/addresses",
        json!([{ "value": "::1" }, { "value": "::1" }]),
        "spec.addresses[1]",
        "must differ from the other addresses",
    );
    refused(
        Kind::Gateway,
        "/spec/infrastructure",
        json!({ "labels": { "-a": "b" } }),
        "spec.infrastructure.labels[-a]",
        "must have a key of at most 63 letters, digits and inner -_., with a DNS name and a slash at most in front",
    );
    taken(
        Kind::Gateway,
        "/spec/infrastructure",
        json!({ "labels": { "example.com/a": "b" }, "annotations": { "a_b.c": "" } }),
    );
}

#[test]
fn fields_of_the_experimental_channel_do_not_fail_a_route() {
    let experimental = json!([{
        "retry": { "codes": [500, 503], "attempts": 2, "backoff": "100ms" },
        "sessionPersistence": { "sessionName": "s", "type": "Cookie", "absoluteTimeout": "1h", "cookieConfig": { "lifetimeType": "Permanent" } },
        "filters": [{ "type": "ExternalAuth", "externalAuth": {
            "protocol": "GRPC", "backendRef": { "name": "auth", "port": 9000 }, "grpc": { "allowedHeaders": ["x-a"] }, "forwardBody": { "maxSize": 8 } } }],
        "backendRefs": [{ "name": "app", "port": 80 }],
    }]);
    taken(Kind::HttpRoute, "/spec/rules", experimental);
    taken(Kind::HttpRoute, "/spec/useDefaultGateways", json!("All"));
    taken(Kind::Gateway, "/spec/defaultScope", json!("None"));
    taken(Kind::Gateway, "/spec/allowedListeners", json!({ "namespaces": { "from": "Same" } }));
    taken(
        Kind::Gateway,
        "/spec/tls",
        json!({
            "backend": { "clientCertificateRef": { "name": "c" } },
            "frontend": { "default": { "validation": { "caCertificateRefs": [{ "group": "", "kind": "ConfigMap", "name": "ca" }] } },
                          "perPort": [{ "port": 443, "tls": {} }] },
        }),
    );
}

#[test]
fn what_a_secret_holds_is_never_repeated() {
    refused(Kind::Secret, "/data/key", json!("hunter2!"), "data.key", "must be base64; stringData takes plain text");
    refused(
        Kind::Secret,
        "/stringData",
        json!({ "key": 123_456 }),
        "stringData.key",
        "must be a text; got a number; put it in quotes",
    );
    refused(Kind::Secret, "/stringData", json!("hunter2"), "stringData", "must be a mapping; got a text");
}
