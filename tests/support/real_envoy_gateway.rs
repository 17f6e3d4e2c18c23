//! A real Envoy Gateway that reads manifests from a folder, and the Envoy that it starts.
//!
//! Its ports are fixed, so it runs in tests that are [alone](super::alone).

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    client,
    envoy::Version,
    process::Process,
    tools::{build, stdout},
    wait::until,
};

/// What it listens on, and its Envoy (19003), whatever it is told.
const PORTS: [u16; 5] = [8081, 18000, 18002, 19001, 19003];

/// A running Envoy Gateway.
#[derive(Debug)]
pub struct EnvoyGateway {
    process: Process,
    home: TempDir,
}

/// How it is configured.
#[derive(Clone, Copy, Debug)]
pub struct Configuration<'a> {
    /// The folders with its manifests; an EnvoyProxy in them asks for [our Envoy](install_envoy).
    pub folders: &'a [&'a Path],
    /// `extensionManager`, as YAML in one line; nothing when it has no extension.
    pub extension: Option<&'a str>,
    /// More lines at the top level.
    pub more: &'a str,
}

impl EnvoyGateway {
    /// Starts one.
    pub async fn start(configuration: Configuration<'_>) -> Self {
        // The Envoy of one that has just been ended may still be there for a moment.
        for port in PORTS {
            until(&format!("port {port} to be free, which an Envoy Gateway needs"), async || {
                TcpListener::bind(("0.0.0.0", port)).map(drop).map_err(|error| error.to_string())
            })
            .await;
        }
        let home = TempDir::with_prefix("envoy-gateway-").expect("a temporary folder can be made");
        let config = home.path().join("envoy-gateway.yaml");
        fs::write(&config, configuration.text(home.path())).expect("the temporary folder can be written");
        install_envoy(home.path());
        let certificates = command().args(["certgen", "--local", "--config-home"]).arg(home.path()).output();
        stdout(certificates.expect("it can be started"), "envoy-gateway certgen");
        let mut server = command();
        server.args(["server", "--config-path"]).arg(config);
        Self { process: Process::spawn("Envoy Gateway", server), home }
    }

    /// The process, for its output.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Asks it to end, which ends its Envoy first, and waits until it has.
    pub async fn end(self) {
        self.process.terminate();
        self.process.wait().await;
    }

    /// Where the admin interface of its Envoy is; waits for the Envoy.
    pub async fn envoy_admin(&self) -> SocketAddr {
        admin_of_envoy(self.home.path(), &self.process).await
    }

    /// The configuration that its Envoy runs with, endpoints included.
    pub async fn config_dump(&self) -> Value {
        self.process.assert_running();
        client::get(self.envoy_admin().await, "/config_dump?include_eds").send().await.json()
    }

    /// One counter or gauge of its Envoy; what that does not mention is 0.
    pub async fn stat(&self, name: &str) -> u64 {
        self.process.assert_running();
        let text = client::get(self.envoy_admin().await, "/stats").send().await.text();
        let numbers = text.lines().filter_map(|line| line.split_once(": "));
        numbers.filter(|(stat, _)| *stat == name).find_map(|(_, value)| value.parse().ok()).unwrap_or_default()
    }

    /// Waits until the configuration is as `holds` wants it.
    pub async fn wait_for_config(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let config = self.config_dump().await;
            if holds(&config) { Ok(config) } else { Err(format!("the configuration is {config:#}")) }
        })
        .await
    }
}

impl Configuration<'_> {
    fn text(self, home: &Path) -> String {
        let folders: Vec<String> = self.folders.iter().map(|folder| format!("{:?}", folder.display())).collect();
        let extension = self.extension.map(|extension| format!("extensionManager: {extension}\n"));
        format!(
            "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyGateway
gateway: {{controllerName: gateway.envoyproxy.io/gatewayclass-controller}}
provider:
  type: Custom
  custom:
    resource: {{type: File, file: {{paths: [{}]}}}}
    infrastructure: {{type: Host, host: {}}}
extensionApis: {{enableBackend: true}}
{}{}
",
            folders.join(", "),
            homes(home),
            extension.unwrap_or_default(),
            self.more,
        )
    }
}

/// The program.
pub fn command() -> Command {
    Command::new(build("envoy-gateway"))
}

/// `provider.custom.infrastructure.host` for an Envoy Gateway that keeps all it has in this folder.
pub fn homes(home: &Path) -> String {
    let home = home.display();
    format!("{{configHome: {home}, dataHome: {home}/data, stateHome: {home}/state, runtimeDir: {home}/run}}")
}

/// Puts our Envoy where an Envoy Gateway with these [`homes`] looks for one of that version before it would download it.
pub fn install_envoy(home: &Path) {
    let number = Version::Latest.number();
    let bin = home.join(format!("data/envoy-versions/{number}/bin"));
    fs::create_dir_all(&bin).expect("the temporary folder can be written");
    let envoy = Version::Latest.program();
    // Several Envoys run beside each other in tests, which takes a flag.
    let script = format!("#!/bin/sh\nexec {} --use-dynamic-base-id --concurrency 1 \"$@\"\n", envoy.display());
    fs::write(bin.join("envoy"), script).expect("the temporary folder can be written");
    fs::set_permissions(bin.join("envoy"), fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// Where the admin interface of the Envoy is that an Envoy Gateway with these [`homes`] has started; waits for it.
pub async fn admin_of_envoy(home: &Path, process: &Process) -> SocketAddr {
    until("the Envoy of the Envoy Gateway", async || {
        process.assert_running();
        let runs = fs::read_dir(home.join("run")).map_err(|error| error.to_string())?;
        let files = runs.filter_map(|run| fs::read_to_string(run.ok()?.path().join("admin-address.txt")).ok());
        let addresses: Vec<SocketAddr> = files.filter_map(|text| text.trim().parse().ok()).collect();
        match addresses.as_slice() {
            [one] => Ok(*one),
            other => Err(format!("their admin addresses are {other:?}")),
        }
    })
    .await
}
