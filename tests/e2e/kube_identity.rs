//! Certificates in a cluster, with a real API server: made once, by the replica that leads; kept fresh; and good for Envoys.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tailscale_gateway::{
    identity::{
        Authority, Bundle, Credentials, Lifetimes, SERVER_NAME, ServerIdentity, ServerNames, TrustDomain,
        accepts_client, accepts_server, trust::SecretData,
    },
    kubernetes::{
        CertificateProblems, ClientSecret, ClientSecrets, Identities, IdentityConfig, Leadership,
        identity::{AUTHORITIES_SECRET, CERTIFICATE_LABEL, Wanted, start},
    },
    metrics::Metrics,
    model::ObjectName,
    snapshot::SnapshotCache,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    site::until_answered,
    support::{
        backend::Backend,
        client,
        cluster::Cluster,
        envoy::{Envoy, Version},
        gateway::{Gateway, run},
        ports::Port,
        tools::stdout,
        wait::{until, within},
    },
};

/// A replica as far as certificates are concerned.
struct Replica {
    leads: watch::Sender<bool>,
    wanted: watch::Sender<ClientSecrets>,
    _hosted_is_known: watch::Sender<bool>,
    kept: Identities,
    metrics: Arc<Metrics>,
    _stop: DropGuard,
}

impl Replica {
    fn start(client: &Client, config: IdentityConfig, leads: bool) -> Self {
        let (leads, leader) = watch::channel(leads);
        let (wanted, secrets) = watch::channel(ClientSecrets::new());
        let (hosted_is_known, known) = watch::channel(true);
        let wants = Wanted { secrets, hosted_is_known: known };
        let metrics = Arc::new(Metrics::new(Arc::new(SnapshotCache::new())));
        let stop = CancellationToken::new();
        let leader = Leadership::new(leader, Duration::from_secs(15));
        let kept = start(client.clone(), config, leader, wants, Arc::clone(&metrics), stop.clone());
        Self { leads, wanted, _hosted_is_known: hosted_is_known, kept, metrics, _stop: stop.drop_guard() }
    }

    /// Waits for the server's identity to be as it is wanted.
    async fn server(&self, what: &str, holds: impl Fn(&ServerIdentity) -> bool) -> Arc<ServerIdentity> {
        let mut server = self.kept.server.clone();
        let known = |identity: &Option<Arc<ServerIdentity>>| identity.as_deref().is_some_and(&holds);
        let found = within(what, server.wait_for(known)).await.expect("the replica goes on").clone();
        found.expect("it was waited for")
    }

    async fn problems(&self, what: &str, holds: impl Fn(&CertificateProblems) -> bool) -> CertificateProblems {
        let mut problems = self.kept.problems.clone();
        let found = within(what, problems.wait_for(|problems| holds(problems))).await.expect("the replica goes on");
        CertificateProblems::clone(&found)
    }

    fn want(&self, secrets: &[ClientSecret]) {
        let wanted = secrets.iter().map(|secret| (secret.secret.clone(), Arc::new(secret.clone()))).collect();
        self.wanted.send_replace(wanted);
    }
}

fn config(namespace: &str, certificate: u64) -> IdentityConfig {
    let certificate = Duration::from_secs(certificate);
    IdentityConfig {
        namespace: namespace.to_owned(),
        lifetimes: Lifetimes::new(certificate * 4, certificate).expect("good"),
        trust_domain: TrustDomain::default(),
        names: ServerNames::new([SERVER_NAME]).expect("a name"),
        server_secret: None,
        client_ca_secret: None,
    }
}

/// An hour.
const LONG: u64 = 3600;

fn wanted(namespace: &str, gateway: &str) -> ClientSecret {
    ClientSecret {
        secret: ObjectName::new(namespace, format!("{gateway}-certificate")),
        gateway: ObjectName::new(namespace, gateway),
        metadata: json!({ "labels": { "example.com/of": gateway }, "annotations": { "example.com/a": "b" } }),
        if_there: false,
    }
}

fn data(secret: &Secret) -> SecretData {
    SecretData(secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect())
}

async fn until_secret(api: &Api<Secret>, name: &str, holds: impl Fn(&Secret) -> bool) -> Secret {
    until(&format!("Secret {name}"), async || {
        let secret = api.get_opt(name).await.map_err(|error| error.to_string())?.ok_or("it is not there")?;
        if holds(&secret) { Ok(secret) } else { Err(format!("{:?}", secret.metadata)) }
    })
    .await
}

