//! The admin port's pages.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{body::Body, extract::ConnectInfo};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tailscale_gateway::{
    admin::{Admin, Readiness, is_at_home, router, serve},
    snapshot::TypeUrl,
};
use tailscale_gateway_proto::{
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret},
    },
    google::rpc::Status,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::xds_support::xds::{DELTA_ADS, Server, ack, ask, node, put, small_world, subscribe};

fn admin(server: &Server, readiness: Readiness) -> Admin {
    Admin {
        cache: server.cache.clone(),
        registry: server.registry.clone(),
        metrics: server.metrics.clone(),
        readiness: Arc::new(readiness),
        reports: Arc::default(),
        hosted: Arc::default(),
        calls: Arc::default(),
        open_debug: false,
    }
}

fn ready() -> Readiness {
    let readiness = Readiness::waiting("starting");
    readiness.set_ready();
    readiness
}

async fn get(admin: &Admin, path: &str, accept: &str) -> (StatusCode, String) {
    get_from(Some("127.0.0.1:50000"), admin, path, accept).await
}

/// The same, from an address, or from nobody knows where.
async fn get_from(peer: Option<&str>, admin: &Admin, path: &str, accept: &str) -> (StatusCode, String) {
    let mut request = Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer.parse().unwrap()));
    }
    let response = router(admin.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get_json(admin: &Admin, path: &str) -> Value {
    let (status, body) = get(admin, path, "*/*").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn readyz_says_why_not_until_it_is() {
    let server = Server::start_with(Default::default()).await;
    let admin = admin(&server, Readiness::waiting("reading /etc/gateway for the first time"));
    let (status, body) = get(&admin, "/readyz", "*/*").await;
    assert_eq!((status, body.trim()), (StatusCode::SERVICE_UNAVAILABLE, "reading /etc/gateway for the first time"));
    assert_eq!(get(&admin, "/healthz", "*/*").await.0, StatusCode::OK);
    admin.readiness.set_ready();
    let (status, body) = get(&admin, "/readyz", "*/*").await;
    assert_eq!((status, body.contains("not compiled yet")), (StatusCode::SERVICE_UNAVAILABLE, true), "{body}");
    server.cache.set_ready();
    assert_eq!(get(&admin, "/readyz", "*/*").await.0, StatusCode::OK);
    admin.readiness.set_waiting("the core stopped");
    assert_eq!(get(&admin, "/readyz", "*/*").await, (StatusCode::SERVICE_UNAVAILABLE, "the core stopped\n".into()));
}

#[tokio::test]
async fn metrics_are_on_a_page() {
    let server = Server::start().await;
    server.publish(small_world());
    let (status, page) = get(&admin(&server, ready()), "/metrics", "*/*").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        page.contains(r#"tailscale_gateway_xds_view_entries{gateway="shop/web",type="RouteConfiguration"} 1.0"#),
        "{page}"
    );
    assert!(page.contains(r#"tailscale_gateway_xds_parked_resources{type="Cluster"} 0"#), "{page}");
    assert!(page.contains("tailscale_gateway_xds_diff_cache_misses_total"), "{page}");
}

#[test]
fn at_home_is_who_asks_from_the_same_machine_and_nobody_whom_something_else_there_hands_on() {
    let home = |peer: &str| is_at_home(peer.parse::<IpAddr>().unwrap());
    for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert!(home(peer), "{peer}");
    }
    for peer in
        ["127.0.0.6", "::ffff:127.0.0.6", "10.244.0.7", "0.0.0.0", "::", "fd00::1", "::ffff:10.0.0.1", "169.254.1.1"]
    {
        assert!(!home(peer), "{peer}");
    }
}

#[tokio::test]
async fn a_stranger_is_told_how_the_process_is_and_nothing_of_what_is_configured() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut admin = admin(&server, ready());
    let (_, index) = get(&admin, "/debug", "text/html").await;
    let links: Vec<&str> = index.split("href=").skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
    assert_eq!(links.iter().filter(|link| link.starts_with("/debug/")).count(), 4);
    for open in [false, true] {
        admin.open_debug = open;
        for peer in [Some("10.244.0.7:50000"), Some("[::ffff:127.0.0.6]:50000"), None] {
            for link in &links {
                let (status, body) = get_from(peer, &admin, link, "*/*").await;
                let expected =
                    if open || !link.starts_with("/debug/") { StatusCode::OK } else { StatusCode::FORBIDDEN };
                assert_eq!(status, expected, "{link} from {peer:?}: {body}");
                let says_how = body.contains("kubectl port-forward") && body.contains("--admin-open-debug");
                assert_eq!(says_how, expected == StatusCode::FORBIDDEN, "{body}");
            }
        }
    }
}

#[tokio::test]
async fn the_index_lists_every_page_and_every_page_is_there() {
    let server = Server::start().await;
    let admin = admin(&server, ready());
    let (_, index) = get(&admin, "/debug", "text/html").await;
    let links: Vec<&str> = index.split("href=").skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
    assert_eq!(
        links,
        [
            "/healthz",
            "/readyz",
            "/metrics",
            "/debug/objects",
            "/debug/xds/clients",
            "/debug/xds/dump",
            "/debug/extension"
        ]
    );
    for link in links {
        assert_eq!(get(&admin, link, "*/*").await.0, StatusCode::OK, "{link}");
    }
}

#[tokio::test]
async fn clients_shows_what_each_asked_for_was_sent_and_accepted() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut envoy = server.delta(DELTA_ADS).await;
    envoy.send(subscribe(node("envoy-1"), TypeUrl::Cluster, &[]));
    let clusters = envoy.next().await;
    envoy.send(ack(&clusters));
    envoy.send(subscribe(None, TypeUrl::Listener, &[]));
    let mut refusal = ack(&envoy.next().await);
    refusal.error_detail = Some(Status { code: 13, message: "l: no\nfilter chains".into(), ..Default::default() });
    envoy.send(refusal);
    envoy.send(subscribe(None, TypeUrl::Route, &["r", "none"]));
    envoy.next().await;
    let mut other = server.sotw("/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters").await;
    let mut elsewhere = node("envoy-2");
    elsewhere.as_mut().unwrap().cluster = "else/where".into();
    other.send(ask(elsewhere, TypeUrl::Cluster, &[]));
    other.next().await;

    let admin = admin(&server, ready());
    let all = get_json(&admin, "/debug/xds/clients").await;
    assert_eq!(all["clients"].as_array().unwrap().len(), 2);
    assert_eq!((&all["clients"][1]["protocol"], &all["clients"][1]["scope"]), (&json!("sotw"), &json!("Cluster")));
    assert_eq!(all["clients"][1]["note"], "nothing is served for this Gateway");
    assert_eq!(all["clients"][0]["note"], Value::Null);
    let page = get_json(&admin, "/debug/xds/clients?gateway=shop/web").await;
    let [client] = &page["clients"].as_array().unwrap()[..] else { panic!("{page}") };
    assert_eq!(
        (&client["node"], &client["protocol"], &client["scope"]),
        (&json!("envoy-1"), &json!("delta"), &json!("ads"))
    );
    let types = client["types"].as_array().unwrap();
    let states: Vec<_> = types.iter().map(|of| (of["type"].as_str().unwrap(), of["state"].as_str().unwrap())).collect();
    assert_eq!(states, [("Cluster", "SYNCED"), ("Listener", "ERROR"), ("RouteConfiguration", "STALE")]);
    assert_eq!(
        (&types[0]["wildcard"], &types[0]["sent"], &types[0]["acked"]),
        (&json!(true), &types[0]["acked"], &json!(clusters.system_version_info))
    );
    assert_eq!((&types[1]["nack"]["message"], &types[1]["parked"]), (&json!("l: no\nfilter chains"), &json!(["l"])));
    assert_eq!(
        (&types[2]["subscribed"], &types[2]["inFlight"], &types[2]["acked"]),
        (&json!(2), &json!(1), &Value::Null)
    );

    for (path, accept) in [("/debug/xds/clients?format=text", "*/*"), ("/debug/xds/clients", "text/html,*/*")] {
        let (_, table) = get(&admin, path, accept).await;
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 5, "{table}");
        assert_eq!(lines[0][..2], ["CLIENT", "GATEWAY"]);
        assert!(
            lines[2][..5] == ["Listener", "ERROR", "*", "0", "0"] || lines[2][..3] == ["Listener", "ERROR", "*"],
            "{table}"
        );
        assert!(table.contains("l: no filter chains; parked: l"), "{table}");
        let notes = table.lines().filter(|line| line.ends_with("nothing is served for this Gateway"));
        assert_eq!(notes.map(|line| line.contains("else/where")).collect::<Vec<_>>(), [true], "{table}");
    }
}

