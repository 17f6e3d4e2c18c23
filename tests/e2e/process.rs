//! The control plane as a process: how it starts and ends, and what it tells about itself and its clients.

use serde_json::Value;

use crate::{
    site::{GATEWAY, Site, documents, gateway, gateway_on, https_listener, listener, route, route_to, secret, service},
    support::{
        backend::Backend,
        client,
        gateway::{Gateway, run},
        ports::Port,
        tls::Authority,
        wait::until,
    },
};

/// A site with one backend, `web`, behind the route `all`.
async fn simple() -> (Backend, Site) {
    let backend = Backend::start("web").await;
    let all = documents(&[service("web", &[backend.address()]), route_to("all", "web")]);
    let site = Site::start(&[("all.yaml", &all)]).await;
    (backend, site)
}

/// The row of the only client.
async fn client_row(site: &Site) -> Value {
    let page = site.control.admin(&format!("/debug/xds/clients?gateway={GATEWAY}")).await.json();
    let clients = page["clients"].as_array().expect("a list");
    assert_eq!(clients.len(), 1, "{page:#}");
    clients[0].clone()
}

/// What the only client was sent of a type.
fn of_type<'a>(row: &'a Value, wanted: &str) -> &'a Value {
    let types = row["types"].as_array().expect("a list");
    types.iter().find(|of| of["type"] == wanted).unwrap_or_else(|| panic!("no {wanted}: {row:#}"))
}

/// Waits until the client has accepted everything.
async fn synced(site: &Site) -> Value {
    until("the client to be in sync", async || {
        let row = client_row(site).await;
        let types = row["types"].as_array().expect("a list");
        if types.iter().all(|of| of["state"] == "SYNCED") { Ok(row) } else { Err(format!("{row:#}")) }
    })
    .await
}

#[tokio::test]
async fn sigterm_lets_streams_go_and_ends_with_success() {
    let (_backend, site) = simple().await;
    let status = site.control.terminate().await;
    assert_eq!(status.code(), Some(0));
    let lines = site.control.process().lines();
    let closed = lines.iter().filter(|line| line.contains("xDS stream closed") && line.contains("going away")).count();
    assert_eq!(closed, 1, "{lines:#?}");
    assert!(lines.last().is_some_and(|line| line.contains("\"ended\"")), "{lines:#?}");
    // The Envoy has what it had.
    assert_eq!(site.get("/").send().await.status, 200);
}

#[tokio::test]
async fn strangers_may_probe_and_measure_and_see_what_is_configured_only_where_that_is_opened() {
    let (_backend, site) = simple().await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let manifest = gateway(&[listener("http", &Port::lease())]);
    std::fs::write(folder.path().join("gateway.yaml"), manifest).expect("it can be written");
    let open = Gateway::start_with(folder.path(), &["--admin-open-debug"]).await;
    // As from a service mesh's proxy: the only address on this machine that is not at home there.
    let from_elsewhere = async |control: &Gateway, path: &str| {
        let answer = client::get(control.admin_address(), path).from("127.0.0.6").send().await;
        (answer.status, answer.text())
    };
    for path in ["/healthz", "/readyz", "/metrics", "/debug/objects", "/debug/xds/dump", "/debug/xds/clients"] {
        assert_eq!(site.control.admin(path).await.status, 200, "{path}");
        assert_eq!(from_elsewhere(&open, path).await.0, 200, "{path}");
        let (status, text) = from_elsewhere(&site.control, path).await;
        match path.starts_with("/debug/") {
            true => assert!(status == 403 && text.contains("kubectl port-forward"), "{path}: {status} {text}"),
            false => assert_eq!(status, 200, "{path}"),
        }
    }
}

#[test]
fn without_a_source_it_says_in_one_line_what_to_give() {
    let output = run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.lines().count() == 1 && complaint.contains("--source is missing"), "{complaint}");
}

#[tokio::test]
async fn a_second_one_on_the_same_port_says_so_in_one_line() {
    let (_backend, site) = simple().await;
    let source = format!("dir:{}", site.manifests.path().display());
    let taken = site.control.xds().to_string();
    let free = Port::lease();
    let free = free.address().to_string();
    let second = run(&["serve", "--source", &source, "--xds-listen", &taken, "--admin-listen", &free]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).expect("UTF-8");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&taken) && said.contains("--xds-listen"), "{said}");
    assert!(second.stdout.is_empty());
}

