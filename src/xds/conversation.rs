//! One stream from its first request to its trailers: the only place where a machine meets the network and the clock.
//!
//! It is a response body. The transport asks it for the next frame when there is room, and only then is the machine asked
//! for the next response: there is no queue, and no task beside the transport's own (`xds.md` P71). Never decides what is
//! sent: the machine does.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{debug, info, warn};

use super::{
    DeltaStream, Event, Kind, Machine, Options, Release, Response, Scope, SotwStream,
    access::{Caller, Denied},
    frames::{RequestFrames, ResponseFrames},
    node::parse_node,
    registry::Stream,
    server::Shared,
    wire::{self, Protocol, Request, response_fields},
};
use crate::{
    metrics::Metrics,
    snapshot::{Rendering, SnapshotWatch, TypeUrl},
};

/// A protocol: its message on the wire, and the machine that speaks it.
pub(super) trait Speaks: Send + 'static {
    /// The request as it is on the wire.
    type Request: Request<Content = <Self::Machine as Machine>::Request> + Send;
    /// The machine.
    type Machine: Machine + Send;
    /// Its name.
    const PROTOCOL: Protocol;

    /// A machine to which nothing has happened.
    fn machine(scope: Scope, options: Options) -> Self::Machine;

    /// Whether a first request is that of a client that has resources from an earlier stream.
    fn returns(request: &<Self::Machine as Machine>::Request) -> bool;

    /// The type URL of a request.
    fn type_url(request: &<Self::Machine as Machine>::Request) -> &str;
}

/// The state-of-the-world protocol.
pub(super) struct Sotw;

impl Speaks for Sotw {
    type Request = wire::SotwRequest;
    type Machine = SotwStream;
    const PROTOCOL: Protocol = Protocol::Sotw;

    fn machine(scope: Scope, options: Options) -> SotwStream {
        SotwStream::new(scope, options)
    }

    fn returns(request: &super::SotwRequest) -> bool {
        !request.version_info.is_empty()
    }

    fn type_url(request: &super::SotwRequest) -> &str {
        &request.type_url
    }
}

/// The delta protocol.
pub(super) struct Delta;

impl Speaks for Delta {
    type Request = wire::DeltaRequest;
    type Machine = DeltaStream;
    const PROTOCOL: Protocol = Protocol::Delta;

    fn machine(scope: Scope, options: Options) -> DeltaStream {
        DeltaStream::new(scope, options)
    }

    fn returns(request: &super::DeltaRequest) -> bool {
        !request.initial_versions.is_empty()
    }

    fn type_url(request: &super::DeltaRequest) -> &str {
        &request.type_url
    }
}

/// What the streams of one connection have in common.
pub(super) struct Connection {
    /// Where it comes from.
    pub(super) peer: SocketAddr,
    /// Who opened it.
    pub(super) caller: Caller,
    /// Streams end when this is cancelled: the server shuts down, the connection is old, or the client's certificate has
    /// expired.
    pub(super) retire: CancellationToken,
    /// Whether the last is the reason.
    pub(super) expired: AtomicBool,
    /// The connection is dropped when this is cancelled.
    pub(super) close: CancellationToken,
}

impl Connection {
    /// Counts and logs that a request was refused, and says the status with which it is.
    pub(super) fn deny(&self, denied: &Denied, metrics: &Metrics) -> Status {
        metrics.denied(denied.label());
        warn!(peer = %self.peer, reason = denied.label(), "xDS request refused: {denied}");
        Status::permission_denied(denied.to_string())
    }

    /// The status with which streams end when the connection is retired.
    fn going_away(&self) -> Status {
        Status::unavailable(match self.expired.load(Ordering::Relaxed) {
            true => "the client certificate has expired; connect again with a new one",
            false => "this server is going away; connect again",
        })
    }
}

/// Requests that are taken in before the next response is made: a client that floods its stream still gets answers.
const REQUESTS_AT_ONCE: usize = 64;

