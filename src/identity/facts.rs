//! What a certificate says of itself.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use super::{ClientId, InvalidPem};

/// What a certificate says of itself. None of it is proved by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid, that second included.
    pub not_after: Timestamp,
    /// Its DNS names, as they are written.
    pub dns_names: BTreeSet<String>,
    /// Its IP addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Its URIs.
    pub uris: Vec<String>,
    /// Whether it may sign others.
    pub is_authority: bool,
}

impl Facts {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, InvalidPem> {
        let malformed = |error: &dyn std::fmt::Display| InvalidPem::Certificate(error.to_string());
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| malformed(&"it is not X.509 in DER"))?;
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|error| malformed(&error))
        };
        let validity = parsed.validity();
        let mut facts = Self {
            not_before: time(validity.not_before)?,
            not_after: time(validity.not_after)?,
            dns_names: BTreeSet::new(),
            addresses: BTreeSet::new(),
            uris: Vec::new(),
            is_authority: parsed.is_ca(),
        };
        for extension in parsed.extensions() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(name) => drop(facts.dns_names.insert((*name).to_owned())),
                    GeneralName::IPAddress(bytes) => facts.addresses.extend(address(bytes)),
                    GeneralName::URI(uri) => facts.uris.push((*uri).to_owned()),
                    _ => {}
                }
            }
        }
        Ok(facts)
    }

    /// The Gateway that it is for. A certificate with another URI beside that is for none: an X.509-SVID has exactly one
    /// (SPIFFE X509-SVID §2).
    pub fn client_id(&self) -> Option<ClientId> {
        match self.uris.as_slice() {
            [uri] => uri.parse().ok(),
            _ => None,
        }
    }
}

/// When two thirds of a life are over: the time to have a successor.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let life = not_after.as_second().saturating_sub(not_before.as_second()).max(0);
    Timestamp::from_second(not_before.as_second() + life / 3 * 2 + life % 3 * 2 / 3).unwrap_or(not_after)
}

/// An IP address as a certificate has it: 4 or 16 bytes (RFC 5280 §4.2.1.6).
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
