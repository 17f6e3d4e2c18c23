//! How the xDS port comes by its certificate, and keeps a fresh one: wiring between where certificates stand and the server.
//!
//! Never decides who may have what, and never makes a certificate.

mod extension;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::watch;

pub use self::extension::{ExtensionFiles, for_extension};
use crate::{
    config::ServeConfig,
    extension::TlsError as ExtensionTlsError,
    identity::{InvalidLifetimes, InvalidServerIdentity, ServerIdentity},
    kubernetes::IdentityConfig,
    metrics::Metrics,
    source::{FileSet, StartError},
    xds::{ServerOptions, Tls, TlsError},
};

/// Why xDS is not served.
#[derive(Debug, Error)]
pub enum SecurityError {
    /// It would be served to anybody.
    #[error(
        "--xds-listen {0} is not a loopback address, and without TLS whoever reaches it gets every private key that Envoys are \
         served: give --xds-tls-cert, --xds-tls-key and --xds-client-ca, or --xds-insecure if the network is to be trusted"
    )]
    Exposed(SocketAddr),
    /// The lifetimes leave no room for a rotation.
    #[error("--xds-authority-lifetime, --xds-certificate-lifetime: {0}")]
    Lifetimes(#[from] InvalidLifetimes),
    /// A file can not be read.
    #[error("{flags}: {source}", flags = FLAGS)]
    File {
        /// What the system says.
        #[from]
        source: StartError,
    },
    /// What is in the files is not what it should be.
    #[error("{flags}: {source}", flags = FLAGS)]
    Malformed {
        /// What is wrong.
        #[from]
        source: InvalidServerIdentity,
    },
    /// The server can not use it.
    #[error("{flags}: {source}", flags = FLAGS)]
    Tls {
        /// Why.
        #[from]
        source: TlsError,
    },
    /// A file for the extension port can not be read.
    #[error("{flags}: {0}", flags = EXTENSION_FLAGS)]
    ExtensionFile(#[source] StartError),
    /// What is in the files for the extension port can not be used.
    #[error("{flags}: {0}", flags = EXTENSION_FLAGS)]
    Extension(#[source] ExtensionTlsError),
}

const EXTENSION_FLAGS: &str = "--extension-tls-cert, --extension-tls-key, --extension-client-ca";

const FLAGS: &str = "--xds-tls-cert, --xds-tls-key, --xds-client-ca";

/// How the xDS port is secured.
#[derive(Debug)]
pub struct Security {
    /// What the server is told.
    pub options: ServerOptions,
    /// Where its certificate comes from.
    pub certificates: CertificateSource,
}

/// Where the certificate of the xDS port comes from.
#[derive(Debug)]
pub enum CertificateSource {
    /// There is none: it is served without TLS.
    None,
    /// From files, which whoever is given this has to go on reading.
    Files(CertificateFiles),
    /// From the cluster; handshakes wait until [`follow_cluster`] has brought the first.
    Cluster(ClusterCertificates),
}

/// The certificates of a cluster, and who is to show them.
#[derive(Debug)]
pub struct ClusterCertificates {
    /// How they are made.
    pub config: IdentityConfig,
    /// Who shows them.
    pub tls: Arc<Tls>,
}

/// Files that the xDS port's certificate comes from.
#[derive(Debug)]
pub struct CertificateFiles {
    files: FileSet,
    tls: Arc<Tls>,
}

/// How the xDS port is secured by flags: with a certificate from files if they are given, else with one from the cluster if there
/// is one (whose operator's namespace is given), else not at all, which is for loopback. Reads the files.
///
/// # Errors
///
/// When a file is missing or wrong, or when xDS would be served to anybody.
pub fn secure(config: &ServeConfig, namespace: Option<&str>, metrics: &Metrics) -> Result<Security, SecurityError> {
    let (xds, listen) = (&config.xds, config.xds_listen);
    let mut options = ServerOptions { end_expired: !xds.xds_keep_expired, ..ServerOptions::default() };
    let tls = Arc::new(Tls::waiting(xds.xds_trust_domain.clone()));
    let certificates = match (xds.files(), namespace) {
        (Some(paths), _) => {
            let (contents, files) = FileSet::start(paths.map(PathBuf::clone).to_vec())?;
            take(&contents, &tls, metrics)?;
            CertificateSource::Files(CertificateFiles { files, tls: Arc::clone(&tls) })
        }
        (None, Some(namespace)) if !xds.xds_insecure => CertificateSource::Cluster(ClusterCertificates {
            config: IdentityConfig {
                namespace: namespace.to_owned(),
                lifetimes: config.identity.lifetimes()?,
                trust_domain: xds.xds_trust_domain.clone(),
                names: config.identity.names(),
                server_secret: config.identity.xds_server_secret.clone(),
                client_ca_secret: config.identity.xds_client_ca_secret.clone(),
            },
            tls: Arc::clone(&tls),
        }),
        (None, _) if xds.exposes(listen) => return Err(SecurityError::Exposed(listen)),
        (None, _) => {
            if !listen.ip().to_canonical().is_loopback() {
                tracing::warn!(
                    %listen, "xDS is served without TLS: whoever reaches the port gets every Gateway's configuration"
                );
            }
            CertificateSource::None
        }
    };
    if !matches!(certificates, CertificateSource::None) {
        options.tls = Some(tls);
    }
    Ok(Security { options, certificates })
}

/// Shows whatever certificate the cluster brings. Never ends before the cluster's side does.
pub async fn follow_cluster(
    tls: Arc<Tls>,
    mut server: watch::Receiver<Option<Arc<ServerIdentity>>>,
    metrics: Arc<Metrics>,
) {
    loop {
        let identity = server.borrow_and_update().clone();
        if let Some(Err(error)) = identity.map(|identity| take_identity(&identity, &tls, &metrics)) {
            tracing::warn!("the certificate of the xDS port: {error}; new connections are shown the one before");
        }
        if server.changed().await.is_err() {
            return;
        }
    }
}

impl CertificateFiles {
    /// Takes what the files hold whenever that changes; what can not be used changes nothing. Never ends.
    pub async fn follow(mut self, metrics: Arc<Metrics>) {
        while let Some(contents) = self.files.next().await {
            let taken = contents.map_err(SecurityError::from);
            let taken = taken.and_then(|contents| take(&contents, &self.tls, &metrics));
            metrics.tls_reloaded(taken.is_ok());
            if let Err(error) = taken {
                tracing::warn!("{error}; new connections are shown the certificate that was there before");
            }
        }
    }
}

/// Takes the contents of the three files.
fn take(contents: &[Vec<u8>], tls: &Tls, metrics: &Metrics) -> Result<(), SecurityError> {
    let [chain, key, clients] = contents else { unreachable!("three files are read") };
    take_identity(&ServerIdentity::read(chain, key, clients)?, tls, metrics)?;
    Ok(())
}

/// Shows new connections this certificate, and says so.
///
/// # Errors
///
/// When it can not be used.
fn take_identity(identity: &ServerIdentity, tls: &Tls, metrics: &Metrics) -> Result<(), TlsError> {
    tls.replace(identity)?;
    let facts = identity.credentials.facts()?;
    metrics.server_certificate_expires(facts.not_after.as_second());
    let names: Vec<String> =
        facts.dns_names.iter().cloned().chain(facts.addresses.iter().map(ToString::to_string)).collect();
    let (names, expires, authorities) = (names.join(" "), facts.not_after, identity.clients.certificates().len());
    if facts.not_after < Timestamp::now() {
        tracing::warn!(names, %expires, "the certificate of the xDS port has expired: Envoys will refuse it");
    } else {
        tracing::info!(names, %expires, authorities, "new connections to the xDS port are shown this certificate");
    }
    Ok(())
}