/// Answers the requests in `body` for as long as the stream lasts. `gateway` is what a header says about whose configuration is
/// asked for.
pub(super) fn converse<P: Speaks>(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    scope: Scope,
    gateway: Option<String>,
    body: axum::body::Body,
) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let requests = RequestFrames::new(body, shared.options.max_request_bytes);
    let conversation =
        Conversation::<P> { shared, connection, scope, gateway, requests, open: None, outgoing: None, ended: false };
    // Boxed twice over, so that neither the transport's task nor the step from one frame to the next moves it.
    let frames = stream::unfold(Box::new(conversation), |mut conversation| async move {
        let frame = conversation.next_frame().await?;
        Some((Ok(frame), conversation))
    });
    StreamBody::new(frames.boxed())
}

/// What a client of this kind takes.
fn rendering<P: Speaks>(scope: Scope, node: &super::NodeInfo) -> Rendering {
    match (scope, P::PROTOCOL) {
        (Scope::Aggregated, _) if node.is_proxyless() => Rendering::Proxyless,
        (Scope::Aggregated, _) => Rendering::Aggregated,
        (Scope::Only(_), Protocol::Sotw) => Rendering::PerTypeSotw,
        (Scope::Only(_), Protocol::Delta) => Rendering::PerTypeDelta,
    }
}

struct Conversation<P: Speaks> {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    scope: Scope,
    gateway: Option<String>,
    requests: RequestFrames<axum::body::Body>,
    open: Option<Open<P>>,
    outgoing: Option<ResponseFrames>,
    ended: bool,
}

impl<P: Speaks> Conversation<P> {
    async fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        if self.ended {
            return None;
        }
        if let Some(open) = &self.open {
            open.stream.mark_room();
        }
        match self.next_piece().await {
            Ok(piece) => {
                if let Some(open) = &self.open {
                    open.stream.mark_handed_out();
                }
                Some(Frame::data(piece))
            }
            Err(status) => {
                self.ended = true;
                match &mut self.open {
                    Some(open) => open.ended = Some(status.clone()),
                    None if status.code() == tonic::Code::Ok => {}
                    None => info!(peer = %self.connection.peer, %status, "xDS stream refused"),
                }
                self.open = None;
                Some(Frame::trailers(trailers(&status)))
            }
        }
    }

    /// The next piece of a response; the status with which the stream ends otherwise.
    async fn next_piece(&mut self) -> Result<Bytes, Status> {
        if let Some(piece) = self.outgoing.as_mut().and_then(Iterator::next) {
            return Ok(piece);
        }
        self.outgoing = None;
        loop {
            let Some(open) = &mut self.open else {
                // Boxed, as it happens once and the rest lasts.
                Box::pin(self.open()).await?;
                continue;
            };
            if self.connection.retire.is_cancelled() {
                return Err(self.connection.going_away());
            }
            for _ in 0..REQUESTS_AT_ONCE {
                let Some(request) = self.requests.next().now_or_never() else { break };
                open.take_request(&self.shared, request?)?;
            }
            if open.news.next().now_or_never().is_some() {
                open.take_snapshot(&self.shared);
            }
            if let Some(mut frames) = open.next_response(&self.shared) {
                let first = frames.next();
                self.outgoing = Some(frames);
                return Ok(first.expect("a response begins with its fields"));
            }
            let deadline = open.stream.machine().deadline();
            tokio::select! {
                biased;
                () = self.connection.retire.cancelled() => return Err(self.connection.going_away()),
                request = self.requests.next() => open.take_request(&self.shared, request?)?,
                () = open.news.next() => open.take_snapshot(&self.shared),
                () = at(deadline) => {}
            }
        }
    }

    /// Reads the first request: it says who the client is, and so what it gets.
    async fn open(&mut self) -> Result<(), Status> {
        let first = tokio::select! {
            () = self.connection.retire.cancelled() => return Err(self.connection.going_away()),
            first = self.requests.next() => first?.ok_or_else(|| Status::ok("the stream ended before its first request"))?,
        };
        // Thousands of Envoys may come at once, each with megabytes of versions it holds. Those that wait here do so beside
        // the scheduler's queue, so that streams that are already open are not behind them (`xds.md` P76).
        let _admitted = self.shared.admission.acquire().await.expect("nobody closes this semaphore");
        tokio::task::yield_now().await;
        let (node, request) = decode::<P>(first)?.split();
        let node = parse_node(node.as_ref(), self.gateway.as_deref());
        let node = node.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let allowed = self.connection.caller.may_have(&node.gateway);
        allowed.map_err(|denied| self.connection.deny(&denied, &self.shared.metrics))?;
        if self.shared.cache.is_behind() && P::returns(&request) {
            return Err(Status::unavailable("this replica may be behind what the client has; connect to another one"));
        }
        let open = Open::<P>::new(&self.shared, &self.connection, self.scope, node);
        let open = self.open.insert(open);
        open.take(&self.shared, request)
    }
}

