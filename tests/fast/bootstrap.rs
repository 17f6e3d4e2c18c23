//! The bootstrap that is printed for an Envoy. Whether Envoys take it is tested with real ones (`e2e`).

use prost::Message as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage};
use serde_json::{Value, json};
use tailscale_gateway::{
    bootstrap::{Bootstrap, Discovery, HostPort, Protocol, Tls, TlsFiles, TlsSource, UnwatchableFiles},
    model::ObjectName,
};
use tailscale_gateway_proto::{
    DESCRIPTORS,
    envoy::{
        config::{
            bootstrap::v3::Bootstrap as BootstrapMessage,
            core::v3::{WatchedDirectory, config_source::ConfigSourceSpecifier},
        },
        extensions::transport_sockets::tls::v3::{Secret, secret},
        service::discovery::v3::DiscoveryResponse,
    },
};

fn json(xds: &str, protocol: Protocol, discovery: Discovery) -> Value {
    let gateway = ObjectName::new("default", "web");
    let xds: HostPort = xds.parse().expect("it is a host and a port");
    let admin = "[::1]:19001".parse().expect("it is an address");
    let text = Bootstrap {
        gateway: &gateway,
        xds: &xds,
        node_id: Some("on"),
        admin,
        probes: None,
        protocol,
        discovery,
        tls: None,
    }
    .to_yaml();
    serde_saphyr::from_str(&text).expect("it is YAML")
}

/// Reads it as Envoy does: every field must exist, and those inside of `Any`s too.
fn message(bootstrap: &Value) -> BootstrapMessage {
    read("envoy.config.bootstrap.v3.Bootstrap", bootstrap)
}

fn read<M: prost::Message + Default>(name: &str, json: &Value) -> M {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the descriptors are whole");
    let descriptor = pool.get_message_by_name(name).expect("it is among them");
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let dynamic = DynamicMessage::deserialize_with_options(descriptor, json, &options).expect("every field exists");
    M::decode(dynamic.encode_to_vec().as_slice()).expect("the types are made of the descriptors")
}

