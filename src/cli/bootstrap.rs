//! The command `bootstrap`: what an Envoy is started with.

use std::{
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use thiserror::Error;

use super::{complain, print};
use crate::{
    bootstrap::{Bootstrap, Tls, TlsFiles, TlsSource, UnwatchableFiles},
    config::{BootstrapConfig, BootstrapTls},
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
    /// The working directory is not known.
    #[error("the working directory: {0}")]
    Directory(#[from] io::Error),
}

/// Prints the bootstrap of an Envoy, and writes the files that it needs beside it.
pub fn bootstrap(config: &BootstrapConfig) -> ExitCode {
    let node_id = config.node_id.clone().unwrap_or_else(new_node_id);
    let Prepared { text, files } = match prepare(config, &node_id) {
        Ok(prepared) => prepared,
        Err(error) => return complain(&error),
    };
    for (path, content) in files {
        if let Err(error) = fs::write(&path, content) {
            let hint = "the Envoy needs this file; choose the folder with --tls-sds-dir";
            return complain(&format_args!("{}: {error}; {hint}", path.display()));
        }
    }
    print(&text)
}

/// The bootstrap of an Envoy of this name.
///
/// # Errors
///
/// When its certificate's files can not be named in it.
pub fn prepare(config: &BootstrapConfig, node_id: &str) -> Result<Prepared, BootstrapError> {
    let BootstrapConfig { gateway, xds, node_id: _, admin, protocol, discovery, tls } = config;
    let bootstrap = |tls| {
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
    };
    let BootstrapTls { tls_ca: Some(ca), tls_cert: Some(certificate), tls_key: Some(key), .. } = tls else {
        return Ok(Prepared { text: bootstrap(None), files: Vec::new() });
    };
    let (ca, certificate, key) = (absolute(ca)?, absolute(certificate)?, absolute(key)?);
    let files = TlsFiles { certificate: &certificate, key: &key, authorities: &ca }.sds()?;
    let folder = match &tls.tls_sds_dir {
        Some(folder) => absolute(folder)?,
        None => certificate.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default(),
    };
    let server_name = tls.tls_server_name.as_deref().unwrap_or(&xds.host);
    let text = bootstrap(Some(Tls { server_name, source: TlsSource::Files { sds_folder: &folder } }));
    let files = files.map(|(name, content)| (Path::new(&folder).join(name), content)).to_vec();
    Ok(Prepared { text, files })
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
