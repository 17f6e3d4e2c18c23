//! Tailnet endpoints with an `externalTarget`: what a real Envoy makes of `/api/{endpoint}` and of routes that name them.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::{
    site::{Site, TAILNET, documents, endpoints, route, route_to, service},
    support::{
        backend::Backend,
        load::Load,
        tls::{Authority, Certificate},
        wait::until,
    },
};

#[tokio::test]
async fn requests_under_the_name_of_an_endpoint_arrive_at_its_target_without_the_prefix() {
    let (target, named, other) =
        (Backend::start("target").await, Backend::start("named").await, Backend::start("other").await);
    let by_name = format!("localhost:{}", named.address().port());
    let list = format!(
        "
- {{name: web, port: 80, externalTarget: {:?}}}
- {{name: web-2, port: 80, externalTarget: {by_name:?}}}",
        target.address().to_string()
    );
    let site = Site::start(&[
        ("tailnet.yaml", TAILNET),
        ("endpoints.yaml", &endpoints("machines", &list)),
        ("other.yaml", &documents(&[service("other", &[other.address()]), route_to("all", "other")])),
    ])
    .await;
    for (path, backend, arrives) in [
        ("/api/web/status?x=1", "target", "/status?x=1"),
        ("/api/web", "target", "/"),
        ("/api/web/", "target", "/"),
        ("/api/web?x=1", "target", "/?x=1"),
        ("/api/web//status", "target", "/status"),
        ("/api/web/a/b/", "target", "/a/b/"),
        ("/api/web/api/web/x", "target", "/api/web/x"),
        ("/api/web-2/status", "named", "/status"),
        ("/api/website", "other", "/api/website"),
        ("/api/web-3/x", "other", "/api/web-3/x"),
        ("/api", "other", "/api"),
        ("/", "other", "/"),
    ] {
        let echo = site.get(path).send().await.echo();
        let host = match backend {
            "target" => target.address().to_string(),
            "named" => by_name.clone(),
            _ => "web.example".to_owned(),
        };
        assert_eq!((&*echo.backend, &*echo.path, echo.host), (backend, arrives, host), "{path}");
    }

    // An endpoint moves, another one goes, a third one comes.
    let list = format!(
        "
- {{name: web, port: 80, externalTarget: {:?}}}
- {{name: third, port: 80, externalTarget: {:?}}}",
        other.address().to_string(),
        target.address().to_string(),
    );
    site.manifests.write("endpoints.yaml", endpoints("machines", &list));
    site.until_from("target", "/api/third/x").await;
    let echo = site.get("/api/web/moved").send().await.echo();
    assert_eq!((&*echo.backend, &*echo.path), ("other", "/moved"));
    let echo = site.get("/api/web-2/x").send().await.echo();
    assert_eq!((&*echo.backend, &*echo.path), ("other", "/api/web-2/x"));
}

#[tokio::test]
async fn a_route_can_name_the_endpoints_of_a_port_and_divides_requests_by_their_weights() {
    let (one, three, other) =
        (Backend::start("one").await, Backend::start("three").await, Backend::start("other").await);
    let list = format!(
        "
- {{name: one, port: 8080, weight: 1, externalTarget: {:?}}}
- {{name: three, port: 8080, weight: 3, externalTarget: {:?}}}
- {{name: other, port: 9090, externalTarget: {:?}}}",
        one.address().to_string(),
        three.address().to_string(),
        other.address().to_string(),
    );
    let rules = "
- matches: [{path: {type: PathPrefix, value: /both}}]
  backendRefs: [{group: gateway.tailscale.com, kind: TailscaleEndpoints, name: machines, port: 8080}]
- matches: [{path: {type: PathPrefix, value: /other}}]
  backendRefs: [{group: gateway.tailscale.com, kind: TailscaleEndpoints, name: machines, port: 9090}]
- matches: [{path: {type: PathPrefix, value: /none}}]
  backendRefs: [{group: gateway.tailscale.com, kind: TailscaleEndpoints, name: machines, port: 1}]";
    let site =
        Site::start(&[("endpoints.yaml", &endpoints("machines", &list)), ("route.yaml", &route("all", rules))]).await;
    let load = Load::start(&site.get("/both"), 4);
    load.wait_for(2_000).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    // The standard deviation of the share of one quarter of 2000 requests is one percent.
    let share = 100.0 * tally.by_backend["one"] as f64 / tally.responses() as f64;
    assert!((share - 25.0).abs() < 5.0, "{tally:?}");
    let echo = site.get("/other/x").send().await.echo();
    assert_eq!((&*echo.backend, &*echo.path, echo.host), ("other", "/other/x", other.address().to_string()));
    assert_eq!(site.get("/none").send().await.status, 500);
}

/// A file with the certificate of an authority.
fn trusted(authority: &Authority) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".pem").expect("a temporary file can be made");
    file.write_all(authority.pem().as_bytes()).expect("a temporary file can be written");
    file
}