/// The TLS context of the cluster that leads to the control plane.
fn tls_context(tls: Tls<'_>) -> Value {
    let gateway = ObjectName::new("default", "web");
    let xds: HostPort = "cp.example:18000".parse().expect("it is a host and a port");
    let admin = "127.0.0.1:1".parse().expect("it is an address");
    let (protocol, discovery) = (Protocol::Delta, Discovery::Ads);
    let (node_id, probes, tls) = (Some("a"), None, Some(tls));
    let text = Bootstrap { gateway: &gateway, xds: &xds, node_id, admin, probes, protocol, discovery, tls }.to_yaml();
    let bootstrap: Value = serde_saphyr::from_str(&text).expect("it is YAML");
    message(&bootstrap);
    let mut context = bootstrap["static_resources"]["clusters"][0]["transport_socket"]["typed_config"].clone();
    let of_type = context.as_object_mut().expect("an object").remove("@type");
    assert_eq!(
        of_type,
        Some(json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"))
    );
    context
}

#[test]
fn p79_an_envoy_proves_who_it_is_and_checks_the_control_planes_name() {
    let source = TlsSource::Files { sds_folder: "/etc/sds" };
    let context = tls_context(Tls { server_name: "cp.example", source });
    assert_eq!(context["sni"], "cp.example");
    let common = &context["common_tls_context"];
    assert_eq!(common["tls_params"]["tls_minimum_protocol_version"], "TLSv1_3");
    let secret = &common["tls_certificate_sds_secret_configs"][0];
    assert_eq!(secret["sds_config"]["path_config_source"]["path"], "/etc/sds/xds-certificate.yaml");
    let validation = &common["combined_validation_context"];
    let names = json!([{"san_type": "DNS", "matcher": {"exact": "cp.example"}}]);
    assert_eq!(validation["default_validation_context"]["match_typed_subject_alt_names"], names);
    let secret = &validation["validation_context_sds_secret_config"];
    assert_eq!(secret["sds_config"]["path_config_source"]["path"], "/etc/sds/xds-authorities.yaml");

    // An address is compared with the certificate's addresses, in one spelling, and asked for by no SNI.
    let source = TlsSource::Inline { certificate: "C", key: "K", authorities: "A" };
    let shown = format!("{source:?}");
    assert!(!shown.contains('K'), "{shown}");
    let context = tls_context(Tls { server_name: "fd00:0::1", source });
    assert_eq!(context.get("sni"), None);
    let common = &context["common_tls_context"];
    let names = json!([{"san_type": "IP_ADDRESS", "matcher": {"exact": "fd00::1"}}]);
    assert_eq!(common["validation_context"]["match_typed_subject_alt_names"], names);
    assert_eq!(common["validation_context"]["trusted_ca"], json!({"inline_string": "A"}));
    assert_eq!(common["tls_certificates"][0]["private_key"], json!({"inline_string": "K"}));
}

#[test]
fn the_files_by_which_envoy_finds_its_certificate_are_discovery_responses_with_one_secret_each() {
    let files = TlsFiles { certificate: "/tls/tls.crt", key: "/tls/tls.key", authorities: "/ca/ca.crt" };
    let [(certificate_file, certificate), (authorities_file, authorities)] = files.sds().expect("they can be watched");
    assert_eq!((certificate_file, authorities_file), ("xds-certificate.yaml", "xds-authorities.yaml"));
    let secret = |text: &str| {
        let json: Value = serde_saphyr::from_str(text).expect("it is YAML");
        let response: DiscoveryResponse = read("envoy.service.discovery.v3.DiscoveryResponse", &json);
        assert_eq!(response.resources.len(), 1);
        Secret::decode(&response.resources[0].value[..]).expect("it is a secret")
    };
    let watched = |folder: &str| Some(WatchedDirectory { path: folder.into(), ..Default::default() });
    let Secret { name, r#type: Some(secret::Type::TlsCertificate(found)) } = secret(&certificate) else {
        panic!("{certificate}")
    };
    assert_eq!((name.as_str(), found.watched_directory), ("xds-certificate", watched("/tls")));
    let Secret { name, r#type: Some(secret::Type::ValidationContext(found)) } = secret(&authorities) else {
        panic!("{authorities}")
    };
    assert_eq!((name.as_str(), found.watched_directory), ("xds-authorities", watched("/ca")));

    let apart = TlsFiles { key: "/other/tls.key", ..files };
    assert!(matches!(apart.sds(), Err(UnwatchableFiles::Apart { .. })));
    for relative in [TlsFiles { certificate: "tls.crt", ..files }, TlsFiles { authorities: "a/ca.crt", ..files }] {
        assert!(matches!(relative.sds(), Err(UnwatchableFiles::Relative(_))));
    }
}

#[test]
fn every_field_exists_in_envoys_own_definition_for_all_four_variants() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        for discovery in [Discovery::Ads, Discovery::PerType] {
            let bootstrap = message(&json("127.0.0.1:18000", protocol, discovery));
            let node = bootstrap.node.expect("there is a node");
            assert_eq!((node.id.as_str(), node.cluster.as_str()), ("on", "default/web"));
            let dynamic = bootstrap.dynamic_resources.expect("there are dynamic resources");
            assert_eq!(dynamic.ads_config.is_some(), discovery == Discovery::Ads);
            for source in [dynamic.lds_config, dynamic.cds_config] {
                let source = source.expect("both are given");
                let is_ads = matches!(source.config_source_specifier, Some(ConfigSourceSpecifier::Ads(_)));
                assert_eq!(is_ads, discovery == Discovery::Ads);
                let timeout = source.initial_fetch_timeout.expect("an Envoy waits for its first configuration");
                assert_eq!((timeout.seconds, timeout.nanos), (0, 0));
            }
        }
    }
    // And a field that does not exist is noticed.
    let mut wrong = json("127.0.0.1:18000", Protocol::Delta, Discovery::Ads);
    wrong["overload_manager"]["resource_monitors"][0]["typed_config"]["no_such_field"] = json!(1);
    assert!(std::panic::catch_unwind(|| message(&wrong)).is_err());
}