#[tokio::test]
async fn probes_and_metrics_are_answered() {
    let (_backend, site) = simple().await;
    synced(&site).await;
    for path in ["/healthz", "/readyz"] {
        let response = site.control.admin(path).await;
        assert_eq!((response.status, &*response.text()), (200, "ok\n"), "{path}");
    }
    let page = site.control.admin("/metrics").await;
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(page.text().ends_with("# EOF\n"));
    let metrics = site.control.metrics().await;
    for (series, value) in [
        ("tailscale_gateway_xds_streams{protocol=\"delta\",gateway=\"default/web\"}", 1.0),
        ("tailscale_gateway_xds_view_entries{gateway=\"default/web\",type=\"Cluster\"}", 1.0),
        ("tailscale_gateway_xds_view_entries{gateway=\"default/web\",type=\"ClusterLoadAssignment\"}", 1.0),
        ("tailscale_gateway_xds_view_entries{gateway=\"default/web\",type=\"Listener\"}", 1.0),
        ("tailscale_gateway_xds_view_entries{gateway=\"default/web\",type=\"RouteConfiguration\"}", 1.0),
        ("tailscale_gateway_xds_responses_total{type=\"Cluster\",kind=\"initial\"}", 1.0),
        ("tailscale_gateway_xds_ack_latency_seconds_count{type=\"RouteConfiguration\"}", 1.0),
        ("tailscale_gateway_problems{reason=\"BackendNotFound\"}", 0.0),
        ("tailscale_gateway_xds_slow_stream_closed_total", 0.0),
    ] {
        assert_eq!(metrics.get(series).copied(), Some(value), "{series}: {metrics:#?}");
    }
    // A problem is counted by its reason, and no more when it is solved.
    let missing = "tailscale_gateway_problems{reason=\"BackendNotFound\"}";
    site.manifests.write("bad.yaml", route_to("bad", "missing"));
    site.control.wait_for_metric(missing, |value| value == Some(1.0)).await;
    site.manifests.remove("bad.yaml");
    site.control.wait_for_metric(missing, |value| value == Some(0.0)).await;
}

#[tokio::test]
async fn the_clients_page_tells_who_is_connected_and_what_was_accepted() {
    let (_backend, site) = simple().await;
    let row = synced(&site).await;
    assert_eq!((&row["gateway"], &row["protocol"], &row["scope"]), (&GATEWAY.into(), &"delta".into(), &"ads".into()));
    assert_eq!(row["client"], "envoy 1.40.0");
    for (of, wildcard) in
        [("Cluster", true), ("ClusterLoadAssignment", false), ("Listener", true), ("RouteConfiguration", false)]
    {
        let of = of_type(&row, of);
        assert_eq!(of["wildcard"], wildcard, "{of:#}");
        assert_eq!(of["resources"], 1, "{of:#}");
        assert_eq!(of["sent"], of["acked"], "{of:#}");
        assert!(of["acked"].as_str().is_some_and(|version| version.len() == 22), "{of:#}");
    }
    // Only the version of what changed is another one.
    let other = Backend::start("other").await;
    site.manifests.write("all.yaml", documents(&[service("web", &[other.address()]), route_to("all", "web")]));
    site.until_from("other", "/").await;
    let later = synced(&site).await;
    let acked = |row: &Value, of: &str| of_type(row, of)["acked"].clone();
    assert_ne!(acked(&row, "ClusterLoadAssignment"), acked(&later, "ClusterLoadAssignment"));
    for same in ["Cluster", "Listener", "RouteConfiguration"] {
        assert_eq!(acked(&row, same), acked(&later, same), "{same}");
    }
    let text = site.control.admin("/debug/xds/clients?format=text").await.text();
    assert!(text.contains("SYNCED") && text.contains("default/web"), "{text}");
}

