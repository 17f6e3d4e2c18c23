//! An extension server on generated messages, which gives back what it is sent: tonic, prost, Envoy's messages as types.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use prost::Message;
use tailscale_gateway::extension::hooks::SERVICE;
use tailscale_gateway_proto::envoy::{
    config::{cluster::v3::Cluster, listener::v3::Listener, route::v3::RouteConfiguration},
    extensions::transport_sockets::tls::v3::Secret,
};
use tailscale_gateway_proto::envoy_gateway::Context as PostTranslateContext;
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http,
    server::{Grpc, NamedService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::Service;

use super::Result;

/// `PostTranslateModifyRequest`.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, optional, tag = "1")]
    context: Option<PostTranslateContext>,
    #[prost(message, repeated, tag = "2")]
    clusters: Vec<Cluster>,
    #[prost(message, repeated, tag = "3")]
    secrets: Vec<Secret>,
    #[prost(message, repeated, tag = "4")]
    listeners: Vec<Listener>,
    #[prost(message, repeated, tag = "5")]
    routes: Vec<RouteConfiguration>,
}

/// `PostTranslateModifyResponse`.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, repeated, tag = "1")]
    clusters: Vec<Cluster>,
    #[prost(message, repeated, tag = "2")]
    secrets: Vec<Secret>,
    #[prost(message, repeated, tag = "3")]
    listeners: Vec<Listener>,
    #[prost(message, repeated, tag = "4")]
    routes: Vec<RouteConfiguration>,
}

/// What calls took since somebody asked, from the whole request to the whole response.
#[derive(Clone, Default)]
pub(crate) struct Times(Arc<Mutex<(Option<Instant>, Vec<Duration>)>>);

impl Times {
    /// What they took.
    pub(crate) fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.0.lock().expect("nothing panics while it holds this lock").1)
    }

    fn begin(&self) {
        self.0.lock().expect("nothing panics while it holds this lock").0 = Some(Instant::now());
    }

    fn end(&self) {
        let (began, took) = &mut *self.0.lock().expect("nothing panics while it holds this lock");
        took.extend(began.take().map(|began| began.elapsed()));
    }
}

/// Starts a server.
pub(crate) fn start(runtime: &Runtime) -> Result<(SocketAddr, Times)> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let times = Times::default();
    let server = Server::builder()
        .initial_stream_window_size(16 << 20)
        .initial_connection_window_size(32 << 20)
        .add_service(Extension { times: times.clone() });
    runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    Ok((address, times))
}

#[derive(Clone)]
struct Extension {
    times: Times,
}

impl NamedService for Extension {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for Extension {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let codec = Timed { inner: ProstCodec::default(), times: self.times.clone() };
        Box::pin(async move {
            let mut grpc = Grpc::new(codec).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
            let answer = tower::service_fn(|request: tonic::Request<Request>| async {
                let Request { clusters, secrets, listeners, routes, .. } = request.into_inner();
                Ok::<_, Status>(tonic::Response::new(Response { clusters, secrets, listeners, routes }))
            });
            Ok(grpc.unary(answer, request).await)
        })
    }
}

/// prost's codec, and the time between its first and its last work for a call.
struct Timed {
    inner: ProstCodec<Response, Request>,
    times: Times,
}

struct TimedPart<P> {
    inner: P,
    times: Times,
}

impl Codec for Timed {
    type Encode = Response;
    type Decode = Request;
    type Encoder = TimedPart<<ProstCodec<Response, Request> as Codec>::Encoder>;
    type Decoder = TimedPart<<ProstCodec<Response, Request> as Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        TimedPart { inner: self.inner.encoder(), times: self.times.clone() }
    }

    fn decoder(&mut self) -> Self::Decoder {
        TimedPart { inner: self.inner.decoder(), times: self.times.clone() }
    }
}

impl<P: Encoder> Encoder for TimedPart<P> {
    type Item = P::Item;
    type Error = P::Error;

    fn encode(&mut self, message: P::Item, to: &mut EncodeBuf<'_>) -> std::result::Result<(), P::Error> {
        let encoded = self.inner.encode(message, to);
        self.times.end();
        encoded
    }
}

impl<P: Decoder> Decoder for TimedPart<P> {
    type Item = P::Item;
    type Error = P::Error;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> std::result::Result<Option<P::Item>, P::Error> {
        self.times.begin();
        self.inner.decode(from)
    }
}