#[tokio::test]
async fn https_targets_are_checked_against_the_trusted_authorities_and_told_whom_they_are_asked_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let start = async |name: &str, certificate: Certificate| Backend::start_tls(name, &certificate).await;
    let right = start("right", authority.issue(&["localhost"])).await;
    let by_address = start("by-address", authority.issue(&["127.0.0.1"])).await;
    let unknown = start("unknown", stranger.issue(&["localhost"])).await;
    let misnamed = start("misnamed", authority.issue(&["elsewhere.example"])).await;
    let list = format!(
        "
- {{name: right, port: 443, protocol: HTTPS, externalTarget: 'localhost:{}'}}
- {{name: scheme, port: 80, externalTarget: 'https://localhost:{}'}}
- {{name: by-address, port: 443, protocol: HTTPS, externalTarget: '127.0.0.1:{}'}}
- {{name: unknown, port: 443, protocol: HTTPS, externalTarget: 'localhost:{}'}}
- {{name: misnamed, port: 443, protocol: HTTPS, externalTarget: 'localhost:{}'}}",
        right.address().port(),
        right.address().port(),
        by_address.address().port(),
        unknown.address().port(),
        misnamed.address().port(),
    );
    let ca = trusted(&authority);
    let flags = ["--trusted-ca", ca.path().to_str().expect("a temporary path is UTF-8")];
    let site =
        Site::start_with(&[("tailnet.yaml", TAILNET), ("endpoints.yaml", &endpoints("machines", &list))], &flags).await;
    for endpoint in ["right", "scheme"] {
        let echo = site.get(&format!("/api/{endpoint}/a")).send().await.echo();
        let host = format!("localhost:{}", right.address().port());
        assert_eq!((&*echo.backend, &*echo.path, echo.host), ("right", "/a", host));
    }
    assert!(right.handshakes().iter().all(|handshake| handshake.server_name.as_deref() == Some("localhost")));
    assert_eq!(site.get("/api/by-address/a").send().await.echo().backend, "by-address");
    // Addresses are no server names (RFC 6066 §3).
    assert_eq!(by_address.handshakes()[0].server_name, None);
    for endpoint in ["unknown", "misnamed"] {
        let response = site.get(&format!("/api/{endpoint}/a")).send().await;
        assert_eq!(response.status, 503, "{endpoint}: {}", response.text());
    }
    assert_eq!((unknown.requests(), misnamed.requests()), (0, 0));
}

#[tokio::test]
async fn health_is_asked_for_where_and_how_the_endpoint_says() {
    let target = Backend::start("target").await;
    let list = format!(
        "
- name: web
  port: 80
  externalTarget: {:?}
  healthCheck: {{enabled: true, path: '/well?deep=1', interval: 100ms, timeout: 1s, healthyThreshold: 1, unhealthyThreshold: 2}}",
        target.address().to_string()
    );
    let site = Site::start(&[("tailnet.yaml", TAILNET), ("endpoints.yaml", &endpoints("machines", &list))]).await;
    target.wait_for_requests(3).await;
    let seen = target.received();
    assert!(
        seen.iter().all(|echo| echo.path == "/well?deep=1" && echo.host == target.address().to_string()),
        "{seen:?}"
    );
    assert_eq!(site.get("/api/web/x").send().await.status, 200);

    let health = async || {
        let clusters = site.envoy.clusters().await;
        let all = clusters["cluster_statuses"].as_array().expect("a list").clone();
        let of = all.iter().find(|cluster| cluster["name"] == "endpoint/default/machines/web");
        of.expect("the endpoint's cluster")["host_statuses"][0]["health_status"].clone()
    };
    target.answer(500);
    until("the target to be found ill", async || match health().await {
        health if health["failed_active_health_check"] == true => Ok(()),
        health => Err(health.to_string()),
    })
    .await;
    target.answer(200);
    until("the target to be found well", async || match health().await {
        health if health["failed_active_health_check"] != true => Ok(()),
        health => Err(health.to_string()),
    })
    .await;
}

#[tokio::test]
async fn endpoints_that_claim_one_name_are_both_told_and_the_older_one_is_served() {
    let (older, younger) = (Backend::start("older").await, Backend::start("younger").await);
    let claim = |object: &str, year: u32, backend: &Backend| {
        let text = endpoints(
            object,
            &format!("- {{name: web, port: 80, externalTarget: {:?}}}", backend.address().to_string()),
        );
        text.replace("metadata: {", &format!("metadata: {{creationTimestamp: '{year}-01-01T00:00:00Z', "))
    };
    let site = Site::start(&[
        ("tailnet.yaml", TAILNET),
        ("a.yaml", &claim("a", 2025, &younger)),
        ("z.yaml", &claim("z", 2024, &older)),
    ])
    .await;
    assert_eq!(site.get("/api/web/x").send().await.echo().backend, "older");
    let told = async || {
        let objects = site.control.admin("/debug/objects?kind=TailscaleEndpoints").await.json();
        let conflicted = |object: &serde_json::Value| {
            let conditions = object["status"]["conditions"].as_array().expect("a list").clone();
            let conflict = conditions.iter().find(|condition| condition["type"] == "Conflicted").cloned();
            conflict.filter(|conflict| conflict["status"] == "True").map(|conflict| {
                (
                    object["object"].as_str().expect("a text").to_owned(),
                    conflict["message"].as_str().expect("a text").to_owned(),
                )
            })
        };
        objects.as_array().expect("a list").iter().filter_map(conflicted).collect::<Vec<_>>()
    };
    let [(first, why_first), (second, why_second)] = &told().await[..] else { panic!("{:?}", told().await) };
    assert_eq!((&**first, &**second), ("TailscaleEndpoints default/a", "TailscaleEndpoints default/z"));
    assert!(why_first.contains("spec.endpoints[0].name") && why_first.contains("default/z"), "{why_first}");
    assert!(why_second.contains("spec.endpoints[0].name") && why_second.contains("default/a"), "{why_second}");

    site.manifests.remove("z.yaml");
    site.until_from("younger", "/api/web/x").await;
    until("the conflict to be over", async || match told().await {
        none if none.is_empty() => Ok(()),
        some => Err(format!("{some:?}")),
    })
    .await;
}
