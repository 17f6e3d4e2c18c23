//! Mutual TLS to this control plane, in the words of an Envoy's bootstrap.
//!
//! Envoy reads certificates that stand in its bootstrap once. What it reads again when files are replaced is what it was given by
//! SDS, and SDS may come from a file; so there are two small files beside the bootstrap, which say where the certificates are
//! (tried with Envoy 1.36 and 1.40: `watched_directory` in a bootstrap's own certificates is accepted and does nothing).

use std::{net::IpAddr, path::Path};

use serde_json::{Value, json};
use thiserror::Error;

use crate::model;

/// How an Envoy knows this control plane, and how it proves who it is.
#[derive(Clone, Debug)]
pub struct Tls<'a> {
    /// The name or the IP address that the control plane's certificate must have; a name is asked for by SNI too.
    pub server_name: &'a str,
    /// Where the Envoy's certificate and the authorities are.
    pub source: TlsSource<'a>,
}

/// Where an Envoy's certificate and the authorities are.
#[derive(Clone)]
pub enum TlsSource<'a> {
    /// In files, and this folder holds the files of [`TlsFiles::sds`] that say where, as the Envoy sees it.
    Files {
        /// The folder, without a slash at its end.
        sds_folder: &'a str,
    },
    /// In the bootstrap itself: they can not be renewed while the Envoy runs.
    Inline {
        /// The certificate and its chain, in PEM.
        certificate: &'a str,
        /// Its private key, in PEM.
        key: &'a str,
        /// The authorities of the control plane's certificate, in PEM.
        authorities: &'a str,
    },
}

impl std::fmt::Debug for TlsSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files { sds_folder } => f.debug_struct("Files").field("sds_folder", sds_folder).finish(),
            Self::Inline { .. } => f.debug_struct("Inline").finish_non_exhaustive(),
        }
    }
}

/// The name of the file that says where the Envoy's certificate is.
pub const SDS_CERTIFICATE_FILE: &str = "xds-certificate.yaml";
/// The name of the file that says where the authorities are.
pub const SDS_AUTHORITIES_FILE: &str = "xds-authorities.yaml";

/// The files with an Envoy's certificate: paths as the Envoy sees them.
#[derive(Clone, Copy, Debug)]
pub struct TlsFiles<'a> {
    /// The certificate and its chain, in PEM.
    pub certificate: &'a str,
    /// Its private key, in PEM.
    pub key: &'a str,
    /// The authorities of the control plane's certificate, in PEM.
    pub authorities: &'a str,
}

/// Files of which Envoy would not notice that they are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnwatchableFiles {
    /// Envoy watches one folder for both.
    #[error("{certificate} and {key} must be in one folder, which is watched for new ones")]
    Apart {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
    },
    /// The path does not say where the file is.
    #[error("{0} must be an absolute path, because Envoy may run in another folder")]
    Relative(String),
}

impl TlsFiles<'_> {
    /// The two files that tell Envoy where its certificate and the authorities are, each with its name.
    ///
    /// Envoy reads all three PEM files again whenever something is moved into their folders: a file by `mv`, or the link that a
    /// mounted Secret is replaced by. A certificate that does not fit its key is left aside until it does.
    ///
    /// # Errors
    ///
    /// When Envoy could not watch the files.
    pub fn sds(&self) -> Result<[(&'static str, String); 2], UnwatchableFiles> {
        let folder = |path: &str| match Path::new(path).parent().and_then(Path::to_str) {
            Some(folder) if path.starts_with('/') => Ok(folder.to_owned()),
            _ => Err(UnwatchableFiles::Relative(path.to_owned())),
        };
        let watched = folder(self.certificate)?;
        if watched != folder(self.key)? {
            return Err(UnwatchableFiles::Apart { certificate: self.certificate.into(), key: self.key.into() });
        }
        let certificate = json!({
            "name": model::XDS_CERTIFICATE,
            "tls_certificate": {
                "certificate_chain": { "filename": self.certificate },
                "private_key": { "filename": self.key },
                "watched_directory": { "path": watched },
            },
        });
        let authorities = json!({
            "name": model::XDS_AUTHORITIES,
            "validation_context": {
                "trusted_ca": { "filename": self.authorities },
                "watched_directory": { "path": folder(self.authorities)? },
            },
        });
        Ok([(SDS_CERTIFICATE_FILE, discovered(certificate)), (SDS_AUTHORITIES_FILE, discovered(authorities))])
    }
}

/// A discovery response with one secret.
fn discovered(mut secret: Value) -> String {
    secret["@type"] = json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret");
    serde_saphyr::to_string(&json!({ "resources": [secret] })).expect("a JSON value with text keys is a YAML document")
}

impl Tls<'_> {
    /// The transport socket of the cluster that leads to this control plane.
    pub(super) fn transport_socket(&self) -> Value {
        let address = self.server_name.parse::<IpAddr>().ok();
        let name = match address {
            // Written as Envoy writes the addresses in a certificate.
            Some(address) => json!({ "san_type": "IP_ADDRESS", "matcher": { "exact": address.to_string() } }),
            None => json!({ "san_type": "DNS", "matcher": { "exact": self.server_name } }),
        };
        let names = json!([name]);
        let mut common = json!({
            "alpn_protocols": ["h2"],
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        });
        match self.source {
            TlsSource::Files { sds_folder } => {
                let secret = |name, file| {
                    let path = format!("{sds_folder}/{file}");
                    json!({
                        "name": name,
                        "sds_config": { "resource_api_version": "V3", "path_config_source": { "path": path } },
                    })
                };
                common["tls_certificate_sds_secret_configs"] =
                    json!([secret(model::XDS_CERTIFICATE, SDS_CERTIFICATE_FILE)]);
                common["combined_validation_context"] = json!({
                    "default_validation_context": { "match_typed_subject_alt_names": names },
                    "validation_context_sds_secret_config": secret(model::XDS_AUTHORITIES, SDS_AUTHORITIES_FILE),
                });
            }
            TlsSource::Inline { certificate, key, authorities } => {
                common["tls_certificates"] = json!([{
                    "certificate_chain": { "inline_string": certificate },
                    "private_key": { "inline_string": key },
                }]);
                common["validation_context"] = json!({
                    "trusted_ca": { "inline_string": authorities },
                    "match_typed_subject_alt_names": names,
                });
            }
        }
        let mut context = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": common,
        });
        if address.is_none() {
            // An address is no server name (RFC 6066 §3).
            context["sni"] = json!(self.server_name);
        }
        json!({ "name": "envoy.transport_sockets.tls", "typed_config": context })
    }
}