/// Whether server and Envoys accept each other now.
fn assert_accepted(server: &ServerIdentity, secret: &Secret, server_name: &str) {
    let (data, now) = (data(secret), Timestamp::now());
    let envoy = data.credentials().expect("a certificate and its key").certificates().expect("good");
    assert_eq!(accepts_client(&server.clients, &envoy, now), Ok(()));
    let trusted = Bundle::read(data.part("ca.crt").expect("there are authorities")).expect("good");
    let chain = server.credentials.certificates().expect("good");
    assert_eq!(accepts_server(&trusted, &chain, server_name, now), Ok(()));
}

#[tokio::test]
async fn the_authority_is_made_once_by_the_replica_that_leads_and_every_replica_has_a_certificate_of_its_own() {
    let cluster = Cluster::shared().await;
    let (namespace, client) = (cluster.namespace("identity").await, cluster.client().await);
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let first = Replica::start(&client, config(&namespace, LONG), false);
    let second = Replica::start(&client, config(&namespace, LONG), true);
    let any = |_: &ServerIdentity| true;
    let (one, other) = (first.server("an identity", any).await, second.server("an identity", any).await);
    assert_eq!(one.clients, other.clients);
    assert_ne!(one.credentials.chain, other.credentials.chain, "each has its own");
    let made = api.get(AUTHORITIES_SECRET).await.expect("it is there");
    assert_eq!(made.metadata.labels.expect("labels")[CERTIFICATE_LABEL], "authority");

    // Another one leads: nothing is made anew.
    second.leads.send_replace(false);
    first.leads.send_replace(true);
    let third = Replica::start(&client, config(&namespace, LONG), true);
    let same = third.server("an identity", any).await;
    assert_eq!(same.clients, one.clients);
    first.want(&[wanted(&namespace, "web")]);
    let secret = until_secret(&api, "web-certificate", |_| true).await;
    for server in [&one, &other, &same] {
        assert_accepted(server, &secret, SERVER_NAME);
    }
    let writes = cluster.audit_events().await.into_iter().filter(|event| {
        event.namespace == namespace && event.resource == "secrets" && !["get", "list", "watch"].contains(&&*event.verb)
    });
    let writes: Vec<_> = writes.map(|event| (event.verb, event.name, event.code)).collect();
    let created = writes.iter().filter(|(verb, _, code)| verb == "create" && *code == 201).count();
    assert_eq!(created, 1, "{writes:?}");
    assert_eq!(writes.iter().filter(|(verb, ..)| verb == "patch").count(), 1, "{writes:?}");
}

