//! Objects that histories are made of: few names, so that references hit and miss, and several forms of each.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use tailscale_gateway::{
    api::{Object, parse},
    model::{Kind, ObjectKey},
};

use super::rng::Rng;
use crate::support::tools::repository;

/// How many forms an object has.
const FORMS: usize = 10;

/// Every object there may be, in all its forms.
pub type Pool = BTreeMap<ObjectKey, Vec<Object>>;

/// Makes the pool: the same one for the same seed.
pub fn pool(seed: u64) -> Pool {
    let mut rng = Rng::new(seed);
    let certificate = Certificates::read();
    let mut pool = Pool::new();
    let mut add = |kind: Kind, namespace: &str, name: &str, rng: &mut Rng, form: &dyn Fn(&mut Rng) -> Value| {
        let mut forms: Vec<Object> = Vec::new();
        // Chance also makes what a schema refuses; such a form never comes to the store.
        for _ in 0..FORMS * 20 {
            let mut manifest = form(rng);
            manifest["metadata"]["namespace"] = json!(namespace);
            manifest["metadata"]["name"] = json!(name);
            if rng.one_in(3) {
                manifest["metadata"]["creationTimestamp"] = json!(format!("2024-01-0{}T00:00:00Z", 1 + rng.below(4)));
            }
            let Some(object) = parse(kind, manifest).object else { continue };
            if !forms.contains(&object) {
                forms.push(object);
            }
            if forms.len() == FORMS {
                break;
            }
        }
        assert!(!forms.is_empty(), "{kind} {namespace}/{name} has no valid form");
        pool.insert(forms[0].key(), forms);
    };
    let rng = &mut rng;
    for name in ["default", "infra", "team"] {
        add(Kind::Namespace, "", name, rng, &namespace);
        add(Kind::ReferenceGrant, name, "grant", rng, &grant);
    }
    for name in ["tailscale", "mine"] {
        add(Kind::GatewayClass, "", name, rng, &class);
    }
    for (namespace, name) in [("default", "web"), ("infra", "edge")] {
        add(Kind::Gateway, namespace, name, rng, &gateway);
        add(Kind::TailscaleGatewayParameters, namespace, "tables", rng, &parameters);
    }
    for (namespace, name) in [("default", "one"), ("default", "two"), ("team", "one"), ("infra", "three")] {
        add(Kind::HttpRoute, namespace, name, rng, &route);
    }
    for (namespace, name) in [("default", "a"), ("default", "b"), ("team", "a")] {
        add(Kind::Service, namespace, name, rng, &service);
        add(Kind::EndpointSlice, namespace, &format!("{name}-1"), rng, &slice);
        add(Kind::EndpointSlice, namespace, &format!("{name}-2"), rng, &slice);
    }
    for namespace in ["default", "infra"] {
        add(Kind::Secret, namespace, "cert", rng, &|rng: &mut Rng| certificate.secret(rng));
    }
    for name in ["corp", "dev"] {
        add(Kind::TailscaleTailnet, "", name, rng, &tailnet);
    }
    for (namespace, name) in [("default", "web"), ("default", "more"), ("team", "edge")] {
        add(Kind::TailscaleGateway, namespace, name, rng, &tailscale_gateway);
    }
    for (namespace, name) in [("default", "machines"), ("default", "others"), ("team", "machines")] {
        add(Kind::TailscaleEndpoints, namespace, name, rng, &endpoints);
    }
    for name in ["gateways.gateway.networking.k8s.io", "httproutes.gateway.networking.k8s.io"] {
        add(Kind::CustomResourceDefinition, "", name, rng, &|rng: &mut Rng| {
            let version = format!("v1.{}.0", rng.below(9));
            json!({"metadata": {"annotations": {"gateway.networking.k8s.io/bundle-version": version}}})
        });
    }
    add(Kind::TailscaleRoutePolicy, "default", "policy", rng, &policy);
    add(Kind::ConfigMap, "default", "map", rng, &|rng: &mut Rng| json!({"data": {"key": rng.below(5).to_string()}}));
    pool
}

