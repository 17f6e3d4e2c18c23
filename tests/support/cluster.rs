//! A real Kubernetes control plane on the loopback interface: etcd and kube-apiserver, with RBAC and the admission plugins
//! that are on by default.
//!
//! There is no controller manager, no scheduler and no kubelet: nobody makes a namespace's default ServiceAccount, runs a
//! pod of a Deployment, collects garbage, or finishes the deletion of a namespace. Tests state what such a part would have
//! done. A start takes three to six seconds, so most tests take [`Cluster::shared`] and a namespace of their own; who
//! stops a part of it, or counts what everybody writes, starts one of their own.

mod audit;
mod kubectl;
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::{Mutex, OnceCell};

pub use self::{audit::AuditEvent, kubectl::Printed};
use self::{
    audit::AuditLog,
    kubectl::{kubectl, write_kubeconfig},
    server::{ApiServer, Etcd},
};
use super::tools::{build, repository};

/// A running control plane. Its processes end when it is dropped, or with the test process.
#[derive(Debug)]
pub struct Cluster {
    etcd: Mutex<Etcd>,
    server: Mutex<ApiServer>,
    audit: AuditLog,
    folder: PathBuf,
    /// How many files and namespaces were named after a number.
    named: AtomicUsize,
}

impl Cluster {
    /// Starts one; returns when `/readyz` says yes.
    ///
    /// # Panics
    /// When it does not start. The remedy for missing programs is `make tools`.
    pub async fn start() -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let folders = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clusters");
        remove_leftovers(&folders);
        let folder = folders.join(format!("{}-{}", process::id(), STARTED.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        let etcd = Etcd::start(&folder).await;
        let mut server = ApiServer::new(&folder, etcd.address());
        server.start().await;
        let audit = AuditLog::new(&folder);
        write_kubeconfig(&folder.join("admin.kubeconfig"), &server.url(), &server.authority(), server.admin_token());
        Self { etcd: Mutex::new(etcd), server: Mutex::new(server), audit, folder, named: AtomicUsize::new(0) }
    }

    /// The one that all tests of this process share, with our CRDs and Gateway API's. It is never stopped, and ends with
    /// the process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        let start = async || {
            let cluster = Self::start().await;
            cluster.apply_gateway_api().await;
            cluster.apply_our_crds().await;
            cluster
        };
        SHARED.get_or_init(start).await
    }

    /// A kubeconfig with which one may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// A client that may do everything; it belongs to the runtime that it is made in.
    pub async fn client(&self) -> Client {
        client(&self.kubeconfig()).await
    }

    /// `kubectl` with these arguments, as the administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Printed {
        kubectl(&self.folder, &self.kubeconfig(), arguments).await
    }

    /// `kubectl apply` of these manifests, as the administrator.
    ///
    /// # Panics
    /// When one is refused, with what kubectl says.
    pub async fn apply(&self, manifests: &str) {
        self.try_apply(manifests).await.expect_success();
    }

    /// `kubectl apply` of these manifests, as the administrator, and what it says.
    pub async fn try_apply(&self, manifests: &str) -> Printed {
        let file = self.folder.join(format!("{}.yaml", self.number()));
        fs::write(&file, manifests).expect("the cluster's folder can be written");
        self.kubectl(&["apply", "--filename", utf8(&file)]).await
    }

    /// Applies Gateway API's definitions of the standard channel, all but the admission policy that guards them against
    /// changes of channel.
    pub async fn apply_gateway_api(&self) {
        self.apply_definitions(&build("gateway-api-crds")).await;
    }

    /// Applies `crds/`.
    pub async fn apply_our_crds(&self) {
        self.apply_definitions(&repository().join("crds")).await;
    }

    /// Applies the CustomResourceDefinitions of a folder and waits until all are served.
    async fn apply_definitions(&self, folder: &Path) {
        let mut arguments = vec!["apply".to_owned(), "--server-side".to_owned()];
        let mut wait = vec!["wait".to_owned(), "--for=condition=Established".to_owned(), "--timeout=60s".to_owned()];
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("the folder can be read").path())
            .collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            if text.lines().any(|line| line == "kind: CustomResourceDefinition") {
                for list in [&mut arguments, &mut wait] {
                    list.push(format!("--filename={}", file.display()));
                }
            }
        }
        for list in [arguments, wait] {
            self.kubectl(&list.iter().map(String::as_str).collect::<Vec<_>>()).await.expect_success();
        }
    }

    /// Makes a namespace that nobody else has, and returns its name: `prefix` and a number.
    pub async fn namespace(&self, prefix: &str) -> String {
        let name = format!("{prefix}-{}", self.number());
        self.create_namespace(&name, &[]).await;
        name
    }

    /// Makes a namespace with labels.
    ///
    /// # Panics
    /// When it is there already.
    pub async fn create_namespace(&self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let created = Api::all(self.client().await).create(&PostParams::default(), &namespace).await;
        created.unwrap_or_else(|error| panic!("namespace {name}: {error}"));
    }

    /// A kubeconfig with a token of this ServiceAccount, good for one hour.
    ///
    /// # Panics
    /// When there is no such ServiceAccount.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let granted = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let granted = granted.unwrap_or_else(|error| panic!("a token for {namespace}/{name}: {error}"));
        let token = granted.status.expect("a token request is answered with a token").token;
        let file = self.folder.join(format!("{namespace}-{name}-{}.kubeconfig", self.number()));
        let server = self.server.lock().await;
        write_kubeconfig(&file, &server.url(), &server.authority(), &token);
        file
    }

    /// Kills the API server; connections break, and new ones are refused.
    pub async fn stop_apiserver(&self) {
        self.server.lock().await.stop().await;
    }

    /// Starts the API server again, on the same port and data; returns when it is ready.
    pub async fn start_apiserver(&self) {
        self.server.lock().await.start().await;
    }

    /// Kills etcd and starts it again, on the same port and data; returns when it answers.
    pub async fn restart_etcd(&self) {
        self.etcd.lock().await.restart().await;
    }

    /// Makes etcd forget all history. A running API server still remembers recent changes: only after a restart of it too
    /// does a watch from an old version end with 410.
    pub async fn compact_history(&self) {
        self.etcd.lock().await.compact().await;
    }

    /// Every request so far, oldest first, but for the API server's own. A request whose response has ended before this is
    /// called is among them: the API server ends a response after it has written the line.
    pub async fn audit_events(&self) -> Vec<AuditEvent> {
        let mark = format!("{}{}", audit::MARK, self.number());
        let namespaces: Api<Namespace> = Api::all(self.client().await);
        namespaces.get_opt(&mark).await.unwrap_or_else(|error| panic!("the API server: {error}"));
        self.audit.until(&mark).await
    }

    fn number(&self) -> usize {
        self.named.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _kept_for_the_next_start = fs::remove_dir_all(&self.folder);
    }
}

/// A client for a kubeconfig; it belongs to the runtime that it is made in.
pub async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig was written by a cluster");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("the kubeconfig is whole")).expect("a client can be made of it")
}

/// Removes the folders of clusters whose test process is gone.
fn remove_leftovers(folders: &Path) {
    for folder in fs::read_dir(folders).into_iter().flatten().flatten() {
        let name = folder.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next());
        if !owner.is_some_and(|owner| Path::new("/proc").join(owner).exists()) {
            let _somebody_else_does = fs::remove_dir_all(folder.path());
        }
    }
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("the folder for temporary files has a name in UTF-8")
}
