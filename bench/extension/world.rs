//! What an Envoy Gateway with many routes sends at the end of a translation, made by the played one from manifests, and what we
//! put into it. Never random, so that two runs measure the same.

use std::fmt::Write as _;

use bytes::Bytes;
use clap::ValueEnum;
use prost::Message;
use tailscale_gateway::{extension::Hook, snapshot::Hosted};
use tailscale_gateway_proto::envoy_gateway::{PostTranslateModifyRequest, PostTranslateModifyResponse};

use super::support::extension_cases::Case;

/// How much of it is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ours {
    /// Nothing: another Gateway has endpoints and rules with backends of ours.
    Nothing,
    /// Ten endpoints with routes on a listener of their own, and fifty rules with backends of ours.
    Little,
    /// Ten endpoints with routes in every virtual host, and every second rule with a backend of ours.
    Much,
}

impl Ours {
    /// All cases.
    pub(crate) const ALL: [Ours; 3] = [Ours::Nothing, Ours::Little, Ours::Much];

    /// Its name in reports.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Ours::Nothing => "nothing",
            Ours::Little => "little",
            Ours::Much => "much",
        }
    }
}

/// A call.
pub(crate) struct World {
    /// An encoded `PostTranslateModifyRequest`.
    pub(crate) request: Bytes,
    /// What we have to put into it.
    pub(crate) hosted: Hosted,
}

/// Routes of one hostname.
const ROUTES_OF_A_HOST: usize = 10;
/// Tailnet endpoints.
const ENDPOINTS: usize = 10;

impl World {
    /// With so many routes, each with a cluster.
    pub(crate) fn new(routes: usize, ours: Ours) -> Self {
        let case = Case::of(&manifests(routes, ours));
        let played = case.play();
        let mut request = Bytes::new();
        played.asking(&case, &mut |hook, asked| {
            assert_eq!(hook, Hook::Translate, "only the last hook is asked");
            request = asked.clone();
            let PostTranslateModifyRequest { clusters, secrets, listeners, routes, .. } =
                PostTranslateModifyRequest::decode(asked).expect("it is one");
            PostTranslateModifyResponse { clusters, secrets, listeners, routes }.encode_to_vec().into()
        });
        Self { request, hosted: (*played.hosted()).clone() }
    }
}

fn manifests(routes: usize, ours: Ours) -> String {
    let mut text = "# Gateways: default/eg
# Xds: 127.0.0.1:18000
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: eg }
spec: { controllerName: gateway.envoyproxy.io/gatewayclass-controller }
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleTailnet
metadata: { name: corp }
spec: { tailnet: '-', oauthSecretName: oauth, oauthSecretNamespace: default }
"
    .to_owned();
    // Endpoints are of another namespace, and are offered by the listeners that let routes of it in.
    let http = if ours == Ours::Much { "All" } else { "Same" };
    for gateway in ["eg", "other"] {
        text += &format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ namespace: default, name: {gateway} }}
spec:
  gatewayClassName: eg
  listeners:
  - {{ name: http, protocol: HTTP, port: 80, allowedRoutes: {{ namespaces: {{ from: {http} }} }} }}
  - {{ name: tailnet, protocol: HTTP, port: 8080, allowedRoutes: {{ namespaces: {{ from: All }} }} }}
"
        );
    }
    let gateway = if ours == Ours::Nothing { "other" } else { "eg" };
    write!(
        text,
        "---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleGateway
metadata: {{ namespace: tailnet, name: tailnet }}
spec:
  gatewayRef: {{ namespace: default, name: {gateway} }}
  tailnets:
  - {{ name: corp, tailscaleTailnetRef: {{ name: corp }} }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {{ namespace: tailnet, name: routes }}
spec:
  from: [{{ group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default }}]
  to: [{{ group: gateway.tailscale.com, kind: TailscaleEndpoints }}]
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: {{ namespace: tailnet, name: machines }}
spec:
  tailnet: corp
  endpoints:
"
    )
    .expect("a String takes everything");
    for endpoint in 0..ENDPOINTS {
        text += &format!(
            "  - {{ name: machine-{endpoint}, port: {}, externalTarget: '10.0.0.{endpoint}:80' }}\n",
            8000 + endpoint
        );
    }
    for service in 0..10 {
        text += &format!(
            "---
apiVersion: v1
kind: Service
metadata: {{ namespace: default, name: service-{service} }}
spec: {{ ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ namespace: default, name: service-{service}-1, labels: {{ kubernetes.io/service-name: service-{service} }} }}
addressType: IPv4
ports: [{{ name: http, port: 8080 }}]
endpoints: [{{ addresses: [10.1.0.{service}] }}]
"
        );
    }
    // Spread over all of them.
    let every = match ours {
        Ours::Nothing => None,
        Ours::Little => Some((routes / 50).max(2)),
        Ours::Much => Some(2),
    };
    for number in 0..routes {
        let backend = match every {
            Some(every) if number % every == 0 => custom(number),
            _ => format!("{{ name: service-{}, port: 80 }}", number % 10),
        };
        route(&mut text, "eg", number, &backend);
    }
    if ours == Ours::Nothing {
        (0..50).for_each(|number| route(&mut text, "other", routes + number, &custom(number)));
    }
    text
}

fn custom(number: usize) -> String {
    let port = 8000 + number % ENDPOINTS;
    format!(
        "{{ group: gateway.tailscale.com, kind: TailscaleEndpoints, namespace: tailnet, name: machines, port: {port} }}"
    )
}

fn route(text: &mut String, gateway: &str, number: usize, backend: &str) {
    write!(
        text,
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ namespace: default, name: application-{number:05} }}
spec:
  parentRefs: [{{ name: {gateway}, sectionName: http }}]
  hostnames: [host-{:05}.example.com]
  rules:
  - matches: [{{ path: {{ type: PathPrefix, value: /application-{number:05} }} }}]
    backendRefs: [{backend}]
",
        number / ROUTES_OF_A_HOST
    )
    .expect("a String takes everything");
}
