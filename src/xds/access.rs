//! Who opened a connection, and which Gateway's configuration it may see (`xds.md` P79). Pure.
//!
//! Never looks at a certificate: what it says is known when the connection is open.

use thiserror::Error;

use crate::model::ObjectName;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody was asked to prove anything: the connection is not encrypted.
    Anyone,
    /// An Envoy of this Gateway.
    Gateway(ObjectName),
    /// Somebody whose certificate is good but names no Gateway.
    Unnamed,
    /// Somebody whose certificate is good and names a Gateway of another trust domain.
    Foreign(Box<str>),
}

/// Why somebody does not get what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// It asks for another Gateway's configuration.
    #[error(
        "the client certificate is for Gateway {certificate}, and the request is for Gateway {asked}: set node.cluster to \
         {certificate}, or use a certificate for {asked}"
    )]
    OtherGateway {
        /// The Gateway in its certificate.
        certificate: ObjectName,
        /// The Gateway that it asks for.
        asked: ObjectName,
    },
    /// Its certificate names no Gateway.
    #[error(
        "the client certificate names no Gateway: it needs spiffe://TRUST-DOMAIN/ns/NAMESPACE/gateway/NAME as its only URI \
         subject alternative name"
    )]
    NoGateway,
    /// Its certificate is of another trust domain.
    #[error("the client certificate is of the trust domain {0}, which is not the one of this control plane")]
    OtherTrustDomain(Box<str>),
}

impl Denied {
    /// The label that it is counted under.
    pub fn label(&self) -> &'static str {
        match self {
            Self::OtherGateway { .. } => "other_gateway",
            Self::NoGateway => "no_gateway",
            Self::OtherTrustDomain(_) => "other_trust_domain",
        }
    }
}

impl Caller {
    /// Whether it may have a Gateway's configuration.
    ///
    /// # Errors
    ///
    /// When it may not.
    pub fn may_have(&self, asked: &ObjectName) -> Result<(), Denied> {
        match self.own()? {
            Some(own) if own != asked => Err(Denied::OtherGateway { certificate: own.clone(), asked: asked.clone() }),
            _ => Ok(()),
        }
    }

    /// The one Gateway that it may look at; nothing if that is every one.
    ///
    /// # Errors
    ///
    /// When it may look at none.
    pub fn own(&self) -> Result<Option<&ObjectName>, Denied> {
        match self {
            Self::Anyone => Ok(None),
            Self::Gateway(own) => Ok(Some(own)),
            Self::Unnamed => Err(Denied::NoGateway),
            Self::Foreign(domain) => Err(Denied::OtherTrustDomain(domain.clone())),
        }
    }
}
