//! One Envoy, as far as a server can tell: a connection, a delta ADS stream, subscriptions and acknowledgements. It keeps
//! nothing of what it is sent but how much there was.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use prost::Message;
use tailscale_gateway::snapshot::TypeUrl;
use tailscale_gateway_proto::envoy::{config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::{Result, world};

const DELTA_ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// A `DeltaDiscoveryResponse` whose resources are left as they are.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// The name in a `Resource`.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "3")]
    name: String,
}

/// What all Envoys together received.
#[derive(Default)]
pub(crate) struct Received {
    responses: AtomicUsize,
    resources: AtomicUsize,
    news: Notify,
}

impl Received {
    /// How many responses were received.
    pub(crate) fn responses(&self) -> usize {
        self.responses.load(Ordering::Acquire)
    }

    /// Waits until this many responses were received.
    pub(crate) async fn responses_are(&self, wanted: usize) {
        self.are(&self.responses, wanted).await;
    }

    /// Waits until this many resources were received.
    pub(crate) async fn resources_are(&self, wanted: usize) {
        self.are(&self.resources, wanted).await;
    }

    async fn are(&self, count: &AtomicUsize, wanted: usize) {
        loop {
            // Before the look, so that no news is missed between it and the wait.
            let news = self.news.notified();
            if count.load(Ordering::Acquire) >= wanted {
                return;
            }
            news.await;
        }
    }
}

/// An Envoy's subscriptions to endpoints: the names of its clusters.
pub(crate) async fn cluster_names(server: SocketAddr) -> Result<(Vec<String>, usize)> {
    let mut stream = Stream::open(server, "names", TypeUrl::Cluster).await?;
    let mut counted = Vec::new();
    for type_url in [TypeUrl::Cluster, TypeUrl::Listener] {
        if type_url != TypeUrl::Cluster {
            stream.subscribe(type_url, Vec::new());
        }
        // A server may send them in several responses; the last is the one after which it is silent.
        let mut names: Vec<String> = Vec::new();
        loop {
            let wait = tokio::time::timeout(std::time::Duration::from_secs(2), stream.next());
            let Ok(response) = wait.await else { break };
            for resource in response? {
                names.push(Named::decode(resource)?.name);
            }
        }
        counted.push(names);
    }
    let listeners = counted.pop().map_or(0, |names| names.len());
    Ok((counted.pop().unwrap_or_default(), listeners))
}

/// How many Envoys connect at once: a listener's queue is finite.
static CONNECTING: Semaphore = Semaphore::const_new(64);

/// Runs an Envoy that subscribes to everything; ends when the server ends the stream.
pub(crate) async fn run(
    server: SocketAddr,
    number: usize,
    clusters: Arc<Vec<String>>,
    received: Arc<Received>,
) -> Result {
    let connecting = CONNECTING.acquire().await?;
    let mut stream = Stream::open(server, &format!("envoy-{number}"), TypeUrl::Cluster).await?;
    drop(connecting);
    // As Envoy does, the rest when it has the clusters, of which a server may send some at a time.
    let mut missing = clusters.len();
    let mut names = Some(clusters);
    loop {
        let resources = stream.next().await?;
        received.resources.fetch_add(resources.len(), Ordering::AcqRel);
        received.responses.fetch_add(1, Ordering::AcqRel);
        received.news.notify_waiters();
        missing = missing.saturating_sub(resources.len());
        if let Some(clusters) = names.take_if(|_| missing == 0) {
            stream.subscribe(TypeUrl::Endpoints, clusters.to_vec());
            stream.subscribe(TypeUrl::Listener, Vec::new());
            stream.subscribe(TypeUrl::Route, vec![format!("{}/8080", world::gateway())]);
        }
    }
}

struct Stream {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    responses: tonic::Streaming<Response>,
}

impl Stream {
    /// Opens a stream that begins with a wildcard subscription to a type.
    async fn open(server: SocketAddr, id: &str, first: TypeUrl) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{server}"))?
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 20)
            .connect()
            .await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
        grpc.ready().await?;
        let (requests, receiver) = mpsc::unbounded_channel();
        let codec = ProstCodec::<DeltaDiscoveryRequest, Response>::default();
        let path = PathAndQuery::from_static(DELTA_ADS);
        let cluster = world::gateway().to_string();
        let node = Some(Node { id: id.to_owned(), cluster, user_agent_name: "envoy".to_owned(), ..Default::default() });
        let type_url = first.as_str().to_owned();
        requests.send(DeltaDiscoveryRequest { node, type_url, ..Default::default() }).expect("its receiver is here");
        // Some servers send nothing, not even headers, before they have something to say.
        let opening = grpc.streaming(tonic::Request::new(UnboundedReceiverStream::new(receiver)), path, codec);
        let responses = opening.await?.into_inner();
        Ok(Self { requests, responses })
    }

    fn subscribe(&mut self, type_url: TypeUrl, names: Vec<String>) {
        let request = DeltaDiscoveryRequest {
            type_url: type_url.as_str().to_owned(),
            resource_names_subscribe: names,
            ..Default::default()
        };
        self.requests.send(request).expect("the stream holds the receiver");
    }

    /// The resources of the next response, which is accepted.
    async fn next(&mut self) -> Result<Vec<Bytes>> {
        let response = self.responses.message().await?.ok_or("the server ended the stream")?;
        let request =
            DeltaDiscoveryRequest { type_url: response.type_url, response_nonce: response.nonce, ..Default::default() };
        self.requests.send(request).expect("the stream holds the receiver");
        Ok(response.resources)
    }
}