/// The same client, but that the answers to writes of a Secret are held back: each is handed on when it is said to be.
fn withholding(client: Client, secret: &'static str, held: mpsc::UnboundedSender<oneshot::Sender<()>>) -> Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (client, held) = (client.clone(), held.clone());
        async move {
            let is_held = request.method() == http::Method::PATCH && request.uri().path().ends_with(secret);
            let answer = client.send(request).await;
            if is_held {
                let (hand_on, handed_on) = oneshot::channel();
                held.send(hand_on).expect("the test goes on");
                handed_on.await.expect("the test says so");
            }
            answer
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn a_write_under_way_when_the_lead_is_lost_is_waited_for_and_what_came_of_it_is_counted() {
    let cluster = Cluster::shared().await;
    let (namespace, client) = (cluster.namespace("identity").await, cluster.client().await);
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let (held, mut writes) = mpsc::unbounded_channel();
    let replica = Replica::start(&withholding(client, "/web-certificate", held), config(&namespace, LONG), true);
    replica.want(&[wanted(&namespace, "web")]);
    let answer = within("the write", writes.recv()).await.expect("the client goes on");
    let written = api.get("web-certificate").await.expect("the API server has done it");
    let issued = |count: u32| {
        let page = replica.metrics.render();
        let is_so = page.contains(&format!("tailscale_gateway_xds_certificates_issued_total{{of=\"client\"}} {count}"));
        if is_so { Ok(()) } else { Err(page) }
    };
    replica.leads.send_replace(false);
    // All tasks run on this thread: by now it knows.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!answer.is_closed(), "the write was dropped, and another replica may begin while it is under way");
    assert!(issued(1).is_err(), "nothing is known of it yet");
    answer.send(()).expect("it is waited for");
    until("the write to be counted", async || issued(1)).await;

    // Leading again, it finds what it has written, and writes what is new.
    replica.leads.send_replace(true);
    replica.want(&[wanted(&namespace, "web"), wanted(&namespace, "api")]);
    until_secret(&api, "api-certificate", |_| true).await;
    until("both to be counted", async || issued(2)).await;
    assert_eq!(data(&api.get("web-certificate").await.expect("it is there")), data(&written));
    assert!(writes.try_recv().is_err(), "it is written once");
}

#[tokio::test]
async fn a_gateways_secret_has_its_metadata_and_is_mended_when_it_is_changed_or_removed() {
    let cluster = Cluster::shared().await;
    let (namespace, client) = (cluster.namespace("identity").await, cluster.client().await);
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let replica = Replica::start(&client, config(&namespace, LONG), true);
    replica.want(&[wanted(&namespace, "web"), wanted(&namespace, "api")]);
    let web = until_secret(&api, "web-certificate", |_| true).await;
    until_secret(&api, "api-certificate", |_| true).await;
    let labels = web.metadata.labels.clone().expect("labels");
    assert_eq!((labels["example.com/of"].as_str(), labels[CERTIFICATE_LABEL].as_str()), ("web", "client"));
    assert_eq!(web.metadata.annotations.clone().expect("annotations")["example.com/a"], "b");
    assert_eq!(web.type_.as_deref(), Some("kubernetes.io/tls"));
    let id = data(&web).credentials().expect("good").facts().expect("good").client_id().expect("it has one");
    assert_eq!(id.to_string(), format!("spiffe://gateway.tailscale.com/ns/{namespace}/gateway/web"));

    let other_than = |before: &Secret| {
        let before = data(before);
        move |now: &Secret| data(now).part("tls.crt") != before.part("tls.crt") && data(now).credentials().is_some()
    };
    let damage = json!({ "data": { "tls.key": ByteString(b"nonsense".to_vec()) } });
    api.patch("web-certificate", &PatchParams::default(), &Patch::Merge(&damage)).await.expect("patched");
    let mended = until_secret(&api, "web-certificate", other_than(&web)).await;
    api.delete("web-certificate", &DeleteParams::default()).await.expect("deleted");
    let again = until_secret(&api, "web-certificate", other_than(&mended)).await;
    // What others add stays.
    let label = json!({ "metadata": { "labels": { "theirs": "yes" } } });
    api.patch("web-certificate", &PatchParams::default(), &Patch::Merge(&label)).await.expect("patched");
    let page = replica.metrics.render();
    assert!(page.contains("tailscale_gateway_xds_certificates_issued_total{of=\"client\"} 4"), "{page}");
    // A Gateway that is gone is forgotten; its Secret goes with its owner.
    replica.want(&[wanted(&namespace, "api")]);
    api.delete("web-certificate", &DeleteParams::default()).await.expect("deleted");
    api.delete("api-certificate", &DeleteParams::default()).await.expect("deleted");
    until_secret(&api, "api-certificate", |_| true).await;
    assert!(api.get_opt("web-certificate").await.expect("answered").is_none());
    drop(again);
}

#[tokio::test]
async fn a_secret_that_is_somebody_elses_is_not_written_over_but_used_if_it_is_good() {
    let cluster = Cluster::shared().await;
    let (namespace, client) = (cluster.namespace("identity").await, cluster.client().await);
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let theirs = json!({ "metadata": { "name": "web-certificate" }, "stringData": { "note": "mine" } });
    let theirs: Secret = serde_json::from_value(theirs).expect("a Secret");
    api.create(&PostParams::default(), &theirs).await.expect("created");
    let replica = Replica::start(&client, config(&namespace, LONG), true);
    replica.want(&[wanted(&namespace, "web")]);
    let gateway = ObjectName::new(&*namespace, "web");
    let problems = replica.problems("a problem", |problems| problems.contains_key(&gateway)).await;
    let said = &problems[&gateway];
    assert!(said.contains("web-certificate") && said.contains("somebody else's") && said.contains("note"), "{said}");
    assert_eq!(data(&api.get("web-certificate").await.expect("there")).0.len(), 1);
    // With the label it is ours.
    let label = json!({ "metadata": { "labels": { CERTIFICATE_LABEL: "client" } } });
    let patched = api.patch("web-certificate", &PatchParams::default(), &Patch::Merge(&label)).await;
    patched.expect("patched");
    // Of the wrong type for what is to stand in it: the API server's words are told.
    let problems = replica.problems("another problem", |problems| problems.get(&gateway) != Some(said)).await;
    assert!(problems[&gateway].contains("immutable"), "{problems:?}");
    api.delete("web-certificate", &DeleteParams::default()).await.expect("deleted");
    replica.problems("no problem", BTreeMap::is_empty).await;
    until_secret(&api, "web-certificate", |secret| data(secret).credentials().is_some()).await;
}

fn tls_secret(name: &str, credentials: &Credentials, authority: Option<&Authority>) -> Secret {
    let mut parts = json!({ "tls.crt": credentials.chain, "tls.key": credentials.key.expose() });
    if let Some(authority) = authority {
        parts["ca.crt"] = json!(authority.credentials().chain);
    }
    let secret = json!({ "metadata": { "name": name }, "type": "kubernetes.io/tls", "stringData": parts });
    serde_json::from_value(secret).expect("a Secret")
}

#[tokio::test]
async fn certificates_that_others_bring_are_used_and_followed() {
    let cluster = Cluster::shared().await;
    let (namespace, client) = (cluster.namespace("identity").await, cluster.client().await);
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut config = config(&namespace, LONG);
    config.server_secret = Some("server".to_owned());
    config.client_ca_secret = Some("clients".to_owned());
    let (now, lifetimes) = (Timestamp::now(), config.lifetimes);
    let (servers, clients) =
        (Authority::generate(now, lifetimes).expect("made"), Authority::generate(now, lifetimes).expect("made"));
    let issue = || {
        let names = ServerNames::new(["cp.example"]).expect("a name");
        servers.issue_server(&names, Timestamp::now(), lifetimes).expect("made")
    };
    let replica = Replica::start(&client, config, true);
    replica.want(&[wanted(&namespace, "web")]);
    let given = issue();
    let create = async |secret: Secret| api.create(&PostParams::default(), &secret).await.expect("created");
    create(tls_secret("server", &given, Some(&servers))).await;
    create(tls_secret("clients", clients.credentials(), None)).await;
    let shown = replica.server("an identity", |_| true).await;
    assert_eq!(shown.credentials, given);
    let secret = until_secret(&api, "web-certificate", |_| true).await;
    assert_accepted(&shown, &secret, "cp.example");

    // cert-manager renews it.
    let renewed = issue();
    let patch = json!({ "stringData": { "tls.crt": renewed.chain, "tls.key": renewed.key.expose() } });
    api.patch("server", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("patched");
    let shown = replica.server("the renewed one", |identity| identity.credentials == renewed).await;
    assert_accepted(&shown, &secret, "cp.example");
    // What is damaged or gone changes nothing.
    api.delete("server", &DeleteParams::default()).await.expect("deleted");
    let other = tls_secret("server", &issue(), None);
    create(other).await;
    assert!(api.get_opt(AUTHORITIES_SECRET).await.expect("answered").is_none(), "none of ours is needed");
    assert_eq!(replica.kept.server.borrow().as_deref(), Some(&*shown));
}

#[tokio::test]
async fn authorities_and_certificates_of_seconds_are_rotated_and_everybody_accepts_everybody_all_the_time() {
    let cluster = Cluster::shared().await;
    let (namespace, client) = (cluster.namespace("identity").await, cluster.client().await);
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let replicas = [true, false].map(|leads| Replica::start(&client, config(&namespace, 8), leads));
    replicas[0].want(&[wanted(&namespace, "web")]);
    let first = until_secret(&api, "web-certificate", |_| true).await;
    let authority = |data: &SecretData| data.part("tls.crt").map(<[u8]>::to_vec);
    let begin = authority(&data(&api.get(AUTHORITIES_SECRET).await.expect("there")));
    // What an Envoy has that looks only when its own certificate asks for it.
    let mut held = first.clone();
    let mut certificates = 0;
    loop {
        let own = data(&api.get(AUTHORITIES_SECRET).await.expect("there"));
        let secret = api.get("web-certificate").await.expect("there");
        let facts = data(&held).credentials().expect("good").facts().expect("good");
        if Timestamp::now() >= tailscale_gateway::identity::renew_at(facts.not_before, facts.not_after)
            && data(&secret) != data(&held)
        {
            held = secret.clone();
            certificates += 1;
        }
        for replica in &replicas {
            let server = replica.server("an identity", |_| true).await;
            for secret in [&secret, &held] {
                assert_accepted(&server, secret, SERVER_NAME);
            }
        }
        let renewed = |replica: &Replica| {
            let chain = replica.kept.server.borrow().as_ref().map(|server| server.credentials.clone());
            let trusted = Bundle::read(&authority(&own).expect("there is one")).expect("good");
            let chain = chain.expect("it is there").certificates().expect("good");
            accepts_server(&trusted, &chain, SERVER_NAME, Timestamp::now()).is_ok()
        };
        if authority(&own) != begin && replicas.iter().all(renewed) && certificates >= 3 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(
        own_parts(&api)
            .await
            .iter()
            .all(|part| ["ca.crt", "tls.crt", "tls.key", "next.crt", "next.key"].contains(&&**part))
    );
}

async fn own_parts(api: &Api<Secret>) -> Vec<String> {
    data(&api.get(AUTHORITIES_SECRET).await.expect("there")).0.into_keys().collect()
}

#[tokio::test]
async fn an_envoy_outside_of_the_cluster_gets_its_certificate_and_bootstrap_by_one_command() {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply_our_crds().await;
    let (namespace, client) = ("default".to_owned(), cluster.client().await);
    let (http, backend) = (Port::lease(), Backend::start("blue").await);
    cluster
        .apply(&format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: tailscale}}
spec: {{controllerName: gateway.tailscale.com/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{namespace: default, name: web, annotations: {{gateway.tailscale.com/infrastructure: external}}}}
spec:
  gatewayClassName: tailscale
  listeners: [{{name: http, protocol: HTTP, port: {}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{namespace: default, name: all}}
spec:
  parentRefs: [{{name: web}}]
  rules: [{{backendRefs: [{{name: blue, port: 80}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{namespace: default, name: blue}}
spec: {{ports: [{{name: http, port: 80}}]}}
",
            http.number()
        ))
        .await;
    cluster.set_endpoints("default", "blue", "http", &[backend.address()]).await;
    let control = Gateway::start_secure_in_cluster(&cluster.kubeconfig(), &["--namespace", "default"]).await;
    // The part of the leader that is told which Gateways there are.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    until_secret(&secrets, AUTHORITIES_SECRET, |_| true).await;
    let replica = Replica::start(&client, config(&namespace, LONG), true);
    replica.want(&[wanted("default", "web")]);
    until_secret(&secrets, "web-certificate", |_| true).await;

    let kubeconfig = cluster.kubeconfig().display().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = folder.path().join("certificates").display().to_string();
    for flags in [&["--kubeconfig", &*kubeconfig][..], &["--kubeconfig", &kubeconfig, "--certificates", &certificates]]
    {
        let admin = Port::lease();
        let envoy = Envoy::start(Version::Latest, &control.bootstrap("default/web", &admin, flags)).await;
        envoy.ready().await;
        let request = client::get(http.address(), "/").host("web.example");
        until_answered("an answer", &request, |response| response.header("x-backend") == Some("blue")).await;
    }
    let handshakes = control.metrics().await;
    assert!(!handshakes.keys().any(|series| series.contains("handshake_failures")), "{handshakes:#?}");

    let none = run(&["bootstrap", "--gateway", "default/other", "--kubeconfig", &kubeconfig]);
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(
        none.status.code() == Some(1) && said.contains("no certificate") || said.contains("has a certificate"),
        "{said}"
    );
    let shown = stdout(run(&["bootstrap", "--gateway", "default/web", "--kubeconfig", &kubeconfig]), "bootstrap");
    let bootstrap: Value = serde_saphyr::from_str(&shown).expect("it is YAML");
    let context = &bootstrap["static_resources"]["clusters"][0]["transport_socket"]["typed_config"];
    assert_eq!(context["sni"], SERVER_NAME);
}
