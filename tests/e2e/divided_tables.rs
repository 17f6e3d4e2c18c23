//! Route tables in parts: every request finds the part that its host stands in, and nothing fails while parts come and go.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;

use crate::{
    site::{
        Attached, Site, documents, gateway_with_tables, https_listener, listener, route_for, route_to, secret, service,
        until_answered,
    },
    support::{
        backend::Backend,
        client::{self, Connection, Request},
        envoy::{Envoy, Version},
        gateway::Gateway,
        load::Load,
        manifests::Manifests,
        ports::Port,
        tls::Authority,
        wait::{until, within},
    },
};

/// The parts of a table.
const PARTS: usize = 16;

/// A route for a hostname, to the Service `web`; the backend is told its name.
fn told(name: &str, hostname: &str) -> String {
    let rule = format!(
        "
- filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-route, value: {name}}}]}}}}]
  backendRefs: [{{name: web, port: 80}}]"
    );
    route_for(name, &[hostname], &rule)
}

/// The part tables that an Envoy has, and whether a listener of its waits for something.
fn parts(config: &Value) -> (usize, bool) {
    let sections = || config["configs"].as_array().into_iter().flatten();
    let of = |list: &'static str| sections().filter_map(move |section| section[list].as_array()).flatten();
    let is_part = |table: &&Value| table["route_config"]["name"].as_str().is_some_and(|name| name.contains('#'));
    let waits = of("dynamic_listeners").any(|listener| listener["warming_state"].is_object());
    (of("dynamic_route_configs").filter(is_part).count(), waits)
}

/// Waits until an Envoy uses the parts of so many tables.
async fn wait_for_parts(envoy: &Envoy, tables: usize) {
    let wanted = (tables * PARTS, false);
    envoy.wait_for_config(&format!("the parts of {tables} tables"), |config| parts(config) == wanted).await;
}

/// Waits until an Envoy has so many listeners, all in use.
async fn wait_for_listeners(envoy: &Envoy, count: u64) {
    let wanted = |stats: &BTreeMap<String, u64>| {
        stats["listener_manager.total_listeners_active"] == count
            && stats["listener_manager.total_listeners_warming"] == 0
    };
    envoy.wait_for_stats(&format!("{count} listeners"), wanted).await;
}

/// The route by which a request is answered.
async fn route_of(request: &Request) -> Option<String> {
    let response = request.send().await;
    (response.status == 200).then(|| response.echo().headers.get("x-route").cloned()).flatten()
}

/// Sees that an Envoy finds every host in its part.
async fn assert_finds_all(to: SocketAddr, routes: &[(String, String)], how: &str) {
    let get = |host: &str| client::get(to, "/").host(host);
    for (name, host) in routes.iter().filter(|(_, host)| !host.starts_with('*')) {
        for written in [host.clone(), host.to_uppercase(), format!("{host}:{}", to.port())] {
            assert_eq!(route_of(&get(&written)).await.as_ref(), Some(name), "{written}, {how}");
        }
        assert_eq!(route_of(&get(host).http2()).await.as_ref(), Some(name), "{host} over HTTP/2, {how}");
        for (name, wild) in [("wild", "wild.example"), ("deep", "deep.wild.example")] {
            let host = format!("{host}.{wild}");
            assert_eq!(route_of(&get(&host)).await.as_deref(), Some(name), "{host}, {how}");
        }
        assert_eq!(get(&format!("{host}.nowhere")).send().await.status, 404, "{host}, {how}");
    }
    // A host with what no hostname has in it comes to some part, too.
    for (strange, status) in
        [("a_b.wild.example", 200), ("%41!.wild.example", 200), ("127.0.0.1:80", 404), ("[::1]:80", 404)]
    {
        assert_eq!(get(strange).send().await.status, status, "{strange}, {how}");
    }
}

#[tokio::test]
async fn every_host_finds_its_route_in_whatever_part_it_stands() {
    let (backend, mirror, http) = (Backend::start("web").await, Backend::start("mirror").await, Port::lease());
    // Every character of a hostname, alone and with others.
    let alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
    let pairs =
        alphabet.chars().zip(alphabet.chars().skip(11)).map(|(one, other)| format!("{one}-{other}{one}7.example"));
    let hosts = alphabet.chars().map(|one| format!("{one}.example")).chain(pairs);
    let mut routes: Vec<_> = hosts.enumerate().map(|(place, host)| (format!("route-{place}"), host)).collect();
    routes.extend(
        [("wild", "*.wild.example"), ("deep", "*.deep.wild.example")]
            .map(|(name, host)| (name.to_owned(), host.to_owned())),
    );
    let mut objects: Vec<_> = routes.iter().map(|(name, host)| told(name, host)).collect();
    let mirrored = "
- filters: [{type: RequestMirror, requestMirror: {backendRef: {name: mirror, port: 80}}}]
  backendRefs: [{name: web, port: 80}]";
    objects.extend([route_for("mirrored", &["mirrored.example"], mirrored), service("mirror", &[mirror.address()])]);
    let manifests = Manifests::with(&[
        ("gateway.yaml", &gateway_with_tables("Divided", &[listener("http", &http)])),
        ("service.yaml", &service("web", &[backend.address()])),
        ("routes.yaml", &documents(&objects)),
    ]);
    let control = Gateway::start(manifests.path()).await;
    for version in Version::ALL {
        for flags in [
            ["--protocol", "delta", "--discovery", "ads"],
            ["--protocol", "sotw", "--discovery", "ads"],
            ["--protocol", "delta", "--discovery", "per-type"],
        ] {
            let envoy = Attached::start(&control, version, &flags).await;
            wait_for_parts(&envoy, 1).await;
            let how = format!("Envoy {}, {flags:?}", version.number());
            assert_finds_all(http.address(), &routes, &how).await;
        }
    }
    // Nobody who is behind it hears of the header, and a client can not lead a request to another part by it.
    let envoy = Attached::start(&control, Version::Latest, &[]).await;
    wait_for_parts(&envoy, 1).await;
    assert_eq!(client::get(http.address(), "/").host("mirrored.example").send().await.status, 200);
    mirror.wait_for_requests(1).await;
    let received = [backend.received(), mirror.received()].concat();
    assert!(received.iter().all(|echo| !echo.headers.contains_key("x-tailscale-route-table")));
    for part in 0..PARTS {
        let table = format!("default/web/{}#{part}", http.number());
        let request = client::get(http.address(), "/").host("a.example").header("x-tailscale-route-table", &table);
        let response = request.send().await;
        assert_eq!(response.status, 200, "{table}");
        assert_eq!(response.echo().headers.get("x-tailscale-route-table"), None);
    }
}

