//! What HTTPRoutes say is what a real Envoy does with requests.

use std::collections::BTreeMap;

use crate::{
    site::{Site, documents, route, route_for, service, service_speaking},
    support::{
        backend::Backend,
        client::Request,
        load::{Load, Tally},
    },
};

/// A rule that tells in the response header `x-rule` that it was the one.
fn marked(name: &str, matches: &str) -> String {
    format!(
        "
- matches: [{matches}]
  filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-rule, value: {name}}}]}}}}]
  backendRefs: [{{name: web, port: 80}}]"
    )
}

/// One backend behind the Service `web`, and HTTPRoutes.
async fn one_backend(routes: &[String]) -> (Backend, Site) {
    let backend = Backend::start("web").await;
    let files = [("web.yaml", service("web", &[backend.address()])), ("routes.yaml", documents(routes))];
    let site = Site::start(&files.each_ref().map(|(name, content)| (*name, content.as_str()))).await;
    (backend, site)
}

/// Which rule takes a request; `404` when none does.
async fn rule_for(request: &Request) -> String {
    let response = request.send().await;
    match response.header("x-rule") {
        Some(rule) => rule.to_owned(),
        None => response.status.to_string(),
    }
}

#[tokio::test]
async fn the_most_specific_match_wins_and_paths_are_compared_by_whole_segments() {
    let rules = [
        marked("all", "{path: {type: PathPrefix, value: /}}"),
        marked("query", "{path: {type: PathPrefix, value: /one}, queryParams: [{name: q, value: '1'}]}"),
        marked("header", "{path: {type: PathPrefix, value: /one}, headers: [{name: X-V, value: '1'}]}"),
        marked(
            "headers",
            "{path: {type: PathPrefix, value: /one}, headers: [{name: x-v, value: '1'}, {name: x-w, value: '2'}]}",
        ),
        marked(
            "pattern",
            "{path: {type: PathPrefix, value: /one}, headers: [{name: x-p, type: RegularExpression, value: 'v[0-9]+'}]}",
        ),
        marked("method", "{path: {type: PathPrefix, value: /one}, method: POST}"),
        marked("prefix", "{path: {type: PathPrefix, value: /one/}}"),
        marked("deeper", "{path: {type: PathPrefix, value: /one/two}}"),
        marked("exact", "{path: {type: Exact, value: /one}}"),
        marked("expression", "{path: {type: RegularExpression, value: '/re/[0-9]+'}}"),
    ];
    let (_backend, site) = one_backend(&[route("all", &rules.concat())]).await;
    let get = |path: &str| site.get(path);
    let cases = [
        (get("/"), "all"),
        (get("/one"), "exact"),
        (get("/one?q=1"), "exact"),
        (get("/one/"), "prefix"),
        (get("/one/x"), "prefix"),
        (get("/oneness"), "all"),
        (get("/ONE/x"), "all"),
        (get("/one/two"), "deeper"),
        (get("/one/two/three?q=1"), "deeper"),
        (get("/one/twofold"), "prefix"),
        (get("/one/x").method("POST"), "method"),
        (get("/one/x").method("POST").header("x-v", "1").header("x-w", "2"), "method"),
        (get("/one").method("POST"), "exact"),
        (get("/one/x").header("x-v", "1"), "header"),
        (get("/one/x").header("x-v", "2"), "prefix"),
        (get("/one/x").header("x-v", "1").header("x-w", "2"), "headers"),
        (get("/one/x?q=1").header("x-v", "1"), "header"),
        (get("/one/x").header("x-p", "v12"), "pattern"),
        (get("/one/x").header("x-p", "v12x"), "prefix"),
        (get("/one/x?q=1"), "query"),
        (get("/one/x?a=b&q=1"), "query"),
        (get("/one/x?q=12"), "prefix"),
        (get("/re/12"), "expression"),
        (get("/re/12?q=1"), "expression"),
        (get("/re/12x"), "all"),
        (get("/x/re/12"), "all"),
        // What Envoy makes of paths before it compares them.
        (get("//one//two"), "deeper"),
        (get("/one/../re/7"), "expression"),
        (get("/%6Fne/two"), "deeper"),
    ];
    for (request, expected) in cases {
        assert_eq!(rule_for(&request).await, expected, "{request:?}");
    }
}

