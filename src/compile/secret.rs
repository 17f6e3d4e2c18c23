//! Certificates for Envoy. What Envoy would refuse is refused here, with the reason: a bad Secret must not cost more than itself.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret as KubernetesSecret;
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use tailscale_gateway_proto::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret, TlsCertificate, secret},
};
use x509_parser::{certificate::X509Certificate, oid_registry, prelude::FromDer, public_key::PublicKey};
use xxhash_rust::xxh3::xxh3_128;

use super::{Settings, World};
use crate::{
    model::{AUTHORITIES, ObjectName, pem_problem, pem_section, private_key_problem, secret_name},
    snapshot::{Resource, TypeUrl},
};

/// BoringSSL, as Envoy sets it up, takes no smaller RSA keys.
const MIN_RSA_BITS: usize = 2048;
/// What private keys are checked with here (ring, `rsa::KeyPair`) takes no larger ones, and no smaller exponents.
const MAX_RSA_BITS: usize = 4096;
const MIN_RSA_EXPONENT: u64 = 65537;

/// A certificate chain and its key, read.
struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// A Secret's certificate chain and key (`tls.crt`, `tls.key`, in PEM), or why it can not be used.
pub(super) fn certificate(name: &ObjectName, world: &mut World<'_>) -> Result<Arc<Resource>, Arc<str>> {
    let Some(object) = world.object::<KubernetesSecret>(name) else {
        return Err(format!("there is no Secret {name}").into());
    };
    let part = |key| {
        part(&object, key).ok_or_else(|| format!("Secret {name} has no {key}; it needs tls.crt and tls.key in PEM"))
    };
    let (chain, key) = (part("tls.crt")?, part("tls.key")?);
    let credentials = Credentials::read(chain, key).map_err(|problem| format!("Secret {name}: {problem}"))?;
    let name = secret_name(name);
    let message = certificate_message(&name, &credentials);
    Ok(Arc::new(Resource::new(TypeUrl::Secret, name, &message)))
}

/// What Envoys of another controller need for mutual TLS with this control plane.
pub(super) struct ClientSecrets {
    pub(super) certificate: Secret,
    pub(super) authorities: Secret,
    /// A hash of what is public in them.
    pub(super) version: u128,
}

/// Such a Secret (`tls.crt`, `tls.key` and `ca.crt`, in PEM) under these names; nothing while it can not be used.
pub(super) fn client_secrets(
    name: &ObjectName,
    certificate: &str,
    authorities: &str,
    world: &mut World<'_>,
) -> Option<ClientSecrets> {
    let object = world.object::<KubernetesSecret>(name)?;
    let (chain, key, trusted) = (part(&object, "tls.crt")?, part(&object, "tls.key")?, part(&object, "ca.crt")?);
    let credentials = Credentials::read(chain, key).ok()?;
    let trusted = readable_authorities(trusted).ok()?;
    Some(ClientSecrets {
        certificate: certificate_message(certificate, &credentials),
        version: xxh3_128([&*credentials.chain_pem(), "\n", &*trusted].concat().as_bytes()),
        authorities: authorities_of(authorities, &trusted),
    })
}

fn part<'a>(object: &'a KubernetesSecret, key: &str) -> Option<&'a [u8]> {
    let bytes = object.data.as_ref()?.get(key)?;
    (!bytes.0.is_empty()).then_some(bytes.0.as_slice())
}

/// The certificates of authorities in a PEM text, and nothing else of it: Envoy would refuse them all because of anything
/// between them that it can not read.
///
/// # Errors
///
/// What is wrong with the text, to follow its name.
pub fn readable_authorities(pem: &[u8]) -> Result<String, String> {
    let certificates = certificates(pem)?;
    if certificates.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    Ok(certificates.iter().map(|certificate| pem_section("CERTIFICATE", certificate)).collect())
}

/// The certificates in a PEM text, each without what may follow it within its section; whatever else is there is left out.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate: CertificateDer<'_> = certificate.map_err(|error| pem_problem(&error))?;
        let at = certificates.len() + 1;
        let rest = match X509Certificate::from_der(&certificate) {
            Ok((rest, _)) => rest.len(),
            Err(_) => return Err(format!("has a section CERTIFICATE, number {at}, that is not X.509 in DER")),
        };
        certificates.push(CertificateDer::from(certificate[..certificate.len() - rest].to_vec()));
    }
    Ok(certificates)
}

fn certificate_message(name: &str, credentials: &Credentials) -> Secret {
    Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(&credentials.chain_pem()),
            private_key: inline(&credentials.key_pem()),
            ..Default::default()
        })),
    }
}

/// The authorities that HTTPS targets are checked against.
pub(super) fn authorities(settings: &Settings) -> Option<Arc<Resource>> {
    let message = authorities_message(settings, AUTHORITIES)?;
    Some(Arc::new(Resource::new(TypeUrl::Secret, AUTHORITIES, &message)))
}

/// The same under another name, as a message.
pub(super) fn authorities_message(settings: &Settings, name: &str) -> Option<Secret> {
    let authorities = settings.trusted_authorities.as_ref()?;
    Some(authorities_of(name, authorities))
}