struct Certificates {
    forms: Vec<(String, String)>,
}

impl Certificates {
    /// Those of the golden files: what stands in Secrets there, good and bad.
    fn read() -> Self {
        let folder = repository().join("tests/golden/translate");
        let mut forms = Vec::new();
        for name in ["https.yaml", "bad-certificates.yaml"] {
            let text = fs::read_to_string(folder.join(name)).unwrap();
            for document in serde_saphyr::from_multiple::<Value>(text.split("\n# Output\n").next().unwrap()).unwrap() {
                let part = |key: &str| document["stringData"][key].as_str().unwrap_or_default().to_owned();
                if document["kind"] == "Secret" {
                    forms.push((part("tls.crt"), part("tls.key")));
                }
            }
        }
        assert!(forms.len() > 4);
        Self { forms }
    }

    fn secret(&self, rng: &mut Rng) -> Value {
        let (certificate, key) = rng.pick(&self.forms);
        json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": certificate, "tls.key": key}})
    }
}

const HOSTNAMES: [&str; 5] = ["a.example.com", "b.example.com", "*.example.com", "*.com", "other.net"];

fn namespace(rng: &mut Rng) -> Value {
    match rng.below(3) {
        0 => json!({}),
        1 => json!({"metadata": {"labels": {"routes": "yes"}}}),
        _ => json!({"metadata": {"labels": {"routes": "no"}}}),
    }
}

fn grant(rng: &mut Rng) -> Value {
    let from = [
        json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}),
        json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "team"}),
        json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra"}),
        json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"}),
    ];
    let to = [
        json!({"group": "", "kind": "Service"}),
        json!({"group": "", "kind": "Service", "name": "a"}),
        json!({"group": "", "kind": "Secret"}),
        json!({"group": "gateway.tailscale.com", "kind": "TailscaleEndpoints"}),
    ];
    json!({"spec": {"from": rng.some(&from, 1), "to": rng.some(&to, 1)}})
}

fn class(rng: &mut Rng) -> Value {
    let controller = rng.pick(&["gateway.tailscale.com/gateway-controller", "example.com/another"]);
    json!({"spec": {"controllerName": controller}})
}

fn gateway(rng: &mut Rng) -> Value {
    let mut listeners = Vec::new();
    for at in 0..1 + rng.below(4) {
        let (protocol, port) = *rng.pick(&[
            ("HTTP", 8080),
            ("HTTP", 8080),
            ("HTTP", 80),
            ("HTTP", 10080),
            ("HTTPS", 8443),
            ("HTTPS", 8443),
            ("TCP", 9000),
        ]);
        let mut listener = json!({"name": format!("l{at}"), "protocol": protocol, "port": port});
        if protocol != "TCP" && !rng.one_in(3) {
            listener["hostname"] = json!(rng.pick(&HOSTNAMES));
        }
        if protocol == "HTTPS" {
            let namespace = rng.pick(&["default", "infra"]);
            listener["tls"] = json!({"certificateRefs": [{"name": "cert", "namespace": namespace}]});
        }
        listener["allowedRoutes"] = match rng.below(6) {
            0 => json!({"namespaces": {"from": "Same"}}),
            1 => json!({"namespaces": {"from": "None"}}),
            2 => json!({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"routes": "yes"}}}}),
            3 => json!({"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}, {"kind": "HTTPRoute"}]}),
            _ => json!({"namespaces": {"from": "All"}}),
        };
        listeners.push(listener);
    }
    let class = rng.pick(&["tailscale", "tailscale", "tailscale", "mine", "other"]);
    let mut gateway = json!({"spec": {"gatewayClassName": class, "listeners": listeners}});
    if rng.one_in(4) {
        gateway["spec"]["addresses"] = json!([{"value": "127.0.0.1"}]);
    }
    if rng.one_in(2) {
        gateway["spec"]["infrastructure"] = json!({"parametersRef": {
            "group": "gateway.tailscale.com", "kind": "TailscaleGatewayParameters", "name": "tables",
        }});
    }
    gateway
}