/// A stream whose client is known. Dropping it takes it off the list of streams.
struct Open<P: Speaks> {
    shared: Arc<Shared>,
    stream: Arc<Stream<P::Machine>>,
    news: News,
    /// When the machine was told the newest snapshot, until a response is made from it.
    told_at: Option<Instant>,
    /// When the machine was told a snapshot of which the client has not acknowledged all, once something of it was sent.
    behind: Option<(Instant, bool)>,
    ended: Option<Status>,
}

impl<P: Speaks> Open<P> {
    fn new(shared: &Arc<Shared>, connection: &Connection, scope: Scope, node: super::NodeInfo) -> Self {
        let watch = shared.cache.watch(&node.gateway, rendering::<P>(scope, &node));
        let snapshots = watch.clone();
        let news = News { ready: Some(shared.cache.ready()), watch, taken: None };
        shared.metrics.stream_opened(P::PROTOCOL.label(), &node.gateway);
        let machine = P::machine(scope, shared.options.machine.clone());
        let id = shared.registry.next_id();
        let ends = (connection.peer, connection.close.clone());
        let stream = Arc::new(Stream::new(id, node, P::PROTOCOL, scope, ends, snapshots, machine));
        shared.registry.insert(stream.clone());
        info!(
            stream = id, gateway = %stream.node.gateway, node = %stream.node.id, client = %stream.node.user_agent,
            protocol = P::PROTOCOL.label(), scope = scope_label(scope), peer = %stream.peer, "xDS stream opened"
        );
        Self { shared: shared.clone(), stream, news, told_at: None, behind: None, ended: None }
    }

    fn take_request(&mut self, shared: &Shared, request: Option<Bytes>) -> Result<(), Status> {
        let request = request.ok_or_else(|| Status::ok("the client ended the stream"))?;
        let (_, request) = decode::<P>(request)?.split();
        self.take(shared, request)
    }

    fn take(&mut self, shared: &Shared, request: <P::Machine as Machine>::Request) -> Result<(), Status> {
        let of = match (TypeUrl::parse(P::type_url(&request)), self.stream.scope) {
            (Some(of), _) | (None, Scope::Only(of)) => Some(of),
            (None, Scope::Aggregated) => None,
        };
        if let Some(of) = of {
            shared.metrics.request(of);
        }
        // An answer may let go what waited for it.
        self.stream.mark_to_tell();
        let (taken, events) = {
            let mut machine = self.stream.machine();
            (machine.on_request(request, Instant::now()), machine.take_events())
        };
        self.report(shared, events);
        taken.map_err(|refused| Status::invalid_argument(refused.0))
    }