fn authorities_of(name: &str, pem: &str) -> Secret {
    Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(pem),
            ..Default::default()
        })),
    }
}

fn inline(pem: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineBytes(pem.as_bytes().to_vec())), ..Default::default() })
}

impl Credentials {
    /// Reads a chain and a key that Envoy takes; says what is wrong with them otherwise.
    fn read(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain = certificates(chain).map_err(|problem| format!("tls.crt {problem}"))?;
        let Some(leaf) = chain.first() else { return Err("tls.crt holds no certificate".to_owned()) };
        let (_, parsed) = X509Certificate::from_der(leaf).expect("it was read from this");
        check_public_key(&parsed)?;
        if must_staple(&parsed) {
            return Err(
                "the certificate asks for OCSP responses (must-staple), which there are none of; Envoy refuses it"
                    .to_owned(),
            );
        }
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("tls.key {}", private_key_problem(&error)))?;
        check_pair(&chain, &parsed, &key)?;
        drop(parsed);
        Ok(Self { chain, key })
    }

    /// The chain in PEM, as Envoy is told it: what was read and nothing else of what stands in the Secret, as Envoy refuses all
    /// of the certificate because of any section that it can not read.
    fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem_section("CERTIFICATE", certificate)).collect()
    }

    /// The key in PEM, likewise.
    fn key_pem(&self) -> String {
        let label = match &self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem_section(label, self.key.secret_der())
    }
}

/// Whether Envoy, and what checks the private key here, take keys of this kind.
fn check_public_key(certificate: &X509Certificate<'_>) -> Result<(), String> {
    let public_key = certificate.public_key();
    match public_key.parsed() {
        Ok(PublicKey::RSA(rsa)) if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&rsa.key_size()) => Err(format!(
            "the RSA key has {} bits; keys of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits can be used",
            rsa.key_size()
        )),
        Ok(PublicKey::RSA(rsa)) if rsa.try_exponent().is_ok_and(|exponent| exponent < MIN_RSA_EXPONENT) => {
            Err(format!(
                "the RSA key has the public exponent {}; keys with {MIN_RSA_EXPONENT} and more can be used",
                rsa.try_exponent().unwrap_or_default()
            ))
        }
        Ok(PublicKey::RSA(_)) => Ok(()),
        Ok(PublicKey::EC(_)) => {
            let curve = public_key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
            let known = [oid_registry::OID_EC_P256, oid_registry::OID_NIST_EC_P384, oid_registry::OID_NIST_EC_P521];
            match curve.is_some_and(|curve| known.contains(&curve)) {
                true => Ok(()),
                false => Err("the key's curve is not P-256, P-384 or P-521; Envoy takes no other".to_owned()),
            }
        }
        _ if public_key.algorithm.algorithm == oid_registry::OID_SIG_ED25519 => Ok(()),
        _ => Err("the key is neither RSA nor ECDSA nor Ed25519; Envoy takes no other".to_owned()),
    }
}

/// Whether the key is the one of the chain's first certificate.
fn check_pair(
    chain: &[CertificateDer<'static>],
    leaf: &X509Certificate<'_>,
    key: &PrivateKeyDer<'static>,
) -> Result<(), String> {
    if is_p521(leaf) {
        // Nothing here can compute with this curve. The key holds its public point, as RFC 5915 §3 asks for.
        let point = &leaf.public_key().subject_public_key.data;
        let holds = key.secret_der().windows(point.len().max(1)).any(|part| part == &**point);
        return if holds { Ok(()) } else { Err(OTHER_KEY.to_owned()) };
    }
    let Ok(key) = any_supported_type(key) else {
        return Err(format!(
            "tls.key holds no key that can be used: it must be RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits with an exponent of \
             {MIN_RSA_EXPONENT} and more, ECDSA P-256, P-384 or P-521, or Ed25519, in PKCS #8, PKCS #1 or SEC 1"
        ));
    };
    match CertifiedKey::new(chain.to_vec(), key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(_) => Err(OTHER_KEY.to_owned()),
    }
}

const OTHER_KEY: &str = "tls.key is not the key of the certificate in tls.crt";

fn is_p521(certificate: &X509Certificate<'_>) -> bool {
    let parameters = certificate.public_key().algorithm.parameters.as_ref();
    parameters.and_then(|any| any.as_oid().ok()).is_some_and(|curve| curve == oid_registry::OID_NIST_EC_P521)
}

/// Whether the TLS feature extension (RFC 7633) has status_request in it. Envoy refuses such a certificate without a response.
fn must_staple(certificate: &X509Certificate<'_>) -> bool {
    /// `id-pe-tlsfeature`, and the features as DER integers.
    const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
    const STATUS_REQUEST: &[u8] = &[2, 1, 5];
    certificate.extensions().iter().any(|extension| {
        extension.oid.to_id_string() == TLS_FEATURE
            && extension.value.windows(STATUS_REQUEST.len()).any(|part| part == STATUS_REQUEST)
    })
}
