//! A real Kubernetes control plane on the loopback interface: etcd and kube-apiserver, with RBAC and the admission plugins
//! that are on by default.
//!
//! There is no controller manager, no scheduler and no kubelet: nobody makes a namespace's default ServiceAccount, runs a
//! pod of a Deployment, collects garbage, or finishes the deletion of a namespace. Tests state what such a part would have
//! done. A start takes some four seconds, of which two and a half are the processor's, so most tests take [`Cluster::shared`] and a namespace of their own; who
//! stops a part of it, or counts what everybody writes, starts one of their own.

mod audit;
mod kubectl;
mod server;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Namespace, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell, Semaphore, SemaphorePermit};

pub use self::{audit::AuditEvent, kubectl::Printed};
use self::{
    audit::AuditLog,
    kubectl::{helm, kubectl, write_kubeconfig},
    server::{ApiServer, Etcd},
};
use super::{
    tools::{build, repository},
    wait::until,
};

/// A running control plane. Its processes end when it is dropped, or with the test process.
#[derive(Debug)]
pub struct Cluster {
    etcd: Mutex<Etcd>,
    server: Mutex<ApiServer>,
    audit: AuditLog,
    /// How many files and namespaces were named after a number.
    named: AtomicUsize,
    /// Last, so that it goes when the processes have.
    folder: Folder,
    _place: Option<SemaphorePermit<'static>>,
}

/// What the processes and kubectl work with, removed when it is dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Cluster {
    /// Starts one; returns when `/readyz` says yes.
    ///
    /// # Panics
    /// When it does not start. The remedy for missing programs is `make tools`.
    pub async fn start() -> Self {
        // More at once are slower than one after another, and what has deadlines misses them.
        static PLACES: Semaphore = Semaphore::const_new(2);
        Self::start_in(Some(PLACES.acquire().await.expect("nobody closes it"))).await
    }

    async fn start_in(place: Option<SemaphorePermit<'static>>) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let folders = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clusters");
        remove_leftovers(&folders);
        let folder = folders.join(format!("{}-{}", process::id(), STARTED.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        let etcd = Etcd::start(&folder).await;
        let mut server = ApiServer::new(&folder, etcd.address());
        server.start().await;
        let audit = AuditLog::new(&folder);
        let kubeconfig = folder.join("admin.kubeconfig");
        write_kubeconfig(&kubeconfig, &server.url(), &server.authority(), server.admin_token(), "default");
        let (etcd, server) = (Mutex::new(etcd), Mutex::new(server));
        Self { etcd, server, audit, named: AtomicUsize::new(0), folder: Folder(folder), _place: place }
    }

    /// The one that all tests of this process share, with our CRDs and Gateway API's. It is never stopped, and ends with
    /// the process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        let start = async || {
            let cluster = Self::start_in(None).await;
            cluster.apply_gateway_api().await;
            cluster.apply_our_crds().await;
            cluster
        };
        SHARED.get_or_init(start).await
    }

    /// Where the API server is.
    pub async fn address(&self) -> SocketAddr {
        self.server.lock().await.address()
    }

    /// A kubeconfig with which one may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.0.join("admin.kubeconfig")
    }

    /// A client that may do everything; it belongs to the runtime that it is made in.
    pub async fn client(&self) -> Client {
        client(&self.kubeconfig()).await
    }

    /// `kubectl` with these arguments, as the administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Printed {
        kubectl(&self.folder.0, &self.kubeconfig(), arguments).await
    }

    /// `helm` with these arguments, as the administrator.
    pub async fn helm(&self, arguments: &[&str]) -> Printed {
        helm(&self.folder.0, &self.kubeconfig(), arguments).await
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
        let file = self.folder.0.join(format!("{}.yaml", self.number()));
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

    /// Installs the definitions and the plain manifests, as the first lines of `manifests/install.yaml` say, and returns what
    /// kubectl says. Gateway API has to be there.
    pub async fn apply_plain_manifests(&self) -> Printed {
        let (crds, manifests) = (repository().join("crds"), repository().join("manifests/install.yaml"));
        let apply = ["apply", "--server-side", "--filename", utf8(&crds), "--filename", utf8(&manifests)];
        self.kubectl(&apply).await
    }

    /// Applies the CustomResourceDefinitions of a folder and waits until all are served.
    async fn apply_definitions(&self, folder: &Path) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client().await);
        let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut names = Vec::new();
        for file in files {
            let file = file.expect("the folder can be read").path();
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let document: Value = serde_saphyr::from_multiple(&text)
                .ok()
                .and_then(|mut documents: Vec<Value>| documents.pop())
                .unwrap_or_else(|| panic!("{} is no YAML", file.display()));
            if document["kind"] != "CustomResourceDefinition" {
                continue;
            }
            let name = document["metadata"]["name"].as_str().expect("definitions are named").to_owned();
            let applied = definitions.patch(&name, &PatchParams::apply("tests"), &Patch::Apply(&document)).await;
            applied.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            names.push(name);
        }
        for name in names {
            until(&format!("{name} to be served"), async || {
                let definition = definitions.get(&name).await.map_err(|error| error.to_string())?;
                let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
                let is_so = |type_: &str| conditions.iter().any(|one| one.type_ == type_ && one.status == "True");
                if is_so("Established") { Ok(()) } else { Err(format!("{conditions:?}")) }
            })
            .await;
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

    /// A kubeconfig with a token of this ServiceAccount, good for one hour, and its namespace: what a pod of its has.
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
        let file = self.folder.0.join(format!("{namespace}-{name}-{}.kubeconfig", self.number()));
        let server = self.server.lock().await;
        write_kubeconfig(&file, &server.url(), &server.authority(), &token, namespace);
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

    /// Writes an EndpointSlice for a Service, as the endpoints' controller would, over the last one that this wrote; without
    /// addresses, one without endpoints. `port` is the name of the Service's port.
    ///
    /// It goes straight into etcd: no API server takes endpoints on loopback, where all backends of tests are.
    ///
    /// # Panics
    /// When the addresses differ in their port.
    pub async fn set_endpoints(&self, namespace: &str, service: &str, port: &str, addresses: &[SocketAddr]) {
        let number = addresses.first().map_or(1, SocketAddr::port);
        assert!(addresses.iter().all(|address| address.port() == number), "a slice has one number for a port");
        let name = format!("{service}-{port}");
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": { "kubernetes.io/service-name": service },
                "uid": format!("00000000-0000-4000-8000-{:012}", self.number()),
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "generation": 1,
            },
            "addressType": "IPv4",
            "endpoints": addresses
                .iter()
                .map(|address| json!({ "addresses": [address.ip()], "conditions": { "ready": true } }))
                .collect::<Vec<_>>(),
            "ports": [{ "name": port, "port": number, "protocol": "TCP" }],
        });
        self.etcd.lock().await.put(&format!("/registry/endpointslices/{namespace}/{name}"), &slice).await;
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

impl Drop for Folder {
    fn drop(&mut self) {
        let _kept_for_the_next_start = fs::remove_dir_all(&self.0);
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
