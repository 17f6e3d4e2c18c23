//! Who trusts whom in a cluster, by the Secrets that say so; and what stands in the Secret of a Gateway's Envoys.
//!
//! There are up to three Secrets in the operator's namespace: our own authorities; the server's certificate, when somebody else
//! makes it; the authority of the clients, when somebody else has it. Each takes the place of ours for its side alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use thiserror::Error;

use super::{
    Authorities, Authority, AuthorityError, Bundle, ClientId, Credentials, Due, InvalidPem, Lifetimes,
    MalformedAuthorities, after, client_certificate_due, renew_at,
};
use crate::model::ObjectName;

/// The keys of a Secret with a certificate (Kubernetes documentation, "TLS Secrets"; `ca.crt` as cert-manager adds it).
pub const CERTIFICATE: &str = "tls.crt";
/// The private key.
pub const KEY: &str = "tls.key";
/// The authorities that the other side is known by.
pub const AUTHORITIES: &str = "ca.crt";

/// What a Secret holds, by key. Private keys are among it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretData(pub BTreeMap<String, Vec<u8>>);

impl SecretData {
    /// A part of it, unless it is empty.
    pub fn part(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice).filter(|part| !part.is_empty())
    }

    /// Its certificate and key, when it has both and they belong together.
    pub fn credentials(&self) -> Option<Credentials> {
        Credentials::read(self.part(CERTIFICATE)?, self.part(KEY)?).ok()
    }
}

impl std::fmt::Debug for SecretData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What an Envoy needs for mutual TLS, as it stands in a Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientMaterial {
    authorities: String,
    certificate: String,
    key: String,
}

impl ClientMaterial {
    /// What a Secret holds, when it holds all of it and a certificate for this Gateway.
    pub fn read(data: &SecretData, gateway: &ObjectName) -> Option<Self> {
        let credentials = data.credentials()?;
        let id = credentials.facts().ok()?.client_id()?;
        let authorities = Bundle::read(data.part(AUTHORITIES)?).ok()?.to_pem();
        (id.gateway == *gateway).then(|| Self {
            authorities,
            certificate: credentials.chain,
            key: credentials.key.expose().to_owned(),
        })
    }

    /// The files that it is, each with its name: authorities, certificate, private key.
    pub fn files(&self) -> [(&'static str, &str); 3] {
        [(AUTHORITIES, &self.authorities), (CERTIFICATE, &self.certificate), (KEY, &self.key)]
    }
}

impl std::fmt::Debug for ClientMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientMaterial").finish_non_exhaustive()
    }
}

/// What a Secret in the operator's namespace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Our own authorities.
    Own,
    /// The server's certificate, made by somebody else.
    Server,
    /// The authority of the clients, somebody else's.
    Clients,
}

/// The Secrets that were found, of those that are looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Our own authorities.
    pub own: Option<SecretData>,
    /// The server's certificate; nothing at all when ours is used.
    pub server: Option<Option<SecretData>>,
    /// The clients' authority; nothing at all when ours is used.
    pub clients: Option<Option<SecretData>>,
}

impl Found {
    /// Whether our own authorities are needed by either side.
    pub fn needs_own(&self) -> bool {
        self.server.is_none() || self.clients.is_none()
    }
}

/// Who trusts whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Trust {
    /// The authorities of the clients that servers let in.
    pub clients: Bundle,
    /// The authorities by which clients know servers.
    pub servers: Bundle,
    /// What signs clients' certificates; nothing when somebody else does.
    pub signs_clients: Option<Authority>,
    /// Where a server's certificate comes from.
    pub server: ServerSource,
}

/// Where a server's certificate comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerSource {
    /// Each server makes its own, signed by this authority.
    Signed(Authority),
    /// All show this one.
    Given(Credentials),
}

/// Why it is not known who trusts whom.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoTrust {
    /// A Secret is not there.
    #[error("it is not there")]
    Missing(Role),
    /// A part of a Secret is not there.
    #[error("it has no {part}")]
    Part {
        /// The Secret.
        role: Role,
        /// The key.
        part: &'static str,
    },
    /// A part of a Secret is malformed.
    #[error("{part}: {reason}")]
    Malformed {
        /// The Secret.
        role: Role,
        /// The key.
        part: &'static str,
        /// What is wrong with it.
        reason: InvalidPem,
    },
    /// Our own authorities are malformed.
    #[error(transparent)]
    Own(#[from] MalformedAuthorities),
}

impl NoTrust {
    /// The Secret that is to blame.
    pub fn role(&self) -> Role {
        match self {
            Self::Missing(role) | Self::Part { role, .. } | Self::Malformed { role, .. } => *role,
            Self::Own(_) => Role::Own,
        }
    }
}

/// Reads our own authorities.
///
/// # Errors
///
/// When they are malformed.
pub fn read_authorities(data: &SecretData) -> Result<Authorities, MalformedAuthorities> {
    Authorities::read(|part| data.part(part))
}

