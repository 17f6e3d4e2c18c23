//! A whole installation for one test: manifests, the control plane on them, and Envoys that it configures.
//!
//! All objects are in the namespace `default`, and the one Gateway is `web`.

use std::net::SocketAddr;

use crate::support::{
    client::{self, Request, Response},
    envoy::{Envoy, Version},
    gateway::Gateway,
    manifests::Manifests,
    ports::Port,
    tls::Certificate,
    wait::until,
};

/// The one Gateway.
pub const GATEWAY: &str = "default/web";

/// Manifests with an HTTP listener, the control plane that serves them, and one Envoy.
pub struct Site {
    /// What is served; `gateway.yaml` has the Gateway.
    pub manifests: Manifests,
    /// The control plane.
    pub control: Gateway,
    /// The Envoy.
    pub envoy: Attached,
    /// The port of the Gateway's listener.
    pub http: Port,
}

impl Site {
    /// Starts all of it and waits until the Envoy is ready.
    pub async fn start(files: &[(&str, &str)]) -> Self {
        Self::start_with(files, &[]).await
    }

    /// The same, with more flags for the control plane.
    pub async fn start_with(files: &[(&str, &str)], flags: &[&str]) -> Self {
        let http = Port::lease();
        let manifests = Manifests::with(&[("gateway.yaml", &gateway(&[listener("http", &http)]))]);
        for (name, content) in files {
            manifests.write(name, content);
        }
        let control = Gateway::start_with(manifests.path(), flags).await;
        let envoy = Attached::start(&control, Version::Latest, &[]).await;
        Self { manifests, control, envoy, http }
    }

    /// A GET to the Gateway's listener, for the host `web.example`.
    pub fn get(&self, path: &str) -> Request {
        client::get(self.http.address(), path).host("web.example")
    }

    /// Sends a GET again and again until a response is as `holds` wants it.
    pub async fn until(&self, what: &str, path: &str, holds: impl Fn(&Response) -> bool) -> Response {
        until_answered(what, &self.get(path), holds).await
    }

    /// Waits until the backend with this name answers.
    pub async fn until_from(&self, backend: &str, path: &str) {
        let from = |response: &Response| response.header("x-backend") == Some(backend);
        self.until(&format!("an answer from {backend}"), path, from).await;
    }
}

/// Sends a request again and again until a response is as `holds` wants it.
pub async fn until_answered(what: &str, request: &Request, holds: impl Fn(&Response) -> bool) -> Response {
    until(what, async || {
        let response = request.try_send().await?;
        if holds(&response) { Ok(response) } else { Err(format!("{} {}", response.status, response.text())) }
    })
    .await
}

/// An Envoy that a control plane configures, and the lease of its admin port.
pub struct Attached {
    envoy: Envoy,
    _admin: Port,
}

impl Attached {
    /// Starts an Envoy with the bootstrap that the control plane prints, and waits until it is ready.
    pub async fn start(control: &Gateway, version: Version, flags: &[&str]) -> Self {
        let admin = Port::lease();
        let envoy = Envoy::start(version, &control.bootstrap(GATEWAY, &admin, flags)).await;
        envoy.ready().await;
        Self { envoy, _admin: admin }
    }
}

impl std::ops::Deref for Attached {
    type Target = Envoy;

    fn deref(&self) -> &Envoy {
        &self.envoy
    }
}

/// The Gateway on 127.0.0.1 with these listeners.
pub fn gateway(listeners: &[String]) -> String {
    gateway_on(&["127.0.0.1"], listeners)
}

/// The Gateway on these addresses.
pub fn gateway_on(addresses: &[&str], listeners: &[String]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|value| format!("{{type: IPAddress, value: {value:?}}}")).collect();
    let listeners: String = listeners.iter().map(|listener| format!("  - {listener}\n")).collect();
    let addresses = addresses.join(", ");
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{namespace: default, name: web}}
spec:
  gatewayClassName: tailscale
  addresses: [{addresses}]
  listeners:
{listeners}"
    )
}

