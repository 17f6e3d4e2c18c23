//! HTTPRouteFilter, but for redirects: what is done to a request and its response.

use tailscale_gateway::model::Reason::{self, BackendNotFound, IncompatibleFilters, NotActedOn, UnsupportedValue};

use super::{
    Namespace, all_answer_500, compile, compile_route, envoy_routes, json, key, names, one_problem, only_forward,
    problems, route, yaml,
};

/// A rule that forwards to `a`, with these filters and this path match.
fn rule(filters: &str, path: &str) -> String {
    format!("[{{backendRefs: [{{name: a, port: 80}}], matches: [{{path: {{value: {path}}}}}], filters: [{filters}]}}]")
}

/// The rule answers 500 because of one thing.
#[track_caller]
fn refused(filter: &str, field: &str, reason: Reason, words: &str) {
    let compiled = one_problem(&rule(filter, "/"), &format!("spec.rules[0].filters{field}"), reason, words);
    all_answer_500(&compiled);
    assert!(!compiled.any_rule_valid);
}

fn request_headers(changes: &str) -> String {
    format!("{{type: RequestHeaderModifier, requestHeaderModifier: {{{changes}}}}}")
}

fn rewrite(body: &str) -> String {
    format!("{{type: URLRewrite, urlRewrite: {{{body}}}}}")
}

#[test]
fn headers_are_set_added_and_removed() {
    let route = only_forward(
        "filters: [
          {type: RequestHeaderModifier, requestHeaderModifier: {
            set: [{name: X-Set, value: s}], add: [{name: x-add, value: 'a,b'}], remove: [X-Remove]}},
          {type: ResponseHeaderModifier, responseHeaderModifier: {
            set: [{name: x-out, value: o}], remove: [server]}}]",
    );
    let expected = yaml(
        "[{header: {key: x-set, value: s}, appendAction: OVERWRITE_IF_EXISTS_OR_ADD},
          {header: {key: x-add, value: 'a,b'}}]",
    );
    assert_eq!(route["requestHeadersToAdd"], expected);
    assert_eq!(route["requestHeadersToRemove"], yaml("[x-remove]"));
    let expected = yaml("[{header: {key: x-out, value: o}, appendAction: OVERWRITE_IF_EXISTS_OR_ADD}]");
    assert_eq!(route["responseHeadersToAdd"], expected);
    assert_eq!(route["responseHeadersToRemove"], yaml("[server]"));
}

#[test]
fn a_percent_sign_in_a_value_stands_for_itself_and_blanks_around_it_do_not_count() {
    let filter = request_headers("set: [{name: a, value: ' 100% %REQ(x)% '}]");
    let route = only_forward(&format!("filters: [{filter}]"));
    assert_eq!(route["requestHeadersToAdd"][0]["header"]["value"], "100%% %%REQ(x)%%");
}

#[test]
fn of_two_entries_for_one_header_in_a_list_the_first_counts() {
    let rules = rule(&request_headers("set: [{name: a, value: first}, {name: A, value: second}]"), "/");
    let field = "spec.rules[0].filters[0].requestHeaderModifier.set[1].name";
    let compiled = one_problem(&rules, field, NotActedOn, "ignored");
    let route = json(&envoy_routes(&compiled)[0]);
    assert_eq!(route["requestHeadersToAdd"].as_array().map(Vec::len), Some(1));
    assert_eq!(route["requestHeadersToAdd"][0]["header"]["value"], "first");
}

#[test]
fn header_filters_that_envoy_would_refuse_make_the_rule_answer_500() {
    let cases = [
        ("set: [{name: Host, value: a}]", "set[0].name", "URLRewrite"),
        ("add: [{name: host, value: a}]", "add[0].name", "URLRewrite"),
        ("remove: [HOST]", "remove[0]", "URLRewrite"),
        ("set: [{name: ':path', value: /}]", "set[0].name", "path"),
        ("remove: [':authority']", "remove[0]", "hostname"),
        ("remove: ['']", "remove[0]", "1 to 256"),
        ("set: [{name: 'a:b', value: c}]", "set[0].name", "letters"),
        ("set: [{name: ä, value: c}]", "set[0].name", "letters"),
        ("add: [{name: a, value: \"b\\r\\nset-cookie: c\"}]", "add[0].value", "control characters"),
        ("add: [{name: a, value: \"b\\0\"}]", "add[0].value", "control characters"),
        ("set: [{name: a, value: b}], add: [{name: A, value: c}]", "add[0].name", "another list"),
        ("set: [{name: a, value: b}], remove: [a]", "remove[0]", "another list"),
    ];
    for (changes, field, words) in cases {
        let field = format!("[0].requestHeaderModifier.{field}");
        refused(&request_headers(changes), &field, UnsupportedValue, words);
    }
    let response = "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: host, value: a}]}}";
    refused(response, "[0].responseHeaderModifier.set[0].name", UnsupportedValue, "Host");
}

