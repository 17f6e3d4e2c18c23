//! The two processes of a control plane, each on a port and with data that outlast its restarts.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::ByteString;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::super::{client, ports::Port, process::Process, tls::Authority, tools::build, wait::until};

/// The user that an administrator is; `system:masters` may do everything.
const TOKENS: &str = "administrator,administrator,1,system:masters\n";

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    clients: Port,
    peers: Port,
    data: PathBuf,
    process: Process,
}

impl Etcd {
    /// Starts one with its data in this folder; returns when it answers.
    pub async fn start(folder: &Path) -> Self {
        let (clients, peers, data) = (Port::lease(), Port::lease(), folder.join("etcd"));
        let process = run_etcd(&clients, &peers, &data);
        let etcd = Self { clients, peers, data, process };
        etcd.ready().await;
        etcd
    }

    /// Where its clients find it.
    pub fn address(&self) -> SocketAddr {
        self.clients.address()
    }

    /// Kills it and starts it again with the same data; returns when it answers.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process.wait().await;
        self.process = run_etcd(&self.clients, &self.peers, &self.data);
        self.ready().await;
    }

    /// Forgets what was before the present revision.
    pub async fn compact(&self) {
        let anything = self.ask("/v3/kv/range", json!({ "key": "AA==" })).await;
        let revision = anything["header"]["revision"].clone();
        let compacted = self.ask("/v3/kv/compaction", json!({ "revision": revision, "physical": true })).await;
        assert!(compacted.get("header").is_some(), "{compacted}");
    }

    /// Writes a value behind the API server's back.
    pub async fn put(&self, key: &str, value: &Value) {
        let base64 = |text: String| json!(ByteString(text.into_bytes()));
        let body = json!({ "key": base64(key.to_owned()), "value": base64(value.to_string()) });
        let put = self.ask("/v3/kv/put", body).await;
        assert!(put.get("header").is_some(), "{put}");
    }

    /// A request of its gRPC interface in JSON (etcd documentation, "Why gRPC gateway").
    async fn ask(&self, path: &str, body: Value) -> Value {
        client::get(self.address(), path).method("POST").body(body.to_string()).send().await.json()
    }

    async fn ready(&self) {
        until("etcd", async || {
            self.process.assert_running();
            let health = client::get(self.address(), "/health").try_send().await?;
            if health.status == 200 { Ok(()) } else { Err(health.text()) }
        })
        .await;
    }
}

fn run_etcd(clients: &Port, peers: &Port, data: &Path) -> Process {
    let url = |port: &Port| format!("http://{}", port.address());
    let mut command = Command::new(build("etcd"));
    command.arg("--data-dir").arg(data).args(["--unsafe-no-fsync", "--log-level", "warn"]);
    for flag in ["--listen-client-urls", "--advertise-client-urls"] {
        command.arg(flag).arg(url(clients));
    }
    for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
        command.arg(flag).arg(url(peers));
    }
    command.arg("--initial-cluster").arg(format!("default={}", url(peers)));
    Process::spawn("etcd", command)
}

/// A kube-apiserver, running or not.
#[derive(Debug)]
pub struct ApiServer {
    port: Port,
    etcd: SocketAddr,
    folder: PathBuf,
    authority: Authority,
    process: Option<Process>,
}

impl ApiServer {
    /// One that does not run yet: its keys, certificates and policies, in this folder.
    pub fn new(folder: &Path, etcd: SocketAddr) -> Self {
        let authority = Authority::new();
        let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let certificate = authority.issue(&names);
        let account_key = KeyPair::generate().expect("a key can be made");
        for (file, content) in [
            ("ca.crt", authority.pem()),
            ("server.crt", certificate.certificate),
            ("server.key", certificate.key),
            ("service-account.pub", account_key.public_key_pem()),
            ("service-account.key", account_key.serialize_pem()),
            ("tokens.csv", TOKENS.to_owned()),
            ("audit-policy.yaml", super::audit::policy()),
        ] {
            fs::write(folder.join(file), content).expect("the cluster's folder can be written");
        }
        Self { port: Port::lease(), etcd, folder: folder.to_owned(), authority, process: None }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// The authority that its certificate is from, PEM.
    pub fn authority(&self) -> String {
        self.authority.pem()
    }

    /// With which one may do everything.
    pub fn admin_token(&self) -> &'static str {
        "administrator"
    }

    /// Starts it; returns when `/readyz` says yes.
    pub async fn start(&mut self) {
        assert!(self.process.is_none(), "the API server runs already");
        let process = self.process.insert(Process::spawn("kube-apiserver", self.command()));
        let readyz = client::get(self.port.address(), "/readyz?verbose").tls(&self.authority, "127.0.0.1");
        until("the API server to be ready", async || {
            process.assert_running();
            let ready = readyz.try_send().await?;
            if ready.status == 200 { Ok(()) } else { Err(ready.text()) }
        })
        .await;
    }

    /// Kills it.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
            process.wait().await;
        }
    }

    fn command(&self) -> Command {
        let file = |name: &str| self.folder.join(name);
        let mut command = Command::new(build("kube-apiserver"));
        for (flag, name) in [
            ("--tls-cert-file", "server.crt"),
            ("--tls-private-key-file", "server.key"),
            ("--service-account-key-file", "service-account.pub"),
            ("--service-account-signing-key-file", "service-account.key"),
            ("--token-auth-file", "tokens.csv"),
            ("--audit-policy-file", "audit-policy.yaml"),
            ("--audit-log-path", super::audit::FILE),
            ("--cert-dir", "generated"),
        ] {
            command.arg(flag).arg(file(name));
        }
        for (flag, value) in [
            ("--etcd-servers", format!("http://{}", self.etcd)),
            ("--secure-port", self.port.number().to_string()),
            ("--bind-address", "127.0.0.1".to_owned()),
            ("--advertise-address", "127.0.0.1".to_owned()),
            // It would list itself as an endpoint of the Service `kubernetes`, which no loopback address can be.
            ("--endpoint-reconciler-type", "none".to_owned()),
            ("--authorization-mode", "RBAC".to_owned()),
            ("--service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            // Both families; a Service that does not ask has an IPv4 address alone.
            ("--service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112".to_owned()),
            // A response ends after its line is written, not before.
            ("--audit-log-mode", "blocking".to_owned()),
            ("--profiling", "false".to_owned()),
        ] {
            // Joined: a switch takes its value in no other form.
            command.arg(format!("{flag}={value}"));
        }
        command
    }
}
