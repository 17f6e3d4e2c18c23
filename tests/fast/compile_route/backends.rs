//! HTTPRouteRule.backendRefs and timeouts: where requests go, in which proportion, and for how long.

use serde_json::Value;
use tailscale_gateway::model::Reason::{BackendNotFound, IncompatibleFilters, NotActedOn, UnsupportedValue};

use super::{
    all_answer_500, compile, envoy_routes, json, names, one_problem, only_forward, only_route, problems, yaml,
};

/// The clusters of a rule with these backends, with their weights.
fn clusters(route: &Value) -> Vec<(&str, u64)> {
    let all = route["route"]["weightedClusters"]["clusters"].as_array().expect("weighted clusters");
    let one = |cluster: &'_ Value| cluster["weight"].as_u64().expect("a weight");
    all.iter().map(|cluster| (cluster["name"].as_str().expect("a name"), one(cluster))).collect()
}

fn backends(refs: &str) -> String {
    format!("[{{backendRefs: [{refs}]}}]")
}

#[test]
fn one_backend_is_one_cluster_without_envoys_default_timeout() {
    let route = only_route(&backends("{name: a, port: 80}"));
    let expected = yaml("{cluster: a, timeout: 0s, clusterNotFoundResponseCode: INTERNAL_SERVER_ERROR}");
    assert_eq!(route["route"], expected);
}

#[test]
fn weights_divide_the_requests() {
    let route = only_route(&backends("{name: a, port: 80, weight: 90}, {name: b, port: 80, weight: 10}"));
    assert_eq!(clusters(&route), [("a", 9), ("b", 1)]);
    let route = only_route(&backends("{name: a, port: 80}, {name: b, port: 80, weight: 3}"));
    assert_eq!(clusters(&route), [("a", 1), ("b", 3)]);
}

#[test]
fn a_weight_of_0_gets_nothing_and_its_backend_is_looked_at_all_the_same() {
    let rules = backends("{name: a, port: 80}, {name: missing, port: 80, weight: 0}");
    let compiled = one_problem(&rules, "spec.rules[0].backendRefs[1]", BackendNotFound, "missing");
    assert_eq!(json(&envoy_routes(&compiled)[0])["route"]["cluster"], "a");
    assert_eq!(names(&compiled.entries[0].clusters), ["a"]);
}

#[test]
fn without_backends_or_with_weights_of_0_only_the_answer_is_500() {
    for rules in ["[{}]", "[{backendRefs: []}]", "[{backendRefs: [{name: a, port: 80, weight: 0}]}]"] {
        let compiled = compile(rules);
        assert_eq!(compiled.problems, []);
        assert!(compiled.any_rule_valid);
        all_answer_500(&compiled);
    }
}

#[test]
fn a_backend_that_can_not_be_resolved_answers_500_for_exactly_its_share() {
    let compiled = compile(&backends(
        "{name: a, port: 80, weight: 2}, {name: missing, port: 80, weight: 4}, {name: three, port: 80}",
    ));
    let found = problems(&compiled);
    assert_eq!(found, [("spec.rules[0].backendRefs[1]", BackendNotFound, "there is no Service ns/missing")]);
    assert!(compiled.any_rule_valid);
    let route = json(&envoy_routes(&compiled)[0]);
    let expected = [("a", 12), ("unresolved", 24), ("three-1", 1), ("three-2", 2), ("three-3", 3)];
    assert_eq!(clusters(&route), expected);
    assert_eq!(route["route"]["clusterNotFoundResponseCode"], "INTERNAL_SERVER_ERROR");
    assert_eq!(names(&compiled.entries[0].clusters), ["a", "three-1", "three-2", "three-3"]);
}

#[test]
fn when_no_backend_can_be_resolved_the_answer_is_500_and_the_rule_is_valid_all_the_same() {
    let compiled = compile(&backends("{name: missing, port: 80}, {name: forbidden, port: 80}, {name: none, port: 80}"));
    all_answer_500(&compiled);
    assert_eq!(problems(&compiled).len(), 2);
    assert!(compiled.any_rule_valid);
}

#[test]
fn backends_without_any_cluster_are_like_unresolved_ones() {
    let route = only_route(&backends("{name: a, port: 80}, {name: none, port: 80, weight: 2}"));
    assert_eq!(clusters(&route), [("a", 1), ("unresolved", 2)]);
}

#[test]
fn the_host_that_a_backend_wants_is_put_there_for_its_share() {
    let route = only_route(&backends("{name: hosted, port: 80}"));
    assert_eq!(route["route"]["hostRewriteLiteral"], "hosted.example");
    let route = only_route(&backends("{name: hosted, port: 80}, {name: a, port: 80}"));
    let expected = yaml("[{name: hosted, weight: 1, hostRewriteLiteral: hosted.example}, {name: a, weight: 1}]");
    assert_eq!(route["route"]["weightedClusters"]["clusters"], expected);
}

