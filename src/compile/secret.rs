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
    model::{AUTHORITIES, ObjectName, secret_name},
    snapshot::{Resource, TypeUrl},
};

/// BoringSSL, as Envoy sets it up, takes no smaller RSA keys.
const MIN_RSA_BITS: usize = 2048;

/// A Secret's certificate chain and key (`tls.crt`, `tls.key`, in PEM), or why it can not be used.
pub(super) fn certificate(name: &ObjectName, world: &mut World<'_>) -> Result<Arc<Resource>, Arc<str>> {
    let Some(object) = world.object::<KubernetesSecret>(name) else {
        return Err(format!("there is no Secret {name}").into());
    };
    let part = |key| {
        part(&object, key).ok_or_else(|| format!("Secret {name} has no {key}; it needs tls.crt and tls.key in PEM"))
    };
    let (chain, key) = (part("tls.crt")?, part("tls.key")?);
    check(chain, key).map_err(|problem| format!("Secret {name}: {problem}"))?;
    let name = secret_name(name);
    let message = certificate_message(&name, chain, key);
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
    check(chain, key).ok()?;
    let mut roots = CertificateDer::pem_slice_iter(trusted).peekable();
    if roots.peek().is_none() || !roots.all(|root| root.is_ok_and(|root| X509Certificate::from_der(&root).is_ok())) {
        return None;
    }
    Some(ClientSecrets {
        certificate: certificate_message(certificate, chain, key),
        authorities: authorities_of(authorities, trusted),
        version: xxh3_128(&[chain, b"\n", trusted].concat()),
    })
}

fn part<'a>(object: &'a KubernetesSecret, key: &str) -> Option<&'a [u8]> {
    let bytes = object.data.as_ref()?.get(key)?;
    (!bytes.0.is_empty()).then_some(bytes.0.as_slice())
}

fn certificate_message(name: &str, chain: &[u8], key: &[u8]) -> Secret {
    Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(chain),
            private_key: inline(key),
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
    Some(authorities_of(name, authorities.as_bytes()))
}

fn authorities_of(name: &str, pem: &[u8]) -> Secret {
    Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(pem),
            ..Default::default()
        })),
    }
}

fn inline(bytes: &[u8]) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())), ..Default::default() })
}

/// What is wrong with a chain and a key; nothing is when Envoy takes them.
fn check(chain: &[u8], key: &[u8]) -> Result<(), String> {
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("tls.crt is not PEM: {error}"))?;
    let Some(leaf) = chain.first() else { return Err("tls.crt holds no certificate".to_owned()) };
    for certificate in &chain {
        X509Certificate::from_der(certificate)
            .map_err(|error| format!("tls.crt holds no X.509 certificate: {error}"))?;
    }
    let (_, parsed) = X509Certificate::from_der(leaf).expect("parsed just above");
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() < MIN_RSA_BITS => {
            return Err(format!("the RSA key has {} bits; Envoy takes {MIN_RSA_BITS} and more", rsa.key_size()));
        }
        Ok(PublicKey::RSA(_)) => {}
        Ok(PublicKey::EC(_)) => {
            let curve = parsed.public_key().algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
            let known = [oid_registry::OID_EC_P256, oid_registry::OID_NIST_EC_P384, oid_registry::OID_NIST_EC_P521];
            if !curve.is_some_and(|curve| known.contains(&curve)) {
                return Err("the key's curve is not P-256, P-384 or P-521; Envoy takes no other".to_owned());
            }
        }
        _ if parsed.public_key().algorithm.algorithm == oid_registry::OID_SIG_ED25519 => {}
        _ => return Err("the key is neither RSA nor ECDSA nor Ed25519; Envoy takes no other".to_owned()),
    }
    if must_staple(&parsed) {
        return Err(
            "the certificate asks for OCSP responses (must-staple), which there are none of; Envoy refuses it".into()
        );
    }
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("tls.key is not a PEM private key: {error}"))?;
    if is_p521(&parsed) {
        // Nothing here can compute with this curve. The key holds its public point, as RFC 5915 §3 asks for.
        let point = &parsed.public_key().subject_public_key.data;
        let holds = key.secret_der().windows(point.len().max(1)).any(|part| part == &**point);
        return if holds { Ok(()) } else { Err(OTHER_KEY.to_owned()) };
    }
    let key = any_supported_type(&key).map_err(|error| format!("tls.key can not be used: {error}"))?;
    match CertifiedKey::new(chain, key).keys_match() {
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
