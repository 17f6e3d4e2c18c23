//! One HTTPRoute becomes Envoy routes: what the Gateway API specification says, sentence by sentence, against what Envoy is
//! told. Here are the means; the sentences are in the modules.

mod backends;
mod filters;
mod matches;
mod precedence;
mod properties;
mod redirects;
mod regexes;

use std::sync::{Arc, LazyLock};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;
use tailscale_gateway::{
    api::{BackendObjectReference, HttpRoute},
    compile::route::{BackendTarget, Backends, CompiledRoute, ResolvedBackend, RouteContext, compile_route},
    model::{Kind, ObjectKey, ObjectName, Problem, Reason},
};
use tailscale_gateway_proto::envoy::config::route::v3::{Route, VirtualHost};

/// A plain HTTP listener on port 80.
const HTTP: RouteContext = RouteContext { scheme_https: false, port: 80 };

/// A namespace of backends, told apart by their names: `missing` does not exist, `forbidden` is not permitted, `none` has no
/// cluster, `socket` speaks WebSocket, `hosted` wants `hosted.example` as its host, `three` is three clusters in proportion
/// 1:2:3; every other one is a single cluster.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    /// The fields of the references that were asked for.
    pub(crate) asked: Vec<String>,
}

impl Backends for Namespace {
    fn resolve(&mut self, backend: &BackendObjectReference, field: &str) -> Result<ResolvedBackend, Problem> {
        self.asked.push(field.to_owned());
        let name = &*backend.name;
        let target = |cluster: String, weight, host: Option<&str>| BackendTarget {
            cluster: cluster.into(),
            weight,
            host_rewrite: host.map(str::to_owned),
        };
        match name {
            "missing" => Err(Problem::new(key(), field, Reason::BackendNotFound, "there is no Service ns/missing")),
            "forbidden" => Err(Problem::new(key(), field, Reason::RefNotPermitted, "no ReferenceGrant permits it")),
            "none" => Ok(ResolvedBackend::default()),
            "three" => Ok(ResolvedBackend {
                targets: (1..=3).map(|at| target(format!("three-{at}"), at, None)).collect(),
                websocket: false,
            }),
            "hosted" => Ok(ResolvedBackend {
                targets: vec![target(name.to_owned(), 1, Some("hosted.example"))],
                websocket: false,
            }),
            _ => Ok(ResolvedBackend { targets: vec![target(name.to_owned(), 1, None)], websocket: name == "socket" }),
        }
    }
}

fn key() -> ObjectKey {
    ObjectKey::new(Kind::HttpRoute, ObjectName::new("ns", "web"))
}

/// An HTTPRoute whose `spec.rules` is this YAML.
fn route(rules: &str) -> HttpRoute {
    let rules: Value = serde_saphyr::from_str(rules).expect("the rules are YAML");
    serde_json::from_value(serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"namespace": "ns", "name": "web"},
        "spec": {"rules": rules},
    }))
    .expect("the rules are those of an HTTPRoute")
}

fn compile(rules: &str) -> CompiledRoute {
    compile_at(HTTP, rules)
}

fn compile_at(context: RouteContext, rules: &str) -> CompiledRoute {
    compile_route(&route(rules), &key(), &context, &mut Namespace::default())
}

/// The Envoy routes, in their order.
pub(crate) fn envoy_routes(compiled: &CompiledRoute) -> Vec<Route> {
    let bytes: Vec<u8> = compiled.entries.iter().flat_map(|entry| entry.bytes.iter().copied()).collect();
    VirtualHost::decode(bytes.as_slice()).expect("entries are fields of a virtual host").routes
}

/// The only Envoy route of rules that nothing is wrong with.
fn only_route(rules: &str) -> Value {
    let compiled = compile(rules);
    assert_eq!(compiled.problems, [], "{rules}");
    assert!(compiled.any_rule_valid);
    let routes = envoy_routes(&compiled);
    assert_eq!(routes.len(), 1, "{rules}");
    json(&routes[0])
}

/// A rule with this body and a backend, for what every path matches; and its route.
fn only_forward(body: &str) -> Value {
    only_route(&format!("[{{backendRefs: [{{name: a, port: 80}}], {body}}}]"))
}

/// The fields and messages of what is wrong.
fn problems(compiled: &CompiledRoute) -> Vec<(&str, Reason, &str)> {
    compiled.problems.iter().map(|problem| (&*problem.field, problem.reason, &*problem.message)).collect()
}

/// Rules of which exactly one thing is wrong: its field, its reason, and a part of its words. Gives the compiled rules.
#[track_caller]
fn one_problem(rules: &str, field: &str, reason: Reason, words: &str) -> CompiledRoute {
    let compiled = compile(rules);
    let found = problems(&compiled);
    assert!(
        matches!(found[..], [(at, why, text)] if at == field && why == reason && text.contains(words)),
        "{rules}\n{found:#?}"
    );
    assert!(!found[0].2.contains('\n'), "a message is one line");
    compiled
}

/// Asserts that every request of the rules is answered 500.
#[track_caller]
fn all_answer_500(compiled: &CompiledRoute) {
    let routes = envoy_routes(compiled);
    assert!(!routes.is_empty());
    for route in routes {
        let route = json(&route);
        assert_eq!(route["directResponse"], yaml("{status: 500}"), "{route:#}");
    }
    assert!(compiled.entries.iter().all(|entry| entry.clusters.is_empty()));
}

/// A route in protobuf's canonical JSON.
fn json(route: &Route) -> Value {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(tailscale_gateway_proto::DESCRIPTORS).expect("the descriptors belong together")
    });
    let descriptor = POOL.get_message_by_name("envoy.config.route.v3.Route").expect("the message is described");
    let message = DynamicMessage::decode(descriptor, route.encode_to_vec().as_slice()).expect("it was encoded here");
    message
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .expect("every Any is described too")
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("the expectation is YAML")
}

fn names(clusters: &[Arc<str>]) -> Vec<&str> {
    clusters.iter().map(|cluster| &**cluster).collect()
}