#[test]
fn a_hostname_is_rewritten() {
    let route = only_forward(&format!("filters: [{}]", rewrite("hostname: other.example")));
    assert_eq!(route["route"]["hostRewriteLiteral"], "other.example");
    for wrong in ["Other.example", "a..b", "-a.example", "a:80", "'*.example'", "''", "a b", "'a%b'"] {
        let filter = rewrite(&format!("hostname: {wrong}"));
        refused(&filter, "[0].urlRewrite.hostname", UnsupportedValue, "DNS name");
    }
}

#[test]
fn a_full_path_is_replaced_and_the_query_kept() {
    let route =
        only_forward(&format!("filters: [{}]", rewrite("path: {type: ReplaceFullPath, replaceFullPath: /one}")));
    // Envoy applies it to the path alone.
    assert_eq!(route["route"]["regexRewrite"], yaml("{pattern: {regex: '^/.*$'}, substitution: /one}"));
}

/// The table at HTTPPathModifier.replacePrefixMatch, told to Envoy: what it makes of a request is tested with a real one.
#[test]
fn a_matched_prefix_is_replaced_and_never_leaves_two_slashes() {
    let strip = "{regexRewrite: {pattern: {regex: '^/foo/*'}, substitution: /}}";
    let cases = [
        ("/foo", "/xyz", "{prefixRewrite: /xyz}"),
        ("/foo", "/xyz/", "{prefixRewrite: /xyz}"),
        ("/foo/", "/xyz", "{prefixRewrite: /xyz}"),
        ("/foo/", "/xyz/", "{prefixRewrite: /xyz}"),
        ("/foo", "''", strip),
        ("/foo", "/", strip),
        ("/foo/", "/", strip),
        ("/f.o", "/", "{regexRewrite: {pattern: {regex: '^/f\\.o/*'}, substitution: /}}"),
        ("/", "/xyz", "{prefixRewrite: /xyz/}"),
        ("/", "/xyz/", "{prefixRewrite: /xyz/}"),
        ("/", "/", "{}"),
        ("/", "''", "{}"),
    ];
    for (prefix, replacement, expected) in cases {
        let filter = rewrite(&format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: {replacement}}}"));
        let compiled = compile(&rule(&filter, prefix));
        assert_eq!(compiled.problems, []);
        let route = json(&envoy_routes(&compiled)[0]);
        for field in ["prefixRewrite", "regexRewrite"] {
            assert_eq!(route["route"].get(field), yaml(expected).get(field), "{prefix} {replacement}");
        }
    }
}

#[test]
fn a_prefix_can_only_be_replaced_where_each_match_is_a_prefix() {
    let filter = rewrite("path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}");
    for other in ["Exact", "RegularExpression"] {
        let rules = format!(
            "[{{backendRefs: [{{name: a, port: 80}}], filters: [{filter}],
               matches: [{{path: {{value: /a}}}}, {{path: {{type: {other}, value: /a}}}}]}}]"
        );
        let compiled = one_problem(&rules, "spec.rules[0].matches", IncompatibleFilters, "PathPrefix");
        all_answer_500(&compiled);
    }
}