#[tokio::test]
async fn no_request_fails_while_tables_are_divided_and_made_whole_again() {
    let backend = Backend::start("web").await;
    let site = Site::start(&[
        ("service.yaml", &service("web", &[backend.address()])),
        ("route.yaml", &route_to("all", "web")),
    ])
    .await;
    let load = Load::start(&site.get("/"), 4);
    for turn in 0..5 {
        site.manifests.write("gateway.yaml", gateway_with_tables("Divided", &[listener("http", &site.http)]));
        wait_for_parts(&site.envoy, 1).await;
        load.wait_for(50).await;
        // A change in one part and, by its wildcard, one in all.
        for (name, hostname) in [("one", format!("turn-{turn}.example")), ("some", format!("*.turn-{turn}.example"))] {
            site.manifests.write("more.yaml", told(name, &hostname));
            let request = site.get("/").host(&hostname.replace('*', "any"));
            until("the route to be there", async || match route_of(&request).await {
                Some(route) if route == name => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        }
        load.wait_for(50).await;
        site.manifests.write("gateway.yaml", gateway_with_tables("Whole", &[listener("http", &site.http)]));
        let whole = format!("default/web/{}", site.http.number());
        let uses_it = |config: &Value| {
            let text = config.to_string();
            !parts(config).1 && text.contains(&format!("\"route_config_name\":\"{whole}\""))
        };
        site.envoy.wait_for_config("the whole table", uses_it).await;
        load.wait_for(50).await;
    }
    load.wait_for(200).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
}

/// The status that the first connection that can be had gets. Asks as fast as it can: what is looked for is over in a moment.
async fn first_answer(request: Request) -> u16 {
    let connection = async {
        loop {
            match Connection::open(&request).await {
                Ok(connection) => break connection,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let mut connection = within("a connection", connection).await;
    connection.send(&request).await.expect("Envoy answers").status
}

#[tokio::test]
async fn listeners_with_divided_tables_come_and_go_beside_each_other() {
    let (backend, authority) = (Backend::start("web").await, Authority::new());
    let site = Site::start(&[
        ("service.yaml", &service("web", &[backend.address()])),
        ("route.yaml", &documents(&[told("exact", "a.b.example"), told("wild", "*.b.example")])),
        ("secret.yaml", &secret("certificate", &authority.issue(&["*.b.example"]))),
    ])
    .await;
    let (other, https, single) = (Port::lease(), Port::lease(), Port::lease());
    let first = listener("http", &site.http);
    let more = [
        first.clone(),
        listener("other", &other),
        https_listener("https", &https, "*.b.example", "certificate"),
        // One host makes one virtual host: nothing to divide.
        https_listener("single", &single, "a.b.example", "certificate"),
    ];
    let get = |port: &Port, host: &str| client::get(port.address(), "/").host(host);
    site.manifests.write("gateway.yaml", gateway_with_tables("Divided", std::slice::from_ref(&first)));
    wait_for_parts(&site.envoy, 1).await;
    let load = Load::start(&get(&site.http, "a.b.example"), 2);
    for _ in 0..3 {
        site.manifests.write("gateway.yaml", gateway_with_tables("Divided", &more));
        // Whoever is let in is served: a listener takes no connection before it can tell where requests go.
        let secure = get(&https, "a.b.example").tls(&authority, "a.b.example");
        let first_answers = [get(&other, "a.b.example"), secure].map(first_answer);
        assert_eq!(futures::future::join_all(first_answers).await, [200, 200]);
        wait_for_parts(&site.envoy, 3).await;
        wait_for_listeners(&site.envoy, 4).await;
        for (host, route) in [("a.b.example", "exact"), ("c.b.example", "wild")] {
            let requests = [get(&site.http, host), get(&other, host), get(&https, host).tls(&authority, host)];
            for request in requests {
                assert_eq!(route_of(&request).await.as_deref(), Some(route), "{host}");
            }
        }
        let alone = get(&single, "a.b.example").tls(&authority, "a.b.example");
        assert_eq!(route_of(&alone).await.as_deref(), Some("exact"));
        load.wait_for(20).await;
        site.manifests.write("gateway.yaml", gateway_with_tables("Divided", std::slice::from_ref(&first)));
        until_answered("the first alone", &get(&site.http, "c.b.example"), |response| response.status == 200).await;
        wait_for_listeners(&site.envoy, 1).await;
        load.wait_for(20).await;
    }
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
}
