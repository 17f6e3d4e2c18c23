//! What `bootstrap` prints, in real Envoys that no control plane answers.

use std::{fs, process::Command};

use tailscale_gateway::{
    bootstrap::{Bootstrap, Discovery, Protocol},
    model::ObjectName,
};
use tempfile::TempDir;

use crate::support::{
    envoy::{Envoy, Version},
    ports::Port,
    process::Process,
    tools::tool,
};

fn bootstrap(xds: &str, admin: &Port, protocol: Protocol, discovery: Discovery) -> String {
    let gateway = ObjectName::new("default", "web");
    let xds = xds.parse().expect("it is a host and a port");
    Bootstrap {
        gateway: &gateway,
        xds: &xds,
        node_id: Some("envoy-1"),
        admin: admin.address(),
        probes: None,
        protocol,
        discovery,
        tls: None,
    }
    .to_yaml()
}

#[tokio::test]
async fn every_variant_is_valid_for_both_envoys() {
    for version in Version::ALL {
        let requirements = if version == Version::Latest { "envoy" } else { "envoy-older" };
        for protocol in [Protocol::Delta, Protocol::Sotw] {
            for discovery in [Discovery::Ads, Discovery::PerType] {
                for xds in ["127.0.0.1:1", "[::1]:1", "localhost:1"] {
                    let admin = Port::lease();
                    let files = TempDir::with_prefix("bootstrap-").expect("a temporary folder can be made");
                    let path = files.path().join("bootstrap.yaml");
                    fs::write(&path, bootstrap(xds, &admin, protocol, discovery)).expect("it can be written");
                    let mut command = Command::new(tool(requirements, "envoy/_bin/envoy"));
                    command
                        .args(["--mode", "validate", "--use-dynamic-base-id", "--log-level", "warning", "-c"])
                        .arg(path);
                    let envoy = Process::spawn(format!("Envoy {} --mode validate", version.number()), command);
                    let status = envoy.wait().await;
                    let said = envoy.lines();
                    assert!(status.success(), "{protocol:?} {discovery:?} {xds}: {said:#?}");
                    assert!(!said.iter().any(|line| line.contains("eprecated")), "{said:#?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_envoy_without_a_control_plane_waits_for_one_and_does_not_say_that_it_is_ready() {
    let nobody = Port::lease();
    for version in Version::ALL {
        let admin = Port::lease();
        let text = bootstrap(&nobody.address().to_string(), &admin, Protocol::Delta, Discovery::Ads);
        let envoy = Envoy::start(version, &text).await;
        envoy.wait_for_stat("cluster_manager.cds.update_attempt", 1).await;
        envoy.wait_for_stat("cluster.xds.upstream_cx_connect_fail", 2).await;
        assert_eq!(envoy.admin("/ready").await.status, 503);
        let info = envoy.admin("/server_info").await.json();
        assert_eq!(info["state"], "PRE_INITIALIZING");
        assert_eq!((&info["node"]["id"], &info["node"]["cluster"]), (&"envoy-1".into(), &"default/web".into()));
        let runtime = envoy.admin("/runtime").await.json();
        assert_eq!(runtime["entries"]["re2.max_program_size.error_level"]["final_value"], "4294967295");
        let said = envoy.process().lines();
        let unexpected: Vec<_> =
            said.iter().filter(|line| line.contains("eprecated") || line.contains("no configured limit")).collect();
        assert!(unexpected.is_empty(), "{unexpected:#?}");
    }
}
