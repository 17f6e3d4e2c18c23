//! Clients of the xDS port that speak TLS, each on a connection of its own.

use std::{io, net::SocketAddr, sync::Arc};

use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use rustls::{
    ClientConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject},
};
use tailscale_gateway::{
    identity::{Authority, Bundle, ClientId, Credentials, Lifetimes, ServerIdentity, ServerNames, TrustDomain},
    model::ObjectName,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// The name of servers in tests.
pub const NAME: &str = "xds.example";

/// An authority that was made an hour ago.
pub fn authority() -> Authority {
    Authority::generate(now() - SignedDuration::from_hours(1), lifetimes(24 * 3600)).expect("tests give what is right")
}

pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Lifetimes with this of certificates, in seconds.
pub fn lifetimes(certificate: u64) -> Lifetimes {
    let certificate = std::time::Duration::from_secs(certificate);
    Lifetimes::new(certificate * 100, certificate).expect("tests give what is right")
}

pub fn bundle(authority: &Authority) -> Bundle {
    let mut bundle = Bundle::default();
    bundle.add(authority.certificate().clone());
    bundle
}

/// A server whose certificate this authority has signed, and that lets in clients of that one.
pub fn server(server: &Authority, clients: &Authority) -> ServerIdentity {
    let names = ServerNames::new([NAME]).expect("tests give what is right");
    let credentials = server.issue_server(&names, now(), lifetimes(3600)).expect("tests give what is right");
    ServerIdentity { credentials, clients: bundle(clients) }
}

/// A certificate for the Envoys of a Gateway.
pub fn envoy(authority: &Authority, gateway: &str) -> Credentials {
    let gateway = ObjectName::parse_namespaced(gateway).expect("tests give what is right");
    authority
        .issue_client(&ClientId { trust_domain: TrustDomain::default(), gateway }, now(), lifetimes(3600))
        .expect("tests give what is right")
}

/// A client that trusts these authorities and shows this certificate.
pub fn client(trusted: &Bundle, credentials: Option<&Credentials>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("tests give what is right")
        .with_root_certificates(trusted.roots().expect("tests give what is right"));
    let mut config = match credentials {
        None => builder.with_no_client_auth(),
        Some(credentials) => {
            let key =
                PrivateKeyDer::from_pem_slice(credentials.key.expose().as_bytes()).expect("tests give what is right");
            builder
                .with_client_auth_cert(credentials.certificates().expect("tests give what is right"), key)
                .expect("tests give what is right")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Shakes hands with a server that is [`NAME`]. A refusal of the client's certificate shows later, when it reads (TLS 1.3).
pub async fn shake_hands(to: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    shake_hands_as(to, NAME, config).await
}

async fn shake_hands_as(to: SocketAddr, name: &'static str, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(to).await?;
    let name = ServerName::try_from(name).expect("a host name or an address");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// A gRPC connection to a server that is [`NAME`].
pub async fn connect(to: SocketAddr, config: ClientConfig) -> Channel {
    connect_as(to, NAME, config).await
}

/// A gRPC connection to a server of this name.
pub async fn connect_as(to: SocketAddr, name: &'static str, config: ClientConfig) -> Channel {
    let connector = service_fn(move |_| {
        let config = config.clone();
        async move { shake_hands_as(to, name, config).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://xds.example");
    endpoint.connect_with_connector(connector).await.expect("the server shakes hands")
}
