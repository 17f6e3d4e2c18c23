//! A pod of a Gateway's Envoys, run as a kubelet would run it: with the command line, the ConfigMap and the Secret that the
//! Deployment names, in a network namespace where it has the ports that it thinks it has.
//!
//! Only folders are others: what is mounted is in a temporary one. The image's Envoy is ours, and the helper that drains it is
//! not there. What a Secret holds is followed, as a kubelet does, but at once.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    pin::pin,
    process::Command,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};
use tempfile::TempDir;
use tokio::{sync::watch, task::AbortHandle};

use super::{
    client,
    cluster::Cluster,
    deployment::{Files, FirstPod, list, object, text},
    envoy::{Envoy, Version, admin_address},
    namespace::Namespace,
    wait::{until, within},
};

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    /// Its container.
    pub envoy: Envoy,
    /// What its readiness probe asks, as seen from outside of the namespace, and the path.
    readiness: (SocketAddr, String),
    /// How often what is mounted of a Secret was replaced.
    replaced: watch::Sender<u64>,
    following: Vec<AbortHandle>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.following.iter().for_each(AbortHandle::abort);
    }
}

impl Pod {
    /// Starts the first pod of a Deployment (`NAMESPACE/NAME`) as soon as all that it needs is there.
    ///
    /// # Panics
    /// When the Deployment is not one of ours, or Envoy does not start.
    pub async fn start(cluster: &Cluster, network: &Namespace, deployment: &str) -> Self {
        let pod = FirstPod::of(cluster, deployment).await;
        let folder = TempDir::with_prefix("pod-").expect("a temporary folder can be made");
        let mut volumes: Vec<(Volume, Files, Option<String>)> = Vec::new();
        let mut places = Vec::new();
        for mount in pod.mounts(cluster).await {
            let here = folder.path().join(&mount.volume);
            fs::create_dir(&here).expect("a folder in it");
            places.push((mount.place, here.display().to_string()));
            volumes.push((Volume { folder: here, versions: 0 }, mount.files, mount.secret));
        }
        let placed = |text: &str| places.iter().fold(text.to_owned(), |text, (place, here)| text.replace(place, here));
        let (replaced, mut following) = (watch::Sender::new(0), Vec::new());
        for (mut volume, mut files, secret) in volumes {
            for content in files.values_mut() {
                if let Ok(text) = std::str::from_utf8(content) {
                    *content = placed(text).into_bytes();
                }
            }
            volume.replace(&files);
            if let Some(secret) = secret {
                let secrets = Api::namespaced(cluster.client().await, pod.namespace());
                let following_it = follow(secrets, secret, volume, files, replaced.clone());
                following.push(tokio::spawn(following_it).abort_handle());
            }
        }

        let arguments: Vec<String> = pod.arguments().iter().map(|argument| placed(argument)).collect();
        let bootstrap = arguments.iter().find(|argument| argument.ends_with(".yaml")).expect("it is given a bootstrap");
        let admin = admin_address(&fs::read_to_string(bootstrap).expect("it is mounted"));
        let container = pod.container();
        let probe = &container["readinessProbe"]["httpGet"];
        let port =
            list(&container["ports"]).find(|port| port["name"] == probe["port"]).expect("a probe's port is there");
        let port = u16::try_from(port["containerPort"].as_u64().expect("a number")).expect("a port");
        let readiness = network.lead_in(([127, 0, 0, 1], port).into()).await;
        let mut command = Command::new(Version::Latest.program());
        command.args(&arguments);
        let envoy = Envoy::start_in(network, Version::Latest, command, folder, admin).await;
        Self { envoy, readiness: (readiness, text(&probe["path"]).to_owned()), replaced, following }
    }

    /// How often what is mounted of a Secret was replaced so far.
    pub fn replaced(&self) -> u64 {
        *self.replaced.borrow()
    }

    /// Waits until what is mounted of a Secret has been replaced so many times since the start.
    ///
    /// # Panics
    /// When the deadline passes.
    pub async fn wait_until_replaced(&self, times: u64) {
        let mut replaced = self.replaced.subscribe();
        let reached = within(&format!("{times} replacements"), replaced.wait_for(|count| *count >= times)).await;
        reached.expect("this value keeps the sender");
    }

    /// Waits until its readiness probe succeeds.
    pub async fn ready(&self) {
        until("the pod to be ready", async || {
            let (address, path) = &self.readiness;
            match client::get(*address, path).try_send().await? {
                ready if ready.status == 200 => Ok(()),
                other => Err(format!("{} {}", other.status, other.text())),
            }
        })
        .await;
    }
}

/// A mounted ConfigMap or Secret, as a kubelet keeps it (Kubernetes, `pkg/volume/util/atomic_writer.go`): files are links into
/// `..data`, which is a link to a folder, and replacing that one link replaces them all.
#[derive(Debug)]
struct Volume {
    folder: PathBuf,
    versions: usize,
}

impl Volume {
    fn replace(&mut self, files: &Files) {
        let done = "the temporary folder can be written";
        let version = |number: usize| format!("..{number}");
        let here = self.folder.join(version(self.versions + 1));
        fs::create_dir(&here).expect(done);
        for (name, content) in files {
            fs::write(here.join(name), content).expect(done);
        }
        let (new, data) = (self.folder.join("..data_tmp"), self.folder.join("..data"));
        symlink(version(self.versions + 1), &new).expect(done);
        fs::rename(&new, &data).expect(done);
        for name in files.keys() {
            let link = self.folder.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(name), link).expect(done);
            }
        }
        if self.versions > 0 {
            fs::remove_dir_all(self.folder.join(version(self.versions))).expect(done);
        }
        self.versions += 1;
    }
}

/// Replaces what is mounted of a Secret whenever that says something else.
async fn follow(
    secrets: Api<Secret>,
    name: String,
    mut volume: Volume,
    mut files: Files,
    replaced: watch::Sender<u64>,
) {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut seen = pin!(watcher(secrets, only).default_backoff().applied_objects());
    while let Some(secret) = seen.next().await {
        // A watch that breaks begins again by itself.
        let Ok(secret) = secret else { continue };
        let now: Files = secret.data.into_iter().flatten().map(|(name, content)| (name, content.0)).collect();
        if now != files {
            volume.replace(&now);
            files = now;
            replaced.send_modify(|count| *count += 1);
        }
    }
}

/// The port of a Service's pods that connections to this port of the Service lead to, once there is such a Service
/// (`NAMESPACE/NAME`): what kube-proxy looks up.
///
/// # Panics
/// When the Service has no such port, or its pods' port is a name.
pub async fn target_port(cluster: &Cluster, service: &str, port: u16) -> u16 {
    let (namespace, name) = service.split_once('/').expect("NAMESPACE/NAME");
    let service = object(cluster, "service", namespace, name).await;
    let found = list(&service["spec"]["ports"]).find(|one| one["port"] == port);
    let target = found.unwrap_or_else(|| panic!("no port {port}: {service}"))["targetPort"].as_u64();
    u16::try_from(target.expect("a number")).expect("a port")
}
