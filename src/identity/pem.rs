//! Certificates and keys as they are stored: PEM (RFC 7468).

use std::fmt;

use rustls::{
    RootCertStore,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use thiserror::Error;

use super::Facts;
use crate::model::{pem_problem, pem_section, private_key_problem};

/// A private key in PEM. It is shown to nobody who does not ask for it by name.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(String);

impl PrivateKey {
    /// Takes a PEM text; whether it is a key shows when it is used.
    pub fn new(pem: impl Into<String>) -> Self {
        Self(pem.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn der(&self) -> Result<PrivateKeyDer<'static>, InvalidPem> {
        PrivateKeyDer::from_pem_slice(self.0.as_bytes()).map_err(|error| InvalidPem::Key(private_key_problem(&error)))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// What is wrong with certificates or a key in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidPem {
    /// The text is not PEM; the words are fixed, as a key may stand in it.
    #[error("it {0}")]
    Syntax(&'static str),
    /// There is no certificate in it.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// A certificate is none.
    #[error("a certificate in it is malformed: {0}")]
    Certificate(String),
    /// The private key can not be read; the words are fixed, so that none of it is in them.
    #[error("the private key's text {0}")]
    Key(&'static str),
    /// The key is none.
    #[error("the private key can not be used: {0}")]
    NoKey(String),
    /// The key belongs to another certificate.
    #[error("the private key is not the one of the certificate")]
    OtherKey,
}

/// A certificate with its chain, and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate, followed by the intermediate ones up to, but not including, the authority; PEM.
    pub chain: String,
    /// The key of the first certificate.
    pub key: PrivateKey,
}

impl Credentials {
    /// Reads what stands in two files or in the two keys of a Secret (`tls.crt`, `tls.key`).
    ///
    /// # Errors
    ///
    /// When one of them is not what it should be, or they do not belong together.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, InvalidPem> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| InvalidPem::Syntax("is not text"));
        let credentials = Self { chain: text(chain)?, key: PrivateKey(text(key)?) };
        credentials.certified_key()?;
        Facts::of(&credentials.certificates()?[0])?;
        Ok(credentials)
    }

    /// The chain, its own certificate first; never empty.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
        certificates(self.chain.as_bytes())
    }

    /// What the first certificate says of itself.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn facts(&self) -> Result<Facts, InvalidPem> {
        Facts::of(&self.certificates()?[0])
    }

    /// Both in the form in which rustls signs with them.
    ///
    /// # Errors
    ///
    /// When they do not belong together, or the key is of a kind that can not be used.
    pub fn certified_key(&self) -> Result<CertifiedKey, InvalidPem> {
        let key = any_supported_type(&self.key.der()?).map_err(|error| InvalidPem::NoKey(error.to_string()))?;
        let certified = CertifiedKey::new(self.certificates()?, key);
        match certified.keys_match() {
            Ok(()) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => Err(InvalidPem::OtherKey),
            Err(error) => Err(InvalidPem::Certificate(error.to_string())),
        }
    }
}

/// Certificates of authorities that are trusted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle(Vec<CertificateDer<'static>>);

impl Bundle {
    /// Reads a PEM text of certificates; what stands between them is left out.
    ///
    /// # Errors
    ///
    /// When one of them is malformed, or there is none.
    pub fn read(pem: &[u8]) -> Result<Self, InvalidPem> {
        let mut bundle = Self::default();
        for certificate in certificates(pem)? {
            Facts::of(&certificate)?;
            bundle.add(certificate);
        }
        Ok(bundle)
    }

    /// Adds a certificate unless it is there.
    pub fn add(&mut self, certificate: CertificateDer<'static>) {
        if !self.0.contains(&certificate) {
            self.0.push(certificate);
        }
    }

    /// Adds those of another bundle.
    pub fn extend(&mut self, other: &Bundle) {
        other.0.iter().for_each(|certificate| self.add(certificate.clone()));
    }

    /// The certificates, in the order in which they were added.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// The certificates one after the other in PEM.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(|certificate| encode(certificate)).collect()
    }

    /// The form in which rustls trusts them.
    ///
    /// # Errors
    ///
    /// When rustls can not use one of them as an authority.
    pub fn roots(&self) -> Result<RootCertStore, InvalidPem> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.0 {
            roots.add(certificate.clone()).map_err(|error| InvalidPem::Certificate(error.to_string()))?;
        }
        Ok(roots)
    }
}

/// The certificates in a PEM text; never none.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| InvalidPem::Syntax(pem_problem(&error)))?;
    if all.is_empty() { Err(InvalidPem::NoCertificate) } else { Ok(all) }
}

/// One certificate in PEM.
pub(super) fn encode(certificate: &CertificateDer<'_>) -> String {
    pem_section("CERTIFICATE", certificate)
}