/// The Gateway with parameters that give its Envoys `Whole` or `Divided` route tables.
pub fn gateway_with_tables(tables: &str, listeners: &[String]) -> String {
    let parameters = format!(
        "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleGatewayParameters
metadata: {{namespace: default, name: tables}}
spec: {{routeTables: {tables}}}
"
    );
    let reference = "  infrastructure:
    parametersRef: {group: gateway.tailscale.com, kind: TailscaleGatewayParameters, name: tables}
";
    documents(&[gateway(listeners) + reference, parameters])
}

/// An HTTP listener for all hosts.
pub fn listener(name: &str, port: &Port) -> String {
    format!("{{name: {name}, protocol: HTTP, port: {}}}", port.number())
}

/// An HTTPS listener for one host, with a certificate from a Secret.
pub fn https_listener(name: &str, port: &Port, hostname: &str, secret: &str) -> String {
    format!(
        "{{name: {name}, protocol: HTTPS, port: {}, hostname: {hostname:?}, \
         tls: {{certificateRefs: [{{name: {secret}}}]}}}}",
        port.number()
    )
}

/// A TLS Secret.
pub fn secret(name: &str, certificate: &Certificate) -> String {
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{namespace: default, name: {name}}}
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        indented(&certificate.certificate),
        indented(&certificate.key)
    )
}

/// A Service with the port 80 and these backends.
pub fn service(name: &str, backends: &[SocketAddr]) -> String {
    service_speaking(name, "http", backends)
}

/// The same with an `appProtocol`.
pub fn service_speaking(name: &str, protocol: &str, backends: &[SocketAddr]) -> String {
    let mut text = format!(
        "
apiVersion: v1
kind: Service
metadata: {{namespace: default, name: {name}}}
spec: {{ports: [{{name: http, port: 80, appProtocol: {protocol}}}]}}
"
    );
    for (place, backend) in backends.iter().enumerate() {
        text += "---";
        text += &slice(name, place, *backend);
    }
    text
}

/// One endpoint of a Service.
pub fn slice(service: &str, place: usize, backend: SocketAddr) -> String {
    let family = if backend.is_ipv4() { "IPv4" } else { "IPv6" };
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: default, name: {service}-{place}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: {family}
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [{ip:?}]}}]
",
        port = backend.port(),
        ip = backend.ip().to_string(),
    )
}

/// An HTTPRoute of the Gateway with these rules: YAML, a list.
pub fn route(name: &str, rules: &str) -> String {
    route_for(name, &[], rules)
}

/// The same for some hosts.
pub fn route_for(name: &str, hostnames: &[&str], rules: &str) -> String {
    let rules: String = rules.trim().lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{namespace: default, name: {name}}}
spec:
  parentRefs: [{{name: web}}]
  hostnames: {hostnames:?}
  rules:
{rules}"
    )
}

/// An HTTPRoute that sends everything to one Service.
pub fn route_to(name: &str, service: &str) -> String {
    route(name, &format!("- backendRefs: [{{name: {service}, port: 80}}]"))
}

/// Several documents as one file.
pub fn documents(parts: &[String]) -> String {
    parts.join("\n---\n")
}

/// A tailnet, and its connection to the Gateway.
pub const TAILNET: &str = "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleTailnet
metadata: {name: example}
spec: {tailnet: example.ts.net, oauthSecretName: oauth}
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleGateway
metadata: {namespace: default, name: web}
spec:
  gatewayRef: {group: gateway.networking.k8s.io, kind: Gateway, name: web}
  tailnets:
  - {name: example, tailscaleTailnetRef: {group: gateway.tailscale.com, kind: TailscaleTailnet, name: example}}
";

/// Endpoints of the tailnet: YAML, a list.
pub fn endpoints(name: &str, endpoints: &str) -> String {
    let endpoints: String = endpoints.trim().lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: {{namespace: default, name: {name}}}
spec:
  tailnet: example
  endpoints:
{endpoints}"
    )
}
