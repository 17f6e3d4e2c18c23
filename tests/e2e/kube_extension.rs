//! Envoy Gateways in a cluster, with a real API server: the objects by which they notice that they have to translate again, and
//! the certificates by which their Envoys reach our xDS.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt as _;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use prost::Message;
use serde_json::{Value, json};
use tailscale_gateway::{
    api::TailscaleGatewayRevision,
    extension::{Hook, hooks::SERVICE},
    identity::{Bundle, Credentials, SERVER_NAME},
    metrics::Metrics,
    model::{GATEWAY_HEADER, GatewayRevision, Kind, ObjectName},
    snapshot::{Resource, SnapshotCache, TypeUrl, ViewChange},
    source::FileWorld,
    xds::{Registry, ServerOptions, server::serve},
};
use tailscale_gateway_proto::envoy::{
    config::{
        cluster::v3::Cluster as EnvoyCluster, core::v3::Node, endpoint::v3::ClusterLoadAssignment,
        listener::v3::Listener, route::v3::RouteConfiguration,
    },
    extensions::transport_sockets::tls::v3::Secret as EnvoySecret,
    service::discovery::v3::{
        DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    task::{self, AbortHandle},
};
use tokio_util::sync::CancellationToken;

use crate::{
    site::until_answered,
    support::{
        backend::Backend,
        client,
        cluster::Cluster,
        envoy::{Envoy, Version},
        envoy_gateway::{Configuration, Resources, lists, name_of, translate},
        gateway::{Gateway, command, run},
        manifests::Manifests,
        mtls,
        ports::Port,
        tools::stdout,
        wait::until,
    },
};

/// A tailnet.
pub(crate) const TAILNET: &str = "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleTailnet
metadata: {name: corp}
spec: {tailnet: example.ts.net, oauthSecretName: oauth, oauthSecretNamespace: default}
";

/// An Envoy Gateway's class, a Gateway of it, and our word that tailnets are reached through it.
pub(crate) fn hosted(name: &str, port: u16) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: eg}}
spec: {{controllerName: gateway.envoyproxy.io/gatewayclass-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{namespace: default, name: {name}}}
spec:
  gatewayClassName: eg
  listeners: [{{name: http, protocol: HTTP, port: {port}}}]
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleGateway
metadata: {{namespace: default, name: {name}}}
spec:
  gatewayRef: {{name: {name}}}
  tailnets: [{{name: corp, tailscaleTailnetRef: {{name: corp}}}}]
---
"
    )
}

pub(crate) fn machines(target: &str, timeout: &str) -> String {
    format!(
        "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: {{namespace: default, name: machines}}
spec:
  tailnet: corp
  endpoints:
  - name: web
    port: 80
    externalTarget: '{target}'
    healthCheck: {{enabled: false, timeout: {timeout}}}
  - {{name: docs, port: 81, externalTarget: 'docs.localhost:80', weight: 1}}
---
"
    )
}

const NAME: &str = "TailscaleGatewayRevision";

/// What stands in the object of Gateway `default/NAME`.
pub(crate) async fn revision(cluster: &Cluster, name: &str) -> Option<TailscaleGatewayRevision> {
    let api: Api<TailscaleGatewayRevision> = Api::namespaced(cluster.client().await, "default");
    api.get_opt(name).await.unwrap_or_else(|error| panic!("{NAME} {name}: {error}"))
}

/// Waits until the object of a Gateway says what the control plane has to say.
pub(crate) async fn until_told(cluster: &Cluster, control: &Gateway, name: &str) -> TailscaleGatewayRevision {
    until(&format!("{NAME} {name} to be up to date"), async || {
        let page = control.admin("/debug/extension").await.json();
        let gateways = page["gateways"].as_array().cloned().unwrap_or_default();
        let gateway = gateways.iter().find(|gateway| gateway["gateway"] == format!("default/{name}"));
        let wanted = gateway.and_then(|gateway| gateway["revision"].as_str()).ok_or("nothing is wanted")?;
        let wanted = GatewayRevision::new(u128::from_str_radix(wanted, 16).expect("it is a number"), None);
        let found = revision(cluster, name).await.ok_or("it is not there")?;
        match found.revision() {
            Some(told) if told.says_the_same(&wanted) => Ok(found),
            told => Err(format!("{told:?} in place of {wanted:?}")),
        }
    })
    .await
}

