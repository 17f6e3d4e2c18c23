//! The admin port: is it alive, is it ready, what does it count, who is connected, and what is served.
//!
//! Never changes anything, and never shows a private key. It asks nobody who they are: whoever reaches the port is told how the
//! process is, and what is configured only who comes from the same machine or pod, unless it is opened to all.

mod clients;
mod dump;
mod extension;
mod objects;

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::{
    Json, Router,
    extract::{ConnectInfo, Query, Request, State},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    extension::Calls,
    metrics::Metrics,
    pipeline::Reports,
    snapshot::{PublishedHosted, SnapshotCache},
    xds::Registry,
};

/// How long an answer that is under way may still take when the port is closed.
const GRACE: Duration = Duration::from_secs(1);

/// What the pages are made from.
#[derive(Clone)]
pub struct Admin {
    /// What is served.
    pub cache: Arc<SnapshotCache>,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether `/readyz` says yes.
    pub readiness: Arc<Readiness>,
    /// What was found about each object.
    pub reports: Arc<ArcSwap<Reports>>,
    /// What is put into configurations of other controllers.
    pub hosted: Arc<PublishedHosted>,
    /// Who asked for that.
    pub calls: Arc<Calls>,
    /// Whoever reaches the port may see the debug pages.
    pub open_debug: bool,
}

/// Whether the process is ready, and if not, why: in words that stand in the answer of `/readyz`.
pub struct Readiness(ArcSwapOption<String>);

impl Readiness {
    /// Not ready, for this reason.
    pub fn waiting(reason: impl Into<String>) -> Self {
        Self(ArcSwapOption::from_pointee(reason.into()))
    }

    /// From now on ready.
    pub fn set_ready(&self) {
        self.0.store(None);
    }

    /// From now on not ready, for this reason.
    pub fn set_waiting(&self, reason: impl Into<String>) {
        self.0.store(Some(Arc::new(reason.into())));
    }

    /// Why it is not ready; nothing when it is.
    pub fn reason(&self) -> Option<Arc<String>> {
        self.0.load_full()
    }
}

/// Answers on a listener until `shutdown` is done.
///
/// # Errors
///
/// Whatever the listener can not recover from.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let closing = CancellationToken::new();
    let pages = router(admin).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, pages).with_graceful_shutdown(closing.clone().cancelled_owned());
    tokio::select! {
        ended = serving.into_future() => ended,
        () = async {
            shutdown.await;
            closing.cancel();
            tokio::time::sleep(GRACE).await;
        } => Ok(()),
    }
}

/// The pages. Each request has to have a [`ConnectInfo`] with the address that it comes from; one without is a stranger's.
pub fn router(admin: Admin) -> Router {
    let debug = Router::new()
        .route("/debug/objects", get(objects::page))
        .route("/debug/xds/clients", get(clients::page))
        .route("/debug/xds/dump", get(dump::page))
        .route("/debug/extension", get(extension::page))
        .route_layer(middleware::from_fn_with_state(admin.clone(), for_those_at_home));
    Router::new()
        .route("/", get(index))
        .route("/debug", get(index))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(debug)
        .with_state(admin)
}

/// Whether a connection from there begins on the same machine, or in the same pod, where `kubectl port-forward` arrives too.
///
/// That is not so of all loopback addresses: from 127.0.0.6 a service mesh's proxy in the pod hands on what comes from anywhere
/// (Istio, `InboundPassthroughCluster`).
pub fn is_at_home(peer: IpAddr) -> bool {
    matches!(peer.to_canonical(), IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST))
}

/// Said to who may not see what is configured.
const NOT_AT_HOME: &str = "the pages under /debug show what is configured, and answer only who asks from the same machine or \
    pod: kubectl port-forward --namespace NAMESPACE deployment/tailscale-gateway 8080, and then http://127.0.0.1:8080/debug; \
    they are opened to whoever reaches this port by --admin-open-debug\n";

async fn for_those_at_home(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if admin.open_debug || peer.is_some_and(|ConnectInfo(peer)| is_at_home(peer.ip())) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, NOT_AT_HOME).into_response()
}

async fn index() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><meta charset=utf-8><title>tailscale-gateway</title><h1>tailscale-gateway</h1><dl>",
        "<dt><a href=/healthz>/healthz</a><dd>alive",
        "<dt><a href=/readyz>/readyz</a><dd>ready, or 503 and why not",
        "<dt><a href=/metrics>/metrics</a><dd>for Prometheus",
        "<dt><a href=/debug/objects>/debug/objects</a>",
        "<dd>the conditions of every object, as JSON; <code>?kind=Gateway</code>, <code>?name=NAMESPACE/NAME</code>",
        "<dt><a href=/debug/xds/clients>/debug/xds/clients</a>",
        "<dd>who is connected and what they were sent and accepted; <code>?gateway=NAMESPACE/NAME</code>, ",
        "<code>?format=text|json</code>",
        "<dt><a href=/debug/xds/dump>/debug/xds/dump</a><dd>what is served, as JSON; ",
        "<code>?gateway=NAMESPACE/NAME</code>, <code>?type=Cluster</code>, <code>?name=NAME</code>",
        "<dt><a href=/debug/extension>/debug/extension</a>",
        "<dd>what is put into whose Envoy Gateway configuration, and the last calls, as JSON",
        "</dl>\n"
    ))
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.readiness.reason() {
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
        None if !*admin.cache.ready().borrow() => {
            (StatusCode::SERVICE_UNAVAILABLE, "the first configuration is not compiled yet\n").into_response()
        }
        None => "ok\n".into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    admin.registry.measure(&admin.metrics);
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], admin.metrics.render()).into_response()
}

/// The form of an answer.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Text,
}

impl Format {
    /// What the query says; else text for a browser, and JSON for everybody else.
    fn choose(query: Option<Self>, headers: &HeaderMap) -> Self {
        let browser = || {
            let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            accept.is_some_and(|accept| accept.contains("text/html"))
        };
        query.unwrap_or_else(|| if browser() { Format::Text } else { Format::Json })
    }
}

/// A mistake in the query.
fn bad_request(message: String) -> Response {
    (StatusCode::BAD_REQUEST, Json(serde_json::json!({ "error": message }))).into_response()
}

/// The query, with an answer of our own for one that can not be read.
type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;
