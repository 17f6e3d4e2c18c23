//! Writing to a Kubernetes API server: who may write (the lease), statuses, events, certificates, and the objects of Gateways.
//!
//! Never decides what should be written: that comes from pure code. Never reads the world: that is `source::kubernetes`;
//! only what was written here is followed, to see whether it stays, and `look` answers the questions of a command that ends.

pub mod apply;
mod events;
pub mod identity;
mod leadership;
pub mod lease;
pub mod look;
pub mod owned;
pub mod peers;
pub mod permissions;
pub mod revisions;
pub mod status;

use std::path::PathBuf;

use kube::{
    Client, Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use thiserror::Error;

pub use identity::{CertificateProblems, ClientSecret, ClientSecrets, Identities, IdentityConfig};
pub use leadership::{Leadership, NotWritten};
pub use lease::LeaseConfig;
pub use peers::{Peers, Sayings};
pub use status::{StatusNews, StatusWriter};

/// Who we are to the API server: the manager of the fields that we write.
pub const FIELD_MANAGER: &str = "tailscale-gateway";

/// Why no API server can be talked to, in one line.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Neither a service account nor a kubeconfig.
    #[error(
        "no cluster: not running in one, and no kubeconfig could be used ({0}); give --kubeconfig, or --source dir:PATH"
    )]
    None(#[from] InferConfigError),
    /// The kubeconfig that was named can not be used.
    #[error("--kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// The context that was named can not be used.
    #[error("--context {context}: {source}")]
    Context {
        /// The context.
        context: String,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// The settings make no client.
    #[error("the cluster's settings can not be used: {0}")]
    Client(#[from] kube::Error),
}

/// A client of the API server: of the kubeconfig that is named; else of the cluster that this runs in; else of the usual
/// kubeconfig (`KUBECONFIG`, `~/.kube/config`).
///
/// # Errors
///
/// When none of them can be used.
pub async fn connect(kubeconfig: Option<&PathBuf>, context: Option<&str>) -> Result<Client, ConnectError> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = match (kubeconfig, context) {
        (Some(path), _) => {
            let wrong = |source| ConnectError::Kubeconfig { path: path.clone(), source };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)?
        }
        (None, Some(context)) => Config::from_kubeconfig(&options)
            .await
            .map_err(|source| ConnectError::Context { context: context.to_owned(), source })?,
        (None, None) => Config::infer().await?,
    };
    // A watch is silent for as long as nothing happens; the API server ends it after five minutes, and bookmarks come before.
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}