#[test]
fn path_changes_that_make_no_path_make_the_rule_answer_500() {
    let cases = [
        ("{type: ReplaceFullPath, replaceFullPath: 'a'}", ".replaceFullPath", "start with a slash"),
        ("{type: ReplaceFullPath, replaceFullPath: '/a?b=c'}", ".replaceFullPath", "query"),
        ("{type: ReplaceFullPath, replaceFullPath: \"/a\\n\"}", ".replaceFullPath", "RFC 3986"),
        ("{type: ReplaceFullPath, replaceFullPath: '/\\1'}", ".replaceFullPath", "RFC 3986"),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: '/a//b'}", ".replacePrefixMatch", "two slashes"),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: '//'}", ".replacePrefixMatch", "two slashes"),
        ("{type: ReplacePrefixMatch, replaceFullPath: /a}", "", "replacePrefixMatch has to be set"),
        ("{type: ReplaceFullPath, replaceFullPath: /a, replacePrefixMatch: /a}", "", "nothing else"),
    ];
    for (path, field, words) in cases {
        let field = format!("[0].urlRewrite.path{field}");
        refused(&rewrite(&format!("path: {path}")), &field, UnsupportedValue, words);
    }
}

#[test]
fn requests_are_mirrored_to_several_backends_in_parts() {
    let mirror = |rest: &str| format!("{{type: RequestMirror, requestMirror: {{{rest}}}}}");
    let filters = [
        mirror("backendRef: {name: b, port: 80}"),
        mirror("backendRef: {name: hosted, port: 80}, percent: 7"),
        mirror("backendRef: {name: c, port: 80}, fraction: {numerator: 1, denominator: 8}"),
        mirror("backendRef: {name: d, port: 80}, fraction: {numerator: 1, denominator: 3}"),
        mirror("backendRef: {name: e, port: 80}, fraction: {numerator: 1, denominator: 2000000000}"),
        mirror("backendRef: {name: f, port: 80}, percent: 0"),
    ];
    let compiled = compile(&rule(&filters.join(", "), "/"));
    assert_eq!(compiled.problems, []);
    let expected = yaml(
        "[{cluster: b, disableShadowHostSuffixAppend: true, runtimeFraction: {defaultValue: {numerator: 100}}},
          {cluster: hosted, disableShadowHostSuffixAppend: true, hostRewriteLiteral: hosted.example,
           runtimeFraction: {defaultValue: {numerator: 7}}},
          {cluster: c, disableShadowHostSuffixAppend: true,
           runtimeFraction: {defaultValue: {numerator: 1250, denominator: TEN_THOUSAND}}},
          {cluster: d, disableShadowHostSuffixAppend: true,
           runtimeFraction: {defaultValue: {numerator: 333333, denominator: MILLION}}},
          {cluster: e, disableShadowHostSuffixAppend: true,
           runtimeFraction: {defaultValue: {numerator: 1, denominator: MILLION}}}]",
    );
    assert_eq!(json(&envoy_routes(&compiled)[0])["route"]["requestMirrorPolicies"], expected);
    assert_eq!(names(&compiled.entries[0].clusters), ["a", "b", "c", "d", "e", "hosted"]);
}

#[test]
fn a_mirror_that_does_not_exist_is_dropped_and_the_rule_still_serves() {
    let rules = rule("{type: RequestMirror, requestMirror: {backendRef: {name: missing, port: 80}}}", "/");
    let field = "spec.rules[0].filters[0].requestMirror.backendRef";
    let compiled = one_problem(&rules, field, BackendNotFound, "missing");
    assert!(compiled.any_rule_valid);
    let route = json(&envoy_routes(&compiled)[0]);
    assert_eq!(route["route"]["cluster"], "a");
    assert_eq!(route["route"].get("requestMirrorPolicies"), None);
}

#[test]
fn a_mirror_of_an_impossible_part_makes_the_rule_answer_500() {
    let cases = [
        ("percent: 101", ".percent", "100"),
        ("fraction: {numerator: 2, denominator: 1}", ".fraction", "denominator"),
        ("fraction: {numerator: 0, denominator: 0}", ".fraction", "denominator"),
        ("percent: 1, fraction: {numerator: 1}", ".fraction", "percent"),
    ];
    for (part, field, words) in cases {
        let filter = format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: b, port: 80}}, {part}}}}}");
        refused(&filter, &format!("[0].requestMirror{field}"), UnsupportedValue, words);
    }
}

