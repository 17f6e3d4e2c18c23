//! The command `bootstrap`: what an Envoy is started with.

use std::{
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use thiserror::Error;

use super::{complain, print, private::write_private};
use crate::{
    bootstrap::{Bootstrap, Tls, TlsFiles, TlsSource, UnwatchableFiles},
    config::{BootstrapConfig, BootstrapTls},
    identity::{SERVER_NAME, trust::ClientMaterial},
    kubernetes::{self, ConnectError, identity::find_client_secret},
    model::ObjectName,
};

/// A bootstrap, and the files that it needs beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The bootstrap, with a line that says how to use it.
    pub text: String,
    /// Files to write, each with its path.
    pub files: Vec<(PathBuf, String)>,
}

/// Why there is no bootstrap.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// Envoy could not use the files.
    #[error("--tls-cert, --tls-key, --tls-ca: {0}")]
    Files(#[from] UnwatchableFiles),
    /// A path can not be written in a bootstrap.
    #[error("{}: the path is not UTF-8", .0.display())]
    Path(PathBuf),
    /// A file can not be written.
    #[error("{}: {source}; the Envoy needs this file, and another folder is chosen with {flag}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// The flag that decides where.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The working directory is not known, or nothing can be done beside waiting.
    #[error(transparent)]
    System(#[from] io::Error),
    /// There is no API server to talk to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The API server does not answer as it should.
    #[error("the Secrets of namespace {namespace} can not be read: {source}")]
    Cluster {
        /// The Gateway's namespace.
        namespace: String,
        /// What the API server says.
        source: Box<kube::Error>,
    },
    /// The operator has made no certificate.
    #[error(
        "no Secret in its namespace has a certificate for Gateway {0}: is it of a class of tailscale-gateway, and is that \
         running? A certificate of your own is given with --tls-cert, --tls-key and --tls-ca"
    )]
    NoCertificate(ObjectName),
}

/// Prints the bootstrap of an Envoy, and writes the files that it needs beside it.
pub fn bootstrap(config: &BootstrapConfig) -> ExitCode {
    match try_bootstrap(config) {
        Ok(text) => print(&text),
        Err(error) => complain(&error),
    }
}

fn try_bootstrap(config: &BootstrapConfig) -> Result<String, BootstrapError> {
    let node_id = config.node_id.clone().unwrap_or_else(new_node_id);
    let prepared = match config.tls.is_from_cluster() {
        false => prepare(config, &node_id)?,
        true => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let material = runtime.block_on(fetch(config))?;
            // What is watched comes before what says that it is to be watched.
            if let Some(folder) = &config.tls.certificates {
                for (name, content) in material.files() {
                    let (path, flag) = (folder.join(name), "--certificates");
                    write_private(folder, name, content).map_err(|source| BootstrapError::Write {
                        path,
                        flag,
                        source,
                    })?;
                }
            }
            prepare_fetched(config, &node_id, &material)?
        }
    };
    for (path, content) in prepared.files {
        let flag = if config.tls.certificates.is_some() { "--certificates" } else { "--tls-sds-dir" };
        fs::write(&path, content).map_err(|source| BootstrapError::Write { path, flag, source })?;
    }
    Ok(prepared.text)
}

/// The certificate that the operator has made for a Gateway's Envoys.
async fn fetch(config: &BootstrapConfig) -> Result<ClientMaterial, BootstrapError> {
    let BootstrapConfig { gateway, tls, .. } = config;
    let client = kubernetes::connect(tls.kubeconfig.as_ref(), tls.context.as_deref()).await?;
    let failed =
        |source| BootstrapError::Cluster { namespace: gateway.namespace.to_string(), source: Box::new(source) };
    let found = find_client_secret(client, gateway).await.map_err(failed)?;
    found.ok_or_else(|| BootstrapError::NoCertificate(gateway.clone()))
}

/// The bootstrap of an Envoy of this name.
///
/// # Errors
///
/// When its certificate's files can not be named in it.
pub fn prepare(config: &BootstrapConfig, node_id: &str) -> Result<Prepared, BootstrapError> {
    let BootstrapTls { tls_ca: Some(ca), tls_cert: Some(certificate), tls_key: Some(key), .. } = &config.tls else {
        return Ok(Prepared { text: text(config, node_id, None), files: Vec::new() });
    };
    let server_name = config.tls.tls_server_name.as_deref().unwrap_or(&config.xds.host);
    let folder = config.tls.tls_sds_dir.as_deref();
    from_files(config, node_id, server_name, [certificate, key, ca], folder)
}

/// The bootstrap of an Envoy of this name that shows a certificate from a cluster: from the folder in `--certificates`, in
/// which it is written, or in the bootstrap itself.
///
/// # Errors
///
/// When the folder can not be named in it.
pub fn prepare_fetched(
    config: &BootstrapConfig,
    node_id: &str,
    material: &ClientMaterial,
) -> Result<Prepared, BootstrapError> {
    let server_name = config.tls.tls_server_name.as_deref().unwrap_or(SERVER_NAME);
    if let Some(folder) = &config.tls.certificates {
        let [ca, certificate, key] = material.files().map(|(name, _)| folder.join(name));
        return from_files(config, node_id, server_name, [&certificate, &key, &ca], None);
    }
    let [(_, authorities), (_, certificate), (_, key)] = material.files();
    let source = TlsSource::Inline { certificate, key, authorities };
    Ok(Prepared { text: text(config, node_id, Some(Tls { server_name, source })), files: Vec::new() })
}

/// With a certificate, its key and the authorities in files.
fn from_files(
    config: &BootstrapConfig,
    node_id: &str,
    server_name: &str,
    files: [&PathBuf; 3],
    sds_folder: Option<&Path>,
) -> Result<Prepared, BootstrapError> {
    let [certificate, key, ca] = files;
    let (certificate, key, ca) = (absolute(certificate)?, absolute(key)?, absolute(ca)?);
    let files = TlsFiles { certificate: &certificate, key: &key, authorities: &ca }.sds()?;
    let folder = match sds_folder {
        Some(folder) => absolute(folder)?,
        None => certificate.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default(),
    };
    let text = text(config, node_id, Some(Tls { server_name, source: TlsSource::Files { sds_folder: &folder } }));
    let files = files.map(|(name, content)| (Path::new(&folder).join(name), content)).to_vec();
    Ok(Prepared { text, files })
}

fn text(config: &BootstrapConfig, node_id: &str, tls: Option<Tls<'_>>) -> String {
    let BootstrapConfig { gateway, xds, admin, protocol, discovery, .. } = config;
    let bootstrap = Bootstrap {
        gateway,
        xds,
        node_id: Some(node_id),
        admin: *admin,
        probes: None,
        protocol: *protocol,
        discovery: *discovery,
        tls,
    };
    format!("# The Envoy of Gateway {gateway}: envoy -c THIS_FILE\n{}", bootstrap.to_yaml())
}

/// A path as an Envoy in any folder finds it.
fn absolute(path: &Path) -> Result<String, BootstrapError> {
    let absolute = std::path::absolute(path)?;
    absolute.into_os_string().into_string().map_err(|path| BootstrapError::Path(path.into()))
}

/// The host's name, which is the pod's in a cluster, and eight hexadecimal digits that no other Envoy there has.
pub fn new_node_id() -> String {
    let host = gethostname::gethostname();
    // The standard library has no random numbers, but its hashers have random keys.
    let random = RandomState::new().build_hasher().finish() as u32;
    format!("{}-{random:08x}", host.to_string_lossy())
}
