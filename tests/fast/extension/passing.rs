//! Routes that are no HTTPRoutes: what of them the golden files do not show.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use tailscale_gateway::{
    extension::{Hook, Outcome, answer},
    model::{Kind, ObjectKey, ObjectName},
    store::Change,
};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{Http1ProtocolOptions, HttpProtocolOptions as CommonOptions},
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
    },
    envoy_gateway::PostTranslateModifyResponse,
    google::protobuf::{Any, Duration},
};

use crate::support::{
    envoy_gateway::name_of,
    extension_cases::{Case, Played, cases, respond},
};

fn golden(name: &str) -> (Case, Played) {
    let case = cases().into_iter().find(|case| case.name == name).expect("there is such a file");
    let played = case.play();
    (case, played)
}

/// A TLSRoute to an endpoint that wants TLS, by listeners of these modes: whether TLS is added, and what is wrong.
fn tls_route(modes: &[&str]) -> (bool, Vec<String>) {
    let (case, _) = golden("passing-routes.yaml");
    let listener = |(at, mode): (usize, &&str)| {
        format!(
            "  - {{ name: tls-{at}, protocol: TLS, port: {}, tls: {{ mode: {mode}, certificateRefs: [{{ name: c }}] }} }}\n",
            8443 + at
        )
    };
    let listeners: String = modes.iter().enumerate().map(listener).collect();
    let old = "  - { name: tls, protocol: TLS, port: 8443, tls: { mode: Passthrough } }\n";
    assert!(case.input.contains(old));
    let parents: Vec<String> = (0..modes.len()).map(|at| format!("{{ name: eg, sectionName: tls-{at} }}")).collect();
    let input = case.input.replace(old, &listeners).replace("{ name: eg, sectionName: tls }", &parents.join(", "));
    let played = Case::of(&input).play();
    let hosted = played.hosted();
    let gateway = ObjectName::new("default", "eg");
    let rule = hosted.rule("tlsroute/default/passthrough/rule/-1").expect("it leads to an endpoint of ours");
    let cluster = hosted.cluster(&gateway, rule.alone.as_ref().expect("to one")).expect("it is made");
    let route = hosted.route(&ObjectKey::new(Kind::TlsRoute, ObjectName::new("default", "passthrough"))).unwrap();
    let problems = route.problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
    (Cluster::decode(cluster.message.clone()).unwrap().transport_socket.is_some(), problems)
}

#[test]
fn tls_is_added_for_an_endpoint_that_wants_it_where_listeners_end_that_of_clients() {
    assert_eq!(tls_route(&["Passthrough"]), (false, Vec::new()));
    assert_eq!(tls_route(&["Terminate"]), (true, Vec::new()));
    let (added, problems) = tls_route(&["Passthrough", "Terminate"]);
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(!added && problem.starts_with("spec.rules[0].backendRefs[0]: some listeners"), "{problem}");
}

/// The clusters after the last hook, with other HTTP options in those of a GRPCRoute.
fn with_options(options: &Any) -> (Vec<Cluster>, Outcome) {
    let (case, played) = golden("grpc-routes.yaml");
    let mut request = played.last_request(&case);
    for cluster in &mut request.clusters {
        let mut message = Cluster::decode(cluster.clone()).unwrap();
        message
            .typed_extension_protocol_options
            .insert("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), options.clone());
        *cluster = message.encode_to_vec().into();
    }
    let request: Bytes = request.encode_to_vec().into();
    let answer = answer(Hook::Translate, &request, &played.hosted(), &|| false).unwrap();
    let response: Bytes = answer.edits.apply(request).concat().into();
    let response = PostTranslateModifyResponse::decode(response).unwrap();
    let clusters = response.clusters.into_iter().map(|cluster| Cluster::decode(cluster).unwrap());
    (clusters.filter(|cluster| cluster.name.starts_with("grpcroute/")).collect(), answer.outcome)
}

fn options(config: ProtocolConfig) -> Any {
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(CommonOptions {
            idle_timeout: Some(Duration { seconds: 7, nanos: 0 }),
            ..Default::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })),
        ..Default::default()
    };
    Any { type_url: "type.googleapis.com/it.is.what.it.is".to_owned(), value: options.encode_to_vec().into() }
}

