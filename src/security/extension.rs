//! How the extension port comes by its certificate, and keeps a fresh one.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;

use super::SecurityError;
use crate::{
    config::ExtensionConfig,
    extension::{TlsError, server_config},
    source::FileSet,
};

/// Files that the extension port's certificate comes from.
#[derive(Debug)]
pub struct ExtensionFiles {
    files: FileSet,
    config: watch::Sender<Arc<ServerConfig>>,
}

/// The files that flags name for the extension port, if they name any. Whoever is given them has to go on reading them.
///
/// # Errors
///
/// When a file is missing or wrong.
pub fn for_extension(config: &ExtensionConfig) -> Result<Option<ExtensionFiles>, SecurityError> {
    let Some(paths) = config.files() else { return Ok(None) };
    let (contents, files) = FileSet::start(paths).map_err(SecurityError::ExtensionFile)?;
    let config = watch::Sender::new(read(&contents).map_err(SecurityError::Extension)?);
    Ok(Some(ExtensionFiles { files, config }))
}

impl ExtensionFiles {
    /// What connections are shown, always the newest.
    pub fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// Takes what the files hold whenever that changes; what can not be used changes nothing. Never ends.
    pub async fn follow(mut self) {
        while let Some(contents) = self.files.next().await {
            let taken = contents.map_err(SecurityError::ExtensionFile);
            let taken = taken.and_then(|contents| read(&contents).map_err(SecurityError::Extension));
            match taken {
                Ok(config) => {
                    self.config.send_replace(config);
                    tracing::info!("new connections to the extension port are shown another certificate");
                }
                Err(error) => {
                    tracing::warn!("{error}; new connections are shown the certificate that was there before");
                }
            }
        }
    }
}

/// Reads the contents of the certificate's file, the key's and, if there is one, the authorities'.
fn read(contents: &[Vec<u8>]) -> Result<Arc<ServerConfig>, TlsError> {
    server_config(&contents[0], &contents[1], contents.get(2).map(Vec::as_slice))
}
