//! The xDS port: which service and method leads where, connections and their limits, and the end of it all.
//!
//! Serves gRPC over HTTP/2, with mutual TLS or without: the discovery services in both protocols, CSDS, health and reflection.
//! The last two say nothing about any Gateway, and so answer every client that a connection is granted. Never decides what a
//! stream is sent, and never compresses.

use std::{
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{Router, extract::Request, http::HeaderMap, response::IntoResponse, routing::post};
use http::{Response, StatusCode, header};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::ServiceExt;
use tracing::{debug, info, warn};

use super::{
    Scope,
    access::Caller,
    conversation::{Connection, Delta, Sotw, Speaks, converse},
    csds::Csds,
    registry::Registry,
    small_frames::SmallFrames,
    tls::{Accepted, HandshakeFailure, Tls},
    wire::ControlPlane,
};
use crate::{
    metrics::Metrics,
    model::GATEWAY_HEADER,
    snapshot::{SnapshotCache, TypeUrl},
};

/// How the port behaves.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// `control_plane.identifier` in every response: which replica this is (`xds.md` P07).
    pub identifier: String,
    /// What every stream's machine is told.
    pub machine: super::Options,
    /// The largest request that is read, in bytes; 128 MiB by default. A client that reconnects lists all it holds
    /// (`xds.md` P74).
    pub max_request_bytes: usize,
    /// How often a connection is asked for a sign of life (HTTP/2 PING); 30 s by default.
    pub keepalive_interval: Duration,
    /// How long the answer may take; 20 s by default.
    pub keepalive_timeout: Duration,
    /// How long a client may leave unread what was sent to it while more is waiting; 60 s by default. Then its connection is
    /// closed (`xds.md` P72). What it left unread at the end of the last response is not noticed: nothing waits for it.
    pub stuck_after: Duration,
    /// The age at which a connection is ended, so that clients spread over replicas again; each connection's differs by up to
    /// a tenth. None by default (`xds.md` P73).
    pub max_connection_age: Option<Duration>,
    /// At shutdown connections are ended one by one over this time, so that not all Envoys come to the next replica at once;
    /// 2 s by default.
    pub drain_window: Duration,
    /// What is still open so long after the window is cut; 3 s by default.
    pub drain_grace: Duration,
    /// How many first requests are taken in at once; twice the number of processors by default (`xds.md` P76).
    pub admission: usize,
    /// Mutual TLS; none by default.
    pub tls: Option<Arc<Tls>>,
    /// Whether a connection is ended when its client's certificate expires; true by default. Its streams end as they do when it
    /// is old, and the client comes back with the certificate that it has by then, to be sent nothing that it holds already.
    pub end_expired: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            identifier: concat!("tailscale-gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
            machine: super::Options::default(),
            max_request_bytes: 128 << 20,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            stuck_after: Duration::from_secs(60),
            max_connection_age: None,
            drain_window: Duration::from_secs(2),
            drain_grace: Duration::from_secs(3),
            admission: 2 * std::thread::available_parallelism().map_or(2, usize::from),
            tls: None,
            end_expired: true,
        }
    }
}

/// What all streams share.
pub(super) struct Shared {
    pub(super) cache: Arc<SnapshotCache>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) options: ServerOptions,
    pub(super) control_plane: ControlPlane,
    pub(super) admission: Semaphore,
}

/// The discovery services: the service's name, its type, and what follows `Stream`, `Delta` and `Fetch` in its methods.
const SERVICES: [(&str, TypeUrl, &str); 9] = [
    ("envoy.service.cluster.v3.ClusterDiscoveryService", TypeUrl::Cluster, "Clusters"),
    ("envoy.service.endpoint.v3.EndpointDiscoveryService", TypeUrl::Endpoints, "Endpoints"),
    ("envoy.service.listener.v3.ListenerDiscoveryService", TypeUrl::Listener, "Listeners"),
    ("envoy.service.route.v3.RouteDiscoveryService", TypeUrl::Route, "Routes"),
    ("envoy.service.route.v3.ScopedRoutesDiscoveryService", TypeUrl::ScopedRoute, "ScopedRoutes"),
    (VIRTUAL_HOSTS, TypeUrl::VirtualHost, "VirtualHosts"),
    ("envoy.service.secret.v3.SecretDiscoveryService", TypeUrl::Secret, "Secrets"),
    ("envoy.service.runtime.v3.RuntimeDiscoveryService", TypeUrl::Runtime, "Runtime"),
    ("envoy.service.extension.v3.ExtensionConfigDiscoveryService", TypeUrl::ExtensionConfig, "ExtensionConfigs"),
];