#[tokio::test]
async fn the_dump_shows_what_is_served_and_no_private_key() {
    let authority = Authority::new();
    let certificate = authority.issue(&["web.example"]);
    let https = Port::lease();
    let backend = Backend::start("web").await;
    let all = documents(&[
        service("web", &[backend.address()]),
        route("all", "- matches: [{path: {type: Exact, value: /find-me}}]\n  backendRefs: [{name: web, port: 80}]"),
        secret("certificate", &certificate),
    ]);
    let site = Site::start(&[("all.yaml", &all)]).await;
    let listeners = [listener("http", &site.http), https_listener("https", &https, "web.example", "certificate")];
    site.manifests.write("gateway.yaml", gateway(&listeners));
    let secure = client::get(https.address(), "/find-me").host("web.example").tls(&authority, "web.example");
    until("HTTPS to be served", async || secure.try_send().await.map(drop)).await;

    let routes = site.control.admin(&format!("/debug/xds/dump?gateway={GATEWAY}&type=RouteConfiguration")).await;
    assert!(
        routes.text().contains("/find-me") && routes.text().contains("service/default/web/80"),
        "{}",
        routes.text()
    );
    let table = format!("{GATEWAY}/{}", site.http.number());
    let one =
        site.control.admin(&format!("/debug/xds/dump?gateway={GATEWAY}&type=RouteConfiguration&name={table}")).await;
    assert!(one.text().contains("/find-me") && one.text().len() < routes.text().len(), "{}", one.text());

    // Keys are text in PEM, and bytes fields are base64 in JSON: neither form of any line is shown.
    let everything = site.control.admin("/debug/xds/dump").await.text();
    assert!(everything.contains("secret/default/certificate"), "{everything}");
    assert!(everything.contains("redacted"), "{everything}");
    assert!(!everything.contains("PRIVATE KEY"), "{everything}");
    let lines = certificate.key.lines().filter(|line| !line.starts_with("-----"));
    for line in lines {
        assert!(!everything.contains(line), "{everything}");
    }
    assert_eq!(site.control.admin("/debug/xds/dump?gateway=no/where").await.status, 404);
    assert_eq!(site.control.admin("/debug/xds/dump?type=Nothing").await.status, 400);
}

#[tokio::test]
async fn what_an_envoy_refuses_is_shown_everywhere_and_holds_up_nothing_else() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let site = Site::start(&[
        ("services.yaml", &documents(&[service("blue", &[blue.address()]), service("green", &[green.address()])])),
        ("route.yaml", &route_to("all", "blue")),
    ])
    .await;
    synced(&site).await;
    let other = Port::lease();
    // An address of nobody (RFC 5737): the listeners that exist can not move there, new ones neither.
    let both = [listener("http", &site.http), listener("other", &other)];
    site.manifests.write("gateway.yaml", gateway_on(&["127.0.0.1", "192.0.2.1"], &both));

    let line = site.control.process().wait_for_line("Envoy refused a response").await;
    assert!(line.contains("192.0.2.1") && line.contains(GATEWAY), "{line}");
    let nacks = "tailscale_gateway_xds_nacks_total{type=\"Listener\",gateway=\"default/web\"}";
    site.control.wait_for_metric(nacks, |count| count == Some(1.0)).await;
    site.control
        .wait_for_metric("tailscale_gateway_xds_parked_resources{type=\"Listener\"}", |count| count == Some(2.0))
        .await;
    let row = client_row(&site).await;
    let listeners = of_type(&row, "Listener");
    assert_eq!(listeners["state"], "ERROR");
    assert!(
        listeners["nack"]["message"].as_str().is_some_and(|message| message.contains("192.0.2.1")),
        "{listeners:#}"
    );
    let refused = format!("{GATEWAY}/{}", other.number());
    assert!(
        listeners["parked"].as_array().is_some_and(|parked| parked.contains(&refused.as_str().into())),
        "{listeners:#}"
    );

    // Routes, clusters and endpoints go on changing.
    site.manifests.write("route.yaml", route_to("all", "green"));
    site.until_from("green", "/").await;

    // It is sent again when it is another one, and only then.
    assert_eq!(site.control.metrics().await[nacks], 1.0);
    site.manifests.write("gateway.yaml", gateway(&both));
    let there = client::get(other.address(), "/");
    until("the new listener", async || there.try_send().await.map(drop)).await;
    let row = synced(&site).await;
    assert!(of_type(&row, "Listener").get("parked").is_none(), "{row:#}");
    assert_eq!(site.control.metrics().await[nacks], 1.0);
}
