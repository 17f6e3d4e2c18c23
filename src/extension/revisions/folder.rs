//! The objects as files in a folder, for an Envoy Gateway that runs without a cluster and watches it: `NAMESPACE.NAME.yaml` for
//! each Gateway, replaced in one step.
//!
//! A namespace has no dots, so every Gateway has a file of its own. Never touches a file that holds anything else.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::task;

use super::{Found, run::Place};
use crate::{
    api::TailscaleGatewayRevision,
    model::{GatewayRevision, ObjectName},
};

/// The end of the files' names.
const EXTENSION: &str = ".yaml";

/// The folder. A copy is the same folder.
#[derive(Clone, Debug)]
pub struct RevisionFolder(PathBuf);

impl RevisionFolder {
    /// Makes the folder if it is not there, and looks what is in it. Blocks while it does.
    ///
    /// # Errors
    ///
    /// When it can not be made or read.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<(ObjectName, Found)>)> {
        fs::create_dir_all(path)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let gateway = entry.file_name().to_str().and_then(gateway_of);
            if let Some(gateway) = gateway {
                let text = fs::read(entry.path())?;
                found.push((gateway.clone(), read(&gateway, &text)));
            }
        }
        Ok((Self(path.to_owned()), found))
    }

    fn file(&self, gateway: &ObjectName) -> PathBuf {
        self.0.join(format!("{}.{}{EXTENSION}", gateway.namespace, gateway.name))
    }
}

/// The Gateway whose file has this name.
fn gateway_of(name: &str) -> Option<ObjectName> {
    let (namespace, name) = name.strip_suffix(EXTENSION)?.split_once('.')?;
    ObjectName::parse_namespaced(&format!("{namespace}/{name}"))
}

/// What a Gateway's file holds.
fn read(gateway: &ObjectName, text: &[u8]) -> Found {
    let object: Option<TailscaleGatewayRevision> =
        std::str::from_utf8(text).ok().and_then(|text| serde_saphyr::from_str(text).ok());
    let Some(object) = object.filter(TailscaleGatewayRevision::is_ours) else { return Found::Theirs };
    let metadata = &object.metadata;
    let is_its =
        (metadata.namespace.as_deref(), metadata.name.as_deref()) == (Some(&*gateway.namespace), Some(&*gateway.name));
    match object.revision().filter(|_| is_its) {
        Some(revision) => Found::Ours(revision),
        None => Found::Altered,
    }
}

impl Place for RevisionFolder {
    async fn write(&self, gateway: &ObjectName, revision: &GatewayRevision) -> Result<i64, String> {
        let object = TailscaleGatewayRevision::of(gateway, revision);
        let text = serde_saphyr::to_string(&object).expect("an object has a YAML form");
        let file = self.file(gateway);
        // An Envoy Gateway looks past files whose names begin with a dot.
        let new = self.0.join(format!(".{}.{}.new", gateway.namespace, gateway.name));
        blocking(move || {
            fs::write(&new, text)?;
            fs::rename(&new, &file)
        })
        .await?;
        Ok(0)
    }

    async fn remove(&self, gateway: &ObjectName) -> Result<(), String> {
        let file = self.file(gateway);
        blocking(move || match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    fn describe(&self, gateway: &ObjectName) -> String {
        self.file(gateway).display().to_string()
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), String> {
    let done = task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(|error| error.to_string())
}
