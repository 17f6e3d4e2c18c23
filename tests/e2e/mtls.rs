//! xDS over mutual TLS with real Envoys: who is configured, who is not, and what happens while certificates change.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tailscale_gateway::{
    cli::certificates::renew,
    config::{CertificatesConfig, Command, Config},
    identity::{Authority, Credentials, ServerIdentity},
};
use tailscale_gateway_proto::envoy::service::status::v3::{
    ClientStatusRequest, client_status_discovery_service_client::ClientStatusDiscoveryServiceClient,
};
use tempfile::TempDir;
use tokio::{task::AbortHandle, time::interval};

use crate::{
    site::{GATEWAY, documents, gateway, https_listener, listener, route_to, secret, service, until_answered},
    support::{
        backend::Backend,
        client::{self, Response},
        envoy::{Envoy, Version},
        gateway::{Gateway, command, run},
        load::Load,
        manifests::Manifests,
        mtls,
        ports::Port,
        process::Process,
        tls,
        tools::stdout,
    },
};

/// Certificates in a folder, as `tailscale-gateway certificates` makes them.
struct Certificates(TempDir);

impl Certificates {
    fn new(arguments: &str) -> Self {
        let folder = TempDir::with_prefix("certificates-").expect("a temporary folder can be made");
        let certificates = Self(folder);
        certificates.renew(arguments);
        certificates
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    /// Makes anew what is due now.
    fn renew(&self, arguments: &str) -> Vec<String> {
        let out = self.0.path().to_str().expect("UTF-8");
        let words = ["tailscale-gateway", "certificates", "--server-name", "127.0.0.1", "--out", out];
        let parsed = Config::try_parse_from(words.into_iter().chain(arguments.split_whitespace())).expect("good");
        let Command::Certificates(config) = parsed.command else { panic!("it is certificates") };
        let config: CertificatesConfig = config;
        renew(&config, Timestamp::now()).expect("certificates can be made")
    }

    /// The flags of a control plane.
    fn serve(&self) -> Vec<String> {
        flags(
            &self.path("server"),
            ["--xds-tls-cert", "--xds-tls-key", "--xds-client-ca"],
            ["tls.crt", "tls.key", "ca.crt"],
        )
    }

    /// The flags of an Envoy's bootstrap.
    fn bootstrap(&self, gateway: &str) -> Vec<String> {
        let folder = self.path("gateway").join(gateway);
        flags(&folder, ["--tls-cert", "--tls-key", "--tls-ca"], ["tls.crt", "tls.key", "ca.crt"])
    }

    fn authority(&self) -> Authority {
        let read = |name| fs::read(self.path("authority").join(name)).expect("it is there");
        Authority::read(&read("tls.crt"), &read("tls.key")).expect("it is an authority")
    }
}

fn flags(folder: &Path, flags: [&str; 3], files: [&str; 3]) -> Vec<String> {
    let pairs = flags.into_iter().zip(files);
    pairs.flat_map(|(flag, file)| [flag.to_owned(), folder.join(file).display().to_string()]).collect()
}

fn texts(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// A control plane that serves over mTLS one Gateway with one backend.
struct Secure {
    certificates: Arc<Certificates>,
    manifests: Manifests,
    control: Gateway,
    http: Port,
    _backend: Backend,
}

impl Secure {
    async fn start(certificates: &str) -> Self {
        Self::start_with(Arc::new(Certificates::new(certificates))).await
    }

    async fn start_with(certificates: Arc<Certificates>) -> Self {
        let (http, backend) = (Port::lease(), Backend::start("blue").await);
        let manifests = Manifests::with(&[
            ("gateway.yaml", &gateway(&[listener("http", &http)])),
            ("blue.yaml", &service("blue", &[backend.address()])),
            ("route.yaml", &route_to("all", "blue")),
        ]);
        let control = Gateway::start_with(manifests.path(), &texts(&certificates.serve())).await;
        Self { certificates, manifests, control, http, _backend: backend }
    }

    /// The bootstrap of an Envoy with this Gateway's certificate that asks for the one that is served.
    fn bootstrap(&self, certificate_of: &str, admin: &Port, flags: &[&str]) -> String {
        let tls = self.certificates.bootstrap(certificate_of);
        self.control.bootstrap(GATEWAY, admin, &[&texts(&tls), flags].concat())
    }

    async fn until_from(&self, backend: &str) {
        let request = client::get(self.http.address(), "/").host("web.example");
        let from = |response: &Response| response.header("x-backend") == Some(backend);
        until_answered(&format!("an answer from {backend}"), &request, from).await;
    }

    async fn until_counted(&self, what: &str, reason: &str) {
        let series = format!("tailscale_gateway_{what}_total{{reason=\"{reason}\"}}");
        self.control.wait_for_metric(&series, |count| count.is_some_and(|count| count >= 1.0)).await;
    }
}

#[tokio::test]
async fn envoys_with_their_gateways_certificate_are_configured_in_every_variant() {
    let site = Secure::start("--gateway default/web").await;
    for version in Version::ALL {
        for protocol in ["delta", "sotw"] {
            for discovery in ["ads", "per-type"] {
                let how = format!("Envoy {} {protocol} {discovery}", version.number());
                let admin = Port::lease();
                let flags = ["--protocol", protocol, "--discovery", discovery];
                let envoy = Envoy::start(version, &site.bootstrap(GATEWAY, &admin, &flags)).await;
                envoy.ready().await;
                site.until_from("blue").await;
                let stats = envoy.stats().await;
                assert!(stats["cluster.xds.ssl.handshake"] >= 1, "{how}");
                let bad = |name: &str| name.ends_with("key_rotation_failed") || name.contains("ssl.fail");
                let found: Vec<_> = stats.iter().filter(|(name, value)| bad(name) && **value > 0).collect();
                assert!(found.is_empty(), "{how}: {found:?}");
                let said = envoy.process().lines();
                assert!(!said.iter().any(|line| line.contains("eprecated")), "{how}: {said:#?}");
            }
        }
    }
    let failed = |series: &&String| series.contains("handshake_failures") || series.contains("xds_denied");
    let metrics = site.control.metrics().await;
    assert_eq!(metrics.keys().find(failed), None, "{metrics:#?}");
    let expiry = metrics["tailscale_gateway_xds_server_certificate_expiry_timestamp_seconds"];
    assert!(expiry > Timestamp::now().as_second() as f64 + 80.0 * 86_400.0, "{expiry}");
}

/// Puts certificate, key and authorities where those of another Gateway were.
fn replace(folder: &Path, credentials: &Credentials) {
    fs::write(folder.join("tls.crt"), &credentials.chain).expect("written");
    fs::write(folder.join("tls.key"), credentials.key.expose()).expect("written");
}

#[tokio::test]
async fn envoys_without_the_right_certificate_get_nothing_and_the_metrics_say_why() {
    let site =
        Secure::start("--gateway default/web --gateway default/other --gateway default/late --gateway default/foreign")
            .await;
    let id = |gateway: &str| {
        let read = fs::read(site.certificates.path("gateway").join(gateway).join("tls.crt")).expect("it is there");
        let key = fs::read(site.certificates.path("gateway").join(gateway).join("tls.key")).expect("it is there");
        Credentials::read(&read, &key).expect("good").facts().expect("good").client_id().expect("it has one")
    };
    let past = Timestamp::now() - SignedDuration::from_secs(10);
    let expired = site.certificates.authority().issue_client(&id("default/web"), past, mtls::lifetimes(3));
    replace(&site.certificates.path("gateway/default/late"), &expired.expect("it can be made"));
    let foreign = mtls::envoy(&mtls::authority(), GATEWAY);
    replace(&site.certificates.path("gateway/default/foreign"), &foreign);

    let (admins, mut envoys): (Vec<Port>, Vec<Envoy>) = ((0..5).map(|_| Port::lease()).collect(), Vec::new());
    for (admin, certificate_of, what, reason) in [
        (&admins[0], "default/other", "xds_denied", "other_gateway"),
        (&admins[1], "default/late", "xds_tls_handshake_failures", "expired"),
        (&admins[2], "default/foreign", "xds_tls_handshake_failures", "unknown_authority"),
        (&admins[3], "", "xds_tls_handshake_failures", "no_certificate"),
        (&admins[4], "wrong name", "xds_tls_handshake_failures", "refused_by_client"),
    ] {
        let bootstrap = match certificate_of {
            "" => {
                let text = site.bootstrap(GATEWAY, admin, &[]);
                let mut json: Value = serde_saphyr::from_str(&text).expect("it is YAML");
                let socket = &mut json["static_resources"]["clusters"][0]["transport_socket"]["typed_config"];
                let common = socket["common_tls_context"].as_object_mut().expect("an object");
                common.remove("tls_certificate_sds_secret_configs").expect("it is there");
                json.to_string()
            }
            "wrong name" => site.bootstrap(GATEWAY, admin, &["--tls-server-name", "other.example"]),
            gateway => site.bootstrap(gateway, admin, &[]),
        };
        envoys.push(Envoy::start(Version::Latest, &bootstrap).await);
        site.until_counted(what, reason).await;
    }
    // Those that have a good certificate, but not the right one, are told so.
    let log = site.control.process().wait_for_line("xDS request refused").await;
    assert!(log.contains("default/other") && log.contains(GATEWAY) && log.contains("\"peer\""), "{log}");
    for envoy in &envoys {
        assert_eq!(envoy.admin("/ready").await.status, 503);
        assert_eq!(envoy.stat("cluster_manager.cds.update_success").await, 0);
    }
    let clients = site.control.admin("/debug/xds/clients").await.json();
    assert_eq!(clients["clients"].as_array().map(Vec::len), Some(0), "{clients:#}");

    // The one that was refused is configured as soon as its file holds a certificate that is right.
    let good = site.certificates.authority().issue_client(&id("default/web"), Timestamp::now(), mtls::lifetimes(3600));
    let good = good.expect("it can be made");
    for (name, content) in [("tls.key", good.key.expose()), ("tls.crt", &good.chain)] {
        let folder = site.certificates.path("gateway/default/late");
        fs::write(folder.join("new"), content).expect("written");
        fs::rename(folder.join("new"), folder.join(name)).expect("renamed");
    }
    envoys[1].ready().await;
    site.until_from("blue").await;
}

/// Runs `certificates` again and again, as cron would, and keeps what it says; ends when it is dropped.
struct Cron {
    said: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Cron {
    fn start(certificates: &Arc<Certificates>, arguments: &'static str) -> Self {
        let (certificates, said) = (Arc::clone(certificates), Arc::<Mutex<Vec<String>>>::default());
        let kept = Arc::clone(&said);
        let task = tokio::spawn(async move {
            let mut minutes = interval(Duration::from_millis(200));
            loop {
                minutes.tick().await;
                kept.lock().expect("no holder panics").extend(certificates.renew(arguments));
            }
        });
        Self { said, task: task.abort_handle() }
    }

    /// How many of these have happened, each after the one before.
    fn happened(&self, steps: &[&str]) -> usize {
        let said = self.said.lock().expect("no holder panics");
        let mut lines = said.iter();
        steps.iter().take_while(|step| lines.any(|line| line.contains(**step))).count()
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When the Envoy last took in its listener.
async fn listener_taken_in(envoy: &Envoy) -> String {
    let dump = envoy.config_dump().await;
    let mut sections = dump["configs"].as_array().expect("a list").iter();
    let listener = sections.find_map(|section| section["dynamic_listeners"].get(0)).expect("there is a listener");
    listener["active_state"]["last_updated"].as_str().expect("a time").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_authorities_and_certificates_of_seconds_are_rotated_and_routes_change() {
    // An authority lives for four lives of a certificate, which are eight seconds.
    let lives = "--gateway default/web --lifetime 8s --authority-lifetime 32s";
    let certificates = Arc::new(Certificates::new(lives));
    let cron = Cron::start(&certificates, lives);
    let site = Secure::start_with(Arc::clone(&certificates)).await;
    let green = Backend::start("green").await;
    site.manifests.write("green.yaml", service("green", &[green.address()]));
    let admin = Port::lease();
    let envoy = Envoy::start(Version::Latest, &site.bootstrap(GATEWAY, &admin, &[])).await;
    envoy.ready().await;
    site.until_from("blue").await;
    let taken_in = listener_taken_in(&envoy).await;

    let load = Load::start(&client::get(site.http.address(), "/").host("web.example"), 2);
    let mut turns = 0;
    // Until server and Envoy use what a new authority has signed, and connections have ended and come back.
    let steps = ["authority: introduced", "authority: promoted", "server: made anew", "gateway/default/web: made anew"];
    let expired = "tailscale_gateway_xds_expired_connections_total";
    while cron.happened(&steps) < steps.len()
        || site.control.metrics().await.get(expired).is_none_or(|count| *count < 2.0)
    {
        let backend = ["green", "blue"][turns % 2];
        site.manifests.write("route.yaml", route_to("all", backend));
        site.until_from(backend).await;
        load.wait_for(10).await;
        turns += 1;
    }
    let tally = load.stop().await;
    drop(cron);
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert!(tally.by_backend.len() == 2 && turns > 20, "{turns} turns: {tally:?}");
    let metrics = site.control.metrics().await;
    let failed = |series: &&String| series.contains("handshake_failures") || series.contains("xds_denied");
    assert_eq!(metrics.keys().find(failed), None, "{metrics:#?}");
    assert!(metrics["tailscale_gateway_xds_tls_reloads_total{result=\"ok\"}"] >= 4.0, "{metrics:#?}");
    // Whenever its connection ended, the Envoy came back with what it had: what did not change was not sent again.
    assert!(metrics["tailscale_gateway_xds_irv_matched_total"] >= 2.0, "{metrics:#?}");
    assert_eq!(listener_taken_in(&envoy).await, taken_in);
    assert_eq!(envoy.stat("cluster_manager.cds.update_rejected").await, 0);
}

/// The lines of private keys in PEM.
fn key_lines(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| line.len() > 20 && !line.contains("-----")).map(str::to_owned).collect()
}

#[tokio::test]
async fn private_keys_are_in_no_log_no_page_no_dump_and_no_answer_about_clients() {
    let certificates = Certificates::new("--gateway default/web");
    let (https, backend) = (Port::lease(), Backend::start("blue").await);
    let served = tls::Authority::new().issue(&["web.example"]);
    let manifests = Manifests::with(&[
        ("gateway.yaml", &gateway(&[https_listener("https", &https, "web.example", "certificate")])),
        ("secret.yaml", &secret("certificate", &served)),
        ("all.yaml", &documents(&[service("blue", &[backend.address()]), route_to("all", "blue")])),
    ]);
    let mut flags = certificates.serve();
    flags.extend(["--log-level".to_owned(), "trace".to_owned()]);
    let control = Gateway::start_with(manifests.path(), &texts(&flags)).await;
    let admin = Port::lease();
    let bootstrap = control.bootstrap(GATEWAY, &admin, &texts(&certificates.bootstrap(GATEWAY)));
    let envoy = Envoy::start(Version::Latest, &bootstrap).await;
    envoy.ready().await;
    // The Envoy has the certificate's key: it was served.
    envoy
        .wait_for_stats("the listener's secret", |stats| stats.keys().any(|name| name.contains("default/certificate")))
        .await;
    certificates.renew("--server-name renamed.example");
    control.process().wait_for_line("renamed.example").await;

    let mut keys = key_lines(&served.key);
    for file in ["authority/tls.key", "server/tls.key", "gateway/default/web/tls.key"] {
        keys.extend(key_lines(&fs::read_to_string(certificates.path(file)).expect("it is there")));
    }
    assert!(keys.len() >= 12, "{}", keys.len());
    let read = |path: &str| fs::read(certificates.path(path)).expect("it is there");
    let own = ServerIdentity::read(
        &read("gateway/default/web/tls.crt"),
        &read("gateway/default/web/tls.key"),
        &read("gateway/default/web/ca.crt"),
    );
    let own = own.expect("good");
    let channel =
        mtls::connect_as(control.xds(), "127.0.0.1", mtls::client(&own.clients, Some(&own.credentials))).await;
    let mut csds = ClientStatusDiscoveryServiceClient::new(channel);
    let id = serde_saphyr::from_str::<Value>(&bootstrap).expect("it is YAML")["node"]["id"].as_str().map(str::to_owned);
    let node = tailscale_gateway_proto::envoy::config::core::v3::Node { id: id.expect("an id"), ..Default::default() };
    let request = ClientStatusRequest { node: Some(node), ..Default::default() };
    let answer = csds.fetch_client_status(request).await.expect("an answer").into_inner();
    assert!(answer.config[0].generic_xds_configs.iter().any(|one| one.name == "secret/default/certificate"));

    let mut shown = BTreeMap::from([
        ("the log", control.process().lines().join("\n")),
        ("the bootstrap", bootstrap),
        ("CSDS", String::from_utf8_lossy(&prost::Message::encode_to_vec(&answer)).into_owned()),
    ]);
    for page in ["/debug/xds/dump", "/debug/xds/clients", "/debug/objects", "/metrics"] {
        shown.insert(page, control.admin(page).await.text());
    }
    assert!(shown["/debug/xds/dump"].contains("[redacted]") && shown["the log"].contains("xDS response"));
    let translated = stdout(run(&["translate", manifests.path().to_str().expect("UTF-8")]), "translate");
    shown.insert("translate", translated);
    for (place, text) in &shown {
        for line in &keys {
            assert!(!text.contains(line.as_str()), "a private key is in {place}");
        }
        assert!(!text.contains("PRIVATE KEY"), "a private key is in {place}");
    }
}

#[tokio::test]
async fn beyond_loopback_nothing_is_served_without_tls_unless_that_is_said() {
    let manifests = Manifests::new();
    let (port, admin) = (Port::lease(), Port::lease());
    let listen = format!("0.0.0.0:{}", port.number());
    let source = format!("dir:{}", manifests.path().display());
    let admin = admin.address().to_string();
    let arguments = ["serve", "--source", &source, "--admin-listen", &admin, "--xds-listen", &listen];
    let refused = run(&arguments);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&listen) && said.contains("--xds-tls-cert") && said.contains("--xds-insecure"), "{said}");

    let missing =
        run(&[&arguments[..], &["--xds-tls-cert", "/no/c", "--xds-tls-key", "/no/k", "--xds-client-ca", "/no/a"]]
            .concat());
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(missing.status.code() == Some(1) && said.contains("/no/c: there is no such file"), "{said}");
    let arguments: Vec<_> = arguments.iter().copied().chain(["--xds-insecure"]).collect();
    let served = Process::spawn("the control plane", command(&arguments));
    served.wait_for_line("xDS is served without TLS").await;
    served.wait_for_line("serving").await;
}
