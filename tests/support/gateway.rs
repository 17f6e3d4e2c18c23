//! Our own binary, as a user starts it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::{Command, ExitStatus, Output},
};

use super::{
    client::{self, Response},
    clock,
    ports::Port,
    process::Process,
    tools::stdout,
    wait::until,
};

/// `tailscale-gateway` with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailscale-gateway"));
    command.args(arguments);
    command
}

/// What `tailscale-gateway` with these arguments printed and how it ended.
pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("our binary can be started")
}

/// A running `tailscale-gateway serve`, with ports that outlast its restarts.
#[derive(Debug)]
pub struct Gateway {
    /// What `--source` is given.
    source: String,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    xds: Port,
    admin: Port,
    process: Process,
}

impl Gateway {
    /// Serves a folder; returns when `/readyz` says that it does.
    pub async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// The same with more flags.
    pub async fn start_with(folder: &Path, flags: &[&str]) -> Self {
        Self::start_on(format!("dir:{}", folder.display()), flags).await
    }

    /// Serves what an API server has; returns when `/readyz` says that it does. xDS is without TLS, on loopback. `{xds}` in a
    /// flag is the address where it serves xDS.
    pub async fn start_in_cluster(kubeconfig: &Path, flags: &[&str]) -> Self {
        Self::start_secure_in_cluster(kubeconfig, &[&["--xds-insecure"], flags].concat()).await
    }

    /// The same, by a clock that is so many seconds wrong.
    pub async fn start_in_cluster_at(clock: i64, kubeconfig: &Path, flags: &[&str]) -> Self {
        let kubeconfig = kubeconfig.to_str().expect("its path is UTF-8");
        let fixed = ["--xds-insecure", "--kubeconfig", kubeconfig, "--extension-listen", "off"];
        let gateway = Self::spawn("kubernetes".to_owned(), &[&fixed, flags].concat(), clock::wrong_by(clock));
        gateway.ready().await;
        gateway
    }

    /// The same with mutual TLS, which is how it runs in a cluster.
    pub async fn start_secure_in_cluster(kubeconfig: &Path, flags: &[&str]) -> Self {
        let kubeconfig = kubeconfig.to_str().expect("its path is UTF-8");
        let mut flags = [&["--kubeconfig", kubeconfig], flags].concat();
        // In a cluster each replica has an address of its own; here they would all want one port.
        if !flags.contains(&"--extension-listen") {
            flags.extend(["--extension-listen", "off"]);
        }
        Self::start_on("kubernetes".to_owned(), &flags).await
    }

    /// The same without TLS, and without waiting until it is ready.
    pub fn begin_in_cluster(kubeconfig: &Path, flags: &[&str]) -> Self {
        let kubeconfig = kubeconfig.to_str().expect("its path is UTF-8");
        let fixed = ["--xds-insecure", "--kubeconfig", kubeconfig, "--extension-listen", "off"];
        Self::spawn("kubernetes".to_owned(), &[&fixed, flags].concat(), Vec::new())
    }

    /// With mutual TLS and more in its environment, without waiting until it is ready.
    pub fn begin_secure_in_cluster(kubeconfig: &Path, flags: &[&str], environment: Vec<(String, String)>) -> Self {
        let kubeconfig = kubeconfig.to_str().expect("its path is UTF-8");
        Self::spawn("kubernetes".to_owned(), &[&["--kubeconfig", kubeconfig], flags].concat(), environment)
    }

    async fn start_on(source: String, flags: &[&str]) -> Self {
        let gateway = Self::spawn(source, flags, Vec::new());
        gateway.ready().await;
        gateway
    }

    fn spawn(source: String, flags: &[&str], environment: Vec<(String, String)>) -> Self {
        let (xds, admin) = (Port::lease(), Port::lease());
        let told = |flag: &&str| flag.replace("{xds}", &xds.address().to_string());
        let flags: Vec<String> = flags.iter().map(told).collect();
        let process = serve(&source, &flags, &environment, &xds, &admin);
        Self { source, flags, environment, xds, admin, process }
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&self) {
        until("the control plane to be ready", async || {
            self.process.assert_running();
            match client::get(self.admin.address(), "/readyz").try_send().await? {
                ready if ready.status == 200 => Ok(()),
                other => Err(format!("{} {}", other.status, other.text())),
            }
        })
        .await;
    }

    /// Where it serves xDS.
    pub fn xds(&self) -> SocketAddr {
        self.xds.address()
    }

    /// Where its admin interface is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The process, for its output.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Asks the admin interface; any status is an answer.
    pub async fn admin(&self, path: &str) -> Response {
        self.process.assert_running();
        client::get(self.admin.address(), path).send().await
    }

    /// All metrics: each series as it is spelled, with its labels.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.admin("/metrics").await.text();
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        samples.collect()
    }

    /// Waits until a metric is as `holds` wants it; a series that is not there is `None`.
    pub async fn wait_for_metric(&self, series: &str, holds: impl Fn(Option<f64>) -> bool) {
        until(&format!("the metric {series}"), async || {
            let value = self.metrics().await.get(series).copied();
            if holds(value) { Ok(()) } else { Err(format!("it is {value:?}")) }
        })
        .await;
    }

    /// How many calls of Envoy Gateways it has answered.
    pub async fn calls(&self) -> u64 {
        let metrics = self.metrics().await;
        let calls = metrics.iter().filter(|(series, _)| series.starts_with("tailscale_gateway_extension_calls_total"));
        calls.map(|(_, count)| *count as u64).sum()
    }

    /// The bootstrap that it prints for an Envoy of a Gateway (`NAMESPACE/NAME`), with more flags (`--protocol`, …) and the
    /// admin interface of that Envoy on a port of the test's.
    pub fn bootstrap(&self, gateway: &str, envoy_admin: &Port, flags: &[&str]) -> String {
        let (xds, admin) = (self.xds().to_string(), envoy_admin.address().to_string());
        let mut arguments = vec!["bootstrap", "--gateway", gateway, "--xds", &xds, "--admin", &admin];
        arguments.extend(flags);
        stdout(run(&arguments), "tailscale-gateway bootstrap")
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn terminate(&self) -> ExitStatus {
        self.process.terminate();
        self.process.wait().await
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(&self) {
        self.process.kill();
        self.process.wait().await;
    }

    /// Starts it again on the same ports after it has ended; returns when it is ready.
    pub async fn start_again(&mut self) {
        assert!(self.process.ended().is_some(), "the control plane still runs");
        self.process = serve(&self.source, &self.flags, &self.environment, &self.xds, &self.admin);
        self.ready().await;
    }

    /// Ends it cleanly and starts it again on the same ports.
    pub async fn restart(&mut self) {
        let status = self.terminate().await;
        assert!(status.success(), "the control plane ended with {status}");
        self.start_again().await;
    }
}

fn serve(source: &str, flags: &[String], environment: &[(String, String)], xds: &Port, admin: &Port) -> Process {
    let mut command = command(&["serve", "--log-format", "json"]);
    command.arg("--source").arg(source);
    command.arg("--xds-listen").arg(xds.address().to_string());
    command.arg("--admin-listen").arg(admin.address().to_string());
    command.args(flags).envs(environment.iter().map(|(key, value)| (key, value)));
    Process::spawn("the control plane", command)
}
