//! The ConfigMap with the bootstrap of a Gateway's Envoys.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::Source;
use crate::bootstrap::{Bootstrap, Discovery, Protocol, Tls, TlsFiles, TlsSource};

/// Where the ConfigMap is mounted.
pub(super) const FOLDER: &str = "/etc/tailscale-gateway/bootstrap";
/// The bootstrap's file there.
pub(super) const FILE: &str = "bootstrap.yaml";
/// Where the Secret with the client certificate is mounted. Kubernetes replaces what is there in one step when the Secret
/// changes, and Envoy watches for that.
pub(super) const TLS_FOLDER: &str = "/etc/tailscale-gateway/tls";

/// The ConfigMap's files. The node's name is not in them: each pod gives its own on the command line.
pub(super) fn files(source: &Source<'_>) -> BTreeMap<String, String> {
    let server_name = source.settings.server_name.as_deref().unwrap_or(&source.settings.xds.host);
    let bootstrap = Bootstrap {
        gateway: source.name,
        xds: &source.settings.xds,
        node_id: None,
        admin: (Ipv4Addr::LOCALHOST, source.ports.admin).into(),
        probes: Some((source.address, source.ports.probes).into()),
        protocol: Protocol::Delta,
        discovery: Discovery::Ads,
        tls: Some(Tls { server_name, source: TlsSource::Files { sds_folder: FOLDER } }),
    };
    let path = |file: &str| format!("{TLS_FOLDER}/{file}");
    let (certificate, key, authorities) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let tls = TlsFiles { certificate: &certificate, key: &key, authorities: &authorities };
    let tls = tls.sds().expect("the files are in one folder, which is given from the root on");
    let others = tls.into_iter().map(|(name, text)| (name.to_owned(), text));
    [(FILE.to_owned(), bootstrap.to_yaml())].into_iter().chain(others).collect()
}

pub(super) fn config_map(source: &Source<'_>, files: &BTreeMap<String, String>) -> Value {
    json!({ "metadata": source.metadata(), "data": files })
}

/// A hash of the files. Envoy reads its bootstrap once: pods with another hash are other pods.
pub(super) fn checksum(files: &BTreeMap<String, String>) -> String {
    format!("{:016x}", xxh3_64(json!(files).to_string().as_bytes()))
}