/// Who trusts whom, by what was found.
///
/// # Errors
///
/// When a Secret that is needed is missing or malformed.
pub fn trust(found: &Found) -> Result<Trust, NoTrust> {
    let own = match found.needs_own() {
        true => Some(read_authorities(found.own.as_ref().ok_or(NoTrust::Missing(Role::Own))?)?),
        false => None,
    };
    let ours = || own.as_ref().expect("it is read whenever a side needs it");
    let (server, servers) = match &found.server {
        None => (ServerSource::Signed(ours().current().clone()), ours().trusted().clone()),
        Some(data) => {
            let (credentials, authorities) = given_server(data.as_ref())?;
            (ServerSource::Given(credentials), authorities)
        }
    };
    let (signs_clients, clients) = match &found.clients {
        None => (Some(ours().current().clone()), ours().trusted().clone()),
        Some(data) => given_clients(data.as_ref())?,
    };
    Ok(Trust { clients, servers, signs_clients, server })
}

/// The server's certificate as somebody else made it, and the authorities by which it is known.
fn given_server(data: Option<&SecretData>) -> Result<(Credentials, Bundle), NoTrust> {
    let role = Role::Server;
    let data = data.ok_or(NoTrust::Missing(role))?;
    let part = |part| data.part(part).ok_or(NoTrust::Part { role, part });
    let malformed = |part| move |reason| NoTrust::Malformed { role, part, reason };
    let credentials = Credentials::read(part(CERTIFICATE)?, part(KEY)?).map_err(malformed(CERTIFICATE))?;
    Ok((credentials, Bundle::read(part(AUTHORITIES)?).map_err(malformed(AUTHORITIES))?))
}

/// The authority of the clients as somebody else has it. It signs, too, if its key is there.
fn given_clients(data: Option<&SecretData>) -> Result<(Option<Authority>, Bundle), NoTrust> {
    let role = Role::Clients;
    let data = data.ok_or(NoTrust::Missing(role))?;
    let malformed = |part| move |reason| NoTrust::Malformed { role, part, reason };
    let mut trusted = Bundle::default();
    if let Some(authorities) = data.part(AUTHORITIES) {
        trusted.extend(&Bundle::read(authorities).map_err(malformed(AUTHORITIES))?);
    }
    let signs = match (data.part(CERTIFICATE), data.part(KEY)) {
        (Some(certificate), Some(key)) => match Authority::read(certificate, key) {
            Ok(authority) => Some(authority),
            // The Secret of somebody's certificate serves for the authority that stands beside it.
            Err(AuthorityError::NoAuthority) => None,
            Err(AuthorityError::Pem(reason)) => return Err(malformed(CERTIFICATE)(reason)),
            Err(error) => return Err(malformed(KEY)(InvalidPem::NoKey(error.to_string()))),
        },
        _ => None,
    };
    if let Some(authority) = &signs {
        trusted.add(authority.certificate().clone());
    }
    if trusted.certificates().is_empty() {
        return Err(NoTrust::Part { role, part: AUTHORITIES });
    }
    Ok((signs, trusted))
}

/// What to do about the Secret of a Gateway's Envoys.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientSecret {
    /// Nothing, until then.
    Keep {
        /// When to look again, if nothing happens before.
        until: Timestamp,
    },
    /// Write this.
    Write {
        /// The certificate and its key.
        credentials: Credentials,
        /// What was wrong with the certificate that is there; nothing when only the authorities beside it are others.
        due: Option<Due>,
    },
    /// Somebody else has to bring a certificate, and has not.
    Awaited(Due),
}

/// What to do about the Secret of a Gateway's Envoys, of which this was found.
///
/// # Errors
///
/// When a certificate can not be made.
pub fn plan_client_secret(
    found: Option<&SecretData>,
    id: &ClientId,
    trust: &Trust,
    now: Timestamp,
    lifetimes: Lifetimes,
) -> Result<ClientSecret, AuthorityError> {
    let credentials = found.and_then(SecretData::credentials);
    let due = client_certificate_due(credentials.as_ref(), id, &trust.clients, now);
    let known = found.and_then(|found| found.part(AUTHORITIES)) == Some(trust.servers.to_pem().as_bytes());
    let Some(authority) = &trust.signs_clients else {
        return Ok(match due {
            // Whoever brings it renews it; it is good until its end.
            None | Some(Due::Soon) => ClientSecret::Keep { until: end(credentials.as_ref()) },
            Some(due) => ClientSecret::Awaited(due),
        });
    };
    Ok(match (credentials, due) {
        (Some(credentials), None) if known => ClientSecret::Keep { until: renewal(&credentials) },
        (Some(credentials), None) => ClientSecret::Write { credentials, due: None },
        (_, due) => ClientSecret::Write { credentials: authority.issue_client(id, now, lifetimes)?, due },
    })
}

/// When a certificate is to be renewed.
pub fn renewal(credentials: &Credentials) -> Timestamp {
    credentials.facts().map_or(Timestamp::MIN, |facts| renew_at(facts.not_before, facts.not_after))
}

/// When a certificate is no longer valid.
fn end(credentials: Option<&Credentials>) -> Timestamp {
    let facts = credentials.and_then(|credentials| credentials.facts().ok());
    facts.map_or(Timestamp::MIN, |facts| after(facts.not_after, std::time::Duration::from_secs(1)))
}

/// What stands in the Secret of a Gateway's Envoys, by key.
pub fn client_secret_data(credentials: &Credentials, trust: &Trust) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (AUTHORITIES, trust.servers.to_pem()),
        (CERTIFICATE, credentials.chain.clone()),
        (KEY, credentials.key.expose().to_owned()),
    ])
}