    fn take_snapshot(&mut self, shared: &Shared) {
        let is_first = self.news.taken.is_none();
        let (snapshot, skipped) = self.news.take();
        if is_first && snapshot.is_empty() {
            let node = &self.stream.node;
            warn!(
                stream = self.stream.id, gateway = %node.gateway, node = %node.id,
                "nothing is served for this Gateway: is there one of this name, of a class that is ours, with a listener that can be \
                 served?"
            );
        }
        if skipped > 0 {
            shared.metrics.coalesced_commits(skipped);
        }
        // What is refused may not be served any more, and then there is nothing to send and nobody answers.
        self.stream.mark_to_tell();
        shared.registry.notify();
        let now = Instant::now();
        self.told_at.get_or_insert(now);
        self.behind.get_or_insert((now, false));
        let events = {
            let mut machine = self.stream.machine();
            machine.on_snapshot(&snapshot, now);
            machine.take_events()
        };
        self.report(shared, events);
    }

    fn next_response(&mut self, shared: &Shared) -> Option<ResponseFrames> {
        let now = Instant::now();
        let (response, events) = {
            let mut machine = self.stream.machine();
            (machine.next_response(now), machine.take_events())
        };
        self.report(shared, events);
        let Some(response) = response else {
            self.told_at = None;
            self.note_convergence(shared, now);
            if self.news.taken.is_some_and(|revision| self.stream.mark_told(revision)) {
                shared.registry.notify();
            }
            return None;
        };
        // Whether it is taken is in doubt until it is answered.
        self.stream.mark_to_tell();
        shared.registry.notify();
        if let Some(told_at) = self.told_at.take() {
            shared.metrics.sent_after_commit(now - told_at);
        }
        if let Some((_, sent)) = &mut self.behind {
            *sent = true;
        }
        let fields = response_fields(P::PROTOCOL, &response, &shared.control_plane);
        let Response { type_url, nonce, version, body, kind, resources, removed } = response;
        shared.metrics.response(type_url, kind_label(kind), fields.len() + body.len());
        debug!(
            stream = self.stream.id, gateway = %self.stream.node.gateway, r#type = %type_url, %nonce, %version, resources,
            removed, bytes = body.len(), kind = kind_label(kind), "xDS response"
        );
        Some(ResponseFrames::new(&fields, &body))
    }

    /// Notes how long it took until the client acknowledged all that was new, once it has.
    fn note_convergence(&mut self, shared: &Shared, now: Instant) {
        let Some((since, sent)) = self.behind else { return };
        let summary = self.stream.machine().summary();
        if summary.in_flight == 0 && summary.held == 0 {
            self.behind = None;
            if sent {
                shared.metrics.converged(&self.stream.node.gateway, now - since);
            }
        }
    }

