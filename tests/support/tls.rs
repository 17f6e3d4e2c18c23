//! Certificates for tests, made on the spot and trusted by nobody else.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its private key, both PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate alone, without its issuer.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "tests");
        let key = KeyPair::generate().expect("a key can be made");
        Self { issuer: CertifiedIssuer::self_signed(parameters, key).expect("a certificate can be made") }
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for DNS names and IP addresses.
    pub fn issue(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let parameters = CertificateParams::new(names).expect("the names are host names or addresses");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate can be made");
        Certificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The same, with a certificate to show.
    pub fn client_showing(&self, certificate: &Certificate) -> ClientConfig {
        let mut config = self.client();
        let chain = CertificateDer::pem_slice_iter(certificate.certificate.as_bytes());
        let chain = chain.collect::<Result<_, _>>().expect("a PEM certificate");
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a PEM key");
        let key = provider().key_provider.load_private_key(key).expect("ring takes the key");
        let certified = CertifiedKey::new(chain, key);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        config
    }

    /// A client that trusts this authority alone.
    pub fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("our own certificate is well formed");
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has the default versions");
        builder.with_root_certificates(roots).with_no_client_auth()
    }
}

impl Certificate {
    /// A server that shows this certificate and takes these protocols.
    pub fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        let chain = chain.collect::<Result<_, _>>().expect("a PEM certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a PEM key");
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has the default versions").with_no_client_auth();
        let mut config = builder.with_single_cert(chain, key).expect("the key belongs to the certificate");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