#[test]
fn the_hostname_of_a_url_rewrite_goes_before_the_host_that_a_backend_wants() {
    let filter = "filters: [{type: URLRewrite, urlRewrite: {hostname: written.example}}]";
    let route = only_route(&format!("[{{backendRefs: [{{name: hosted, port: 80}}], {filter}}}]"));
    assert_eq!(route["route"]["hostRewriteLiteral"], "written.example");
    let route =
        only_route(&format!("[{{backendRefs: [{{name: hosted, port: 80}}, {{name: a, port: 80}}], {filter}}}]"));
    // Envoy would let the route's own override those of its clusters.
    assert_eq!(route["route"].get("hostRewriteLiteral"), None);
    for cluster in route["route"]["weightedClusters"]["clusters"].as_array().expect("weighted clusters") {
        assert_eq!(cluster["hostRewriteLiteral"], "written.example");
    }
}

#[test]
fn filters_of_a_backend_are_for_its_share() {
    let compiled = compile(
        "[{backendRefs: [
            {name: a, port: 80, filters: [
              {type: RequestHeaderModifier, requestHeaderModifier: {
                set: [{name: x-set, value: a}], add: [{name: x-add, value: a}], remove: [x-gone]}},
              {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-out, value: a}]}},
              {type: URLRewrite, urlRewrite: {hostname: a.example}},
              {type: CORS, cors: {allowOrigins: ['https://a.example']}}]},
            {name: b, port: 80}],
           filters: [{type: RequestHeaderModifier, requestHeaderModifier: {
             set: [{name: x-set, value: rule}, {name: x-rule, value: rule}, {name: x-gone, value: rule}],
             add: [{name: x-add, value: rule}]}}]}]",
    );
    assert_eq!(compiled.problems, []);
    let route = json(&envoy_routes(&compiled)[0]);
    // All changes stand at the clusters, the backend's after the rule's, and nothing at the route.
    assert_eq!(route.get("requestHeadersToAdd"), None);
    assert_eq!(route.get("typedPerFilterConfig"), None);
    let expected = yaml(
        "[{name: a, weight: 1, hostRewriteLiteral: a.example,
           requestHeadersToAdd: [
             {header: {key: x-rule, value: rule}, appendAction: OVERWRITE_IF_EXISTS_OR_ADD},
             {header: {key: x-add, value: rule}},
             {header: {key: x-set, value: a}, appendAction: OVERWRITE_IF_EXISTS_OR_ADD},
             {header: {key: x-add, value: a}}],
           requestHeadersToRemove: [x-gone],
           responseHeadersToAdd: [{header: {key: x-out, value: a}}],
           typedPerFilterConfig: {envoy.filters.http.cors: {
             '@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy,
             allowOriginStringMatch: [{exact: 'https://a.example'}], maxAge: '5',
             allowCredentials: false, forwardNotMatchingPreflights: false}}},
          {name: b, weight: 1,
           requestHeadersToAdd: [
             {header: {key: x-set, value: rule}, appendAction: OVERWRITE_IF_EXISTS_OR_ADD},
             {header: {key: x-rule, value: rule}, appendAction: OVERWRITE_IF_EXISTS_OR_ADD},
             {header: {key: x-gone, value: rule}, appendAction: OVERWRITE_IF_EXISTS_OR_ADD},
             {header: {key: x-add, value: rule}}]}]",
    );
    assert_eq!(route["route"]["weightedClusters"]["clusters"], expected);
}

#[test]
fn filters_of_the_only_backend_can_be_all_that_those_of_a_rule_can() {
    let route = only_route(
        "[{matches: [{path: {value: /a}}], backendRefs: [{name: a, port: 80, filters: [
             {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}},
             {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}}}]},
            {name: never, port: 80, weight: 0}]}]",
    );
    assert_eq!(route["route"]["cluster"], "a");
    assert_eq!(route["route"]["prefixRewrite"], "/b");
    assert_eq!(route["route"]["requestMirrorPolicies"][0]["cluster"], "m");
    let route = only_route(
        "[{backendRefs: [{name: a, port: 80, filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]}]",
    );
    assert_eq!(route["redirect"], yaml("{schemeRedirect: https, responseCode: FOUND}"));
}

#[test]
fn what_envoy_can_not_do_for_one_of_several_backends_answers_500_for_its_share() {
    let filters = [
        "{type: RequestRedirect, requestRedirect: {scheme: https}}",
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /b}}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}}}",
    ];
    for filter in filters {
        let rules = backends(&format!("{{name: a, port: 80, filters: [{filter}]}}, {{name: b, port: 80, weight: 3}}"));
        let field = "spec.rules[0].backendRefs[0].filters";
        let compiled = one_problem(&rules, field, IncompatibleFilters, "rule of its own");
        assert_eq!(clusters(&json(&envoy_routes(&compiled)[0])), [("unresolved", 1), ("b", 3)]);
        assert_eq!(names(&compiled.entries[0].clusters), ["b"]);
    }
}