#[tokio::test]
async fn hostnames_decide_before_paths_and_older_routes_before_younger_ones() {
    let created = |text: String, time: &str| {
        text.replacen("namespace: default,", &format!("namespace: default, creationTimestamp: {time:?},"), 1)
    };
    let all = |name: &str| marked(name, "{path: {type: PathPrefix, value: /}}");
    let deep = |name: &str| marked(name, "{path: {type: PathPrefix, value: /deep}}");
    let (_backend, site) = one_backend(&[
        created(route_for("younger", &["web.example"], &all("younger")), "2025-01-01T00:00:00Z"),
        created(route_for("z-older", &["web.example"], &all("older")), "2024-01-01T00:00:00Z"),
        route_for("wild", &["*.example"], &(all("wild") + &deep("wild-deep"))),
        route_for("wilder", &["*.deeper.example"], &all("wilder")),
    ])
    .await;
    for (host, path, expected) in [
        ("web.example", "/", "older"),
        ("web.example:8080", "/", "older"),
        ("WEB.Example", "/", "older"),
        ("other.example", "/", "wild"),
        ("other.example", "/deep", "wild-deep"),
        ("a.deeper.example", "/", "wilder"),
        ("a.b.deeper.example", "/", "wilder"),
        ("example", "/", "404"),
        ("elsewhere.test", "/", "404"),
    ] {
        assert_eq!(rule_for(&site.get(path).host(host)).await, expected, "{host}{path}");
    }
}

#[tokio::test]
async fn rewritten_urls_arrive_without_double_slashes_and_with_their_query() {
    let rewrite = |from: &str, to: &str| {
        format!(
            "
- matches: [{{path: {{type: PathPrefix, value: {from}}}}}]
  filters: [{{type: URLRewrite, urlRewrite: {{{to}}}}}]
  backendRefs: [{{name: web, port: 80}}]"
        )
    };
    let prefix = |to: &str| format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: {to}}}");
    let rules = [
        rewrite("/gone", &prefix("/")),
        rewrite("/app", &prefix("/v2")),
        rewrite("/slash/", &prefix("/v3/")),
        rewrite("/", &prefix("/root")),
        rewrite("/full", "path: {type: ReplaceFullPath, replaceFullPath: /fixed}"),
        rewrite("/host", "hostname: inside.example"),
    ];
    let (_backend, site) = one_backend(&[route("all", &rules.concat())]).await;
    for (path, expected) in [
        ("/gone", "/"),
        ("/gone/", "/"),
        ("/gone/a", "/a"),
        ("/gone/a/?x=1&y=//", "/a/?x=1&y=//"),
        ("/gone?x=1", "/?x=1"),
        ("/app", "/v2"),
        ("/app/", "/v2/"),
        ("/app/a?x", "/v2/a?x"),
        ("/apple", "/root/apple"),
        ("/slash", "/v3"),
        ("/slash/a", "/v3/a"),
        ("/", "/root/"),
        ("/other/a", "/root/other/a"),
        ("/full", "/fixed"),
        ("/full/a/b?x=1", "/fixed?x=1"),
    ] {
        let echo = site.get(path).send().await.echo();
        assert_eq!((&*echo.path, &*echo.host), (expected, "web.example"), "{path}");
    }
    let echo = site.get("/host/a").send().await.echo();
    assert_eq!((&*echo.path, &*echo.host), ("/host/a", "inside.example"));
}