#[test]
fn cors_is_answered_by_envoy() {
    let route = only_forward(
        "filters: [{type: CORS, cors: {
          allowOrigins: ['https://www.foo.com', 'https://*.Bar.com:8443', 'http://foo.com:80', 'https://*'],
          allowMethods: [GET, OPTIONS], allowHeaders: [x-a, X-B, x-b], exposeHeaders: [x-c],
          allowCredentials: true, maxAge: 3600}}]",
    );
    let expected = yaml(
        r"{'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy,
          allowOriginStringMatch: [
            {exact: 'https://www.foo.com'},
            {safeRegex: {regex: 'https://[^/:\[\]]+\.bar\.com:8443'}},
            {exact: 'http://foo.com'},
            {safeRegex: {regex: 'https://(?:[^/:\[\]]+|\[[^/\[\]]+\])'}}],
          allowMethods: 'GET, OPTIONS', allowHeaders: 'x-a, X-B', exposeHeaders: x-c, maxAge: '3600',
          allowCredentials: true, forwardNotMatchingPreflights: false}",
    );
    assert_eq!(route["typedPerFilterConfig"]["envoy.filters.http.cors"], expected);
}

#[test]
fn cors_wildcards_are_echoed_and_the_default_age_is_5_seconds() {
    let route =
        only_forward("filters: [{type: CORS, cors: {allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']}}]");
    let expected = yaml(
        "{'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy,
          allowOriginStringMatch: [{safeRegex: {regex: '.*'}}], allowMethods: '*', allowHeaders: '*', maxAge: '5',
          allowCredentials: false, forwardNotMatchingPreflights: false}",
    );
    assert_eq!(route["typedPerFilterConfig"]["envoy.filters.http.cors"], expected);
}

#[test]
fn with_credentials_no_wildcard_is_exposed() {
    let rules = rule("{type: CORS, cors: {allowCredentials: true, exposeHeaders: ['*', x-a]}}", "/");
    let compiled = one_problem(&rules, "spec.rules[0].filters[0].cors.exposeHeaders", NotActedOn, "name the headers");
    let route = json(&envoy_routes(&compiled)[0]);
    assert_eq!(route["typedPerFilterConfig"]["envoy.filters.http.cors"]["exposeHeaders"], "x-a");
}

#[test]
fn a_rule_for_a_method_answers_the_preflights_for_that_method_too() {
    let compiled = compile(
        "[{backendRefs: [{name: a, port: 80}], filters: [{type: CORS, cors: {allowOrigins: ['*']}}],
           matches: [{method: PUT, path: {value: /x}, queryParams: [{name: q, value: v}]}]},
          {backendRefs: [{name: b, port: 80}], matches: [{method: OPTIONS, path: {value: /x}, queryParams: [{name: q, value: v}]}]},
          {backendRefs: [{name: c, port: 80}], matches: [{path: {value: /x}}]}]",
    );
    let routes = envoy_routes(&compiled);
    let names: Vec<_> = routes.iter().map(|route| route.name.trim_start_matches("httproute/ns/web/rule/")).collect();
    // What a user wrote comes before what nobody wrote.
    assert_eq!(names, ["0/match/0", "1/match/0", "0/match/0/preflight", "2/match/0"]);
    let expected = yaml(
        "{pathSeparatedPrefix: /x,
          headers: [
            {name: ':method', stringMatch: {exact: OPTIONS}},
            {name: origin, presentMatch: true},
            {name: access-control-request-method, stringMatch: {exact: PUT}}],
          queryParameters: [{name: q, stringMatch: {exact: v}}]}",
    );
    let preflight = json(&routes[2]);
    assert_eq!(preflight["match"], expected);
    assert_eq!(preflight["typedPerFilterConfig"], json(&routes[0])["typedPerFilterConfig"]);
}

#[test]
fn cors_filters_that_mean_nothing_make_the_rule_answer_500() {
    let cases = [
        ("allowOrigins: ['ftp://a']", "allowOrigins[0]", "http"),
        ("allowOrigins: [a.example]", "allowOrigins[0]", "scheme"),
        ("allowOrigins: ['https://a.*.example']", "allowOrigins[0]", "first label"),
        ("allowOrigins: ['https://a/']", "allowOrigins[0]", "origin"),
        ("allowOrigins: ['https://a:0']", "allowOrigins[0]", "origin"),
        ("allowOrigins: ['https://a:70000']", "allowOrigins[0]", "origin"),
        ("allowOrigins: ['https://']", "allowOrigins[0]", "origin"),
        ("allowOrigins: ['*', 'https://a']", "allowOrigins", "everything"),
        ("allowMethods: ['*', GET]", "allowMethods", "everything"),
        ("allowMethods: [get]", "allowMethods[0]", "method"),
        ("allowMethods: [\"GET\\r\\nx: y\"]", "allowMethods[0]", "method"),
        ("allowHeaders: ['*', a]", "allowHeaders", "everything"),
        ("allowHeaders: ['a b']", "allowHeaders[0]", "letters"),
        ("exposeHeaders: [\"a\\n\"]", "exposeHeaders[0]", "letters"),
        ("maxAge: 0", "maxAge", "1 second"),
        ("maxAge: 4294967295", "maxAge", "1 second"),
    ];
    for (cors, field, words) in cases {
        refused(&format!("{{type: CORS, cors: {{{cors}}}}}"), &format!("[0].cors.{field}"), UnsupportedValue, words);
    }
}

