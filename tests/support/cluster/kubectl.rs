//! kubectl and Helm as a user runs them, and the files that tell them where to go.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use super::super::tools::build;

/// What a program printed and how it ended.
#[derive(Clone, Debug)]
pub struct Printed {
    /// Whether its exit code was 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    command: String,
}

impl Printed {
    /// Its standard output.
    ///
    /// # Panics
    /// When it failed, with its standard error.
    pub fn expect_success(self) -> String {
        assert!(self.success, "{} failed:\n{}\n{}", self.command, self.stdout, self.stderr);
        self.stdout
    }

    /// Its standard error.
    ///
    /// # Panics
    /// When it succeeded, with its standard output.
    pub fn expect_failure(self) -> String {
        assert!(!self.success, "{} succeeded:\n{}\n{}", self.command, self.stdout, self.stderr);
        self.stderr
    }
}

/// Runs kubectl with this kubeconfig; what it remembers of the server is kept in the cluster's folder, not at home.
pub async fn kubectl(folder: &Path, kubeconfig: &Path, arguments: &[&str]) -> Printed {
    let mut command = Command::new(build("kubectl"));
    command.arg("--kubeconfig").arg(kubeconfig).arg("--cache-dir").arg(folder.join("kubectl-cache"));
    command.args(arguments).current_dir(folder);
    run(command, format!("kubectl {}", arguments.join(" "))).await
}

/// Runs Helm with this kubeconfig; its own files are in the cluster's folder, not at home.
pub async fn helm(folder: &Path, kubeconfig: &Path, arguments: &[&str]) -> Printed {
    let mut command = Command::new(build("helm"));
    command.arg("--kubeconfig").arg(kubeconfig).args(arguments).current_dir(folder);
    for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(home, folder.join("helm"));
    }
    // Where it keeps what it has learnt of the server.
    command.env("HOME", folder);
    run(command, format!("helm {}", arguments.join(" "))).await
}

async fn run(mut command: Command, name: String) -> Printed {
    let running = tokio::task::spawn_blocking(move || command.output());
    let output = running.await.expect("running a program does not panic");
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
    Printed {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: name,
    }
}

/// Writes a kubeconfig for a server, its authority (PEM), a token, and the namespace that is meant when none is named.
pub fn write_kubeconfig(file: &PathBuf, server: &str, authority: &str, token: &str, namespace: &str) {
    // A kubeconfig wants a certificate as base64 or in a file.
    let authority_file = file.with_extension("ca.crt");
    fs::write(&authority_file, authority).expect("the cluster's folder can be written");
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": { "server": server, "certificate-authority": authority_file } }],
        "users": [{ "name": "user", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user", "namespace": namespace } }],
        "current-context": "test",
    });
    fs::write(file, kubeconfig.to_string()).expect("the cluster's folder can be written");
}
