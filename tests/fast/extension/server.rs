//! The extension port, asked over loopback by a client that is not ours.

use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tailscale_gateway::{
    api::{Object, TailscaleGatewayRevision},
    extension::{Bound, Calls, Hook, ServerOptions, hooks::SERVICE, serve, server_config, splice::delimited},
    metrics::Metrics,
    model::{GatewayRevision, Kind},
    snapshot::{Hosted, PublishedHosted, SnapshotCache},
    store::Change,
};
use tailscale_gateway_proto::envoy_gateway::{
    ExtensionResource, PostTranslateModifyRequest, PostTranslateModifyResponse,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::wire::hosted;
use crate::support::{
    ports::Port,
    tls::{Authority, Certificate},
    wait::until,
};

/// A running extension server.
struct Server {
    hosted: Arc<PublishedHosted>,
    metrics: Arc<Metrics>,
    calls: Arc<Calls>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    fn start(bound: Bound, options: ServerOptions) -> Self {
        let server = Self {
            hosted: Arc::new(PublishedHosted::new(Arc::new(hosted()))),
            metrics: Arc::new(Metrics::new(Arc::new(SnapshotCache::new()))),
            calls: Arc::default(),
            shutdown: CancellationToken::new(),
            task: tokio::spawn(std::future::ready(())),
        };
        let serving = serve(
            bound,
            Arc::clone(&server.hosted),
            Arc::clone(&server.metrics),
            Arc::clone(&server.calls),
            options,
            server.shutdown.clone().cancelled_owned(),
        );
        Self { task: tokio::spawn(async { serving.await.unwrap() }), ..server }
    }

    fn metric(&self, series: &str) -> Option<f64> {
        let page = self.metrics.render();
        page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

/// What a call came to.
#[derive(Debug)]
struct Answered {
    grpc: Option<String>,
    message: Bytes,
}

type Client = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn connect(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Waits for the port to open.
async fn open(port: &Port) -> TcpStream {
    until("the port to open", async || TcpStream::connect(port.address()).await.map_err(|error| error.to_string()))
        .await
}

async fn connect_tcp(port: &Port) -> Client {
    connect(open(port).await).await
}

async fn ask(client: &mut Client, path: &str, body: impl Into<Bytes>) -> Answered {
    let request = Request::post(format!("http://extension{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body.into()))
        .unwrap();
    client.ready().await.unwrap();
    let response = client.send_request(request).await.unwrap();
    let code = |headers: &HeaderMap| headers.get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
    let early = code(response.headers());
    let collected = response.into_body().collect().await.unwrap();
    let late = collected.trailers().and_then(code);
    let mut message = collected.to_bytes();
    if message.len() >= 5 {
        message.advance(5);
    }
    Answered { grpc: early.or(late), message }
}

async fn call(client: &mut Client, hook: Hook, message: &[u8]) -> Answered {
    ask(client, &path(hook), framed(message)).await
}

fn path(hook: Hook) -> String {
    format!("/{SERVICE}/{}", hook.method())
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.extend_from_slice(message);
    framed.freeze()
}

/// A configuration with so many clusters that have nothing to do with us.
fn clusters(count: usize) -> PostTranslateModifyRequest {
    let cluster =
        |at: usize| Bytes::from([delimited(1, format!("cluster-{at}").as_bytes()), delimited(60, &[7; 500])].concat());
    PostTranslateModifyRequest { clusters: (0..count).map(cluster).collect(), ..Default::default() }
}

#[tokio::test]
async fn every_hook_is_answered_and_counted() {
    let port = Port::lease();
    let server = Server::start(Bound::tcp(port.address()).unwrap(), ServerOptions::default());
    let mut client = connect_tcp(&port).await;
    let object = delimited(1, b"\x0a\x04name");
    for hook in Hook::ALL.into_iter().filter(|hook| *hook != Hook::Translate) {
        let answered = call(&mut client, hook, &object).await;
        assert_eq!((answered.grpc.as_deref(), &answered.message), (Some("0"), &object), "{hook:?}");
    }
    let request = clusters(3);
    let answered = call(&mut client, Hook::Translate, &request.encode_to_vec()).await;
    let response = PostTranslateModifyResponse::decode(answered.message).unwrap();
    assert_eq!(response.clusters, request.clusters);
    for hook in Hook::ALL {
        let series = format!("tailscale_gateway_extension_calls_total{{hook=\"{}\",result=\"echo\"}}", hook.label());
        assert_eq!(server.metric(&series), Some(1.0), "{series}");
    }
    let calls = server.calls.last();
    assert_eq!(calls.iter().map(|call| call.hook).collect::<Vec<_>>(), Hook::ALL.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(calls[1].bytes_in, object.len());
    assert!(server.calls.errors().is_empty());
}

#[tokio::test]
async fn megabytes_come_back_as_they_were_to_many_callers_at_once() {
    let port = Port::lease();
    let server = Server::start(Bound::tcp(port.address()).unwrap(), ServerOptions::default());
    let request = clusters(30_000);
    let encoded: Bytes = request.encode_to_vec().into();
    assert!(encoded.len() > 10 << 20);
    let mut callers = Vec::new();
    for _ in 0..8 {
        let mut client = connect_tcp(&port).await;
        let encoded = encoded.clone();
        callers.push(tokio::spawn(async move { call(&mut client, Hook::Translate, &encoded).await }));
    }
    for caller in callers {
        let answered = caller.await.unwrap();
        assert_eq!(answered.grpc.as_deref(), Some("0"));
        let response = PostTranslateModifyResponse::decode(answered.message).unwrap();
        assert!(response.clusters == request.clusters, "clusters differ");
    }
    assert_eq!(
        server.metric("tailscale_gateway_extension_calls_total{hook=\"Translation\",result=\"echo\"}"),
        Some(8.0)
    );
}

#[tokio::test]
async fn what_is_no_call_is_refused_with_the_status_that_says_why() {
    let port = Port::lease();
    let options = ServerOptions { max_request_bytes: 1000, ..ServerOptions::default() };
    let server = Server::start(Bound::tcp(port.address()).unwrap(), options);
    let mut client = connect_tcp(&port).await;
    let translate = path(Hook::Translate);
    let mut compressed = framed(b"").to_vec();
    compressed[0] = 1;
    let mut lies = BytesMut::from(&framed(b"abc")[..]);
    lies[4] = 200;
    let cases: Vec<(&str, Bytes, &str)> = vec![
        ("no message at all", Bytes::new(), "3"),
        ("a message that is cut off", lies.freeze(), "3"),
        ("two messages", [framed(b""), framed(b"")].concat().into(), "3"),
        ("bytes that are no protobuf", framed(b"\xff\xff\xff"), "3"),
        ("a compressed message", compressed.into(), "12"),
        ("a message that is too large", framed(&[0; 1001]), "8"),
    ];
    for (what, body, status) in cases {
        let answered = ask(&mut client, &translate, body).await;
        assert_eq!(answered.grpc.as_deref(), Some(status), "{what}");
        assert!(answered.message.is_empty(), "{what}");
        // The connection is as good as before.
        let answered = call(&mut client, Hook::Translate, b"").await;
        assert_eq!(answered.grpc.as_deref(), Some("0"), "after {what}");
    }
    // The length alone is enough: nothing is held that would be refused.
    let huge: Bytes = [&[0][..], &u32::MAX.to_be_bytes()].concat().into();
    assert_eq!(ask(&mut client, &translate, huge).await.grpc.as_deref(), Some("8"));
    let unknown = ask(&mut client, &format!("/{SERVICE}/PostSomethingNew"), framed(b"")).await;
    assert!(unknown.grpc.as_deref() == Some("12"), "{unknown:?}");
    let failures = server.calls.errors();
    assert!(failures[&Hook::Translate].error.contains("4294967295 bytes"), "{failures:?}");
    assert_eq!(
        server.metric("tailscale_gateway_extension_calls_total{hook=\"Translation\",result=\"refused\"}"),
        Some(7.0)
    );
}

#[tokio::test]
async fn a_call_that_says_it_is_larger_than_256_mib_is_refused_before_it_arrives() {
    let port = Port::lease();
    let server = Server::start(Bound::tcp(port.address()).unwrap(), ServerOptions::default());
    let mut client = connect_tcp(&port).await;
    let said = |len: u32| Bytes::from([&[0][..], &len.to_be_bytes()].concat());
    for hook in Hook::ALL {
        assert_eq!(ask(&mut client, &path(hook), said((256 << 20) + 1)).await.grpc.as_deref(), Some("8"), "{hook:?}");
        // So much is read, if it comes.
        assert_eq!(ask(&mut client, &path(hook), said(256 << 20)).await.grpc.as_deref(), Some("3"), "{hook:?}");
        assert_eq!(server.calls.errors()[&hook].error, "the call ended inside its message");
    }
    assert_eq!(call(&mut client, Hook::Translate, b"").await.grpc.as_deref(), Some("0"));
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_the_input_unchanged() {
    let port = Port::lease();
    let options = ServerOptions { patience: Duration::ZERO, ..ServerOptions::default() };
    let server = Server::start(Bound::tcp(port.address()).unwrap(), options);
    let mut client = connect_tcp(&port).await;
    for count in [300, 3000] {
        let request = clusters(count);
        let answered = call(&mut client, Hook::Translate, &request.encode_to_vec()).await;
        let response = PostTranslateModifyResponse::decode(answered.message).unwrap();
        assert_eq!((answered.grpc.as_deref(), response.clusters), (Some("0"), request.clusters));
    }
    let series = "tailscale_gateway_extension_calls_total{hook=\"Translation\",result=\"out_of_time\"}";
    assert_eq!(server.metric(series), Some(2.0));
    let failure = &server.calls.errors()[&Hook::Translate].error;
    assert!(failure.starts_with("the answer took too long"), "{failure}");
}

/// A call of which all is known: what an Envoy Gateway asks for a Gateway with tailnet routes, having seen its revision.
struct Retranslation {
    request: Bytes,
    /// What compiled the revision.
    compiled: Arc<Hosted>,
    /// How many clusters an echo has.
    clusters: usize,
}

impl Retranslation {
    fn new() -> Self {
        let case =
            crate::support::extension_cases::cases().into_iter().find(|case| case.name == "api-routes.yaml").unwrap();
        let (played, gateway) = (case.play(), &case.gateways[0]);
        let compiled = played.hosted();
        let seen = TailscaleGatewayRevision::of(gateway, &compiled.revision(gateway).unwrap());
        let policy = ExtensionResource { unstructured_bytes: serde_json::to_vec(&seen).unwrap().into() };
        let mut asked = None;
        played.asking(&case, &mut |_, request| {
            asked = Some(request.clone());
            let PostTranslateModifyRequest { clusters, secrets, listeners, routes, .. } =
                PostTranslateModifyRequest::decode(request).unwrap();
            PostTranslateModifyResponse { clusters, secrets, listeners, routes }.encode_to_vec().into()
        });
        let mut request = PostTranslateModifyRequest::decode(asked.unwrap()).unwrap();
        request.post_translate_context.get_or_insert_default().extension_resources.push(policy);
        Self { request: request.encode_to_vec().into(), compiled, clusters: request.clusters.len() }
    }

    /// How many clusters the answer has.
    async fn call(&self, client: &mut Client) -> usize {
        let answered = call(client, Hook::Translate, &self.request).await;
        PostTranslateModifyResponse::decode(answered.message).unwrap().clusters.len()
    }
}

#[tokio::test]
async fn a_replica_that_is_behind_answers_when_it_has_come_to_what_an_envoy_gateway_has_seen() {
    let port = Port::lease();
    let options = ServerOptions { lag: Duration::MAX, ..ServerOptions::default() };
    let server = Server::start(Bound::tcp(port.address()).unwrap(), options);
    let asked = Arc::new(Retranslation::new());
    server.hosted.store(Arc::default());
    let mut client = connect_tcp(&port).await;
    let waiting = tokio::spawn({
        let (asked, mut client) = (Arc::clone(&asked), client.clone());
        async move { asked.call(&mut client).await }
    });
    // Others are answered meanwhile, and something else that is compiled does not count.
    for _ in 0..20 {
        assert_eq!(call(&mut client, Hook::Translate, b"").await.grpc.as_deref(), Some("0"));
    }
    server.hosted.store(Arc::default());
    for _ in 0..20 {
        assert_eq!(call(&mut client, Hook::Translate, b"").await.grpc.as_deref(), Some("0"));
    }
    assert!(!waiting.is_finished());
    server.hosted.store(Arc::clone(&asked.compiled));
    assert_eq!(waiting.await.unwrap(), asked.clusters + 4);
}

#[tokio::test]
async fn a_replica_that_stays_behind_answers_with_what_it_has() {
    let port = Port::lease();
    let options = ServerOptions { lag: Duration::ZERO, ..ServerOptions::default() };
    let server = Server::start(Bound::tcp(port.address()).unwrap(), options);
    let asked = Retranslation::new();
    server.hosted.store(Arc::default());
    let mut client = connect_tcp(&port).await;
    assert_eq!(asked.call(&mut client).await, asked.clusters);
}

#[tokio::test]
async fn a_replica_that_is_ahead_waits_for_nobody() {
    let mut case =
        crate::support::extension_cases::cases().into_iter().find(|case| case.name == "api-routes.yaml").unwrap();
    let gateway = case.gateways.remove(0);
    let mut played = case.play();
    let before = played.hosted().revision(&gateway).unwrap();
    assert!(!played.hosted().is_behind(&gateway, &before));
    assert!(!played.hosted().is_behind(&gateway, &before.again()), "it says the same");
    let endpoints = played.world.objects().map(Object::key).filter(|key| key.kind == Kind::TailscaleEndpoints);
    let removed: Vec<Change> = endpoints.map(Change::Remove).collect();
    played.pipeline.apply(removed);
    let now = played.hosted();
    assert_ne!(now.revision(&gateway), Some(before.clone()));
    assert!(!now.is_behind(&gateway, &before), "it has been so");
    let other = GatewayRevision::new(before.number ^ 2, before.owner.clone());
    assert!(now.is_behind(&gateway, &other), "it has never been so");
}

#[tokio::test]
async fn a_new_configuration_counts_from_the_next_call_on() {
    let port = Port::lease();
    let server = Server::start(Bound::tcp(port.address()).unwrap(), ServerOptions::default());
    let mut client = connect_tcp(&port).await;
    let case =
        crate::support::extension_cases::cases().into_iter().find(|case| case.name == "api-routes.yaml").unwrap();
    let played = case.play();
    let mut asked = None;
    played.asking(&case, &mut |_, request| {
        asked = Some(request.clone());
        let message = PostTranslateModifyRequest::decode(request).unwrap();
        let PostTranslateModifyRequest { clusters, secrets, listeners, routes, .. } = message;
        PostTranslateModifyResponse { clusters, secrets, listeners, routes }.encode_to_vec().into()
    });
    let request = asked.unwrap();
    let clusters = async |client: &mut Client| {
        let answered = call(client, Hook::Translate, &request).await;
        PostTranslateModifyResponse::decode(answered.message).unwrap().clusters.len()
    };
    server.hosted.store(Arc::new(Hosted::default()));
    let before = clusters(&mut client).await;
    server.hosted.store(played.hosted());
    assert_eq!(clusters(&mut client).await, before + 4);
    let last = server.calls.last();
    assert_eq!(last[0].gateways, case.gateways);
    assert!(last[0].changed >= 4, "{last:?}");
}

#[tokio::test]
async fn a_taken_address_is_not_answered_on_until_the_port_opens() {
    let port = Port::lease();
    let bound = Bound::tcp(port.address()).unwrap();
    assert!(TcpStream::connect(port.address()).await.is_err());
    let _server = Server::start(bound, ServerOptions::default());
    let mut client = connect_tcp(&port).await;
    assert_eq!(call(&mut client, Hook::Translate, b"").await.grpc.as_deref(), Some("0"));
    assert!(Bound::tcp(port.address()).is_err(), "somebody answers there");
}

#[tokio::test]
async fn a_socket_file_is_served_and_goes_with_the_server() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("extension.sock");
    // One that a server left behind is replaced; one that somebody listens on is not, nor is another file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = Server::start(Bound::unix(&path).unwrap(), ServerOptions::default());
    let mut client = connect_unix(&path).await;
    assert_eq!(call(&mut client, Hook::Cluster, b"").await.grpc.as_deref(), Some("0"));
    assert_eq!(server.calls.last()[0].peer, "unix");
    assert!(Bound::unix(&path).is_err());
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(!path.exists());
    std::fs::write(&path, "a file").unwrap();
    assert!(Bound::unix(&path).is_err());
}

async fn connect_unix(path: &Path) -> Client {
    until("the socket file", async || {
        let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
        Ok(connect(stream).await)
    })
    .await
}

#[tokio::test]
async fn with_authorities_only_those_are_answered_whose_certificate_they_signed() {
    let authority = Authority::new();
    let (shown, other) = (authority.issue(&["localhost"]), Authority::new());
    let config = server_config(shown.certificate.as_bytes(), shown.key.as_bytes(), Some(authority.pem().as_bytes()));
    let (_sender, tls) = watch::channel(config.unwrap());
    let port = Port::lease();
    let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
    let _server = Server::start(Bound::tcp(port.address()).unwrap(), options);
    let known = authority.issue(&["envoy-gateway"]);
    let mut client = connect_tls(&port, &authority, Some(&known)).await.unwrap();
    assert_eq!(call(&mut client, Hook::Cluster, b"").await.grpc.as_deref(), Some("0"));
    let stranger = other.issue(&["envoy-gateway"]);
    for nobody in [None, Some(&stranger)] {
        // TLS 1.3 tells the client after its side is done: by the first answer at the latest.
        let refused = match connect_tls(&port, &authority, nobody).await {
            Err(_) => true,
            Ok(mut client) => {
                client.ready().await.is_err() || {
                    let request = Request::post("http://extension/").body(Full::new(Bytes::new())).unwrap();
                    client.send_request(request).await.is_err()
                }
            }
        };
        assert!(refused, "{:?}", nobody.is_some());
    }
}

async fn connect_tls(port: &Port, trusted: &Authority, own: Option<&Certificate>) -> Result<Client, String> {
    let mut config = own.map_or_else(|| trusted.client(), |own| trusted.client_showing(own));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = open(port).await;
    let name = "localhost".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())?;
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn a_call_under_way_at_the_end_is_still_answered() {
    let port = Port::lease();
    let server = Server::start(Bound::tcp(port.address()).unwrap(), ServerOptions::default());
    let stream = open(&port).await;
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = clusters(30_000);
    let encoded = framed(&request.encode_to_vec());
    // The body comes in two parts, and the end in between.
    let (mut body, parts) = futures::channel::mpsc::channel::<Bytes>(1);
    let parts = BodyExt::boxed(StreamBody::new(parts.map(|part| Ok::<_, Infallible>(Frame::data(part)))));
    body.send(encoded.slice(..1 << 20)).await.unwrap();
    let post = |hook, body| {
        let request =
            Request::post(format!("http://extension{}", path(hook))).header("content-type", "application/grpc");
        request.body(body).unwrap()
    };
    let response = tokio::spawn(client.send_request(post(Hook::Translate, parts)));
    // Requests of one connection arrive in order: when this one is answered, the other one is there.
    let small = client.send_request(post(Hook::Cluster, Full::new(framed(b"")).boxed())).await.unwrap();
    small.into_body().collect().await.unwrap();
    server.shutdown.cancel();
    body.send(encoded.slice(1 << 20..)).await.unwrap();
    drop(body);
    let answered = response.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    let response = PostTranslateModifyResponse::decode(&answered[5..]).unwrap();
    assert_eq!(response.clusters.len(), request.clusters.len());
    server.task.await.unwrap();
}
