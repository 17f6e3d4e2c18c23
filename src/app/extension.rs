//! Wiring of the extension server.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use tokio::task::{self, JoinHandle};

use super::{AppError, Serving};
use crate::{
    compile::{Hosting, XdsAddress},
    config::{ExtensionConfig, ExtensionListen, SourceSpec},
    extension::{self, Bound, Calls, ServerOptions},
    security::{self, ExtensionFiles},
    snapshot::Hosted,
};

/// The extension server before there is anything to say.
pub(super) struct Extension {
    listen: ExtensionListen,
    bound: Bound,
    options: ServerOptions,
    files: Option<ExtensionFiles>,
    /// What the compiler is told.
    pub(super) hosting: Hosting,
    /// The last calls.
    pub(super) calls: Arc<Calls>,
}

impl Extension {
    /// Takes the address and reads the certificate; nothing when it is off.
    ///
    /// # Errors
    ///
    /// When the address is taken, or the certificate can not be used.
    pub(super) fn take(config: &ExtensionConfig, source: &SourceSpec) -> Result<Option<Self>, AppError> {
        let listen = match (&config.extension_listen, source) {
            (Some(listen), _) => listen.clone(),
            (None, SourceSpec::Kubernetes) => ExtensionListen::IN_CLUSTER,
            (None, SourceSpec::Dir(_)) => ExtensionListen::Off,
        };
        let bound = match &listen {
            ExtensionListen::Off => return Ok(None),
            ExtensionListen::Tcp(address) => Bound::tcp(*address),
            ExtensionListen::Unix(path) => Bound::unix(path),
        };
        let bound = bound.map_err(|source| AppError::ExtensionListen { listen: listen.clone(), source })?;
        let files = security::for_extension(config)?;
        let tls = files.as_ref().map(ExtensionFiles::config);
        let xds =
            config.extension_xds.as_ref().map(|xds| XdsAddress { host: xds.host.as_str().into(), port: xds.port });
        Ok(Some(Self {
            listen,
            bound,
            options: ServerOptions { tls, ..ServerOptions::default() },
            files,
            hosting: Hosting { xds },
            calls: Arc::default(),
        }))
    }

    /// Opens the port.
    pub(super) fn start(self, serving: &Serving, hosted: Arc<ArcSwap<Hosted>>) -> JoinHandle<io::Result<()>> {
        if let Some(files) = self.files {
            task::spawn(files.follow());
        }
        tracing::info!(listen = %self.listen, "Envoy Gateways are answered");
        let (metrics, shutdown) = (Arc::clone(&serving.metrics), serving.shutdown.clone().cancelled_owned());
        task::spawn(async move {
            let ended = extension::serve(self.bound, hosted, metrics, self.calls, self.options, shutdown).await;
            if let Err(error) = &ended {
                tracing::error!(listen = %self.listen, %error, "Envoy Gateways are not answered");
            }
            ended
        })
    }
}
