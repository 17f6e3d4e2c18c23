//! The extension port: connections, the six methods, and what is counted of each call.
//!
//! A call is answered from memory: it waits for nobody, and after [`ServerOptions::patience`] its input goes back unchanged, since
//! an Envoy Gateway asks without a deadline and stands still as long as it has no answer (`envoy-gateway.md` §1.6).

use std::{
    future::Future,
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::{StatusCode, header};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, UnixListener, UnixSocket},
    sync::{Semaphore, watch},
    task, time,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, service::Routes};
use tonic_health::ServingStatus;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use super::{
    Answer, Call, Calls, Hook, Malformed, Outcome, answer, behind, echo,
    hooks::SERVICE,
    splice::Edits,
    unary::{self, Large, Reply},
};
use crate::{
    metrics::{ExtensionCall, Metrics},
    model::ObjectName,
    snapshot::{Hosted, PublishedHosted},
};

/// How the port behaves.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// What clients are shown, and how they are checked; replaced when files are. Without it there is no TLS.
    pub tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// The largest request that is read, in bytes; 256 MiB by default.
    pub max_request_bytes: usize,
    /// How long an answer may take until the input goes back unchanged; 2 s by default.
    pub patience: Duration,
    /// How long a call waits for this replica to come to the revision that an Envoy Gateway has seen; 1 s by default.
    pub lag: Duration,
    /// How many large requests are held at once; 4 by default. The others wait unread.
    pub large_at_once: usize,
    /// What is still open so long after the end is cut; 3 s by default.
    pub drain_grace: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tls: None,
            max_request_bytes: 256 << 20,
            patience: Duration::from_secs(2),
            lag: Duration::from_secs(1),
            large_at_once: 4,
            drain_grace: Duration::from_secs(3),
        }
    }
}

/// Requests above this size are worked on beside the tasks that serve connections, and only some of them at once.
const LARGE: usize = 256 << 10;

/// How long an answer that is out of time may take to notice it, which it does by itself; then nobody waits for it.
const HUNG: Duration = Duration::from_secs(1);

/// How long a request may take to arrive, so that nobody holds the place of others.
const READING: Duration = Duration::from_secs(30);

/// How long the path of a socket file may be: what `sockaddr_un.sun_path` holds, and a zero at its end (unix(7)).
const LONGEST_SOCKET: usize = 107;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// An address that is taken, where nobody is answered yet: the port opens once there is something to say, so that an Envoy
/// Gateway, which waits for it, is not told anything before (`envoy-gateway.md` §9.5).
#[derive(Debug)]
pub enum Bound {
    /// A TCP port.
    Tcp(TcpSocket),
    /// A socket file.
    Unix(UnixSocket, PathBuf),
}

impl Bound {
    /// Takes a TCP port.
    ///
    /// # Errors
    ///
    /// When it is taken already, or the address is not this machine's.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self::Tcp(socket))
    }

    /// Takes the place of a socket file that nobody listens on.
    ///
    /// # Errors
    ///
    /// When somebody does, or something else has the name, or it is too long for one, or the folder can not be written.
    pub fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::{ffi::OsStrExt, fs::FileTypeExt, net::UnixStream};
        let len = path.as_os_str().as_bytes().len();
        if len > LONGEST_SOCKET {
            let what = format!("the path has {len} bytes, and that of a socket file has {LONGEST_SOCKET} at most");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                let what = "there is something else than a socket file, which is left alone";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
            Ok(_) => std::fs::remove_file(path)?,
            // What else is wrong with the folder, binding says.
            Err(_) => {}
        }
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        Ok(Self::Unix(socket, path.to_owned()))
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// Another process listens on the address by now.
    fn open(self) -> io::Result<Open> {
        match self {
            Self::Tcp(socket) => Ok(Open::Tcp(socket.listen(1024)?)),
            Self::Unix(socket, path) => Ok(Open::Unix(socket.listen(1024)?, path)),
        }
    }
}