#[tokio::test]
async fn the_dump_shows_what_is_served_and_no_private_key() {
    let server = Server::start().await;
    server.publish(small_world());
    let inline = |bytes: &[u8]| {
        Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())), ..Default::default() })
    };
    let certificate = TlsCertificate {
        certificate_chain: inline(b"public"),
        private_key: inline(b"top secret"),
        ..Default::default()
    };
    let secret = Secret { name: "s".into(), r#type: Some(secret::Type::TlsCertificate(certificate)) };
    server.publish([put(TypeUrl::Secret, "s", &secret)]);
    let admin = admin(&server, ready());

    let whole = get_json(&admin, "/debug/xds/dump").await;
    let types: Vec<_> =
        whole["dump"].as_array().unwrap().iter().map(|part| part["typeUrl"].as_str().unwrap()).collect();
    assert_eq!(types.len(), 5);
    let page = get_json(&admin, "/debug/xds/dump?gateway=shop/web&type=secret&name=s").await;
    let [part] = &page["dump"].as_array().unwrap()[..] else { panic!("{page}") };
    assert_eq!((&part["gateway"], &part["typeUrl"]), (&json!("shop/web"), &json!(TypeUrl::Secret.as_str())));
    assert_eq!(part["resources"][0]["version"].as_str().unwrap().len(), 22);
    assert_eq!(
        part["resources"][0]["resource"]["tlsCertificate"],
        json!({"certificateChain": {"inlineBytes": "cHVibGlj"}, "privateKey": {"inlineBytes": "[redacted]"}})
    );
    let one = get_json(&admin, "/debug/xds/dump?name=c&type=type.googleapis.com/envoy.config.cluster.v3.Cluster").await;
    assert_eq!(
        one["dump"][0]["resources"],
        json!([{
            "name": "c", "version": one["dump"][0]["resources"][0]["version"], "resource": {"name": "c"},
        }])
    );
}

#[tokio::test]
async fn a_dump_of_what_is_not_there_says_what_is() {
    let server = Server::start().await;
    server.publish(small_world());
    let admin = admin(&server, ready());
    for (query, status, words) in [
        ("gateway=no/such", StatusCode::NOT_FOUND, "there are: shop/web"),
        ("type=Thing", StatusCode::BAD_REQUEST, "Cluster"),
        ("name=nobody", StatusCode::NOT_FOUND, "nobody"),
        ("nmae=c", StatusCode::BAD_REQUEST, "nmae"),
    ] {
        let (seen, body) = get(&admin, &format!("/debug/xds/dump?{query}"), "*/*").await;
        assert_eq!(seen, status, "{query}: {body}");
        assert!(body.contains(words), "{query}: {body}");
    }
    assert_eq!(server.cache.gateways().len(), 1, "asking for a Gateway does not make one");
}

#[tokio::test]
async fn the_port_answers_until_it_is_told_to_stop() {
    let server = Server::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(listener, admin(&server, ready()), stop.clone().cancelled_owned()));
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 15];
    connection.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    stop.cancel();
    task.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
