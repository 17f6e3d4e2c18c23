//! Whether a peer would accept a certificate: the same check, by the same code, as in a handshake.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::{
    CertificateError,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
};
use thiserror::Error;

use super::Bundle;

/// Why a certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYetValid,
    /// None of the trusted authorities has signed it.
    #[error("it is not signed by a trusted authority")]
    UnknownAuthority,
    /// It is for another name.
    #[error("it is for another name")]
    OtherName,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl From<&rustls::Error> for Refusal {
    fn from(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(reason) = error else { return Self::Other(error.to_string()) };
        match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            // The latter is what an authority says that was made anew under the name of its predecessor.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Whether a server that trusts these authorities lets in a client with this chain.
///
/// # Errors
///
/// When it does not, with the reason.
pub fn accepts_client(trusted: &Bundle, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Refusal> {
    let (leaf, intermediates) = chain.split_first().ok_or_else(|| Refusal::Other("there is none".to_owned()))?;
    let roots = trusted.roots().map_err(|error| Refusal::Other(error.to_string()))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Refusal::Other(error.to_string()))?;
    verifier.verify_client_cert(leaf, intermediates, unix(now)).map(drop).map_err(|error| Refusal::from(&error))
}

/// Whether a client that trusts these authorities takes a server with this chain for the one of this name.
///
/// # Errors
///
/// When it does not, with the reason.
pub fn accepts_server(
    trusted: &Bundle,
    chain: &[CertificateDer<'_>],
    name: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    let (leaf, intermediates) = chain.split_first().ok_or_else(|| Refusal::Other("there is none".to_owned()))?;
    let roots = trusted.roots().map_err(|error| Refusal::Other(error.to_string()))?;
    let name = ServerName::try_from(name).map_err(|error| Refusal::Other(error.to_string()))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Refusal::Other(error.to_string()))?;
    verifier
        .verify_server_cert(leaf, intermediates, &name, &[], unix(now))
        .map(drop)
        .map_err(|error| Refusal::from(&error))
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default()))
}