    fn report(&self, shared: &Shared, events: Vec<Event>) {
        let (id, node) = (self.stream.id, &self.stream.node);
        for event in events {
            match event {
                Event::Ack { type_url, latency } => {
                    shared.metrics.acked(type_url, latency);
                    shared.registry.notify();
                }
                Event::Nack { type_url, latency, code, message, parked, suspects } => {
                    shared.registry.notify();
                    shared.metrics.acked(type_url, latency);
                    shared.metrics.nacked(type_url, &node.gateway);
                    let what = match suspects.is_empty() {
                        true => "Envoy refused a response; what it refused is not sent to it again before it changes",
                        false => {
                            "Envoy refused a response without saying what of it; the suspects are sent to it again in parts"
                        }
                    };
                    warn!(
                        stream = id, gateway = %node.gateway, node = %node.id, r#type = %type_url, ?parked, ?suspects, code,
                        reason = message, "{what}"
                    );
                }
                Event::StaleNonce { type_url } => {
                    shared.metrics.stale_nonce();
                    debug!(stream = id, gateway = %node.gateway, r#type = %type_url, "request with an old nonce");
                }
                Event::UnknownType { type_url } => {
                    shared.metrics.unknown_subscription();
                    info!(stream = id, gateway = %node.gateway, type_url, "subscription to a type that is not served");
                }
                Event::UpdateHeld { type_url, name, awaited } => {
                    debug!(stream = id, gateway = %node.gateway, r#type = %type_url, %name, %awaited, "waits for what it names");
                }
                Event::UpdateReleased { type_url, name, release, waited } => {
                    let barrier = if type_url == TypeUrl::Listener { "rds_ack" } else { "cds_ack" };
                    shared.metrics.barrier_passed(barrier, release_label(release), waited);
                    if release == Release::TimedOut {
                        info!(
                            stream = id, gateway = %node.gateway, node = %node.id, r#type = %type_url, %name, ?waited,
                            "sent although the client does not have all that it names yet"
                        );
                    }
                }
                Event::RemovalHeld { type_url, name } => {
                    debug!(stream = id, gateway = %node.gateway, r#type = %type_url, %name, "removal waits for routes");
                }
                Event::RemovalReleased { type_url, name } => {
                    debug!(stream = id, gateway = %node.gateway, r#type = %type_url, %name, "removal goes on");
                }
                Event::Reconnected { type_url, matched, resent, gone } => {
                    shared.metrics.reconnected(matched as u64, resent as u64);
                    info!(
                        stream = id, gateway = %node.gateway, node = %node.id, r#type = %type_url, matched, resent, gone,
                        "client came back"
                    );
                }
            }
        }
    }
}

impl<P: Speaks> Drop for Open<P> {
    fn drop(&mut self) {
        let (stream, metrics) = (&self.stream, &self.shared.metrics);
        self.shared.registry.remove(stream.id);
        metrics.stream_closed(P::PROTOCOL.label(), &stream.node.gateway);
        let why = match &self.ended {
            Some(status) => status.message(),
            None => "the client or the connection went away",
        };
        info!(
            stream = stream.id, gateway = %stream.node.gateway, node = %stream.node.id,
            lasted = ?stream.started.elapsed(), why, "xDS stream closed"
        );
    }
}

/// Snapshots as they come, the first as soon as anything may be answered.
struct News {
    /// Until the cache is ready.
    ready: Option<watch::Receiver<bool>>,
    watch: SnapshotWatch,
    /// The revision that was taken last.
    taken: Option<u64>,
}

impl News {
    /// Waits until there is a snapshot that was not taken yet. Safe to cancel.
    async fn next(&mut self) {
        if let Some(ready) = &mut self.ready {
            // Before every source has synced, a client that is told to delete what is missing would delete everything
            // (`xds.md` P77).
            if ready.wait_for(|ready| *ready).await.is_err() {
                std::future::pending::<()>().await; // The cache is gone, and the process with it.
            }
            self.ready = None;
        }
        if self.taken.is_some() {
            self.watch.changed().await;
        }
    }

    /// The newest snapshot, and how many were skipped since the last.
    fn take(&mut self) -> (Arc<crate::snapshot::Snapshot>, u64) {
        let (snapshot, revision) = self.watch.take();
        let skipped = self.taken.map_or(0, |taken| (revision - taken).saturating_sub(1));
        self.taken = Some(revision);
        (snapshot, skipped)
    }
}

/// Waits until a time; for ever if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn decode<P: Speaks>(payload: Bytes) -> Result<P::Request, Status> {
    P::Request::decode(payload).map_err(|error| Status::invalid_argument(format!("not a discovery request: {error}")))
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    status.add_header(&mut trailers).expect("a percent-encoded message is a header value");
    trailers
}

/// `ads`, or the type of a per-type service.
pub(super) fn scope_label(scope: Scope) -> &'static str {
    match scope {
        Scope::Aggregated => "ads",
        Scope::Only(type_url) => type_url.label(),
    }
}

fn kind_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Initial => "initial",
        Kind::Update => "update",
        Kind::Resend => "resend",
    }
}

fn release_label(release: Release) -> &'static str {
    match release {
        Release::Ready => "ok",
        Release::TimedOut => "timeout",
        Release::Dropped => "dropped",
    }
}
