//! A server on a loopback socket, and clients that do what a script says.

use std::{net::SocketAddr, sync::Arc};

use prost::Message;
use tailscale_gateway::{
    metrics::Metrics,
    model::ObjectName,
    snapshot::{Resource, SnapshotCache, TypeUrl, ViewChange},
    xds::{Registry, ServerOptions, serve},
};
use tailscale_gateway_proto::envoy::{
    config::{
        cluster::v3::Cluster, core::v3::Node, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
        route::v3::RouteConfiguration,
    },
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status, Streaming,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// The path of the aggregated state-of-the-world stream.
pub(crate) const ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
/// The path of the aggregated delta stream.
pub(crate) const DELTA_ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// A server under test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) cache: Arc<SnapshotCache>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// A server that is ready.
    pub(crate) async fn start() -> Self {
        let server = Self::start_with(ServerOptions::default()).await;
        server.cache.set_ready();
        server
    }

    /// A server that is not ready yet.
    pub(crate) async fn start_with(options: ServerOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cache = Arc::new(SnapshotCache::new());
        let registry = Arc::new(Registry::default());
        let metrics = Arc::new(Metrics::new(cache.clone()));
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(
            listener,
            cache.clone(),
            registry.clone(),
            metrics.clone(),
            options,
            stop.clone().cancelled_owned(),
        ));
        Self { address, cache, registry, metrics, stop, task }
    }

    /// Begins the shutdown; the task ends when it is complete.
    pub(crate) fn shut_down(self) -> JoinHandle<()> {
        self.stop.cancel();
        self.task
    }

    /// Publishes resources for the Gateway `shop/web`.
    pub(crate) fn publish(&self, changes: impl IntoIterator<Item = ViewChange>) {
        self.cache.publish(&gateway(), changes);
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// A stream on a connection of its own.
    pub(crate) async fn sotw(&self, path: &'static str) -> SotwClient {
        Client::open(self.connect().await, path, MetadataMap::new()).await.unwrap()
    }

    /// A stream on a connection of its own.
    pub(crate) async fn delta(&self, path: &'static str) -> DeltaClient {
        Client::open(self.connect().await, path, MetadataMap::new()).await.unwrap()
    }
}

/// The Gateway that tests serve.
pub(crate) fn gateway() -> ObjectName {
    ObjectName::new("shop", "web")
}

/// The node of an Envoy of that Gateway.
pub(crate) fn node(id: &str) -> Option<Node> {
    Some(Node { id: id.into(), cluster: gateway().to_string(), user_agent_name: "envoy".into(), ..Default::default() })
}

pub(crate) type SotwClient = Client<DiscoveryRequest, DiscoveryResponse>;
pub(crate) type DeltaClient = Client<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

/// One stream, driven by hand.
pub(crate) struct Client<Q, R> {
    requests: mpsc::UnboundedSender<Q>,
    responses: Streaming<R>,
    pub(crate) headers: MetadataMap,
}

impl<Q, R> Client<Q, R>
where
    Q: Message + Default + 'static,
    R: Message + Default + 'static,
{
    /// Opens a stream.
    pub(crate) async fn open(channel: Channel, path: &'static str, metadata: MetadataMap) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut grpc = tonic::client::Grpc::new(channel)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        let mut request = tonic::Request::new(UnboundedReceiverStream::new(receiver));
        *request.metadata_mut() = metadata;
        let response = grpc.streaming(request, PathAndQuery::from_static(path), ProstCodec::<Q, R>::default()).await?;
        let headers = response.metadata().clone();
        Ok(Self { requests, responses: response.into_inner(), headers })
    }

    pub(crate) fn send(&self, request: Q) {
        self.requests.send(request).unwrap();
    }

    /// The next response.
    pub(crate) async fn next(&mut self) -> R {
        self.responses.message().await.unwrap().expect("the stream goes on")
    }

    /// Says that no more requests come, and reads to the end.
    pub(crate) async fn finish(mut self) -> Status {
        self.requests = mpsc::unbounded_channel().0;
        self.end().await
    }

    /// The status with which the stream ends, all that comes before left aside.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match self.responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::new(Code::Ok, ""),
                Err(status) => return status,
            }
        }
    }
}

/// A request that subscribes to names; a first one when it has a node.
pub(crate) fn ask(node: Option<Node>, of: TypeUrl, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node,
        type_url: of.as_str().into(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// A request that subscribes to names; a first one when it has a node.
pub(crate) fn subscribe(node: Option<Node>, of: TypeUrl, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node,
        type_url: of.as_str().into(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// Accepts a response.
pub(crate) fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}

/// Accepts a response, still wanting these names.
pub(crate) fn ack_sotw(response: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: response.version_info.clone(),
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// The names in a delta response.
pub(crate) fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

/// Adds or replaces a resource.
pub(crate) fn put(of: TypeUrl, name: &str, message: &impl Message) -> ViewChange {
    ViewChange { type_url: of, name: name.into(), resource: Some(Arc::new(Resource::new(of, name, message))) }
}

/// A cluster; `salt` makes it differ from others of its name.
pub(crate) fn cluster(name: &str, salt: &str) -> ViewChange {
    let message = Cluster { name: name.into(), alt_stat_name: salt.into(), ..Default::default() };
    put(TypeUrl::Cluster, name, &message)
}

/// One resource of each of the four types that every Envoy needs; the cluster has its endpoints over EDS.
pub(crate) fn small_world() -> Vec<ViewChange> {
    vec![
        cluster("c", ""),
        put(TypeUrl::Endpoints, "c", &ClusterLoadAssignment { cluster_name: "c".into(), ..Default::default() }),
        put(TypeUrl::Listener, "l", &Listener { name: "l".into(), ..Default::default() }),
        put(TypeUrl::Route, "r", &RouteConfiguration { name: "r".into(), ..Default::default() }),
    ]
}

/// Lets other tasks run until something holds. Only for what no message tells of.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}
