//! HTTPRouteMatch: which requests.

use tailscale_gateway::model::Reason::{NotActedOn, UnsupportedValue};

use super::{compile, envoy_routes, json, one_problem, only_forward, only_route, problems, yaml};

#[track_caller]
fn matches(body: &str, expected: &str) {
    let route = only_forward(&format!("matches: [{body}]"));
    assert_eq!(route["match"], yaml(expected), "{body}");
}

#[test]
fn without_matches_every_request_is_taken() {
    let expected = yaml("{prefix: /}");
    assert_eq!(only_route("[{backendRefs: [{name: a, port: 80}]}]")["match"], expected);
    assert_eq!(only_forward("matches: []")["match"], expected);
    matches("{}", "{prefix: /}");
    matches("{path: {}}", "{prefix: /}");
}

#[test]
fn a_route_without_rules_has_the_default_rule() {
    let compiled = compile("[]");
    assert_eq!(envoy_routes(&compiled).len(), 1);
    assert_eq!(json(&envoy_routes(&compiled)[0])["match"], yaml("{prefix: /}"));
}

#[test]
fn paths_are_compared_exactly_by_segments_or_by_a_regular_expression() {
    matches("{path: {type: Exact, value: /a/}}", "{path: /a/}");
    matches("{path: {type: Exact, value: /}}", "{path: /}");
    matches("{path: {type: PathPrefix, value: /a}}", "{pathSeparatedPrefix: /a}");
    matches("{path: {type: PathPrefix, value: /a/b}}", "{pathSeparatedPrefix: /a/b}");
    matches("{path: {type: RegularExpression, value: '/v[0-9]+/.*'}}", "{safeRegex: {regex: '/v[0-9]+/.*'}}");
}

#[test]
fn a_slash_at_the_end_of_a_prefix_is_ignored() {
    matches("{path: {value: /a/}}", "{pathSeparatedPrefix: /a}");
    matches("{path: {value: /}}", "{prefix: /}");
}

#[test]
fn headers_query_parameters_and_method_have_to_match_all() {
    matches(
        "{method: POST,
          headers: [{name: X-Color, value: red}, {name: version, type: RegularExpression, value: 'v[12]'}],
          queryParams: [{name: Debug, value: '1'}, {name: q, type: RegularExpression, value: a|b}]}",
        "{prefix: /,
          headers: [
            {name: x-color, stringMatch: {exact: red}},
            {name: version, stringMatch: {safeRegex: {regex: 'v[12]'}}},
            {name: ':method', stringMatch: {exact: POST}}],
          queryParameters: [
            {name: Debug, stringMatch: {exact: '1'}},
            {name: q, stringMatch: {safeRegex: {regex: a|b}}}]}",
    );
}

#[test]
fn of_two_entries_for_one_header_in_any_case_the_first_counts() {
    let rules = "[{backendRefs: [{name: a, port: 80}], matches: [{headers: [
        {name: X-A, value: first}, {name: x-b, value: b}, {name: x-a, value: second}]}]}]";
    let compiled = one_problem(rules, "spec.rules[0].matches[0].headers[2].name", NotActedOn, "x-a");
    let expected = "[{name: x-a, stringMatch: {exact: first}}, {name: x-b, stringMatch: {exact: b}}]";
    assert_eq!(json(&envoy_routes(&compiled)[0])["match"]["headers"], yaml(expected));
    assert!(compiled.any_rule_valid);
}

#[test]
fn of_two_entries_for_one_query_parameter_the_first_counts_and_case_matters() {
    let rules = "[{backendRefs: [{name: a, port: 80}], matches: [{queryParams: [
        {name: a, value: '1'}, {name: A, value: '2'}, {name: a, value: '3'}]}]}]";
    let compiled = one_problem(rules, "spec.rules[0].matches[0].queryParams[2].name", NotActedOn, "ignored");
    let expected = "[{name: a, stringMatch: {exact: '1'}}, {name: A, stringMatch: {exact: '2'}}]";
    assert_eq!(json(&envoy_routes(&compiled)[0])["match"]["queryParameters"], yaml(expected));
}