enum Open {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What all calls share.
struct Shared {
    hosted: Arc<PublishedHosted>,
    metrics: Arc<Metrics>,
    calls: Arc<Calls>,
    options: ServerOptions,
    large: Semaphore,
}

/// Who is at the other end.
#[derive(Clone)]
struct Peer(Arc<str>);

/// Opens the port and answers until `shutdown` is done; then lets calls end that are under way.
///
/// # Errors
///
/// When the port can not be opened.
pub async fn serve(
    bound: Bound,
    hosted: Arc<PublishedHosted>,
    metrics: Arc<Metrics>,
    calls: Arc<Calls>,
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = bound.open()?;
    let large = Semaphore::new(options.large_at_once);
    let shared = Arc::new(Shared { hosted, metrics, calls, options, large });
    let (health, service) = tonic_health::server::health_reporter();
    for name in ["", SERVICE] {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    let router = router(&shared, Routes::builder().add_service(service).clone().routes());
    let (drain, connections) = (CancellationToken::new(), TaskTracker::new());
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, shared, drain) = (router.clone(), Arc::clone(&shared), drain.child_token());
                connections.spawn(async move { connection(stream, peer, router, &shared, drain).await });
            }
            Err(error) => {
                // The one that failed is gone; out of file descriptors, trying again at once would spin.
                warn!(%error, "can not accept a connection to the extension port");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    info!(connections = connections.len(), "extension port drains");
    drain.cancel();
    connections.close();
    let _ = time::timeout(shared.options.drain_grace, connections.wait()).await;
    Ok(())
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn accept(listener: &Open) -> io::Result<(Box<dyn Stream>, Peer)> {
    match listener {
        Open::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream), Peer(peer.to_string().into())))
        }
        Open::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            Ok((Box::new(stream), Peer("unix".into())))
        }
    }
}

async fn connection(stream: Box<dyn Stream>, peer: Peer, router: Router, shared: &Shared, drain: CancellationToken) {
    let Some(tls) = &shared.options.tls else { return http(stream, peer, router, drain).await };
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
    match time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => http(stream, peer, router, drain).await,
        Ok(Err(error)) => warn!(peer = %peer.0, %error, "TLS handshake on the extension port failed"),
        Err(_) => warn!(peer = %peer.0, "TLS handshake on the extension port took too long"),
    }
}

async fn http(stream: impl Stream + 'static, peer: Peer, router: Router, drain: CancellationToken) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // An Envoy Gateway's side that is gone without a word is noticed.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        // Room for large requests; limits, not allocations.
        .initial_stream_window_size(16 << 20)
        .initial_connection_window_size(32 << 20)
        .max_send_buf_size(4 << 20);
    let of = peer.clone();
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(of.clone());
        router.clone().oneshot(request)
    });
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(peer = %peer.0, %error, "connection to the extension port ended");
    }
}

fn router(shared: &Arc<Shared>, health: Routes) -> Router {
    let mut router = health.into_axum_router();
    for hook in Hook::ALL {
        let method = post(move |State(shared): State<Arc<Shared>>, request: Request| call(shared, hook, request));
        router = router.route(&format!("/{SERVICE}/{}", hook.method()), method.with_state(Arc::clone(shared)));
    }
    router
}

/// Answers a call.
async fn call(shared: Arc<Shared>, hook: Hook, request: Request) -> Response {
    if let Some(refusal) = refusal(request.headers()) {
        return refusal;
    }
    let Peer(peer) = request.extensions().get().cloned().expect("every request of this port is given its peer");
    let work = work(&shared, hook, request);
    let (noted, response) = match work.await {
        Ok((noted, pieces)) => {
            let (reply, len) = Reply::new(pieces);
            (Noted { bytes_out: len, ..noted }, grpc(Body::new(reply)))
        }
        Err((noted, status)) => (noted, status.into_http()),
    };
    note(&shared, hook, &peer, noted);
    response
}