#[test]
fn p78_the_protocol_decides_the_api_type_and_requests_are_never_rate_limited() {
    for (protocol, api_type) in [(Protocol::Delta, "DELTA_GRPC"), (Protocol::Sotw, "GRPC")] {
        for discovery in [Discovery::Ads, Discovery::PerType] {
            let bootstrap = json("127.0.0.1:18000", protocol, discovery);
            let dynamic = &bootstrap["dynamic_resources"];
            let sources = match discovery {
                Discovery::Ads => vec![&dynamic["ads_config"]],
                Discovery::PerType => {
                    vec![&dynamic["lds_config"]["api_config_source"], &dynamic["cds_config"]["api_config_source"]]
                }
            };
            for source in sources {
                assert_eq!(source["api_type"], api_type);
                assert_eq!(source["set_node_on_first_message_only"], true);
                assert_eq!(source["grpc_services"][0]["envoy_grpc"]["cluster_name"], "xds");
                assert!(source.get("rate_limit_settings").is_none(), "it would hold back acknowledgements (P78)");
            }
        }
    }
}

#[test]
fn the_control_plane_is_found_by_address_or_by_name_and_kept_alive() {
    for (xds, kind, host, port) in [
        ("10.0.0.1:18000", "STATIC", "10.0.0.1", 18000),
        ("[fd7a::1]:443", "STATIC", "fd7a::1", 443),
        ("tailscale-gateway.system.svc:18000", "STRICT_DNS", "tailscale-gateway.system.svc", 18000),
    ] {
        let bootstrap = json(xds, Protocol::Delta, Discovery::Ads);
        message(&bootstrap);
        let cluster = &bootstrap["static_resources"]["clusters"][0];
        assert_eq!(cluster["type"], kind);
        assert_eq!(cluster["name"], "xds");
        let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
        assert_eq!(endpoint["address"]["socket_address"], json!({"address": host, "port_value": port}));
        let options =
            &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        assert_eq!(
            options["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"],
            json!({"interval": "30s", "timeout": "5s"}),
            "HTTP/2 is said, not negotiated, and a dead peer is noticed (P72)"
        );
    }
}

#[test]
fn where_the_control_plane_listens_is_a_host_and_a_port() {
    for good in ["a:1", "A.example.com.:65535", "127.0.0.1:18000", "[::1]:18000", "my_service:18000"] {
        let parsed: HostPort = good.parse().expect("it is good");
        assert_eq!(parsed.to_string(), good);
    }
    for bad in
        ["", "a", ":1", "a:", "a:0", "a:65536", "a:b", "::1:18000", "a b:1", "-a:1", "a..b:1", "1.2.3:1", "http://a:1"]
    {
        assert!(bad.parse::<HostPort>().is_err(), "{bad:?}");
    }
}

#[test]
fn words_that_yaml_could_take_for_something_else_stay_text() {
    // The node ID above is "on".
    let gateway = ObjectName::new("default", "web");
    let xds = "127.0.0.1:18000".parse().expect("good");
    let admin = "127.0.0.1:19000".parse().expect("good");
    let bootstrap = |node_id| {
        let (protocol, discovery) = (Protocol::Delta, Discovery::Ads);
        Bootstrap {
            gateway: &gateway,
            xds: &xds,
            node_id: Some(node_id),
            admin,
            probes: None,
            protocol,
            discovery,
            tls: None,
        }
        .to_yaml()
    };
    for id in ["on", "1", "1e3", "null", "~", "a: b", "# a", "'", "\"", "- x", " x ", "0x1f", "&a", "*a", "!a", "a\\b"]
    {
        let read: Value = serde_saphyr::from_str(&bootstrap(id)).expect("it is YAML");
        assert_eq!(read["node"]["id"], id);
    }
}