#[test]
fn clusters_of_grpc_backends_speak_http2_and_keep_what_else_policies_want() {
    let (clusters, _) = with_options(&options(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())));
    let speaks = |cluster: &Cluster| {
        let any = cluster.typed_extension_protocol_options.values().next().unwrap();
        let options = HttpProtocolOptions::decode(any.value.clone()).unwrap();
        let idle = options.common_http_protocol_options.unwrap().idle_timeout.unwrap().seconds;
        let Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) = options.upstream_protocol_options else {
            panic!("{any:?}")
        };
        assert_eq!((idle, any.type_url.as_str()), (7, "type.googleapis.com/it.is.what.it.is"));
        matches!(config.protocol_config, Some(ProtocolConfig::Http2ProtocolOptions(_)))
    };
    let http2: BTreeSet<&str> =
        clusters.iter().filter(|cluster| speaks(cluster)).map(|cluster| cluster.name.as_str()).collect();
    let rule = "grpcroute/default/chat/rule";
    // Those that lead to ours; what leads to others stays as it is.
    let ours = ["0", "1", "2", "3/backend/1"].map(|part| format!("{rule}/{part}"));
    assert_eq!(http2, ours.iter().map(String::as_str).collect());
}

#[test]
fn options_that_are_cut_off_are_left_alone_and_the_rest_is_done() {
    let whole = options(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()));
    for end in 0..whole.value.len() {
        let cut = Any { value: whole.value.slice(..end), ..whole.clone() };
        let (clusters, outcome) = with_options(&cut);
        assert!(matches!(outcome, Outcome::Done { changed: 1.. }), "{end}: {outcome:?}");
        assert_eq!(clusters.len(), 6, "{end}");
    }
}

#[test]
fn what_is_wrong_with_a_route_of_another_controllers_gateway_is_told_with_the_commit() {
    let (_, mut played) = golden("passing-routes.yaml");
    let gone = |played: &mut Played, name: &str| {
        let key = ObjectKey::new(Kind::TcpRoute, ObjectName::new("default", name));
        played.pipeline.apply([Change::Remove(key)]).solved
    };
    assert_eq!(gone(&mut played, "with-others"), 1);
    assert_eq!(gone(&mut played, "plain"), 0);
}

#[test]
fn what_belongs_to_the_envoy_gateway_itself_is_never_touched() {
    for case in cases() {
        let played = case.play();
        let mut request = played.last_request(&case);
        // Fields that nobody knows, so that nobody could write them again.
        let thing = |name: &str| {
            let mut bytes = tailscale_gateway::extension::splice::delimited(1, name.as_bytes()).to_vec();
            bytes.extend_from_slice(&tailscale_gateway::extension::splice::delimited(40_000, b"\xff\xfe"));
            Bytes::from(bytes)
        };
        let (ready, authorities, empty) =
            (thing("envoy-gateway-proxy-ready-0.0.0.0-19003"), thing("system_ca_certificates"), thing("EmptyCluster"));
        request.listeners.insert(0, ready.clone());
        request.secrets.push(authorities.clone());
        request.clusters.push(empty.clone());
        let listeners = request.listeners.clone();
        let response = respond(Hook::Translate, request.encode_to_vec().into(), &played.hosted());
        let response = PostTranslateModifyResponse::decode(response).unwrap();
        assert_eq!(response.listeners, listeners, "{}", case.name);
        let once = |list: &[Bytes], resource: &Bytes| list.iter().filter(|other| *other == resource).count() == 1;
        assert!(once(&response.secrets, &authorities) && once(&response.clusters, &empty), "{}", case.name);
        let alone = request.clusters.iter().map(|cluster| name_of(cluster)).filter(|name| name == "EmptyCluster");
        assert_eq!(alone.count(), 1);
    }
}
