//! HTTPRequestRedirectFilter: where clients are sent.

use tailscale_gateway::{compile::route::RouteContext, model::Reason::UnsupportedValue};

use super::{HTTP, all_answer_500, compile_at, envoy_routes, json, one_problem, only_route, yaml};

const HTTP_8080: RouteContext = RouteContext { scheme_https: false, port: 8080 };
const HTTPS: RouteContext = RouteContext { scheme_https: true, port: 443 };
const HTTPS_8443: RouteContext = RouteContext { scheme_https: true, port: 8443 };

fn redirect(body: &str, path: &str) -> String {
    format!(
        "[{{matches: [{{path: {{value: {path}}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{body}}}}}]}}]"
    )
}

#[track_caller]
fn redirects(context: RouteContext, body: &str, expected: &str) {
    let compiled = compile_at(context, &redirect(body, "/"));
    assert_eq!(compiled.problems, []);
    assert!(compiled.any_rule_valid);
    assert_eq!(json(&envoy_routes(&compiled)[0])["redirect"], yaml(expected), "{context:?} {body}");
}

#[test]
fn the_status_code_is_302_unless_another_is_asked_for() {
    redirects(HTTP, "", "{responseCode: FOUND}");
    redirects(HTTP, "statusCode: 301", "{}");
    redirects(HTTP, "statusCode: 302", "{responseCode: FOUND}");
    redirects(HTTP, "statusCode: 303", "{responseCode: SEE_OTHER}");
    redirects(HTTP, "statusCode: 307", "{responseCode: TEMPORARY_REDIRECT}");
    redirects(HTTP, "statusCode: 308", "{responseCode: PERMANENT_REDIRECT}");
    let rules = redirect("statusCode: 300", "/");
    let field = "spec.rules[0].filters[0].requestRedirect.statusCode";
    all_answer_500(&one_problem(&rules, field, UnsupportedValue, "300"));
}

/// The cases of the conformance test HTTPRouteRedirectPortAndScheme.
#[test]
fn the_port_follows_the_scheme_or_the_listener_and_well_known_ones_are_not_written() {
    let host = "hostname: example.org, statusCode: 301";
    let cases = [
        (HTTP, "", "{}"),
        (HTTP, "port: 80", "{}"),
        (HTTP, "port: 8080", "{portRedirect: 8080}"),
        (HTTP, "scheme: https", "{schemeRedirect: https}"),
        (HTTP, "scheme: https, port: 443", "{schemeRedirect: https}"),
        (HTTP, "scheme: https, port: 8443", "{schemeRedirect: https, portRedirect: 8443}"),
        (HTTP_8080, "", "{portRedirect: 8080}"),
        (HTTP_8080, "port: 80", "{}"),
        (HTTP_8080, "scheme: https", "{schemeRedirect: https}"),
        (HTTPS, "", "{}"),
        (HTTPS, "port: 443", "{}"),
        (HTTPS, "port: 8443", "{portRedirect: 8443}"),
        (HTTPS, "port: 80", "{portRedirect: 80}"),
        (HTTPS, "scheme: http", "{schemeRedirect: http}"),
        (HTTPS, "scheme: http, port: 80", "{schemeRedirect: http}"),
        (HTTPS, "scheme: http, port: 8080", "{schemeRedirect: http, portRedirect: 8080}"),
        (HTTPS_8443, "", "{portRedirect: 8443}"),
    ];
    for (context, body, expected) in cases {
        let mut expected = yaml(expected);
        expected["hostRedirect"] = "example.org".into();
        let compiled = compile_at(context, &redirect(&format!("{host}, {body}"), "/"));
        assert_eq!(json(&envoy_routes(&compiled)[0])["redirect"], expected, "{context:?} {body}");
    }
}

#[test]
fn a_port_that_the_host_header_has_is_replaced_even_by_a_well_known_one() {
    // Clients of port 80 send no port, so nothing has to be written.
    redirects(HTTP, "scheme: https, statusCode: 301", "{schemeRedirect: https}");
    // Clients of port 8080 do, and Envoy would keep it.
    redirects(HTTP_8080, "scheme: https, statusCode: 301", "{schemeRedirect: https, portRedirect: 443}");
    redirects(HTTP_8080, "port: 80, statusCode: 301", "{portRedirect: 80}");
    redirects(HTTP_8080, "statusCode: 301", "{portRedirect: 8080}");
}

#[test]
fn paths_of_redirects_are_changed_like_those_of_requests() {
    let case = |path: &str, body: &str| {
        let mut route = only_route(&redirect(&format!("statusCode: 301, path: {{{body}}}"), path));
        route["redirect"].take()
    };
    let full = "type: ReplaceFullPath, replaceFullPath: /new";
    assert_eq!(case("/a", full), yaml("{pathRedirect: /new}"));
    let prefix = |new: &str| format!("type: ReplacePrefixMatch, replacePrefixMatch: {new}");
    assert_eq!(case("/a", &prefix("/b/")), yaml("{prefixRewrite: /b}"));
    assert_eq!(case("/", &prefix("/b")), yaml("{prefixRewrite: /b/}"));
    assert_eq!(case("/", &prefix("/")), yaml("{}"));
    let strip = yaml("{regexRewrite: {pattern: {regex: '^/a/*'}, substitution: /}}");
    assert_eq!(case("/a", &prefix("/")), strip);
    assert_eq!(case("/a", &prefix("''")), strip);
}

#[test]
fn a_redirect_may_change_headers_of_its_response() {
    let route = only_route(
        "[{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}},
           {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-a, value: b}]}}]}]",
    );
    assert_eq!(route["responseHeadersToAdd"], yaml("[{header: {key: x-a, value: b}}]"));
}

#[test]
fn redirects_to_what_is_no_place_answer_500() {
    let cases = [
        ("hostname: 'a/b'", "hostname", "DNS name"),
        ("hostname: 'a:8080'", "hostname", "DNS name"),
        ("hostname: \"a\\r\\nb\"", "hostname", "DNS name"),
        ("port: 0", "port", "1 to 65535"),
        ("path: {type: ReplaceFullPath, replaceFullPath: '//evil.example'}", "path.replaceFullPath", "two slashes"),
    ];
    for (body, field, words) in cases {
        let field = format!("spec.rules[0].filters[0].requestRedirect.{field}");
        all_answer_500(&one_problem(&redirect(body, "/"), &field, UnsupportedValue, words));
    }
}
