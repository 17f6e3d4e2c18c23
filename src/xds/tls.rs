//! Mutual TLS on the xDS port: the handshake, who the client is by its certificate, and the server's own certificate, which can be
//! replaced while connections are open.
//!
//! Never decides what a client may have ([`access`](super::access) does), and never makes a certificate.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    AlertDescription, ServerConfig,
    crypto::ring,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use thiserror::Error;
use tokio::{net::TcpStream, sync::watch, time};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::access::Caller;
use crate::identity::{Facts, InvalidPem, Refusal, ServerIdentity, TrustDomain};

/// The server's side of mutual TLS. TLS 1.3 only, so that the names in certificates are encrypted too; no resumption, because
/// a resumed session is not asked for its certificate again.
#[derive(Debug)]
pub struct Tls {
    config: watch::Sender<Option<Arc<ServerConfig>>>,
    trust_domain: TrustDomain,
    handshake_timeout: Duration,
}

/// Why the server can not be what it is told to be.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate, the key or the authorities can not be used.
    #[error(transparent)]
    Pem(#[from] InvalidPem),
    /// There is no authority among those of the clients.
    #[error("the authorities of the clients can not be used: {0}")]
    Clients(String),
    /// rustls does not take the certificate.
    #[error("the certificate can not be used: {0}")]
    Certificate(rustls::Error),
}

impl Tls {
    /// A server that has no certificate yet: handshakes wait for one.
    pub fn waiting(trust_domain: TrustDomain) -> Self {
        Self { config: watch::Sender::new(None), trust_domain, handshake_timeout: Duration::from_secs(10) }
    }

    /// Takes another time for a whole handshake; 10 s otherwise.
    #[must_use]
    pub fn with_handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { handshake_timeout, ..self }
    }

    /// What new connections are shown and checked against from now on; open ones stay as they are.
    ///
    /// # Errors
    ///
    /// When it can not be used. Then everything stays as it was.
    pub fn replace(&self, identity: &ServerIdentity) -> Result<(), TlsError> {
        let provider = Arc::new(ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(identity.clients.roots()?), Arc::clone(&provider))
                .build()
                .map_err(|error| TlsError::Clients(error.to_string()))?;
        let certified = identity.credentials.certified_key()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Certificate)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        self.config.send_replace(Some(Arc::new(config)));
        Ok(())
    }

    /// Whether there is a certificate, so that handshakes need not wait.
    pub fn has_certificate(&self) -> bool {
        self.config.borrow().is_some()
    }

    /// Shakes hands with a client.
    pub(super) async fn accept(&self, tcp: TcpStream) -> Result<Accepted, HandshakeFailure> {
        let handshake = async {
            let mut configs = self.config.subscribe();
            let config = configs.wait_for(Option::is_some).await.expect("this value keeps the sender").clone();
            let acceptor = TlsAcceptor::from(config.expect("it was waited for"));
            acceptor.accept(tcp).await.map_err(|error| HandshakeFailure::of(&error))
        };
        let stream = match time::timeout(self.handshake_timeout, handshake).await {
            Ok(done) => done?,
            Err(_) => return Err(HandshakeFailure::TimedOut),
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate = certificates.first().ok_or(HandshakeFailure::NoCertificate)?;
        let facts = Facts::of(certificate).map_err(|error| HandshakeFailure::Other(error.to_string()))?;
        let caller = match facts.client_id() {
            None => Caller::Unnamed,
            Some(id) if id.trust_domain == self.trust_domain => Caller::Gateway(id.gateway),
            Some(id) => Caller::Foreign(id.trust_domain.as_str().into()),
        };
        // It is valid to the end of its last second.
        let seconds = u64::try_from(facts.not_after.as_second()).unwrap_or_default().saturating_add(1);
        let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        Ok(Accepted { stream, caller, expires })
    }
}

/// A connection whose client has shown a certificate that is good.
pub(super) struct Accepted {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) caller: Caller,
    /// When the client's certificate is no longer valid; nothing when that is beyond what the clock can show.
    pub(super) expires: Option<SystemTime>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum HandshakeFailure {
    #[error("the client has no certificate")]
    NoCertificate,
    #[error("the client's certificate has expired")]
    Expired,
    #[error("the client's certificate is not signed by a trusted authority")]
    UnknownAuthority,
    /// The client does not like our certificate.
    #[error("the client refuses this server: {0:?}")]
    RefusedByClient(AlertDescription),
    #[error("the handshake took too long")]
    TimedOut,
    /// The client went away.
    #[error("the client closed the connection")]
    Closed,
    #[error("{0}")]
    Other(String),
}

impl HandshakeFailure {
    /// The label that it is counted under.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::UnknownAuthority => "unknown_authority",
            Self::RefusedByClient(_) => "refused_by_client",
            Self::TimedOut => "timeout",
            Self::Closed | Self::Other(_) => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::AlertReceived(alert)) => Self::RefusedByClient(*alert),
            Some(error @ rustls::Error::InvalidCertificate(_)) => match Refusal::from(error) {
                Refusal::Expired => Self::Expired,
                Refusal::UnknownAuthority => Self::UnknownAuthority,
                other => Self::Other(format!("the client's certificate is refused: {other}")),
            },
            Some(error) => Self::Other(error.to_string()),
            None => match error.kind() {
                // A health check that only connects, for one.
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Self::Closed
                }
                _ => Self::Other(error.to_string()),
            },
        }
    }
}
