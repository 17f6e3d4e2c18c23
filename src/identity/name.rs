//! The name in a client certificate: which Gateway's Envoy this is.

use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

use crate::model::ObjectName;

/// Whose names these are: the authority of a SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// Not a trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a trust domain has 1 to 255 of the characters a-z, 0-9, '.', '-' and '_', such as gateway.tailscale.com")]
pub struct InvalidTrustDomain;

impl TrustDomain {
    /// The trust domain when none is configured.
    pub const DEFAULT: &'static str = "gateway.tailscale.com";

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidTrustDomain;

    /// The characters and the length are those of the SPIFFE ID specification §2.1 and §2.3.
    fn from_str(text: &str) -> Result<Self, InvalidTrustDomain> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if (1..=255).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTrustDomain)
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a Gateway's Envoys: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/gateway/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    /// Whose name it is.
    pub trust_domain: TrustDomain,
    /// The Gateway.
    pub gateway: ObjectName,
}

/// A URI that names no Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it is not spiffe://TRUST-DOMAIN/ns/NAMESPACE/gateway/NAME")]
pub struct InvalidClientId;

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectName { namespace, name } = &self.gateway;
        write!(f, "spiffe://{}/ns/{namespace}/gateway/{name}", self.trust_domain)
    }
}

impl FromStr for ClientId {
    type Err = InvalidClientId;

    /// Takes exactly what `Display` writes: a SPIFFE ID has no other spelling of the same name (§2.2: no escapes, no empty
    /// segments), but for the case of the scheme and of the trust domain, which are compared without it.
    fn from_str(text: &str) -> Result<Self, InvalidClientId> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidClientId)?;
        let mut parts = rest.split('/');
        let mut next = || parts.next().ok_or(InvalidClientId);
        let domain = next()?.to_ascii_lowercase();
        let (ns, namespace, kind, name) = (next()?, next()?, next()?, next()?);
        if !scheme.eq_ignore_ascii_case("spiffe") || (ns, kind) != ("ns", "gateway") || parts.next().is_some() {
            return Err(InvalidClientId);
        }
        let trust_domain = domain.parse().map_err(|InvalidTrustDomain| InvalidClientId)?;
        let gateway = ObjectName::parse_namespaced(&format!("{namespace}/{name}")).ok_or(InvalidClientId)?;
        Ok(Self { trust_domain, gateway })
    }
}
