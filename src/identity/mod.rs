//! Who is who on the xDS port: certificate authorities, the certificates of servers and of Gateways' Envoys, and when each
//! has to be made anew.
//!
//! The time is always an argument, and randomness is used only where a key is made (by `rcgen`). Never reads a file, never
//! talks to a cluster, never listens, and never shows a private key: keys are [`PrivateKey`]s, whose `Debug` says nothing.
//!
//! # The scheme
//!
//! An Envoy proves which Gateway it serves by a client certificate whose one URI subject alternative name is
//! `spiffe://TRUST-DOMAIN/ns/NAMESPACE/gateway/NAME` ([`ClientId`]), so that it is an X.509-SVID of SPIFFE. The trust domain
//! is `gateway.tailscale.com` unless another one is configured. A server's certificate has DNS names and IP addresses.
//! All keys that are made here are ECDSA P-256; certificates that others made are taken as rustls takes them.

mod authority;
mod due;
mod facts;
mod name;
mod pem;
mod rotation;
mod server;
pub mod trust;
mod verify;

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

pub use authority::{Authority, AuthorityError};
pub use due::{Due, ServerNames, client_certificate_due, server_certificate_due};
pub use facts::{Facts, renew_at};
pub use name::{ClientId, InvalidClientId, InvalidTrustDomain, TrustDomain};
pub use pem::{Bundle, Credentials, InvalidPem, PrivateKey};
pub use rotation::{Authorities, MalformedAuthorities, Step};
pub use server::{InvalidServerIdentity, ServerIdentity};
pub use verify::{Refusal, accepts_client, accepts_server};

/// The name that every server certificate made for a cluster has, whatever else it is called: an Envoy that reaches the
/// control plane by an address nobody foresaw (a load balancer, a port-forward) asks for this one.
pub const SERVER_NAME: &str = "xds.gateway.tailscale.com";

/// How long what is issued is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    authority: Duration,
    certificate: Duration,
}

/// Lifetimes that leave no room for a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidLifetimes {
    /// Certificates carry whole seconds.
    #[error("a certificate must live for at least {} seconds", Lifetimes::SHORTEST.as_secs())]
    TooShort,
    /// The new authority could not be known everywhere before the old one expires.
    #[error("an authority must live at least {} times as long as the certificates it signs", Lifetimes::RATIO)]
    Ratio,
    /// Dates end with the year 9999 (RFC 5280 §4.1.2.5).
    #[error("must not be longer than 100 years")]
    TooLong,
}

impl Lifetimes {
    /// The least number of certificate lifetimes in an authority's: one before its successor is known, one in which the
    /// successor becomes known, one in which what it signed expires, and one to spare.
    pub const RATIO: u32 = 4;
    /// The shortest lifetime of a certificate.
    pub const SHORTEST: Duration = Duration::from_secs(3);
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

    /// # Errors
    ///
    /// When no rotation without a gap fits into them.
    pub fn new(authority: Duration, certificate: Duration) -> Result<Self, InvalidLifetimes> {
        if certificate < Self::SHORTEST {
            return Err(InvalidLifetimes::TooShort);
        }
        if authority > Self::LONGEST {
            return Err(InvalidLifetimes::TooLong);
        }
        if certificate > authority / Self::RATIO {
            return Err(InvalidLifetimes::Ratio);
        }
        Ok(Self { authority, certificate })
    }

    /// How long an authority is valid.
    pub fn authority(&self) -> Duration {
        self.authority
    }

    /// How long a server's or a client's certificate is valid.
    pub fn certificate(&self) -> Duration {
        self.certificate
    }
}

/// How far the beginning of a certificate's life lies before the moment of its making, so that it is valid on machines whose
/// clocks are behind: five minutes, or a tenth of a shorter life.
fn backdate(lifetime: Duration) -> Duration {
    (lifetime / 10).min(Duration::from_secs(300))
}

/// A time so long after another; the last one there is when it would be later.
fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// A time so long before another; the first one there is when it would be earlier.
fn before(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_sub(duration).unwrap_or(Timestamp::MIN)
}
