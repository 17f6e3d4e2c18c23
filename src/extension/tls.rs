//! TLS on the extension port: an Envoy Gateway checks who the server is (`service.tls.certificateRef`), and shows who it is itself
//! where that is asked for (`clientCertificateRef`, v1.6).

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::ring,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use thiserror::Error;

use crate::identity::{Bundle, Credentials, InvalidPem};

/// Why the port can not have TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate and its key, or the authorities, are malformed.
    #[error(transparent)]
    Pem(#[from] InvalidPem),
    /// There is no authority among those of the clients.
    #[error("the authorities of the clients can not be used: {0}")]
    Clients(String),
    /// rustls does not take the certificate.
    #[error("the certificate can not be used: {0}")]
    Certificate(rustls::Error),
}

/// What the port shows from these PEM texts, and whom it lets in: everybody without `clients`, else who has a certificate of
/// one of these authorities.
///
/// # Errors
///
/// When a text is malformed or can not be used.
pub fn server_config(chain: &[u8], key: &[u8], clients: Option<&[u8]>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Certificate)?;
    let builder = match clients {
        Some(clients) => {
            let roots = Arc::new(Bundle::read(clients)?.roots()?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| TlsError::Clients(error.to_string()))?)
        }
        None => builder.with_no_client_auth(),
    };
    let certified = Credentials::read(chain, key)?.certified_key()?;
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