fn parameters(rng: &mut Rng) -> Value {
    match rng.below(4) {
        0 => json!({"spec": {"accessLog": {"type": "Text"}}}),
        1 => json!({"spec": {"routeTables": "Whole"}}),
        _ => json!({"spec": {"routeTables": "Divided"}}),
    }
}

fn parent(rng: &mut Rng) -> Value {
    let (namespace, name) = *rng.pick(&[("default", "web"), ("default", "web"), ("infra", "edge"), ("infra", "gone")]);
    let mut parent = json!({"namespace": namespace, "name": name});
    match rng.below(4) {
        0 => parent["sectionName"] = json!(rng.pick(&["l0", "l1", "l9"])),
        1 => parent["port"] = json!(rng.pick(&[8080, 8443, 80])),
        _ => {}
    }
    parent
}

fn backend(rng: &mut Rng) -> Value {
    let mut backend = match rng.below(6) {
        0 => json!({"group": "gateway.tailscale.com", "kind": "TailscaleEndpoints", "name": "machines", "port": 80}),
        1 => json!({"kind": "Deployment", "group": "apps", "name": "a", "port": 80}),
        2 => json!({"name": "gone", "port": 80}),
        _ => json!({"name": rng.pick(&["a", "b"]), "port": rng.pick(&[80, 80, 81])}),
    };
    if rng.one_in(3) {
        backend["namespace"] = json!(rng.pick(&["default", "team"]));
    }
    if rng.one_in(3) {
        backend["weight"] = json!(rng.below(4));
    }
    if rng.one_in(6) {
        backend["filters"] = json!([headers(rng)]);
    }
    backend
}

fn headers(rng: &mut Rng) -> Value {
    json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [
        {"name": rng.pick(&["x-one", "x-two"]), "value": rng.below(3).to_string()},
    ]}})
}

fn route(rng: &mut Rng) -> Value {
    let mut rules = Vec::new();
    for _ in 0..1 + rng.below(3) {
        let mut rule = json!({});
        let (type_, path) = *rng.pick(&[
            ("PathPrefix", "/"),
            ("PathPrefix", "/api"),
            ("PathPrefix", "/api/web"),
            ("Exact", "/exact"),
            ("RegularExpression", "/[0-9]+"),
            ("RegularExpression", "(?=unknown)"),
        ]);
        let mut wanted = json!({"path": {"type": type_, "value": path}});
        if rng.one_in(3) {
            wanted["headers"] = json!([{"name": "x-version", "value": rng.pick(&["1", "2"])}]);
        }
        if rng.one_in(4) {
            wanted["method"] = json!(rng.pick(&["GET", "POST"]));
        }
        rule["matches"] = json!([wanted]);
        match rng.below(7) {
            0 => rule["filters"] = json!([headers(rng)]),
            1 => {
                rule["filters"] = json!([{"type": "URLRewrite", "urlRewrite": {"path":
                    {"type": "ReplaceFullPath", "replaceFullPath": "/new"}}}]);
            }
            2 => {
                rule["filters"] = json!([{"type": "RequestMirror", "requestMirror": {"backendRef":
                    {"name": rng.pick(&["a", "b", "gone"]), "port": 80}}}]);
            }
            3 => {
                rule["filters"] = json!([{"type": "RequestRedirect", "requestRedirect": {"statusCode": 302}}]);
                rules.push(rule);
                continue;
            }
            4 => rule["timeouts"] = json!({"request": rng.pick(&["1s", "2s"])}),
            _ => {}
        }
        rule["backendRefs"] = (0..rng.below(3)).map(|_| backend(rng)).collect();
        rules.push(rule);
    }
    let parents: Vec<Value> = (0..1 + rng.below(2)).map(|_| parent(rng)).collect();
    json!({"spec": {"parentRefs": parents, "hostnames": rng.some(&HOSTNAMES, 0), "rules": rules}})
}