#[test]
fn a_wrong_filter_of_a_backend_answers_500_for_its_share() {
    let filter = "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [host]}}";
    let rules = backends(&format!("{{name: a, port: 80, filters: [{filter}]}}, {{name: b, port: 80}}"));
    let field = "spec.rules[0].backendRefs[0].filters[0].requestHeaderModifier.remove[0]";
    let compiled = one_problem(&rules, field, UnsupportedValue, "Host");
    assert_eq!(clusters(&json(&envoy_routes(&compiled)[0])), [("unresolved", 1), ("b", 1)]);
}

#[test]
fn the_only_backend_and_its_rule_do_not_both_rewrite_the_path() {
    let filter = "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /b}}}";
    let rules = format!("[{{backendRefs: [{{name: a, port: 80, filters: [{filter}]}}], filters: [{filter}]}}]");
    let field = "spec.rules[0].backendRefs[0].filters";
    all_answer_500(&one_problem(&rules, field, IncompatibleFilters, "rewrites the path"));
}

#[test]
fn a_backend_that_speaks_websocket_lets_upgrades_pass() {
    let route = only_route(&backends("{name: socket, port: 80}"));
    assert_eq!(route["route"]["upgradeConfigs"], yaml("[{upgradeType: websocket}]"));
    let route = only_route(&backends("{name: a, port: 80}, {name: socket, port: 80, weight: 0}"));
    assert_eq!(route["route"].get("upgradeConfigs"), None);
}

#[test]
fn timeouts_are_the_smaller_one_of_request_and_backend_request() {
    let cases = [
        ("request: 10s", "10s", None),
        ("backendRequest: 1m30s", "90s", None),
        ("request: 10s, backendRequest: 500ms", "0.500s", None),
        ("request: 10s, backendRequest: 10s", "10s", None),
        ("request: 10s, backendRequest: 0s", "10s", None),
        ("request: 0s, backendRequest: 3s", "3s", None),
        // What may take longer than the connection manager lets a stream be silent may be silent as long.
        ("request: 1h", "3600s", Some("3600s")),
        ("request: 5m", "300s", None),
        // "the zero duration SHOULD disable the timeout completely"
        ("request: 0s", "0s", Some("0s")),
        ("request: 0s, backendRequest: 0s", "0s", Some("0s")),
        ("", "0s", None),
        ("request: 99999h99999h99999h99999h", "1439985600s", Some("1439985600s")),
    ];
    for (timeouts, whole, idle) in cases {
        let route = only_forward(&format!("timeouts: {{{timeouts}}}"));
        assert_eq!(route["route"]["timeout"], whole, "{timeouts}");
        assert_eq!(route["route"].get("idleTimeout").and_then(Value::as_str), idle, "{timeouts}");
    }
}

#[test]
fn timeouts_that_contradict_each_other_or_are_too_fine_make_the_rule_answer_500() {
    let cases = [
        ("request: 1s, backendRequest: 2s", "backendRequest", "longer than request"),
        // Envoy counts milliseconds: less than one would be none, which is no limit at all.
        ("request: 1us", "request", "milliseconds"),
        ("backendRequest: 1.5ms", "backendRequest", "milliseconds"),
        ("request: 2562047h", "request", "at most"),
    ];
    for (timeouts, field, words) in cases {
        let rules = format!("[{{backendRefs: [{{name: a, port: 80}}], timeouts: {{{timeouts}}}}}]");
        let compiled = one_problem(&rules, &format!("spec.rules[0].timeouts.{field}"), UnsupportedValue, words);
        all_answer_500(&compiled);
    }
}

#[test]
fn experimental_fields_are_not_acted_on_and_that_is_said() {
    for (field, body) in [("retry", "{attempts: 2}"), ("sessionPersistence", "{sessionName: s}")] {
        let rules = format!("[{{backendRefs: [{{name: a, port: 80}}], {field}: {body}}}]");
        let compiled = one_problem(&rules, &format!("spec.rules[0].{field}"), NotActedOn, "experimental");
        assert!(compiled.any_rule_valid);
        assert_eq!(json(&envoy_routes(&compiled)[0])["route"]["cluster"], "a");
    }
}

#[test]
fn equal_routes_have_equal_bytes() {
    let rules = "[{matches: [{path: {value: /a}}, {method: GET}], backendRefs: [{name: three, port: 80}, {name: missing, port: 80}],
        filters: [{type: CORS, cors: {}}, {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}}}]}]";
    assert_eq!(compile(rules), compile(rules));
}
