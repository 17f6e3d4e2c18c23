//! The certificates of xDS in a cluster: where they are kept, who makes them, and that they are fresh.
//!
//! Every replica watches the Secrets in the operator's namespace that say who trusts whom, and makes its own server certificate
//! from them, which is in no Secret. The replica that leads keeps our authorities and the Secrets of Gateways' Envoys. Never
//! decides what is due: that is [`identity`](crate::identity)'s. Never shows a private key to anything but a Secret.

mod issue;
mod secrets;
mod server;

use std::{collections::BTreeMap, sync::Arc};

use imbl::OrdMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::ListParams};
use serde_json::Value;
use tokio::{
    sync::watch,
    task,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

use super::Leadership;
use crate::{
    identity::{
        Lifetimes, ServerIdentity, ServerNames, TrustDomain,
        trust::{ClientMaterial, Found, NoTrust, Role, SecretData},
    },
    metrics::Metrics,
    model::ObjectName,
};

/// The Secret with our authorities, in the operator's namespace.
pub const AUTHORITIES_SECRET: &str = "tailscale-gateway-xds-ca";
/// The label of Secrets with certificates of ours; its value says whose.
pub const CERTIFICATE_LABEL: &str = "gateway.tailscale.com/certificate";
/// The value of the label on the Secrets of Gateways' Envoys.
pub const CLIENT: &str = "client";
/// The value of the label on the Secret with our authorities.
const AUTHORITY: &str = "authority";

/// How certificates are made and where they are kept.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// The operator's namespace.
    pub namespace: String,
    /// How long authorities and certificates live.
    pub lifetimes: Lifetimes,
    /// The trust domain of Gateways' certificates.
    pub trust_domain: TrustDomain,
    /// The names of servers.
    pub names: ServerNames,
    /// The Secret with the server's certificate, when somebody else makes it.
    pub server_secret: Option<String>,
    /// The Secret with the clients' authority, when somebody else has it.
    pub client_ca_secret: Option<String>,
}

impl IdentityConfig {
    /// The name of the Secret in a role.
    fn secret(&self, role: Role) -> Option<&str> {
        match role {
            Role::Own => Some(AUTHORITIES_SECRET),
            Role::Server => self.server_secret.as_deref(),
            Role::Clients => self.client_ca_secret.as_deref(),
        }
    }

    /// What is wrong, with the name of the Secret that it is wrong with.
    fn blame(&self, error: &NoTrust) -> String {
        format!("Secret {}/{}: {error}", self.namespace, self.secret(error.role()).unwrap_or_default())
    }
}

/// The Secret of a Gateway's Envoys: that it should exist, and how it is called; what stands in it is made here.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSecret {
    /// The Secret.
    pub secret: ObjectName,
    /// The Gateway.
    pub gateway: ObjectName,
    /// Its `metadata`: labels, annotations, owner; namespace and name are those of `secret`. One that is labelled as being there
    /// for another controller's Gateway ([`HOSTED_COMPONENT`](crate::model::HOSTED_COMPONENT)), in the operator's namespace, has
    /// no owner, and is deleted when it is not wanted any more.
    pub metadata: Value,
    /// It is kept fresh if it is there, and not made if it is not.
    pub if_there: bool,
}

/// The Secrets that should exist, by name.
pub type ClientSecrets = OrdMap<ObjectName, Arc<ClientSecret>>;

/// Gateways whose Envoys have no certificate, and why.
pub type CertificateProblems = BTreeMap<ObjectName, String>;

/// Which Secrets should exist.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// These.
    pub secrets: watch::Receiver<ClientSecrets>,
    /// Whether those for other controllers' Gateways are among them. Until it is so, the ones that are there are kept.
    pub hosted_is_known: watch::Receiver<bool>,
}

/// What comes of it.
#[derive(Debug)]
pub struct Identities {
    /// What a server shows and whom it lets in, as soon as it is known.
    pub server: watch::Receiver<Option<Arc<ServerIdentity>>>,
    /// Gateways whose Envoys have no certificate; only the replica that leads knows.
    pub problems: watch::Receiver<Arc<CertificateProblems>>,
}

/// Keeps certificates until `shutdown`: this server's, and as long as this replica leads those that `wanted` says.
pub fn start(
    client: Client,
    config: IdentityConfig,
    leader: Leadership,
    wanted: Wanted,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> Identities {
    let config = Arc::new(config);
    let (tell_found, found) = watch::channel(None);
    let (serve, server) = watch::channel(None);
    let (tell_problems, problems) = watch::channel(Arc::default());
    task::spawn(secrets::watch(client.clone(), Arc::clone(&config), tell_found, shutdown.clone()));
    task::spawn(server::run(Arc::clone(&config), found.clone(), serve, Arc::clone(&metrics), shutdown.clone()));
    let issuer = issue::Issuer { client, config, leader, found, wanted, problems: tell_problems, metrics };
    task::spawn(issuer.run(shutdown));
    Identities { server, problems }
}

/// The certificate of a Gateway's Envoys, as the operator has made it.
///
/// # Errors
///
/// When the API server does not show the Secrets of the Gateway's namespace.
pub async fn find_client_secret(client: Client, gateway: &ObjectName) -> kube::Result<Option<ClientMaterial>> {
    let api: Api<Secret> = Api::namespaced(client, &gateway.namespace);
    let labelled = ListParams::default().labels(&format!("{CERTIFICATE_LABEL}={CLIENT}"));
    let secrets = api.list(&labelled).await?;
    Ok(secrets.into_iter().find_map(|secret| ClientMaterial::read(&data_of(secret), gateway)))
}

/// What is known of the Secrets in the operator's namespace, once all have been looked for.
type Known = Option<Arc<Seen>>;

/// The Secrets in the operator's namespace.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    found: Found,
    /// The version of the Secret with our authorities.
    own_version: Option<String>,
}

fn data_of(secret: Secret) -> SecretData {
    let data = secret.data.unwrap_or_default();
    SecretData(data.into_iter().map(|(key, value)| (key, value.0)).collect())
}

/// When to look again at what is due at a time of day: then, but not later than in ten minutes, so that a clock that was set
/// is noticed.
fn at(time: Timestamp) -> Instant {
    let left = time.duration_since(Timestamp::now());
    let left = Duration::try_from(left).unwrap_or_default().min(Duration::from_secs(600));
    // Certificates carry whole seconds; a little later it is due for certain.
    Instant::now() + left + Duration::from_millis(10)
}