#[test]
fn filters_that_nobody_can_apply_are_never_skipped() {
    let extension = "{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: f}}";
    refused(extension, "[0]", UnsupportedValue, "500");
    let auth = "{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: auth, port: 80}}}";
    refused(auth, "[0]", UnsupportedValue, "external authorization");
    refused("{type: URLRewrite}", "[0]", UnsupportedValue, "needs the field");
    let stranger = "{type: URLRewrite, urlRewrite: {hostname: a}, cors: {}}";
    refused(stranger, "[0].cors", UnsupportedValue, "type URLRewrite");
}

#[test]
fn a_filter_stands_once_and_redirects_stand_alone() {
    let redirect = "{type: RequestRedirect, requestRedirect: {hostname: a.example}}";
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}";
    let cors = "{type: CORS, cors: {}}";
    let cases = [
        (format!("{0}, {0}", rewrite("hostname: a")), "[1]", "URLRewrite"),
        (format!("{0}, {0}", request_headers("remove: [a]")), "[1]", "RequestHeaderModifier"),
        (format!("{cors}, {cors}"), "[1]", "CORS"),
        (format!("{redirect}, {}", rewrite("hostname: a")), "[1]", "URLRewrite"),
        (format!("{mirror}, {redirect}"), "[0]", "RequestMirror"),
        (format!("{cors}, {redirect}"), "[0]", "CORS"),
    ];
    for (filters, field, words) in cases {
        let rules = format!("[{{filters: [{filters}]}}]");
        let field = format!("spec.rules[0].filters{field}");
        all_answer_500(&one_problem(&rules, &field, IncompatibleFilters, words));
    }
    refused_with_backend(redirect);
}

fn refused_with_backend(redirect: &str) {
    let compiled =
        one_problem(&rule(redirect, "/"), "spec.rules[0].backendRefs", IncompatibleFilters, "RequestRedirect");
    all_answer_500(&compiled);
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let compiled = compile(
        "[{backendRefs: [{name: missing, port: 80}, {name: forbidden, port: 80}], timeouts: {request: 1us},
           matches: [{path: {value: a}}, {}],
           filters: [{type: URLRewrite, urlRewrite: {hostname: A}},
                     {type: RequestHeaderModifier, requestHeaderModifier: {remove: [host, ':a']}}]}]",
    );
    let fields: Vec<_> =
        problems(&compiled).iter().map(|(field, ..)| field.trim_start_matches("spec.rules[0].")).collect();
    let expected = [
        "matches[0].path.value",
        "filters[0].urlRewrite.hostname",
        "filters[1].requestHeaderModifier.remove[0]",
        "filters[1].requestHeaderModifier.remove[1]",
        "timeouts.request",
        "backendRefs[0]",
        "backendRefs[1]",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn each_reference_is_resolved_once_however_many_matches_there_are() {
    let mut namespace = Namespace::default();
    let rules = "[{backendRefs: [{name: a, port: 80}, {name: b, port: 80, weight: 0}],
        matches: [{method: GET}, {method: PUT}],
        filters: [{type: RequestMirror, requestMirror: {backendRef: {name: c, port: 80}}}]}]";
    compile_route(&route(rules), &key(), &super::HTTP, &mut namespace);
    let expected = [
        "spec.rules[0].filters[0].requestMirror.backendRef",
        "spec.rules[0].backendRefs[0]",
        "spec.rules[0].backendRefs[1]",
    ];
    assert_eq!(namespace.asked, expected);
}
