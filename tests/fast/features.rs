//! Each feature of Gateway API that `GatewayClass.status.supportedFeatures` claims, and the case that shows it: one that is
//! claimed without a case fails here, and so does one whose case does not say any more what it stands here for.

use std::fs;

use tailscale_gateway::status::SUPPORTED_FEATURES;

use crate::support::{golden::cases_in, tools::repository};

/// Where a feature is shown.
enum Shown {
    /// In a golden file below `tests/golden`: what its manifests ask for, and what becomes of that. A real Envoy takes those of
    /// `translate`.
    Golden { folder: &'static str, case: &'static str, asked: &'static str, made: &'static str },
    /// By tests: the file below `tests`, and their functions.
    Tests(&'static [(&'static str, &'static str)]),
}

const fn golden(case: &'static str, asked: &'static str, made: &'static str) -> Shown {
    Shown::Golden { folder: "translate", case, asked, made }
}

/// In the order of the features. Of texts only the words count, not the spaces between them.
const CASES: &[(&str, Shown)] = &[
    ("Gateway", golden("http", "kind: Gateway", "Accepted True Accepted")),
    (
        "GatewayAddressEmpty",
        golden(
            "addresses",
            "name: any } spec: gatewayClassName: tailscale addresses: - { type: IPAddress }",
            "default/any/8082",
        ),
    ),
    (
        "GatewayInfrastructurePropagation",
        Shown::Golden {
            folder: "operator",
            case: "parameters",
            asked: "annotations: { example.com/asked: gateway, example.com/owner: me }",
            made: "example.com/owner: me",
        },
    ),
    ("GatewayPort8080", golden("named-rules", "protocol: HTTP, port: 8080", "name: default/web/8080")),
    (
        "GatewayStaticAddresses",
        Shown::Tests(&[
            ("fast/cluster_status.rs", "a_gateway_is_programmed_with_the_addresses_that_it_asks_for_and_not_without"),
            ("e2e/kube_installed.rs", "a_gateway_has_the_addresses_that_it_asks_for_or_says_that_it_has_not"),
        ]),
    ),
    ("HTTPRoute", golden("http", "kind: HTTPRoute", "cluster: service/default")),
    (
        "HTTPRoute303RedirectStatusCode",
        golden("redirects", "port: 8443, statusCode: 303", "portRedirect: 8443 responseCode: SEE_OTHER"),
    ),
    (
        "HTTPRoute307RedirectStatusCode",
        golden(
            "redirects",
            "scheme: https, port: 443, statusCode: 307",
            "responseCode: TEMPORARY_REDIRECT schemeRedirect: https",
        ),
    ),
    (
        "HTTPRoute308RedirectStatusCode",
        golden(
            "redirects",
            "hostname: b.example.com, statusCode: 308",
            "responseCode: PERMANENT_REDIRECT schemeRedirect: http",
        ),
    ),
    (
        "HTTPRouteBackendProtocolH2C",
        golden("app-protocols", "appProtocol: kubernetes.io/h2c", "http2ProtocolOptions: {}"),
    ),
    (
        "HTTPRouteBackendProtocolWebSocket",
        golden("app-protocols", "appProtocol: kubernetes.io/ws }", "upgradeConfigs: - upgradeType: websocket"),
    ),
    (
        "HTTPRouteBackendRequestHeaderModification",
        golden(
            "header-filters",
            "name: a, port: 80, filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-a, value: backend",
            "key: x-a value: backend",
        ),
    ),
    ("HTTPRouteBackendTimeout", golden("timeouts", "request: 10s, backendRequest: 2s", "timeout: 2s")),
    ("HTTPRouteCORS", golden("cors", "type: CORS, cors: { allowOrigins", "allowOriginStringMatch:")),
    (
        "HTTPRouteHostRewrite",
        golden("rewrites", "urlRewrite: { hostname: b.example.com }", "hostRewriteLiteral: b.example.com"),
    ),
    (
        "HTTPRouteMethodMatching",
        golden("headers-queries-methods", "method: DELETE", "name: \":method\" stringMatch: exact: DELETE"),
    ),
    ("HTTPRouteNamedRouteRule", golden("named-rules", "name: first, matches", "rule/first/match/0")),
    ("HTTPRouteParentRefPort", golden("parent-refs", "parentRefs: [{ name: web, port: 8080 }]", "path: /by-port")),
    ("HTTPRoutePathRedirect", golden("redirects", "replaceFullPath: /new", "pathRedirect: /new")),
    ("HTTPRoutePathRewrite", golden("rewrites", "replacePrefixMatch: /new }", "prefixRewrite: /new")),
    ("HTTPRoutePortRedirect", golden("redirects", "requestRedirect: { port: 8443", "portRedirect: 8443")),
    (
        "HTTPRouteQueryParamMatching",
        golden("headers-queries-methods", "queryParams: [{ name: animal, value: whale }", "queryParameters:"),
    ),
    (
        "HTTPRouteRequestMirror",
        golden("mirrors", "type: RequestMirror, requestMirror", "requestMirrorPolicies: - cluster:"),
    ),
    (
        "HTTPRouteRequestMultipleMirrors",
        golden("mirrors", "port: 80 } } }, { type: RequestMirror", "numerator: 100 - cluster: service/default/c/80"),
    ),
    ("HTTPRouteRequestPercentageMirror", golden("mirrors", "percent: 42", "numerator: 42")),
    ("HTTPRouteRequestTimeout", golden("timeouts", "timeouts: { request: 500ms }", "timeout: 0.500s")),
    (
        "HTTPRouteResponseHeaderModification",
        golden("header-filters", "type: ResponseHeaderModifier", "responseHeadersToAdd:"),
    ),
    ("HTTPRouteSchemeRedirect", golden("redirects", "requestRedirect: { scheme: https", "schemeRedirect: https")),
    ("ReferenceGrant", golden("backend-namespaces", "kind: ReferenceGrant", "cluster: service/team/a/80")),
];

#[test]
fn every_feature_that_is_claimed_has_a_case_that_shows_it() {
    let shown: Vec<&str> = CASES.iter().map(|(feature, _)| *feature).collect();
    assert_eq!(shown, SUPPORTED_FEATURES);
    for (feature, shown) in CASES {
        match shown {
            Shown::Golden { folder, case, asked, made } => {
                let file = format!("{case}.yaml");
                let found = cases_in(folder).into_iter().find(|known| known.name == file);
                let found = found.unwrap_or_else(|| panic!("{feature}: there is no tests/golden/{folder}/{file}"));
                for (text, part, of) in [(asked, &found.input, "asks for"), (made, &found.output, "says")] {
                    assert!(words(part).contains(&words(text)), "{feature}: nothing in {file} {of} {text}");
                }
            }
            Shown::Tests(tests) => {
                for (file, test) in *tests {
                    let path = repository().join("tests").join(file);
                    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    assert!(text.contains(&format!("fn {test}()")), "{feature}: there is no {test} in {file}");
                }
            }
        }
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