/// The writes to objects of the kind.
async fn writes(cluster: &Cluster, verb: &str) -> usize {
    let events = cluster.audit_events().await;
    let of_kind = |resource: &str| resource == Kind::TailscaleGatewayRevision.plural();
    events.iter().filter(|event| of_kind(&event.resource) && event.verb == verb && event.subresource.is_empty()).count()
}

/// Changes TailscaleEndpoints `default/machines`.
async fn patch_machines(cluster: &Cluster, spec: Value) {
    let kind = Kind::TailscaleEndpoints;
    let resource = ApiResource {
        group: kind.group().into(),
        version: "v1alpha1".into(),
        api_version: format!("{}/v1alpha1", kind.group()),
        kind: kind.as_str().into(),
        plural: kind.plural().into(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client().await, "default", &resource);
    let patched = api.patch("machines", &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await;
    patched.unwrap_or_else(|error| panic!("machines: {error}"));
}

#[tokio::test]
async fn an_envoy_gateway_is_told_to_translate_again_when_what_hooks_put_in_changes_and_at_most_once_a_second() {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply_our_crds().await;
    let definition = format!("{}.{}", Kind::TailscaleGatewayRevision.plural(), Kind::TailscaleGatewayRevision.group());
    cluster.kubectl(&["delete", "crd", &definition]).await.expect_success();
    let folder = TempDir::new().expect("a temporary folder can be made");
    let socket = format!("unix:{}", folder.path().join("extension").display());
    let flags = ["--extension-listen", socket.as_str(), "--extension-xds", "{xds}", "--lease-seconds", "3"];
    let mut control = Gateway::start_in_cluster(&cluster.kubeconfig(), &flags).await;
    cluster.apply(&format!("{TAILNET}---{}{}", hosted("eg", 8080), machines("127.0.0.1:8001", "5s"))).await;

    // Without the definition nothing is written, and everything else goes on.
    until("Gateway eg to be served", async || {
        let page = control.admin("/debug/extension").await.json();
        if page["gateways"][0]["revision"].is_string() { Ok(()) } else { Err(page.to_string()) }
    })
    .await;
    let warnings = |control: &Gateway| {
        let lines = control.process().lines();
        lines.iter().filter(|line| line.contains(&definition) && line.contains("not installed")).count()
    };
    assert_eq!(warnings(&control), 1);
    assert_eq!(writes(&cluster, "patch").await, 0);
    cluster.apply_our_crds().await;
    let first = until_told(&cluster, &control, "eg").await;
    assert_eq!(warnings(&control), 1);

    // It goes with its Gateway.
    let get = ["get", "gateway", "eg", "--output", "jsonpath={.metadata.uid}"];
    let uid = cluster.kubectl(&get).await.expect_success();
    let owners = first.metadata.owner_references.clone().unwrap_or_default();
    assert_eq!(owners.iter().map(|owner| (&*owner.kind, &*owner.uid)).collect::<Vec<_>>(), [("Gateway", &*uid)]);
    assert_eq!(first.spec.target_refs[0].name, "eg");
    assert_eq!(writes(&cluster, "patch").await, 1);

    // An address reaches Envoys by EDS: that is no news for the Envoy Gateway.
    cluster.apply(&machines("127.0.0.1:8002", "5s")).await;
    until("the address to be served", async || {
        let dump = control.admin("/debug/xds/dump?gateway=default/eg&type=ClusterLoadAssignment").await.text();
        if dump.contains("8002") { Ok(()) } else { Err(dump) }
    })
    .await;
    assert_eq!(until_told(&cluster, &control, "eg").await.spec, first.spec);
    assert_eq!(writes(&cluster, "patch").await, 1);

    // What stands in a cluster is. However many changes there are, each write says something new, a second after the last.
    let began = Instant::now();
    for at in 0..40 {
        patch_machines(
            &cluster,
            json!({ "endpoints": [{
            "name": "web", "port": 80, "externalTarget": format!("host-{at}.localhost:80"),
        }] }),
        )
        .await;
    }
    let last = until_told(&cluster, &control, "eg").await;
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("the test ends");
    let written = writes(&cluster, "patch").await;
    assert_ne!(last.spec.revision, first.spec.revision);
    assert_eq!(last.metadata.generation, i64::try_from(written).ok(), "a write that changed nothing");
    assert!((2..=seconds + 3).contains(&written), "{written} writes within {seconds} s");

    // Whoever leads next finds what stands there, and writes when that is no longer right.
    control.restart().await;
    patch_machines(
        &cluster,
        json!({ "endpoints": [{ "name": "web", "port": 80, "externalTarget": "new.localhost:80" }] }),
    )
    .await;
    until("one more write", async || match writes(&cluster, "patch").await - written {
        1 => Ok(()),
        other => Err(format!("{other} of them")),
    })
    .await;
    let told = until_told(&cluster, &control, "eg").await;
    assert_eq!(
        (told.metadata.generation, writes(&cluster, "patch").await),
        (i64::try_from(written + 1).ok(), written + 1)
    );
    control
        .wait_for_metric("tailscale_gateway_extension_revisions_total{result=\"written\"}", |count| count == Some(1.0))
        .await;

    // What somebody changes is mended; what somebody deletes comes again.
    let patch = json!({ "spec": { "revision": "00" } }).to_string();
    cluster
        .kubectl(&["patch", Kind::TailscaleGatewayRevision.plural(), "eg", "--type=merge", "--patch", &patch])
        .await
        .expect_success();
    until_told(&cluster, &control, "eg").await;
    cluster.kubectl(&["delete", Kind::TailscaleGatewayRevision.plural(), "eg"]).await.expect_success();
    until_told(&cluster, &control, "eg").await;

    // Without anything of ours in it there is nothing to tell.
    assert_eq!(writes(&cluster, "delete").await, 1, "the test's own");
    cluster.kubectl(&["delete", "tailscalegateway", "eg"]).await.expect_success();
    until("the object to go", async || match revision(&cluster, "eg").await {
        None => Ok(()),
        Some(object) => Err(format!("{:?}", object.spec)),
    })
    .await;
    assert_eq!(writes(&cluster, "delete").await, 2);
    assert!(control.terminate().await.success());
}

#[tokio::test]
async fn without_a_cluster_an_envoy_gateway_is_told_by_files() {
    let port = Port::lease();
    let manifests = Manifests::with(&[
        ("gateway.yaml", &format!("{TAILNET}---{}", hosted("eg", port.address().port()))),
        ("machines.yaml", &machines("127.0.0.1:8001", "5s")),
    ]);
    let folder = TempDir::new().expect("a temporary folder can be made");
    let (socket, revisions) =
        (format!("unix:{}", folder.path().join("extension").display()), folder.path().join("told"));
    let told = revisions.to_str().expect("its path is UTF-8");
    let flags = ["--extension-listen", &socket, "--extension-revisions", told];
    let mut control = Gateway::start_with(manifests.path(), &flags).await;
    let file = revisions.join("default.eg.yaml");
    let read = |file: &Path| std::fs::read_to_string(file).map_err(|error| error.to_string());
    let first = until("a file", async || read(&file)).await;
    let object: TailscaleGatewayRevision = serde_saphyr::from_str(&first).expect("it is one");
    assert!(object.is_ours() && object.revision().is_some(), "{first}");

    // Without a way to our xDS an address goes through the Envoy Gateway.
    manifests.write("machines.yaml", machines("127.0.0.1:8002", "5s"));
    let second = until("another revision", async || {
        read(&file).and_then(|text| if text == first { Err(text) } else { Ok(text) })
    })
    .await;
    control.restart().await;
    assert_eq!(read(&file), Ok(second), "what stands there is right");
    manifests.write("gateway.yaml", TAILNET);
    until("the file to go", async || if file.exists() { read(&file).and_then(Err) } else { Ok(()) }).await;
    assert!(control.terminate().await.success());
}

#[tokio::test]
async fn flags_that_an_envoy_gateway_could_do_nothing_with_are_refused() {
    let cluster = Cluster::shared().await;
    let kubeconfig = cluster.kubeconfig();
    let kubeconfig = kubeconfig.to_str().expect("its path is UTF-8");
    let folder = TempDir::new().expect("a temporary folder can be made");
    let path = folder.path().to_str().expect("its path is UTF-8");
    let certificates = run(&["certificates", "--out", path]);
    assert!(certificates.status.success());
    let server = |file: &str| format!("{path}/server/{file}");
    let (cert, key, ca) = (server("tls.crt"), server("tls.key"), server("ca.crt"));
    let source = format!("dir:{path}");
    let (taken, too_long) = (format!("unix:{cert}"), format!("unix:{path}/{}", "x".repeat(100)));
    let cases: [(&[&str], &str); 8] = [
        (
            &[
                "--source",
                "kubernetes",
                "--kubeconfig",
                kubeconfig,
                "--extension-listen",
                "off",
                "--extension-revisions",
                path,
            ],
            "--extension-revisions is for --source dir:PATH",
        ),
        (
            &[
                "--source",
                &source,
                "--extension-listen",
                "127.0.0.1:0",
                "--extension-xds",
                "127.0.0.1:18000",
                "--xds-tls-cert",
                &cert,
                "--xds-tls-key",
                &key,
                "--xds-client-ca",
                &ca,
            ],
            "--extension-xds: xDS wants certificates (--xds-client-ca)",
        ),
        (&["--source", &source, "--extension-revisions", path], "--extension-listen"),
        (
            &["--source", &source, "--extension-listen", "off", "--extension-revisions", path],
            "--extension-revisions has no effect",
        ),
        (
            &["--source", &source, "--extension-tls-cert", &cert, "--extension-tls-key", &key],
            "--extension-tls-cert has no effect, since Envoy Gateways are answered nowhere: say where with --extension-listen",
        ),
        (&["--source", &source, "--extension-xds", "127.0.0.1:18000"], "--extension-xds has no effect"),
        (&["--source", &source, "--extension-listen", &taken], "something else than a socket file"),
        (&["--source", &source, "--extension-listen", &too_long], "that of a socket file has 107 at most; choose"),
    ];
    for (flags, message) in cases {
        let output = command(&["serve"]).args(flags).output().expect("our binary can be started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(message), "{flags:?}: {said}");
    }
}

/// A played Envoy Gateway, and what its Envoys get from it.
struct Played {
    objects: String,
    extension: SocketAddr,
    served: Arc<SnapshotCache>,
    xds: SocketAddr,
    published: Mutex<BTreeSet<(TypeUrl, String)>>,
    server: AbortHandle,
}

impl Drop for Played {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Played {
    async fn start(objects: String, extension: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
        let xds = listener.local_addr().expect("it is bound");
        let served = Arc::new(SnapshotCache::new());
        let metrics = Arc::new(Metrics::new(Arc::clone(&served)));
        let shutdown = CancellationToken::new().cancelled_owned();
        let serving = serve(
            listener,
            Arc::clone(&served),
            Arc::new(Registry::default()),
            metrics,
            ServerOptions::default(),
            shutdown,
        );
        let server = tokio::spawn(serving).abort_handle();
        Self { objects, extension, served, xds, published: Mutex::default(), server }
    }

    /// Translates Gateway `default/eg`, asking our extension server, and serves what comes of it.
    async fn translate(&self) -> Resources {
        let (objects, extension, runtime) = (self.objects.clone(), self.extension, Handle::current());
        let made = task::spawn_blocking(move || {
            let mut world = FileWorld::new();
            world.load(Path::new("objects.yaml"), objects.as_bytes());
            assert_eq!(world.problems(), []);
            let gateways = [ObjectName::new("default", "eg")];
            let mut ask = |hook, request| runtime.block_on(ask(extension, hook, request));
            translate(world.objects(), &gateways, &Configuration::default(), &mut ask)
        });
        let made = made.await.expect("it ends");
        let mut resources: Vec<Resource> = Vec::new();
        for (_, type_url, list) in lists(&made) {
            let type_url = TypeUrl::parse(&format!("type.googleapis.com/{type_url}")).expect("it is one");
            resources.extend(list.iter().map(|message| encoded(type_url, message)));
        }
        resources.extend(made.endpoints.iter().map(|message| encoded(TypeUrl::Endpoints, message)));
        let now: BTreeSet<(TypeUrl, String)> =
            resources.iter().map(|resource| (resource.type_url(), resource.name().to_string())).collect();
        let before = std::mem::replace(&mut *self.published.lock().expect("no panic"), now.clone());
        let gone = before.difference(&now).map(|(type_url, name)| ViewChange {
            type_url: *type_url,
            name: name.as_str().into(),
            resource: None,
        });
        let mut changes: Vec<ViewChange> = gone.collect();
        changes.extend(resources.into_iter().map(|resource| ViewChange {
            type_url: resource.type_url(),
            name: Arc::clone(resource.name()),
            resource: Some(Arc::new(resource)),
        }));
        self.served.publish(&ObjectName::new("default", "eg"), changes);
        self.served.set_ready();
        made
    }

    /// Translates until that gives a certificate for our xDS.
    async fn until_certified(&self) -> Resources {
        until("a translation with a certificate", async || {
            let made = self.translate().await;
            let names: Vec<String> = made.secrets.iter().map(|secret| name_of(secret)).collect();
            if names.iter().any(|name| name == POINTER) { Ok(made) } else { Err(format!("{names:?}")) }
        })
        .await
    }

    /// An Envoy with that configuration; its admin interface is at `admin`.
    async fn envoy(&self, admin: &Port) -> Envoy {
        let (ads, admin) = (self.xds.to_string(), admin.address().to_string());
        let bootstrap = run(&["bootstrap", "--gateway", "default/eg", "--xds", &ads, "--admin", &admin]);
        Envoy::start(Version::Latest, &stdout(bootstrap, "tailscale-gateway bootstrap")).await
    }
}

/// The cluster that leads Envoys of Gateway `default/eg` to our xDS, and the certificate that they show there.
const POINTER: &str = "tailscale-xds/default/eg";

fn encoded(type_url: TypeUrl, message: &Bytes) -> Resource {
    fn of<M: Message + Default>(type_url: TypeUrl, message: &Bytes) -> Resource {
        let name = match type_url {
            // Its name is its first field, too.
            TypeUrl::Endpoints => ClusterLoadAssignment::decode(message.clone()).expect("it is one").cluster_name,
            _ => name_of(message),
        };
        Resource::new(type_url, name, &M::decode(message.clone()).expect("it is one"))
    }
    match type_url {
        TypeUrl::Cluster => of::<EnvoyCluster>(type_url, message),
        TypeUrl::Secret => of::<EnvoySecret>(type_url, message),
        TypeUrl::Listener => of::<Listener>(type_url, message),
        TypeUrl::Route => of::<RouteConfiguration>(type_url, message),
        _ => of::<ClusterLoadAssignment>(type_url, message),
    }
}

/// Calls a hook, as an Envoy Gateway does.
async fn ask(extension: SocketAddr, hook: Hook, message: Bytes) -> Bytes {
    let stream = TcpStream::connect(extension).await.expect("the extension server listens");
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("it is not so large"));
    framed.extend_from_slice(&message);
    let request = http::Request::post(format!("http://extension/{SERVICE}/{}", hook.method()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed.freeze()))
        .expect("it is whole");
    let response = client.send_request(request).await.expect("it answers").into_body().collect().await;
    let mut answer = response.expect("it ends").to_bytes();
    answer.advance(5);
    answer
}

#[tokio::test]
async fn envoys_of_an_envoy_gateway_fetch_endpoints_from_us_with_a_certificate_that_they_get_through_it() {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply_our_crds().await;
    cluster.create_namespace("system", &[]).await;
    let (http, extension, first, second) =
        (Port::lease(), Port::lease(), Backend::start("first").await, Backend::start("second").await);
    let listen = extension.address().to_string();
    let flags = ["--namespace", "system", "--extension-listen", &listen, "--extension-xds", "{xds}"];
    let control = Gateway::start_secure_in_cluster(&cluster.kubeconfig(), &flags).await;
    let objects =
        format!("{TAILNET}---{}{}", hosted("eg", http.address().port()), machines(&first.address().to_string(), "5s"));
    cluster.apply(&objects).await;
    cluster.apply(&hosted("other", 8081)).await;

    let played = Played::start(objects, extension.address()).await;
    let api: Api<Secret> = Api::namespaced(cluster.client().await, "system");
    let material = async |name: &str| {
        until(&format!("Secret {name}"), async || {
            let secret = api.get_opt(name).await.map_err(|error| error.to_string())?.ok_or("it is not there")?;
            let data = secret.data.unwrap_or_default();
            let part = |key: &str| data.get(key).map(|part| part.0.clone()).ok_or_else(|| format!("it has no {key}"));
            let credentials =
                Credentials::read(&part("tls.crt")?, &part("tls.key")?).map_err(|error| error.to_string())?;
            Ok((credentials, Bundle::read(&part("ca.crt")?).map_err(|error| error.to_string())?))
        })
        .await
    };
    let (_, trusted) = material("xds.default.eg").await;
    let (others, _) = material("xds.default.other").await;

    // The revision that is told last has the certificate in it; then what a translation gives has it, too.
    let made = played.until_certified().await;
    assert!(made.clusters.iter().any(|cluster| name_of(cluster) == POINTER));
    let told = until_told(&cluster, &control, "eg").await;

    // An Envoy with that configuration asks us over mutual TLS.
    let admin = Port::lease();
    let envoy = played.envoy(&admin).await;
    let request = client::get(http.address(), "/api/web/status");
    until_answered("the first machine", &request, |response| {
        response.status == 200 && response.text().contains("first")
    })
    .await;
    let before = control.calls().await;
    patch_machines(&cluster, json!({ "endpoints": [{
        "name": "web", "port": 80, "externalTarget": second.address().to_string(), "healthCheck": { "enabled": false, "timeout": "5s" },
    }, { "name": "docs", "port": 81, "externalTarget": "docs.localhost:80", "weight": 1 }] }))
    .await;
    until_answered("the second machine", &request, |response| response.text().contains("second")).await;
    assert_eq!(control.calls().await, before, "a hook was called");
    assert_eq!(until_told(&cluster, &control, "eg").await.spec, told.spec);

    // What it may ask for is its own, and of that there is nothing but what clusters refer to.
    let stranger = ads_status(control.xds(), &others, &trusted, "default/eg").await;
    assert_eq!(stranger, tonic::Code::PermissionDenied);
    control
        .wait_for_metric("tailscale_gateway_xds_denied_total{reason=\"other_gateway\"}", |count| count == Some(1.0))
        .await;
    let dump = control.admin("/debug/xds/dump?gateway=default/eg").await.json();
    let kinds: BTreeSet<&str> =
        dump["dump"].as_array().into_iter().flatten().filter_map(|of| of["typeUrl"].as_str()).collect();
    assert_eq!(kinds, BTreeSet::from([TypeUrl::Endpoints.as_str()]));

    // Another certificate is something to translate again for.
    let shown = certificate(&envoy.config_dump().await, POINTER);
    assert!(shown.is_some());
    let (old, _) = material("xds.default.eg").await;
    cluster.kubectl(&["delete", "secret", "xds.default.eg", "--namespace", "system"]).await.expect_success();
    until("another certificate to be told", async || {
        let now = revision(&cluster, "eg").await.ok_or("it is not there")?;
        let (new, _) = material("xds.default.eg").await;
        if now.spec != told.spec && new.chain != old.chain { Ok(()) } else { Err("it is as it was".to_owned()) }
    })
    .await;
    until_told(&cluster, &control, "eg").await;
    played.translate().await;
    envoy.wait_for_config("the other certificate", |config| certificate(config, POINTER) != shown).await;
    until_answered("the second machine still", &request, |response| response.text().contains("second")).await;

    // No key is shown to anybody.
    let key: String = old.key.expose().lines().nth(1).expect("a key has lines").to_owned();
    for path in ["/debug/extension", "/debug/xds/dump", "/debug/objects", "/debug/xds/clients", "/metrics"] {
        let page = control.admin(path).await.text();
        assert!(!page.contains("PRIVATE KEY") && !page.contains(&key), "{path}");
    }
    assert!(!control.process().lines().iter().any(|line| line.contains("PRIVATE KEY") || line.contains(&key)));

    // The certificate goes with the last thing that it was good for.
    cluster.kubectl(&["delete", "tailscalegateway", "other"]).await.expect_success();
    until("the Secret to go", async || {
        let found = api.get_opt("xds.default.other").await.map_err(|error| error.to_string())?;
        if found.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await;
    assert!(api.get_opt("xds.default.eg").await.expect("the API server answers").is_some());
    assert!(control.terminate().await.success());
}

#[tokio::test]
async fn with_an_xds_certificate_of_ones_own_that_of_the_envoys_is_made_by_hand_as_the_log_says() {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply_our_crds().await;
    cluster.create_namespace("system", &[]).await;
    let folder = TempDir::new().expect("a temporary folder can be made");
    let path = folder.path().to_str().expect("its path is UTF-8");
    let made = run(&["certificates", "--out", path, "--server-name", SERVER_NAME, "--gateway", "default/eg"]);
    stdout(made, "tailscale-gateway certificates");
    let server = |file: &str| format!("{path}/server/{file}");
    let (http, extension, first, second) =
        (Port::lease(), Port::lease(), Backend::start("first").await, Backend::start("second").await);
    let listen = extension.address().to_string();
    let flags = ["--namespace", "system", "--extension-listen", &listen, "--extension-xds", "{xds}"];
    let (cert, key, ca) = (server("tls.crt"), server("tls.key"), server("ca.crt"));
    let own = ["--xds-tls-cert", &cert, "--xds-tls-key", &key, "--xds-client-ca", &ca];
    let control = Gateway::start_secure_in_cluster(&cluster.kubeconfig(), &[&flags[..], &own].concat()).await;
    let said = control.process().wait_for_line("with --xds-tls-cert nobody makes certificates").await;
    for part in ["\"WARN\"", "xds.GATEWAY-NAMESPACE.GATEWAY", "\"namespace\":\"system\"", SERVER_NAME] {
        assert!(said.contains(part), "nothing of {part}: {said}");
    }

    // Until then endpoints stand in the clusters that go through the Envoy Gateway.
    let machine = |backend: &Backend| machines(&backend.address().to_string(), "5s");
    let objects = format!("{TAILNET}---{}{}", hosted("eg", http.address().port()), machine(&first));
    cluster.apply(&objects).await;
    until_told(&cluster, &control, "eg").await;
    let played = Played::start(objects, extension.address()).await;
    let made = played.translate().await;
    let names = |list: &[Bytes]| -> Vec<String> { list.iter().map(|one| name_of(one)).collect() };
    assert!(names(&made.clusters).iter().any(|name| name == "endpoint/default/machines/web"));
    assert!(!names(&made.clusters).iter().any(|name| name == POINTER));

    // As the guide has it.
    let files = format!("{path}/gateway/default/eg");
    let create = ["create", "secret", "generic", "xds.default.eg", "--namespace", "system", "--from-file", &files];
    cluster.kubectl(&create).await.expect_success();
    played.until_certified().await;
    let admin = Port::lease();
    let _envoy = played.envoy(&admin).await;
    let request = client::get(http.address(), "/api/web/status");
    until_answered("the first machine", &request, |response| response.text().contains("first")).await;
    let before = control.calls().await;
    cluster.apply(&machine(&second)).await;
    until_answered("the second machine", &request, |response| response.text().contains("second")).await;
    assert_eq!(control.calls().await, before, "a hook was called");
    assert!(control.terminate().await.success());
}

/// Which version of a secret an Envoy has.
fn certificate(config: &Value, name: &str) -> Option<String> {
    let parts = config["configs"].as_array()?.iter();
    let mut secrets = parts.filter_map(|part| part["dynamic_active_secrets"].as_array()).flatten();
    secrets.find(|secret| secret["name"] == name)?["version_info"].as_str().map(str::to_owned)
}

/// How a stream ends that shows a certificate and asks for a Gateway's configuration.
async fn ads_status(xds: SocketAddr, credentials: &Credentials, trusted: &Bundle, gateway: &str) -> tonic::Code {
    let channel = mtls::connect_as(xds, SERVER_NAME, mtls::client(trusted, Some(credentials))).await;
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let first = DeltaDiscoveryRequest {
        node: Some(Node { id: "stranger".into(), cluster: "whatever".into(), ..Default::default() }),
        type_url: TypeUrl::Endpoints.as_str().into(),
        ..Default::default()
    };
    let requests = futures::stream::iter([first]).chain(futures::stream::pending());
    let mut request = tonic::Request::new(requests);
    request.metadata_mut().insert(GATEWAY_HEADER, gateway.parse().expect("it is ASCII"));
    match client.delta_aggregated_resources(request).await {
        Err(status) => status.code(),
        Ok(response) => match response.into_inner().message().await {
            Err(status) => status.code(),
            Ok(_) => tonic::Code::Ok,
        },
    }
}