#[tokio::test]
async fn redirects_say_where_to_go() {
    let redirect = |from: &str, to: &str| {
        format!(
            "
- matches: [{{path: {{type: PathPrefix, value: {from}}}}}]
  filters: [{{type: RequestRedirect, requestRedirect: {{{to}}}}}]"
        )
    };
    let rules = [
        redirect("/secure", "scheme: https, statusCode: 301"),
        redirect("/elsewhere", "hostname: other.example"),
        redirect("/both", "hostname: other.example, scheme: https"),
        redirect("/port", "port: 8443, scheme: https"),
        redirect("/eighty", "port: 80, scheme: http"),
        redirect("/old", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}"),
        redirect("/strip", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}"),
        redirect("/full", "path: {type: ReplaceFullPath, replaceFullPath: /fixed}, statusCode: 308"),
    ];
    let (backend, site) = one_backend(&[route("all", &rules.concat())]).await;
    let here = format!("http://web.example:{}", site.http.number());
    // A well-known port need not be written, but must be where Envoy would else keep the one in the request's Host.
    for (path, status, location) in [
        ("/secure/a?x=1", 301, "https://web.example:443/secure/a?x=1".to_owned()),
        ("/elsewhere/a", 302, format!("http://other.example:{}/elsewhere/a", site.http.number())),
        ("/both/a", 302, "https://other.example/both/a".to_owned()),
        ("/port/a", 302, "https://web.example:8443/port/a".to_owned()),
        ("/eighty", 302, "http://web.example:80/eighty".to_owned()),
        ("/old/a?x=1", 302, format!("{here}/new/a?x=1")),
        ("/old", 302, format!("{here}/new")),
        ("/strip/a", 302, format!("{here}/a")),
        ("/strip", 302, format!("{here}/")),
        ("/full/a?x=1", 308, format!("{here}/fixed?x=1")),
    ] {
        let response = site.get(path).send().await;
        assert_eq!((response.status, response.header("location")), (status, Some(&*location)), "{path}");
    }
    assert_eq!(backend.requests(), 0);
}

#[tokio::test]
async fn mirrors_see_what_backends_see_and_their_answers_count_for_nothing() {
    let (one, two, never) = (Backend::start("one").await, Backend::start("two").await, Backend::start("never").await);
    two.answer(500);
    let backend = Backend::start("web").await;
    let mirror = |name: &str, percent: u8| {
        format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 80}}, percent: {percent}}}}}"
        )
    };
    let rules = format!(
        "
- filters: [{}, {}, {}, {{type: RequestMirror, requestMirror: {{backendRef: {{name: missing, port: 80}}}}}}]
  backendRefs: [{{name: web, port: 80}}]",
        mirror("one", 100),
        mirror("two", 100),
        mirror("never", 0)
    );
    let services = documents(&[
        service("web", &[backend.address()]),
        service("one", &[one.address()]),
        service("two", &[two.address()]),
        service("never", &[never.address()]),
    ]);
    let site = Site::start(&[("services.yaml", &services), ("route.yaml", &route("all", &rules))]).await;
    let response = site.get("/a?b=c").method("POST").body("payload").send().await;
    let echo = response.echo();
    assert_eq!((response.status, &*echo.backend, &*echo.host), (200, "web", "web.example"));
    for mirror in [&one, &two] {
        mirror.wait_for_requests(1).await;
        let seen = mirror.received().remove(0);
        assert_eq!(
            (&seen.method, &seen.path, &seen.host, &seen.body),
            (&echo.method, &echo.path, &echo.host, &echo.body)
        );
    }
    assert_eq!((backend.requests(), never.requests()), (1, 0));
}

#[tokio::test]
async fn browsers_are_told_what_other_origins_may_do() {
    let rules = "
- filters:
  - type: CORS
    cors:
      allowOrigins: ['https://app.example', 'https://*.trusted.example']
      allowMethods: [GET, PUT]
      allowHeaders: [x-token]
      exposeHeaders: [x-backend]
      allowCredentials: true
      maxAge: 600
  backendRefs: [{name: web, port: 80}]";
    let (backend, site) = one_backend(&[route("all", rules)]).await;
    let preflight = |origin: &str| {
        let request = site.get("/").method("OPTIONS").header("origin", origin);
        request.header("access-control-request-method", "PUT").header("access-control-request-headers", "x-token")
    };
    for origin in ["https://app.example", "https://one.trusted.example"] {
        let response = preflight(origin).send().await;
        let told = |name: &str| response.header(&format!("access-control-{name}")).map(str::to_owned);
        assert!((200..300).contains(&response.status), "{origin}: {}", response.status);
        assert_eq!(told("allow-origin").as_deref(), Some(origin));
        assert_eq!(told("allow-credentials").as_deref(), Some("true"));
        assert_eq!(told("allow-methods").as_deref(), Some("GET, PUT"));
        assert_eq!(told("allow-headers").as_deref(), Some("x-token"));
        assert_eq!(told("max-age").as_deref(), Some("600"));
    }
    let refused = preflight("https://app.example.attacker.test").send().await;
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert_eq!(backend.requests(), 0, "preflights are answered by the Gateway");

    let response = site.get("/").header("origin", "https://app.example").send().await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(response.header("access-control-expose-headers"), Some("x-backend"));
}

