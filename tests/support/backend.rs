//! A backend inside the test process that tells what it was asked, and misbehaves on request.
//!
//! It speaks HTTP/1.1 and HTTP/2 (with prior knowledge, or by ALPN over TLS) on one port, and echoes the bytes of upgraded
//! connections.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::{tls::Certificate, wait::within};

/// How many of the requests it received a backend remembers.
const REMEMBERED: usize = 1_000;

/// What a backend answers with, and remembers: the request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The name of the backend.
    pub backend: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Host` header or `:authority`.
    pub host: String,
    /// The headers by lower-case name; several values are joined with `, `.
    pub headers: BTreeMap<String, String>,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// The body, as text.
    pub body: String,
}

/// What a client said when it opened a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The server name it asked for.
    pub server_name: Option<String>,
    /// The protocol both agreed on.
    pub protocol: Option<String>,
}

/// A running backend; its port is closed and its connections are cut when it is dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    state: Arc<State>,
    server: AbortHandle,
}

#[derive(Debug)]
struct State {
    name: String,
    /// The status of the next answers: so many of the first, then the second for ever.
    status: Mutex<(u64, StatusCode, StatusCode)>,
    /// Whether answers are held back.
    held: watch::Sender<bool>,
    /// How many requests arrived.
    requests: watch::Sender<u64>,
    received: Mutex<VecDeque<Echo>>,
    handshakes: Mutex<Vec<Handshake>>,
}

impl Backend {
    /// A backend on a free loopback port.
    pub async fn start(name: &str) -> Self {
        Self::start_on(name, (Ipv4Addr::LOCALHOST, 0).into(), None).await
    }

    /// A backend on a free loopback port that speaks TLS with this certificate.
    pub async fn start_tls(name: &str, certificate: &Certificate) -> Self {
        Self::start_on(name, (Ipv4Addr::LOCALHOST, 0).into(), Some(certificate)).await
    }

    /// A backend on a given address.
    pub async fn start_on(name: &str, address: SocketAddr, certificate: Option<&Certificate>) -> Self {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => panic!("backend {name} can not listen on {address}: {error}"),
        };
        Self::serve(name, listener, certificate)
    }

    /// A backend behind a socket that listens already.
    pub fn serve(name: &str, listener: TcpListener, certificate: Option<&Certificate>) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            name: name.to_owned(),
            status: Mutex::new((0, StatusCode::OK, StatusCode::OK)),
            held: watch::Sender::new(false),
            requests: watch::Sender::new(0),
            received: Mutex::default(),
            handshakes: Mutex::default(),
        });
        let tls = certificate.map(|certificate| TlsAcceptor::from(certificate.server(&["h2", "http/1.1"])));
        let server = tokio::spawn(accept(listener, tls, state.clone())).abort_handle();
        Self { address, state, server }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers with this status.
    pub fn answer(&self, status: u16) {
        *self.state.status.lock().expect("no holder panics") = (0, StatusCode::OK, code(status));
    }

    /// It answers the next `count` requests with this status, and all after them as before.
    pub fn answer_next(&self, count: u64, status: u16) {
        let mut current = self.state.status.lock().expect("no holder panics");
        *current = (count, code(status), current.2);
    }

    /// It takes requests but answers none until [`Backend::release`].
    pub fn hold(&self) {
        self.state.held.send_replace(true);
    }

    /// It answers what it held back, and everything from now on.
    pub fn release(&self) {
        self.state.held.send_replace(false);
    }

    /// How many requests arrived, those that are held back among them.
    pub fn requests(&self) -> u64 {
        *self.state.requests.borrow()
    }

    /// Waits until so many requests have arrived.
    ///
    /// # Panics
    /// When the deadline passes.
    pub async fn wait_for_requests(&self, count: u64) {
        let mut requests = self.state.requests.subscribe();
        let arrived = requests.wait_for(|requests| *requests >= count);
        let arrived = within(&format!("request {count} at backend {}", self.state.name), arrived).await;
        arrived.expect("this value keeps the sender");
    }

    /// The latest requests that arrived, oldest first, at most a thousand.
    pub fn received(&self) -> Vec<Echo> {
        self.state.received.lock().expect("no holder panics").iter().cloned().collect()
    }

    /// All TLS handshakes that were completed, oldest first.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.state.handshakes.lock().expect("no holder panics").clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status is between 100 and 999")
}

/// Accepts for ever; the connections end with this task.
async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, tls.clone(), state.clone()));
    }
}

/// One connection. Errors are the client's business: it sees them too.
async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let _without_delay = stream.set_nodelay(true);
    let Some(tls) = tls else { return serve_http(stream, state).await };
    let Ok(stream) = tls.accept(stream).await else { return };
    let session = stream.get_ref().1;
    let handshake = Handshake {
        server_name: session.server_name().map(str::to_owned),
        protocol: session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
    };
    state.handshakes.lock().expect("no holder panics").push(handshake);
    serve_http(stream, state).await;
}

async fn serve_http(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(state.respond(request).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let _cut_by_the_client = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

impl State {
    async fn respond(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let websocket = request.headers().get(header::UPGRADE).is_some_and(|value| value == "websocket");
        let upgrade = websocket.then(|| hyper::upgrade::on(&mut request));
        let echo = self.describe(request).await;
        let status = self.next_status();
        {
            let mut received = self.received.lock().expect("no holder panics");
            if received.len() == REMEMBERED {
                received.pop_front();
            }
            received.push_back(echo.clone());
        }
        self.requests.send_modify(|requests| *requests += 1);
        self.held.subscribe().wait_for(|held| !held).await.expect("this value keeps the sender");

        let response = Response::builder().header("x-backend", &self.name);
        if let Some(upgrade) = upgrade {
            tokio::spawn(async move {
                let Ok(upgraded) = upgrade.await else { return };
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                let _cut_by_the_client = tokio::io::copy(&mut read, &mut write).await;
            });
            let response = response.status(StatusCode::SWITCHING_PROTOCOLS);
            let response = response.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "websocket");
            return response.body(Full::default()).expect("the parts are valid");
        }
        let body = serde_json::to_vec(&echo).expect("an echo has a JSON form");
        let response = response.status(status).header(header::CONTENT_TYPE, "application/json");
        response.body(Full::from(body)).expect("the parts are valid")
    }

    async fn describe(&self, request: Request<Incoming>) -> Echo {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in &parts.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let known = headers.entry(name.to_string()).or_default();
            *known = if known.is_empty() { value.into_owned() } else { format!("{known}, {value}") };
        }
        let authority = parts.uri.authority().map(ToString::to_string);
        Echo {
            backend: self.name.clone(),
            method: parts.method.to_string(),
            path: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            host: authority.or_else(|| headers.get("host").cloned()).unwrap_or_default(),
            headers,
            protocol: format!("{:?}", parts.version),
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    fn next_status(&self) -> StatusCode {
        let mut status = self.status.lock().expect("no holder panics");
        match &mut *status {
            (0, _, always) => *always,
            (left, first, _) => {
                *left -= 1;
                *first
            }
        }
    }
}