/// The one service that has the delta protocol alone.
const VIRTUAL_HOSTS: &str = "envoy.service.route.v3.VirtualHostDiscoveryService";

const AGGREGATED: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// Answers xDS clients on a listener until `shutdown` is done, then lets them go: no new connection is accepted, streams end
/// with `UNAVAILABLE` one connection after the other ([`ServerOptions::drain_window`]), and this returns.
pub async fn serve(
    listener: TcpListener,
    cache: Arc<SnapshotCache>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) {
    let control_plane = ControlPlane::new(&options.identifier);
    let admission = Semaphore::new(options.admission);
    let shared = Arc::new(Shared { cache, registry, metrics, options, control_plane, admission });
    let (health, health_service) = tonic_health::server::health_reporter();
    report_health(&health, ServingStatus::NotServing).await;
    let router = router(&shared, Routes::builder().add_service(health_service).clone().routes());

    let (drain, close) = (CancellationToken::new(), CancellationToken::new());
    let connections = TaskTracker::new();
    {
        let background = background(&shared, &health);
        tokio::pin!(shutdown, background);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                () = &mut background => {}
                accepted = listener.accept() => match accepted {
                    Ok((tcp, peer)) => {
                        let ends = Ends { drain: drain.child_token(), close: close.child_token() };
                        connections.spawn(open_connection(tcp, peer, router.clone(), shared.clone(), ends));
                    }
                    Err(error) => {
                        // The one that failed is gone; out of file descriptors, trying again at once would spin.
                        warn!(%error, "can not accept an xDS connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }
    drop(listener);
    report_health(&health, ServingStatus::NotServing).await;
    info!(connections = connections.len(), "xDS port drains");
    drain.cancel();
    connections.close();
    let patience = shared.options.drain_window + shared.options.drain_grace;
    if tokio::time::timeout(patience, connections.wait()).await.is_err() {
        close.cancel();
        connections.wait().await;
    }
}

/// What ends a connection.
struct Ends {
    /// It is let go within the window.
    drain: CancellationToken,
    /// It is dropped.
    close: CancellationToken,
}

/// Shakes hands if that is asked for, and serves the connection.
async fn open_connection(tcp: TcpStream, peer: SocketAddr, router: Router, shared: Arc<Shared>, ends: Ends) {
    if let Err(error) = tcp.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY");
    }
    let connection = |caller, close| Connection {
        peer,
        caller,
        retire: CancellationToken::new(),
        expired: AtomicBool::new(false),
        close,
    };
    let Some(tls) = &shared.options.tls else {
        let connection = connection(Caller::Anyone, ends.close);
        // Boxed here and below: what lives as long as a connection is then no larger than this connection needs.
        return Box::pin(serve_connection(tcp, connection, None, router, shared, ends.drain)).await;
    };
    let accepted = Box::pin(async {
        tokio::select! {
            accepted = tls.accept(tcp) => Some(accepted),
            () = ends.drain.cancelled() => None,
        }
    });
    let Some(accepted) = accepted.await else { return };
    match accepted {
        Ok(Accepted { stream, caller, expires }) => {
            let connection = connection(caller, ends.close);
            Box::pin(serve_connection(stream, connection, expires, router, shared, ends.drain)).await;
        }
        Err(failure) => {
            shared.metrics.tls_handshake_failed(failure.label());
            match failure {
                HandshakeFailure::Closed => debug!(%peer, reason = failure.label(), "TLS handshake failed: {failure}"),
                _ => warn!(%peer, reason = failure.label(), "TLS handshake failed: {failure}"),
            }
        }
    }
}

/// How much of a response the library takes before it has written it, in bytes. It notes each piece, and keeps the room for as
/// many notes (of some 600 bytes) as there ever were: four or eight, since large tables come in pieces of a frame. With half of
/// it large tables take a third longer.
const SEND_AHEAD: usize = 64 << 10;

/// Serves a connection until it ends, is old, its client's certificate expires, or it is to go.
async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    connection: Connection,
    expires: Option<SystemTime>,
    router: Router,
    shared: Arc<Shared>,
    drain: CancellationToken,
) {
    let connection = Arc::new(connection);
    let options = &shared.options;
    let of = connection.clone();
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(of.clone());
        router.clone().oneshot(request)
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        // Room for the large requests of clients that reconnect; a limit, not an allocation.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_send_buf_size(SEND_AHEAD)
        .max_concurrent_streams(None)
        .serve_connection(TokioIo::new(SmallFrames::new(stream)), service);
    let share = share_of_one();
    let time_to_go = async {
        let age = async {
            match options.max_connection_age {
                Some(age) => tokio::time::sleep(age.mul_f64(0.9 + 0.2 * share)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = age => false,
            () = drain.cancelled() => {
                tokio::time::sleep(options.drain_window.mul_f64(share)).await;
                false
            }
            () = expiry(expires.filter(|_| options.end_expired)) => true,
        }
    };
    // What asks about health or about clients has no stream of ours to end.
    let out_of_patience = async {
        connection.retire.cancelled().await;
        match connection.expired.load(Ordering::Relaxed) {
            true => tokio::time::sleep(options.drain_grace).await,
            false => std::future::pending().await,
        }
    };
    tokio::pin!(serving, time_to_go, out_of_patience);
    let mut going = false;
    loop {
        tokio::select! {
            ended = &mut serving => {
                if let Err(error) = ended {
                    debug!(peer = %connection.peer, %error, "xDS connection ended");
                }
                return;
            }
            () = connection.close.cancelled() => return,
            () = &mut out_of_patience => return,
            expired = &mut time_to_go, if !going => {
                going = true;
                if expired {
                    shared.metrics.connection_expired();
                    info!(peer = %connection.peer, "the client's certificate has expired; its connection ends");
                    connection.expired.store(true, Ordering::Relaxed);
                }
                connection.retire.cancel();
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Waits until a time of day; for ever if there is none.
async fn expiry(at: Option<SystemTime>) {
    /// How long it may take until a clock that was set is noticed.
    const LOOK: Duration = Duration::from_secs(600);
    let Some(at) = at else { return std::future::pending().await };
    while let Ok(left) = at.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(LOOK) + Duration::from_millis(1)).await;
    }
}

/// A number from 0 to 1, another one each time.
fn share_of_one() -> f64 {
    f64::from(RandomState::new().build_hasher().finish() as u32) / f64::from(u32::MAX)
}

/// What goes on beside the connections: health follows readiness, and stuck connections are closed. Never ends.
async fn background(shared: &Arc<Shared>, health: &HealthReporter) {
    let mut ready = shared.cache.ready();
    let follow = async {
        if ready.wait_for(|ready| *ready).await.is_ok() {
            report_health(health, ServingStatus::Serving).await;
        }
        std::future::pending::<()>().await;
    };
    let watch = async {
        loop {
            tokio::time::sleep((shared.options.stuck_after / 4).max(Duration::from_millis(10))).await;
            close_stuck(shared);
        }
    };
    tokio::join!(follow, watch);
}

/// Closes the connections on which a stream does not take what it was sent.
///
/// The transport asks a response body for more only when it has written what it was given, so a stream that does not ask is
/// one whose client grants no room. Its trailers could not be written either: only the connection can be ended. A peer that
/// is dead and not slow fails the keepalive first.
fn close_stuck(shared: &Shared) {
    for client in shared.registry.clients() {
        if client.stuck_for().is_some_and(|waited| waited > shared.options.stuck_after) && !client.close.is_cancelled()
        {
            warn!(
                stream = client.id, gateway = %client.node.gateway, node = %client.node.id, peer = %client.peer,
                "closing the connection: the client does not read what it is sent"
            );
            shared.metrics.slow_stream_closed();
            client.close.cancel();
        }
    }
}

async fn report_health(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    for service in SERVICES.iter().map(|(service, ..)| *service).chain([AGGREGATED]) {
        health.set_service_status(service, status).await;
    }
}

/// Every service of the port.
fn router(shared: &Arc<Shared>, health: Routes) -> Router {
    let csds = Csds::service(shared.cache.clone(), shared.registry.clone(), shared.metrics.clone());
    let mut router = health
        .add_service(csds)
        .add_service(reflection().build_v1().expect("the descriptors are well-formed"))
        .add_service(reflection().build_v1alpha().expect("the descriptors are well-formed"))
        .into_axum_router()
        .route(&format!("/{AGGREGATED}/StreamAggregatedResources"), stream::<Sotw>(shared, Scope::Aggregated))
        .route(&format!("/{AGGREGATED}/DeltaAggregatedResources"), stream::<Delta>(shared, Scope::Aggregated));
    for (service, type_url, methods) in SERVICES {
        let scope = Scope::Only(type_url);
        router = router.route(&format!("/{service}/Delta{methods}"), stream::<Delta>(shared, scope));
        if service != VIRTUAL_HOSTS {
            router = router
                .route(&format!("/{service}/Stream{methods}"), stream::<Sotw>(shared, scope))
                .route(&format!("/{service}/Fetch{methods}"), post(fetch));
        }
    }
    router
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    let mut builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tailscale_gateway_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(AGGREGATED)
        .with_service_name("envoy.service.status.v3.ClientStatusDiscoveryService")
        .with_service_name("grpc.health.v1.Health");
    for (service, ..) in SERVICES {
        builder = builder.with_service_name(service);
    }
    builder
}

/// The method that opens a stream.
fn stream<P: Speaks>(shared: &Arc<Shared>, scope: Scope) -> axum::routing::MethodRouter {
    let shared = shared.clone();
    post(move |request: Request| {
        let response = open_stream::<P>(&shared, scope, request);
        async move { response }
    })
}

fn open_stream<P: Speaks>(shared: &Arc<Shared>, scope: Scope, request: Request) -> axum::response::Response {
    if let Some(refusal) = refusal(request.headers()) {
        return refusal;
    }
    let (parts, body) = request.into_parts();
    let connection: Arc<Connection> =
        parts.extensions.get().cloned().expect("every request of this port is given its connection");
    let gateway = parts.headers.get(GATEWAY_HEADER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    grpc_response(axum::body::Body::new(converse::<P>(shared.clone(), connection, scope, gateway, body)))
}

/// `Fetch…` is the unary form of the REST protocol, which is not offered (`xds.md` P01).
async fn fetch(headers: HeaderMap) -> axum::response::Response {
    refusal(&headers).unwrap_or_else(|| {
        Status::unimplemented("only the streaming methods are served: Stream… and Delta…").into_http()
    })
}

/// The answer to what is no gRPC, and to what is compressed.
fn refusal(headers: &HeaderMap) -> Option<axum::response::Response> {
    let is = |name: &str, accepted: fn(&str) -> bool| {
        headers.get(name).is_none_or(|value| value.to_str().is_ok_and(accepted))
    };
    if !headers.contains_key(header::CONTENT_TYPE) || !is("content-type", |value| value.starts_with("application/grpc"))
    {
        return Some(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response());
    }
    if !is("grpc-encoding", |value| value == "identity") {
        let mut refused = Status::unimplemented("compressed requests are not supported").into_http();
        refused.headers_mut().insert("grpc-accept-encoding", header::HeaderValue::from_static("identity"));
        return Some(refused);
    }
    None
}

fn grpc_response(body: axum::body::Body) -> axum::response::Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
    response
}