fn service(rng: &mut Rng) -> Value {
    if rng.one_in(8) {
        return json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
    }
    let mut port = json!({"name": "http", "port": rng.pick(&[80, 80, 81])});
    if rng.one_in(3) {
        port["appProtocol"] = json!(rng.pick(&["kubernetes.io/h2c", "kubernetes.io/ws", "https"]));
    }
    json!({"spec": {"ports": [port]}})
}

fn slice(rng: &mut Rng) -> Value {
    let endpoints: Vec<Value> = (0..rng.below(3))
        .map(|_| {
            json!({
                "addresses": [format!("10.0.0.{}", rng.below(4))],
                "conditions": {"ready": !rng.one_in(3), "serving": true},
            })
        })
        .collect();
    json!({
        "metadata": {"labels": {"kubernetes.io/service-name": rng.pick(&["a", "b", "gone"])}},
        "addressType": "IPv4",
        "ports": [{"name": rng.pick(&["http", "http", "admin"]), "port": rng.pick(&[8080, 8081])}],
        "endpoints": endpoints,
    })
}

fn tailnet(rng: &mut Rng) -> Value {
    json!({"spec": {"oauthSecretName": "oauth", "tailnet": rng.pick(&["-", "corp.ts.net", "dev.ts.net"])}})
}

fn tailscale_gateway(rng: &mut Rng) -> Value {
    let (namespace, name) = *rng.pick(&[("default", "web"), ("default", "web"), ("infra", "edge"), ("infra", "gone")]);
    let mut reference = json!({"name": name, "namespace": namespace});
    if rng.one_in(4) {
        reference["sectionName"] = json!("l0");
    }
    let tailnets: Vec<Value> = (0..1 + rng.below(2))
        .map(|_| {
            let name = rng.pick(&["corp", "dev", "alias"]);
            let mut tailnet =
                json!({"name": name, "tailscaleTailnetRef": {"name": rng.pick(&["corp", "dev", "gone"])}});
            match rng.below(5) {
                0 => tailnet["routeGeneration"] = json!({"egress": {}}),
                1 => {
                    tailnet["routeGeneration"] =
                        json!({"egress": {"hostPattern": "{service}.example.com", "pathPrefix": "/"}});
                }
                2 => tailnet["routeGeneration"] = json!({"egress": {"pathPrefix": "no path", "protocol": "HTTPS"}}),
                _ => {}
            }
            tailnet
        })
        .collect();
    json!({"spec": {"gatewayRef": reference, "tailnets": tailnets}})
}

fn endpoints(rng: &mut Rng) -> Value {
    let endpoints: Vec<Value> = (0..1 + rng.below(3))
        .map(|_| {
            let mut endpoint = json!({
                "name": rng.pick(&["web", "db", "files"]),
                "port": rng.pick(&[80, 80, 443]),
                "weight": 1 + rng.below(3),
            });
            match rng.below(5) {
                0 => {}
                1 => endpoint["tailscaleIP"] = json!("100.64.0.1"),
                2 => endpoint["externalTarget"] = json!("no target"),
                _ => endpoint["externalTarget"] = json!(rng.pick(&["web.localhost:80", "10.1.1.1:443", "[::1]:81"])),
            }
            if rng.one_in(4) {
                endpoint["healthCheck"] = json!({});
            }
            endpoint
        })
        .collect();
    json!({"spec": {"tailnet": rng.pick(&["corp", "dev", "alias", "-", "corp.ts.net"]), "endpoints": endpoints}})
}

fn policy(rng: &mut Rng) -> Value {
    json!({"spec": {
        "targetRefs": [{"group": "gateway.tailscale.com", "kind": "TailscaleGateway", "name": rng.pick(&["web", "gone"])}],
        "rules": [{"actions": [{"type": "Redirect", "redirect": {"statusCode": 302}}]}],
    }})
}
