//! The pinned Envoys run here at all: with a static bootstrap, without us.

use std::net::SocketAddr;

use crate::support::{
    backend::Backend,
    client,
    envoy::{Envoy, Version},
    ports::Port,
};

/// A bootstrap with one HTTP listener and one cluster behind it.
fn static_bootstrap(admin: SocketAddr, listener: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "
admin: {{ address: {{ socket_address: {{ address: {admin_ip}, port_value: {admin_port} }} }} }}
static_resources:
  listeners:
  - name: static
    address: {{ socket_address: {{ address: {listener_ip}, port_value: {listener_port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: static
          upgrade_configs: [{{ upgrade_type: websocket }}]
          route_config:
            virtual_hosts:
            - name: all
              domains: ['*']
              routes: [{{ match: {{ prefix: / }}, route: {{ cluster: backend }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {backend_ip}, port_value: {backend_port} }} }} }}
",
        admin_ip = admin.ip(),
        admin_port = admin.port(),
        listener_ip = listener.ip(),
        listener_port = listener.port(),
        backend_ip = backend.ip(),
        backend_port = backend.port(),
    )
}

#[tokio::test]
async fn both_pinned_envoys_start_and_proxy() {
    let backend = Backend::start("behind-envoy").await;
    for version in Version::ALL {
        let (admin, listener) = (Port::lease(), Port::lease());
        let bootstrap = static_bootstrap(admin.address(), listener.address(), backend.address());
        let envoy = Envoy::start(version, &bootstrap).await;
        envoy.ready().await;

        let about = envoy.admin("/server_info").await.json();
        let running = about["version"].as_str().expect("Envoy says its version").to_owned();
        assert!(running.contains(&format!("/{}/", version.number())), "{running}");

        let response = client::get(listener.address(), "/hello?a=b").host("web.example").send().await;
        assert_eq!(response.status, 200);
        let echo = response.echo();
        assert_eq!((&*echo.backend, &*echo.path, &*echo.host), ("behind-envoy", "/hello?a=b", "web.example"));

        envoy.wait_for_stat("http.static.downstream_rq_2xx", 1).await;
        let clusters = envoy.wait_for_clusters("the one cluster", |all| all["cluster_statuses"][0].is_object()).await;
        assert_eq!(clusters["cluster_statuses"][0]["name"], "backend");
        let config = envoy.wait_for_config("some configuration", |config| config["configs"][0].is_object()).await;
        assert!(config["configs"].as_array().expect("a list").len() > 3, "{config}");
        let listeners = envoy.listeners().await;
        let bound = &listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"];
        assert_eq!(bound, listener.number());
    }
}

#[tokio::test]
async fn an_upgraded_connection_passes_through_envoy() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let backend = Backend::start("websocket").await;
    let (admin, listener) = (Port::lease(), Port::lease());
    let bootstrap = static_bootstrap(admin.address(), listener.address(), backend.address());
    let envoy = Envoy::start(Version::Latest, &bootstrap).await;
    envoy.ready().await;

    let upgraded = client::get(listener.address(), "/socket").upgrade("websocket").await;
    let mut stream = upgraded.expect("Envoy lets it through");
    stream.write_all(b"ping").await.expect("the connection is open");
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.expect("the backend sends it back");
    assert_eq!(&back, b"ping");
}

#[tokio::test]
#[should_panic(expected = "Envoy 1.40.0 ended: exit status: 1")]
async fn an_envoy_that_refuses_its_bootstrap_fails_the_test_at_once() {
    let admin = Port::lease();
    let broken = format!(
        "{{admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {} }} }} }}, no_such_field: 1}}",
        admin.number()
    );
    Envoy::start(Version::Latest, &broken).await;
}
