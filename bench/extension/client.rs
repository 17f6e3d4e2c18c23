//! An Envoy Gateway, as far as an extension server can tell: a connection and one call after the other. It neither makes the
//! request nor reads the response: what is measured is the server.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes};
use tailscale_gateway::extension::{Hook, hooks::SERVICE};
use tonic::{
    Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

use super::Result;

/// A connection.
pub(crate) struct Client {
    grpc: Grpc<Channel>,
    path: PathAndQuery,
}

impl Client {
    /// Connects to a server, waiting until it listens.
    pub(crate) async fn connect(server: SocketAddr) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{server}"))?
            .tcp_nodelay(true)
            .initial_stream_window_size(16 << 20)
            .initial_connection_window_size(32 << 20);
        let channel = loop {
            match channel.connect().await {
                Ok(channel) => break channel,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
        Ok(Self { grpc, path: format!("/{SERVICE}/{}", Hook::Translate.method()).parse()? })
    }

    /// Calls the last hook.
    pub(crate) async fn translate(&mut self, request: Bytes) -> Result<Bytes> {
        self.grpc.ready().await?;
        let response = self.grpc.unary(tonic::Request::new(request), self.path.clone(), Raw).await?;
        Ok(response.into_inner())
    }
}

/// Messages as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> std::result::Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
