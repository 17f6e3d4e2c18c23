//! HTTPRouteRule.matches: "Proxy or Load Balancer routing configuration generated from HTTPRoutes MUST prioritize matches
//! based on the following criteria, continuing on ties."

use super::{compile, envoy_routes};

/// Compiles one rule for each match and gives the indices of the rules in the order in which Envoy asks them.
fn order(matches: &[&str]) -> Vec<usize> {
    let rule = |text: &&str| format!("{{backendRefs: [{{name: a, port: 80}}], matches: [{{{text}}}]}}");
    let rules: Vec<_> = matches.iter().map(rule).collect();
    let compiled = compile(&format!("[{}]", rules.join(", ")));
    assert_eq!(compiled.problems, []);
    assert!(compiled.entries.is_sorted_by_key(|entry| entry.precedence));
    let rule_of = |name: &str| name.split('/').nth(4).expect("the rule").parse().expect("an index");
    envoy_routes(&compiled).iter().map(|route| rule_of(&route.name)).collect()
}

/// Asserts that of two matches the first one is asked first, whichever stands first in the route.
#[track_caller]
fn before(first: &str, second: &str) {
    assert_eq!(order(&[first, second]), [0, 1], "{first} before {second}");
    assert_eq!(order(&[second, first]), [1, 0], "{first} before {second}");
}

#[test]
fn an_exact_path_match_comes_before_every_prefix() {
    before("path: {type: Exact, value: /a}", "path: {value: /a/long/prefix}");
}

#[test]
fn regular_expressions_stand_between_exact_paths_and_prefixes_longer_ones_first() {
    before("path: {type: Exact, value: /a}", "path: {type: RegularExpression, value: '/a.*.*.*'}");
    before("path: {type: RegularExpression, value: '/'}", "path: {value: /a/long/prefix}");
    before("path: {type: RegularExpression, value: '/aa.*'}", "path: {type: RegularExpression, value: '/a.*'}");
}

#[test]
fn a_prefix_with_more_characters_comes_first_whatever_else_the_matches_ask_for() {
    before("path: {value: /abc}", "path: {value: /ab}, method: GET, headers: [{name: a, value: b}]");
    before("path: {value: /abc}", "path: {value: /ab/}, method: GET");
}

#[test]
fn a_method_comes_before_any_number_of_headers() {
    before("method: GET", "headers: [{name: a, value: b}, {name: b, value: c}]");
}

#[test]
fn more_headers_come_before_fewer_and_before_any_number_of_query_parameters() {
    before("headers: [{name: a, value: b}, {name: b, value: c}]", "headers: [{name: z, value: z}]");
    before("headers: [{name: a, value: b}]", "queryParams: [{name: a, value: b}, {name: b, value: c}]");
}

#[test]
fn more_query_parameters_come_before_fewer() {
    before("queryParams: [{name: a, value: b}, {name: b, value: c}]", "queryParams: [{name: z, value: z}]");
}

#[test]
fn on_ties_the_first_rule_and_in_it_the_first_match_comes_first() {
    assert_eq!(order(&["method: GET", "method: PUT", "method: POST"]), [0, 1, 2]);
    let compiled = compile("[{matches: [{method: PUT}, {method: GET}]}, {matches: [{method: PATCH}]}]");
    let places: Vec<_> = compiled.entries.iter().map(|entry| entry.precedence.place).collect();
    assert_eq!(places, [(0, 0), (0, 1), (1, 0)]);
}

#[test]
fn what_the_match_asks_for_is_compared_apart_from_its_place_in_the_route() {
    let compiled = compile("[{matches: [{method: PUT}]}, {matches: [{method: GET}]}, {matches: [{}]}]");
    let [first, second, last] = &compiled.entries[..] else { panic!("three entries") };
    assert_eq!(first.precedence.matching, second.precedence.matching);
    assert!(second.precedence.matching < last.precedence.matching);
}

#[test]
fn a_slash_that_is_ignored_does_not_count_as_a_character() {
    assert_eq!(order(&["path: {value: /ab}", "path: {value: /ab/}"]), [0, 1]);
    assert_eq!(order(&["path: {value: /ab/}", "path: {value: /ab}"]), [0, 1]);
}

#[test]
fn an_ignored_header_does_not_count() {
    let rule = |headers: &str| format!("{{matches: [{{headers: [{headers}]}}]}}");
    let twice = rule("{name: a, value: b}, {name: A, value: c}");
    let compiled = compile(&format!("[{}, {twice}]", rule("{name: b, value: b}")));
    let places: Vec<_> = compiled.entries.iter().map(|entry| entry.precedence.place).collect();
    assert_eq!(places, [(0, 0), (1, 0)]);
}