/// What is told of a call.
#[derive(Default)]
struct Noted {
    bytes_in: usize,
    bytes_out: usize,
    took: Duration,
    changed: usize,
    gateways: Vec<ObjectName>,
    result: &'static str,
    error: Option<String>,
}

async fn work(shared: &Arc<Shared>, hook: Hook, request: Request) -> Result<(Noted, Vec<Bytes>), (Noted, Status)> {
    let failed = |bytes_in, status: Status| {
        let error = Some(status.message().to_owned());
        (Noted { bytes_in, result: "refused", error, ..Noted::default() }, status)
    };
    let large = Large { above: LARGE, permits: &shared.large };
    let read = unary::read(request.into_body(), shared.options.max_request_bytes, &large);
    let read = time::timeout(READING, read).await;
    let read = read.unwrap_or_else(|_| Err(Status::deadline_exceeded("the request did not arrive in time")));
    // The permit is held until the answer is ready.
    let (message, _permit) = read.map_err(|status| failed(0, status))?;
    let began = Instant::now();
    let bytes_in = message.len();
    let hosted = caught_up(shared, hook, &message).await;
    let answer = answer_of(hook, &message, hosted, shared.options.patience);
    let attempted = attempt(answer, message.len() > LARGE, shared.options.patience + HUNG).await;
    let (edits, mut noted) = settle(attempted, hook, &message)
        .map_err(|malformed| failed(bytes_in, Status::invalid_argument(malformed.to_string())))?;
    let pieces = edits.apply(message);
    noted.bytes_in = bytes_in;
    noted.took = began.elapsed();
    Ok((noted, pieces))
}

/// What is sent back after an attempt, and what is told of it. An attempt that came to nothing leaves the input as it came.
///
/// # Errors
///
/// The request can not be read, so that there is nothing to send back.
fn settle(attempt: Attempt, hook: Hook, message: &[u8]) -> Result<(Edits, Noted), Malformed> {
    let nothing = |result, error: &str| {
        let noted = Noted { result, error: Some(error.to_owned()), ..Noted::default() };
        Ok((echo(hook, message)?, noted))
    };
    match attempt {
        Attempt::Answered(answered) => {
            let Answer { edits, outcome, gateways } = answered?;
            let (result, changed, error) = match outcome {
                Outcome::Done { changed: 0 } => ("echo", 0, None),
                Outcome::Done { changed } => ("changed", changed, None),
                Outcome::OutOfTime => ("out_of_time", 0, Some("the answer took too long".to_owned())),
                Outcome::Unreadable(malformed) => ("unreadable", 0, Some(malformed.to_string())),
            };
            Ok((edits, Noted { changed, gateways, result, error, ..Noted::default() }))
        }
        Attempt::Stuck => nothing("out_of_time", "the answer took too long, and does not end"),
        Attempt::Panicked => nothing("panic", "answering panicked; see the log"),
    }
}

/// What became of the attempt to answer.
enum Attempt {
    Answered(Result<Answer, Malformed>),
    Panicked,
    /// It goes on without anybody waiting for it.
    Stuck,
}

/// What hooks are answered from: the last that was published, or what comes when an Envoy Gateway has seen that there is more.
async fn caught_up(shared: &Shared, hook: Hook, message: &[u8]) -> Arc<Hosted> {
    let hosted = shared.hosted.load_full();
    let behind = behind(hook, message, &hosted);
    if behind.is_empty() {
        return hosted;
    }
    let arrived = |hosted: &Hosted| !behind.iter().any(|(gateway, revision)| hosted.is_behind(gateway, revision));
    match time::timeout(shared.options.lag, shared.hosted.wait_for(arrived)).await {
        Ok(hosted) => hosted,
        Err(_) => {
            let (gateway, _) = &behind[0];
            info!(%gateway, "an Envoy Gateway has seen a revision that is not known here; it is answered without");
            shared.hosted.load_full()
        }
    }
}