/// The share of the whole, in percent.
fn share(tally: &Tally, part: Option<&u64>) -> f64 {
    100.0 * part.copied().unwrap_or_default() as f64 / tally.responses() as f64
}

#[tokio::test]
async fn backends_get_their_share_and_invalid_ones_answer_500_for_exactly_theirs() {
    let (blue, green, idle) =
        (Backend::start("blue").await, Backend::start("green").await, Backend::start("idle").await);
    let services = documents(&[
        service("blue", &[blue.address()]),
        service("green", &[green.address()]),
        service("idle", &[idle.address()]),
    ]);
    let rules = "
- backendRefs:
  - {name: blue, port: 80, weight: 5}
  - {name: green, port: 80, weight: 3}
  - {name: missing, port: 80, weight: 1}
  - {name: blue, port: 81, weight: 1}
  - {name: idle, port: 80, weight: 0}
- matches: [{path: {type: Exact, value: /none}}]
- matches: [{path: {type: Exact, value: /zero}}]
  backendRefs: [{name: idle, port: 80, weight: 0}]
- matches: [{path: {type: Exact, value: /missing}}]
  backendRefs: [{name: missing, port: 80}]
- matches: [{path: {type: Exact, value: /elsewhere}}]
  backendRefs: [{name: blue, namespace: elsewhere, port: 80}]";
    let site = Site::start(&[("services.yaml", &services), ("route.yaml", &route("all", rules))]).await;
    let load = Load::start(&site.get("/"), 4);
    load.wait_for(4_000).await;
    let tally = load.stop().await;
    // Of 4000 requests the standard deviation of a share is at most 0.8 percent: 4 percent are five of them.
    let near = |actual: f64, expected: f64| (actual - expected).abs() < 4.0;
    assert!(near(share(&tally, tally.by_backend.get("blue")), 50.0), "{tally:?}");
    assert!(near(share(&tally, tally.by_backend.get("green")), 30.0), "{tally:?}");
    assert!(near(share(&tally, tally.by_status.get(&500)), 20.0), "{tally:?}");
    assert_eq!(tally.by_status.keys().copied().collect::<Vec<_>>(), [200, 500]);
    for path in ["/none", "/zero", "/missing", "/elsewhere"] {
        assert_eq!(site.get(path).send().await.status, 500, "{path}");
    }
    assert_eq!(idle.requests(), 0);
}

#[tokio::test]
async fn a_backend_that_does_not_answer_in_time_is_answered_for_with_504() {
    let rules = "
- matches: [{path: {type: PathPrefix, value: /limited}}]
  timeouts: {request: 200ms}
  backendRefs: [{name: web, port: 80}]
- matches: [{path: {type: PathPrefix, value: /attempt}}]
  timeouts: {request: 1h, backendRequest: 200ms}
  backendRefs: [{name: web, port: 80}]
- matches: [{path: {type: PathPrefix, value: /patient}}]
  timeouts: {request: 0s}
  backendRefs: [{name: web, port: 80}]";
    let (backend, site) = one_backend(&[route("all", rules)]).await;
    backend.hold();
    let patient = site.get("/patient");
    let patient = tokio::spawn(async move { patient.send().await.status });
    for path in ["/limited", "/attempt"] {
        assert_eq!(site.get(path).send().await.status, 504, "{path}");
    }
    backend.wait_for_requests(3).await;
    assert!(!patient.is_finished());
    backend.release();
    assert_eq!(patient.await.expect("the request does not panic"), 200);
}

