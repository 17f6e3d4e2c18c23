//! Whether a server's or a client's certificate is still good, and what is wrong with it when it is not.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;
use thiserror::Error;

use super::{Bundle, ClientId, Credentials, Facts, Refusal, accepts_client, accepts_server, renew_at};

/// The names that a server's certificate is for: DNS names and IP addresses, at least one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNames {
    dns_names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl ServerNames {
    /// Sorts names by their kind; what is no IP address is a DNS name, in lower case.
    ///
    /// # Errors
    ///
    /// The first name that is neither, or an empty text when there is none.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut sorted = Self { dns_names: BTreeSet::new(), addresses: BTreeSet::new() };
        for name in names {
            if let Ok(address) = name.parse() {
                sorted.addresses.insert(address);
            } else if is_dns_name(name) {
                sorted.dns_names.insert(name.to_ascii_lowercase());
            } else {
                return Err(name.to_owned());
            }
        }
        if sorted.dns_names.is_empty() && sorted.addresses.is_empty() { Err(String::new()) } else { Ok(sorted) }
    }

    /// The DNS names.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.dns_names.iter().map(String::as_str)
    }

    /// The IP addresses.
    pub fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// All of them as text.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.dns_names.iter().cloned().chain(self.addresses.iter().map(ToString::to_string))
    }

    fn are_in(&self, facts: &Facts) -> bool {
        self.dns_names == facts.dns_names && self.addresses == facts.addresses
    }
}

/// RFC 1123 labels, and a wildcard for the first (RFC 6125 §6.4.3).
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(label)
}

/// Why a certificate has to be made anew.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Due {
    /// There is none.
    #[error("there is none")]
    Missing,
    /// It, its key or the authorities beside it can not be read.
    #[error("it is malformed: {0}")]
    Malformed(String),
    /// Its time is over, or has not come.
    #[error("it is not valid now")]
    NotValid,
    /// Two thirds of its life are over.
    #[error("it expires soon")]
    Soon,
    /// No authority that is trusted has signed it.
    #[error("it is signed by an authority that is not trusted")]
    OtherAuthority,
    /// It is for other names.
    #[error("it is for other names")]
    OtherNames,
}

/// What is wrong with a server's certificate, if anything: `wanted` are its names, `trusted` the authorities.
///
/// The current authority need not have signed it: one that is trusted still is good enough until the certificate's own time
/// has come, and so a new authority does not make everything anew at once.
pub fn server_certificate_due(
    found: Option<&Credentials>,
    wanted: &ServerNames,
    trusted: &Bundle,
    now: Timestamp,
) -> Option<Due> {
    due(found, now, |credentials, facts| {
        if !wanted.are_in(facts) {
            return Err(Refusal::OtherName);
        }
        // A name that is in it, spelled without a wildcard, as a client would ask for it.
        let name = wanted.iter().next().map(|name| name.replacen("*.", "any.", 1)).unwrap_or_default();
        accepts_server(trusted, credentials, &name, now)
    })
}

/// What is wrong with a Gateway's client certificate, if anything: `wanted` is its identity, `trusted` the authorities whose
/// signature a server takes.
pub fn client_certificate_due(
    found: Option<&Credentials>,
    wanted: &ClientId,
    trusted: &Bundle,
    now: Timestamp,
) -> Option<Due> {
    due(found, now, |credentials, facts| {
        if facts.client_id().as_ref() != Some(wanted) {
            return Err(Refusal::OtherName);
        }
        accepts_client(trusted, credentials, now)
    })
}

fn due(
    found: Option<&Credentials>,
    now: Timestamp,
    check: impl FnOnce(&[rustls::pki_types::CertificateDer<'static>], &Facts) -> Result<(), Refusal>,
) -> Option<Due> {
    let Some(credentials) = found else { return Some(Due::Missing) };
    let read = credentials.certified_key().and_then(|_| credentials.certificates());
    let chain = match read {
        Ok(chain) => chain,
        Err(error) => return Some(Due::Malformed(error.to_string())),
    };
    let facts = match credentials.facts() {
        Ok(facts) => facts,
        Err(error) => return Some(Due::Malformed(error.to_string())),
    };
    match check(&chain, &facts) {
        Ok(()) if now >= renew_at(facts.not_before, facts.not_after) => Some(Due::Soon),
        Ok(()) => None,
        Err(Refusal::Expired | Refusal::NotYetValid) => Some(Due::NotValid),
        Err(Refusal::UnknownAuthority) => Some(Due::OtherAuthority),
        Err(Refusal::OtherName) => Some(Due::OtherNames),
        Err(Refusal::Other(reason)) => Some(Due::Malformed(reason)),
    }
}
