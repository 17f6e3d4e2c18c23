//! How the xDS port comes by its certificate, and keeps a fresh one: wiring between where certificates stand and the server.
//!
//! Never decides who may have what, and never makes a certificate.

mod extension;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use thiserror::Error;

pub use self::extension::{ExtensionFiles, for_extension};
use crate::{
    config::XdsSecurity,
    extension::TlsError as ExtensionTlsError,
    identity::{InvalidServerIdentity, ServerIdentity},
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

/// Files that the xDS port's certificate comes from.
#[derive(Debug)]
pub struct CertificateFiles {
    files: FileSet,
    tls: Arc<Tls>,
}

/// What the xDS port is told about security by flags and files. Reads the files; whoever is given [`CertificateFiles`] has to go
/// on reading them.
///
/// # Errors
///
/// When a file is missing or wrong, or when xDS would be served to anybody.
pub fn from_files(
    config: &XdsSecurity,
    listen: SocketAddr,
    metrics: &Metrics,
) -> Result<(ServerOptions, Option<CertificateFiles>), SecurityError> {
    let mut options = ServerOptions { end_expired: !config.xds_keep_expired, ..ServerOptions::default() };
    let Some(paths) = config.files() else {
        if config.exposes(listen) {
            return Err(SecurityError::Exposed(listen));
        }
        if !listen.ip().to_canonical().is_loopback() {
            tracing::warn!(%listen, "xDS is served without TLS: whoever reaches the port gets every Gateway's configuration");
        }
        return Ok((options, None));
    };
    let (contents, files) = FileSet::start(paths.map(PathBuf::clone).to_vec())?;
    let tls = Arc::new(Tls::waiting(config.xds_trust_domain.clone()));
    take(&contents, &tls, metrics)?;
    options.tls = Some(Arc::clone(&tls));
    Ok((options, Some(CertificateFiles { files, tls })))
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
pub fn take_identity(identity: &ServerIdentity, tls: &Tls, metrics: &Metrics) -> Result<(), TlsError> {
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
