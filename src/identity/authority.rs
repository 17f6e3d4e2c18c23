//! A certificate authority, and what it signs.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls::{
    SignatureScheme,
    pki_types::CertificateDer,
    sign::{CertifiedKey, SigningKey as RustlsKey},
};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    ClientId, Credentials, Facts, InvalidPem, Lifetimes, PrivateKey, ServerNames, after, backdate, before, pem,
};

/// A certificate authority with its private key.
#[derive(Clone)]
pub struct Authority {
    credentials: Credentials,
    certificate: CertificateDer<'static>,
    facts: Facts,
    key: IssuerKey,
}

/// Why an authority can not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthorityError {
    /// Its certificate or its key is malformed.
    #[error(transparent)]
    Pem(#[from] InvalidPem),
    /// Its certificate is not one of an authority.
    #[error("its certificate may not sign others (basic constraints say CA:FALSE, or nothing)")]
    NoAuthority,
    /// Its key is of a kind that nothing can be signed with here.
    #[error("nothing can be signed with its key; RSA, ECDSA P-256, ECDSA P-384 and Ed25519 keys can be used")]
    Key,
    /// What is to be signed can not be.
    #[error("a certificate can not be made: {0}")]
    Sign(String),
}

impl Authority {
    /// Makes a new one, which is valid from now on.
    ///
    /// # Errors
    ///
    /// When no random numbers can be had.
    pub fn generate(now: Timestamp, lifetimes: Lifetimes) -> Result<Self, AuthorityError> {
        let key = new_key()?;
        let mut parameters = CertificateParams::default();
        // Old and new authorities are trusted side by side, and peers tell them by their names.
        let id: String = parameters.key_identifier(&key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        parameters.distinguished_name = named(&format!("xDS authority {id}"));
        let from = before(now, backdate(lifetimes.authority()));
        set_life(&mut parameters, from, after(now, lifetimes.authority()));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).map_err(refused)?;
        let chain = pem::encode(certificate.der());
        Self::new(Credentials { chain, key: PrivateKey::new(key.serialize_pem()) })
    }

    /// Reads one: its certificate and its private key in PEM. A chain above the certificate is left out: whoever trusts
    /// what it signs trusts its certificate.
    ///
    /// # Errors
    ///
    /// When it can not be used.
    pub fn read(certificate: &[u8], key: &[u8]) -> Result<Self, AuthorityError> {
        Self::new(Credentials::read(certificate, key)?)
    }

    fn new(credentials: Credentials) -> Result<Self, AuthorityError> {
        let certificate = credentials.certificates()?.swap_remove(0);
        let facts = Facts::of(&certificate)?;
        if !facts.is_authority {
            return Err(AuthorityError::NoAuthority);
        }
        let key = IssuerKey::new(&credentials.certified_key()?, &certificate)?;
        Ok(Self { credentials, certificate, facts, key })
    }

    /// Its certificate, which whoever trusts it has to know.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate and its key, to be stored.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What its certificate says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Makes a key and a certificate for a server of these names.
    ///
    /// # Errors
    ///
    /// When a name can not stand in a certificate, or no random numbers can be had.
    pub fn issue_server(
        &self,
        names: &ServerNames,
        now: Timestamp,
        lifetimes: Lifetimes,
    ) -> Result<Credentials, AuthorityError> {
        let mut alternatives = Vec::new();
        for name in names.dns_names() {
            alternatives.push(SanType::DnsName(name.try_into().map_err(refused)?));
        }
        alternatives.extend(names.addresses().iter().map(|address: &IpAddr| SanType::IpAddress(*address)));
        self.issue("xDS server", alternatives, ExtendedKeyUsagePurpose::ServerAuth, now, lifetimes)
    }

    /// Makes a key and a certificate for a Gateway's Envoys.
    ///
    /// # Errors
    ///
    /// When no random numbers can be had.
    pub fn issue_client(
        &self,
        id: &ClientId,
        now: Timestamp,
        lifetimes: Lifetimes,
    ) -> Result<Credentials, AuthorityError> {
        let uri = SanType::URI(id.to_string().try_into().map_err(refused)?);
        self.issue("xDS client", vec![uri], ExtendedKeyUsagePurpose::ClientAuth, now, lifetimes)
    }

    fn issue(
        &self,
        common_name: &str,
        names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        now: Timestamp,
        lifetimes: Lifetimes,
    ) -> Result<Credentials, AuthorityError> {
        let lifetime = lifetimes.certificate();
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named(common_name);
        // A certificate outside of its authority's life would be refused there by some and accepted by others.
        let from = before(now, backdate(lifetime)).max(self.facts.not_before);
        set_life(&mut parameters, from, after(now, lifetime).min(self.facts.not_after));
        parameters.subject_alt_names = names;
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![usage];
        parameters.use_authority_key_identifier_extension = true;
        let key = new_key()?;
        // A serial number of its own: the key's identifier, which is a hash of it, and positive (RFC 5280 §4.1.2.2).
        let mut serial: Vec<u8> = parameters.key_identifier(&key).into_iter().take(16).collect();
        serial.iter_mut().take(1).for_each(|first| *first = *first & 0x7f | 0x40);
        parameters.serial_number = Some(SerialNumber::from(serial));
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(refused)?;
        let certificate = parameters.signed_by(&key, &issuer).map_err(refused)?;
        Ok(Credentials { chain: pem::encode(certificate.der()), key: PrivateKey::new(key.serialize_pem()) })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.credentials == other.credentials
    }
}

/// A key that rustls can sign with, for rcgen: whatever form it was stored in (PKCS #1, PKCS #8, SEC 1).
#[derive(Clone)]
struct IssuerKey {
    key: Arc<dyn RustlsKey>,
    scheme: SignatureScheme,
    algorithm: &'static SignatureAlgorithm,
    public: Arc<[u8]>,
}

impl IssuerKey {
    const SCHEMES: [(SignatureScheme, &'static SignatureAlgorithm); 4] = [
        (SignatureScheme::ECDSA_NISTP256_SHA256, &PKCS_ECDSA_P256_SHA256),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &rcgen::PKCS_ECDSA_P384_SHA384),
        (SignatureScheme::ED25519, &rcgen::PKCS_ED25519),
        (SignatureScheme::RSA_PKCS1_SHA256, &rcgen::PKCS_RSA_SHA256),
    ];

    fn new(certified: &CertifiedKey, certificate: &CertificateDer<'_>) -> Result<Self, AuthorityError> {
        let key = Arc::clone(&certified.key);
        let (scheme, algorithm) = Self::SCHEMES
            .into_iter()
            .find(|(scheme, _)| key.choose_scheme(&[*scheme]).is_some())
            .ok_or(AuthorityError::Key)?;
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| InvalidPem::Certificate("it is not X.509 in DER".to_owned()))?;
        let public = parsed.public_key().subject_public_key.data.to_vec().into();
        Ok(Self { key, scheme, algorithm, public })
    }
}

impl PublicKeyData for IssuerKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for IssuerKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signer = self.key.choose_scheme(&[self.scheme]).expect("the scheme was chosen by this key");
        signer.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

fn new_key() -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(refused)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "tailscale-gateway");
    name.push(DnType::CommonName, common_name);
    name
}

/// Sets the first and the last second of a certificate's life. A life that ends before the year 1970 does not exist here.
fn set_life(parameters: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let date = |time: Timestamp| {
        let seconds = u64::try_from(time.as_second()).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    (parameters.not_before, parameters.not_after) = (date(from), date(until));
}

fn refused(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Sign(error.to_string())
}