/// The work of an answer; it gives up by itself when `patience` ends.
fn answer_of(
    hook: Hook,
    message: &Bytes,
    hosted: Arc<Hosted>,
    patience: Duration,
) -> impl FnOnce() -> Result<Answer, Malformed> + Send + 'static {
    let (request, began) = (message.clone(), Instant::now());
    move || answer(hook, &request, &hosted, &|| began.elapsed() >= patience)
}

/// Does the work of an answer: what is large, beside the tasks that serve connections, and no longer than `limit`.
async fn attempt(
    answer: impl FnOnce() -> Result<Answer, Malformed> + Send + 'static,
    is_large: bool,
    limit: Duration,
) -> Attempt {
    // Nothing that is shared is changed by it.
    let answer = || catch_unwind(AssertUnwindSafe(answer));
    let answered = if is_large {
        match time::timeout(limit, task::spawn_blocking(answer)).await {
            Ok(joined) => joined.unwrap_or_else(|error| Err(Box::new(error))),
            Err(_) => return Attempt::Stuck,
        }
    } else {
        answer()
    };
    match answered {
        Ok(answer) => Attempt::Answered(answer),
        Err(_) => Attempt::Panicked,
    }
}

fn note(shared: &Shared, hook: Hook, peer: &str, noted: Noted) {
    let Noted { bytes_in, bytes_out, took, changed, gateways, result, error } = noted;
    if let Some(error) = &error {
        warn!(
            hook = hook.label(),
            peer,
            bytes = bytes_in,
            result,
            error,
            "an extension call was not answered as it should be"
        );
    } else {
        debug!(hook = hook.label(), peer, bytes = bytes_in, changed, micros = took.as_micros(), "extension call");
    }
    shared.metrics.extension_call(&ExtensionCall { hook: hook.label(), result, bytes_in, bytes_out, changed, took });
    let peer = peer.to_owned();
    shared.calls.note(Call { at: SystemTime::now(), hook, peer, bytes_in, bytes_out, took, changed, gateways, error });
}

/// The answer to what is no gRPC, and to what is compressed.
fn refusal(headers: &HeaderMap) -> Option<Response> {
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

fn grpc(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Field 1 of `PostRouteModifyRequest`, a route of two bytes, and field 2, its context.
    const REQUEST: &[u8] = &[10, 2, 8, 1, 18, 0];

    fn sent_back(attempt: Attempt) -> (Vec<u8>, Noted) {
        let (edits, noted) = settle(attempt, Hook::Route, REQUEST).expect("it can be read");
        (edits.apply(Bytes::from_static(REQUEST)).concat(), noted)
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_is_not_waited_for_and_the_input_goes_back() {
        let (end, ended) = mpsc::channel::<()>();
        let answer = move || {
            let _nobody_sends = ended.recv();
            answer(Hook::Route, REQUEST, &Hosted::default(), &|| false)
        };
        let attempted = attempt(answer, true, Duration::ZERO).await;
        assert!(matches!(attempted, Attempt::Stuck));
        drop(end);
        let (bytes, noted) = sent_back(attempted);
        assert_eq!((bytes.as_slice(), noted.result, noted.changed), (&REQUEST[..4], "out_of_time", 0));
        assert!(noted.error.is_some_and(|error| error.contains("does not end")));
    }

    #[tokio::test]
    async fn an_answer_that_panics_leaves_the_input_as_it_came() {
        for is_large in [false, true] {
            let attempted = attempt(|| panic!("on purpose"), is_large, Duration::MAX).await;
            assert!(matches!(attempted, Attempt::Panicked), "{is_large}");
            let (bytes, noted) = sent_back(attempted);
            assert_eq!((bytes.as_slice(), noted.result, noted.changed), (&REQUEST[..4], "panic", 0));
        }
    }
}
