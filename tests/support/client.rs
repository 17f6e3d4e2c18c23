//! An HTTP client for one request at a time, that can lie about the host it means.
//!
//! It follows no redirect, retries nothing and keeps no cookies: what it returns is what the server said.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpSocket,
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

use super::{backend::Echo, tls::Authority, wait::within};

/// A request that is not sent yet.
#[derive(Clone, Debug)]
pub struct Request {
    to: SocketAddr,
    from: Option<IpAddr>,
    method: Method,
    path: String,
    host: String,
    headers: HeaderMap,
    body: Bytes,
    http2: bool,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The certificate that the server showed, DER.
    pub certificate: Option<Vec<u8>>,
}

/// A GET over HTTP/1.1. The host is the address until [`Request::host`] says another.
pub fn get(to: SocketAddr, path: &str) -> Request {
    Request {
        to,
        from: None,
        method: Method::GET,
        path: path.to_owned(),
        host: to.to_string(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        http2: false,
        tls: None,
    }
}

impl Request {
    /// Another method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.parse().expect("a method");
        self
    }

    /// From this address.
    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(address.parse().expect("an IP address"));
        self
    }

    /// Another `Host` or `:authority`.
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// One more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        self.headers.append(name, value.parse().expect("a header value"));
        self
    }

    /// A body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Over HTTP/2: by ALPN with TLS, else with prior knowledge.
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Over TLS, asking for this server and trusting this authority alone.
    pub fn tls(mut self, authority: &Authority, server_name: &str) -> Self {
        let name = ServerName::try_from(server_name.to_owned()).expect("a host name or an address");
        self.tls = Some((Arc::new(authority.client()), name));
        self
    }

    /// Sends it on a connection of its own.
    ///
    /// # Panics
    /// When no whole response comes back.
    pub async fn send(&self) -> Response {
        match self.try_send().await {
            Ok(response) => response,
            Err(error) => panic!("{} {} at {}: {error}", self.method, self.path, self.to),
        }
    }

    /// Sends it on a connection of its own; the error says what went wrong on the way.
    pub async fn try_send(&self) -> Result<Response, String> {
        let exchange = async { Connection::open(self).await?.send(self).await };
        within(&format!("an answer to {} {} from {}", self.method, self.path, self.to), exchange).await
    }

    /// Sends it with the wish to go on in another protocol; `Err` is a response that does not grant it.
    ///
    /// # Panics
    /// When no whole response comes back.
    pub async fn upgrade(mut self, protocol: &str) -> Result<TokioIo<Upgraded>, Response> {
        self.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        self.headers.insert(header::UPGRADE, protocol.parse().expect("a header value"));
        let mut connection = Connection::open(&self).await.expect("the server can be reached");
        let response = connection.exchange(&self).await.expect("the server answers");
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(TokioIo::new(hyper::upgrade::on(response).await.expect("the connection goes on")));
        }
        Err(connection.collect(response).await.expect("the server answers"))
    }

    fn to_hyper(&self) -> http::Request<Full<Bytes>> {
        let mut request = http::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let uri = if self.http2 {
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}{}", self.host, self.path)
        } else {
            request.headers_mut().insert(header::HOST, self.host.parse().expect("a host"));
            self.path.clone()
        };
        *request.uri_mut() = uri.parse::<Uri>().expect("a path");
        request
    }
}

impl Response {
    /// A header, when it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON: {error}\n{}", self.text()))
    }

    /// What the backend was asked.
    ///
    /// # Panics
    /// When the body is not from a [`Backend`](super::backend::Backend).
    pub fn echo(&self) -> Echo {
        let echo = serde_json::from_slice(&self.body);
        echo.unwrap_or_else(|error| panic!("no echo ({error}), but {} {}", self.status, self.text()))
    }
}

/// An open connection; closed when it is dropped.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    driver: AbortHandle,
    certificate: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// A connection on which this request, and others to the same server, can be sent.
    pub async fn open(request: &Request) -> Result<Self, String> {
        let socket = if request.to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.expect("a socket can be had");
        if let Some(address) = request.from {
            socket.bind(SocketAddr::new(address, 0)).map_err(|error| chain("bind", &error))?;
        }
        let stream = socket.connect(request.to).await.map_err(|error| chain("connect", &error))?;
        let _without_delay = stream.set_nodelay(true);
        let Some((config, name)) = &request.tls else { return Self::handshake(request, stream, None).await };
        let mut config = (**config).clone();
        config.alpn_protocols = vec![if request.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let stream = TlsConnector::from(Arc::new(config)).connect(name.clone(), stream).await;
        let stream = stream.map_err(|error| chain("TLS", &error))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|certificate| certificate.to_vec());
        Self::handshake(request, stream, certificate).await
    }

    async fn handshake(
        request: &Request,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        certificate: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let stream = TokioIo::new(stream);
        // The connection's own error reaches whoever waits for a response on it.
        let (sender, driver) = if request.http2 {
            let opened = http2::handshake(TokioExecutor::new(), stream).await;
            let (sender, connection) = opened.map_err(|error| chain("HTTP/2", &error))?;
            let driver = tokio::spawn(async move { connection.await.unwrap_or_default() });
            (Sender::Http2(sender), driver)
        } else {
            let opened = http1::handshake(stream).await;
            let (sender, connection) = opened.map_err(|error| chain("HTTP/1.1", &error))?;
            let driver = tokio::spawn(async move { connection.with_upgrades().await.unwrap_or_default() });
            (Sender::Http1(sender), driver)
        };
        Ok(Self { sender, driver: driver.abort_handle(), certificate })
    }

    /// Waits until another request can be sent; false when the server has closed the connection.
    pub async fn is_open(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request and waits for the whole response.
    pub async fn send(&mut self, request: &Request) -> Result<Response, String> {
        let response = self.exchange(request).await?;
        self.collect(response).await
    }

    async fn exchange(&mut self, request: &Request) -> Result<http::Response<Incoming>, String> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request.to_hyper()).await,
            Sender::Http2(sender) => sender.send_request(request.to_hyper()).await,
        };
        response.map_err(|error| chain("request", &error))
    }

    async fn collect(&self, response: http::Response<Incoming>) -> Result<Response, String> {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| chain("body", &error))?;
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
            certificate: self.certificate.clone(),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An error with its causes, in one line.
fn chain(step: &str, error: &dyn Error) -> String {
    let mut text = format!("{step}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