#[tokio::test]
async fn backends_are_spoken_to_in_the_protocol_of_their_port() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let backend = Backend::start("web").await;
    let services = ["http", "kubernetes.io/h2c", "kubernetes.io/ws"].map(|protocol| {
        let name = protocol.rsplit('/').next().expect("rsplit gives something");
        service_speaking(name, protocol, &[backend.address()])
    });
    let rules = ["http", "h2c", "ws"].map(|name| {
        format!(
            "\n- matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]\n  backendRefs: [{{name: {name}, port: 80}}]"
        )
    });
    let services = documents(&services);
    let site = Site::start(&[("services.yaml", &services), ("route.yaml", &route("all", &rules.concat()))]).await;
    let protocol = async |path: &str| site.get(path).send().await.echo().protocol;
    assert_eq!(protocol("/http").await, "HTTP/1.1");
    assert_eq!(protocol("/h2c").await, "HTTP/2.0");
    assert_eq!(protocol("/ws").await, "HTTP/1.1");
    let over_http2 = site.get("/h2c").http2().send().await.echo();
    assert_eq!((&*over_http2.protocol, &*over_http2.host), ("HTTP/2.0", "web.example"));

    let mut stream = site.get("/ws").upgrade("websocket").await.expect("it is let through");
    stream.write_all(b"ping").await.expect("the connection is open");
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.expect("the backend sends it back");
    assert_eq!(&back, b"ping");
}

#[tokio::test]
async fn headers_are_changed_on_the_way_in_and_on_the_way_out_for_rules_and_for_backends() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let modify = |kind: &str, value: &str| {
        let upper = format!("{}{}", kind[..1].to_uppercase(), &kind[1..]);
        format!(
            "{{type: {upper}HeaderModifier, {kind}HeaderModifier: \
             {{set: [{{name: x-set, value: {value}}}], add: [{{name: x-add, value: {value}}}], remove: [x-gone, content-type]}}}}"
        )
    };
    let rules = format!(
        "
- filters: [{request}, {response}]
  backendRefs:
  - {{name: blue, port: 80}}
  - {{name: green, port: 80, filters: [{of_green}]}}",
        request = modify("request", "rule"),
        response = modify("response", "rule"),
        of_green = modify("request", "green"),
    );
    let services = documents(&[service("blue", &[blue.address()]), service("green", &[green.address()])]);
    let site = Site::start(&[("services.yaml", &services), ("route.yaml", &route("all", &rules))]).await;
    let request = site.get("/").header("x-set", "client").header("x-add", "client").header("x-gone", "client");
    let mut seen = BTreeMap::new();
    // Both have the same weight: that one of them gets none of 64 requests happens once in 10^19 times.
    for _ in 0..64 {
        let response = request.send().await;
        let headers = |name: &str| response.header(name).map(str::to_owned);
        assert_eq!((headers("x-set").as_deref(), headers("x-add").as_deref()), (Some("rule"), Some("rule")));
        assert_eq!(headers("content-type"), None);
        let echo = response.echo();
        let header = |name: &str| echo.headers.get(name).cloned().unwrap_or_default();
        seen.insert(echo.backend.clone(), (header("x-set"), header("x-add"), header("x-gone")));
    }
    let told = |set: &str, add: &str| (set.to_owned(), add.to_owned(), String::new());
    assert_eq!(seen["blue"], told("rule", "client, rule"));
    assert_eq!(seen["green"], told("green", "client, rule, green"));
}

#[tokio::test]
async fn requests_for_no_rule_are_answered_404_and_a_service_without_endpoints_503() {
    let files = [
        ("empty.yaml", service("empty", &[])),
        ("route.yaml", route_for("all", &["only.example"], "- backendRefs: [{name: empty, port: 80}]")),
    ];
    let site = Site::start(&files.each_ref().map(|(name, content)| (*name, content.as_str()))).await;
    assert_eq!(site.get("/").send().await.status, 404);
    assert_eq!(site.get("/").host("only.example").send().await.status, 503);
}
