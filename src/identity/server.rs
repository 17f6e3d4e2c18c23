//! What a server needs for mutual TLS.

use thiserror::Error;

use super::{Bundle, Credentials, InvalidPem};

/// What a server shows, and whom it lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Its certificate and key.
    pub credentials: Credentials,
    /// The authorities of the clients that it lets in.
    pub clients: Bundle,
}

/// Which part of a server's identity is malformed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidServerIdentity {
    /// The certificate or its key.
    #[error("the server's certificate and key: {0}")]
    Credentials(InvalidPem),
    /// The authorities of the clients.
    #[error("the clients' authorities: {0}")]
    Clients(InvalidPem),
}

impl ServerIdentity {
    /// Reads it from three PEM texts.
    ///
    /// # Errors
    ///
    /// When one of them is malformed.
    pub fn read(chain: &[u8], key: &[u8], clients: &[u8]) -> Result<Self, InvalidServerIdentity> {
        Ok(Self {
            credentials: Credentials::read(chain, key).map_err(InvalidServerIdentity::Credentials)?,
            clients: Bundle::read(clients).map_err(InvalidServerIdentity::Clients)?,
        })
    }
}