#[test]
fn each_match_is_a_route_of_its_own_named_after_rule_and_match() {
    let compiled = compile(
        "[{backendRefs: [{name: a, port: 80}], matches: [{path: {value: /a}}, {path: {value: /b}}]},
          {name: named, backendRefs: [{name: a, port: 80}], matches: [{path: {value: /c}}]}]",
    );
    let names: Vec<_> = envoy_routes(&compiled).into_iter().map(|route| route.name).collect();
    assert_eq!(
        names,
        ["httproute/ns/web/rule/0/match/0", "httproute/ns/web/rule/0/match/1", "httproute/ns/web/rule/named/match/0"]
    );
}

#[test]
fn a_match_that_envoy_has_no_words_for_is_left_out_alone_and_named() {
    let cases = [
        ("path: {type: Exact, value: a}", "path.value", "start with a slash"),
        ("path: {value: ''}", "path.value", "start with a slash"),
        ("path: {value: /a//b}", "path.value", "two slashes"),
        ("path: {value: '/a?b'}", "path.value", "query"),
        ("path: {value: '/a#b'}", "path.value", "fragment"),
        ("path: {value: /a/../b}", "path.value", ".."),
        ("path: {type: Exact, value: /a/.}", "path.value", "segments"),
        ("path: {value: /a%2Fb}", "path.value", "encoded slash"),
        ("path: {value: /a%2}", "path.value", "RFC 3986"),
        ("path: {value: '/a b'}", "path.value", "RFC 3986"),
        ("path: {value: \"/a\\nb\"}", "path.value", "RFC 3986"),
        ("path: {value: /ä}", "path.value", "RFC 3986"),
        ("path: {type: RegularExpression, value: '/(?!a)'}", "path.value", "look-around"),
        ("path: {type: RegularExpression, value: ''}", "path.value", "empty"),
        ("headers: [{name: ':path', value: a}]", "headers[0].name", "path"),
        ("headers: [{name: 'a b', value: a}]", "headers[0].name", "letters"),
        ("headers: [{name: '', value: a}]", "headers[0].name", "1 to 256"),
        ("headers: [{name: a, value: \"b\\nc\"}]", "headers[0].value", "control characters"),
        ("headers: [{name: a, type: RegularExpression, value: '['}]", "headers[0].value", "RE2"),
        ("queryParams: [{name: '', value: a}]", "queryParams[0].name", "1 to 256"),
        (
            "queryParams: [{name: a, type: RegularExpression, value: '(a)\\1'}]",
            "queryParams[0].value",
            "backreferences",
        ),
        ("method: CONNECT", "method", "CONNECT"),
    ];
    for (wrong, field, words) in cases {
        let rules = format!(
            "[{{backendRefs: [{{name: a, port: 80}}], matches: [{{{wrong}}}, {{path: {{value: /served}}}}]}},
              {{backendRefs: [{{name: b, port: 80}}], matches: [{{path: {{value: /other}}}}]}}]"
        );
        let field = format!("spec.rules[0].matches[0].{field}");
        let compiled = one_problem(&rules, &field, UnsupportedValue, words);
        let paths: Vec<_> = envoy_routes(&compiled).iter().map(|route| json(route)["match"].clone()).collect();
        assert_eq!(paths, [yaml("{pathSeparatedPrefix: /served}"), yaml("{pathSeparatedPrefix: /other}")], "{wrong}");
        assert!(compiled.any_rule_valid);
    }
}

#[test]
fn a_rule_is_not_valid_when_none_of_its_matches_is() {
    let compiled = compile(
        "[{backendRefs: [{name: a, port: 80}], matches: [{path: {value: x}}, {path: {type: Exact, value: z}}]}]",
    );
    assert_eq!(compiled.entries, []);
    assert!(!compiled.any_rule_valid);
    assert_eq!(problems(&compiled).len(), 2);
}
