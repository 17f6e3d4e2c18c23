//! How the objects are called, labelled and told apart that are created for a Gateway (GEP-1762, "In Cluster Gateway
//! Deployments").

use std::{fmt, fmt::Write as _};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use xxhash_rust::xxh3::xxh3_64;

use super::ObjectName;

/// The label with the Gateway's name, in the form of [`gateway_label`].
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
/// The label with the program that looks after an object (Kubernetes, "Recommended Labels").
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// This program.
pub const MANAGED_BY: &str = "tailscale-gateway";
/// The label with what an object is there for (Kubernetes, "Recommended Labels").
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// What is there for the Envoys of a Gateway.
pub const COMPONENT: &str = "envoy";
/// What is there for the Gateways of other controllers.
pub const HOSTED_COMPONENT: &str = "extension";
/// The annotation with a hash of what an object was last made from: what is left out now was there then.
pub const APPLIED_ANNOTATION: &str = "gateway.tailscale.com/applied";

/// The longest value of a label, and the longest name of a Service (RFC 1035 label).
const LONGEST_LABEL: usize = 63;

/// A kind of object that is created for Gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum OwnedKind {
    ServiceAccount,
    ConfigMap,
    Secret,
    Service,
    Deployment,
    PodDisruptionBudget,
    HorizontalPodAutoscaler,
}

impl OwnedKind {
    /// Every kind, in the order in which objects are created: what others refer to comes first.
    pub const ALL: [Self; 7] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::Secret,
        Self::Service,
        Self::Deployment,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
    ];

    /// The API group; empty for Kubernetes' core group.
    pub fn group(self) -> &'static str {
        match self {
            Self::ServiceAccount | Self::ConfigMap | Self::Secret | Self::Service => "",
            Self::Deployment => "apps",
            Self::PodDisruptionBudget => "policy",
            Self::HorizontalPodAutoscaler => "autoscaling",
        }
    }

    /// The version of the group.
    pub fn version(self) -> &'static str {
        match self {
            Self::HorizontalPodAutoscaler => "v2",
            _ => "v1",
        }
    }

    /// The `apiVersion` field.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// The `kind` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        }
    }

    /// The resource's name in the API server's paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceaccounts",
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
            Self::Service => "services",
            Self::Deployment => "deployments",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
            Self::HorizontalPodAutoscaler => "horizontalpodautoscalers",
        }
    }
}

impl fmt::Display for OwnedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An object that is created for a Gateway.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnedKey {
    /// What it is.
    pub kind: OwnedKind,
    /// Which one it is.
    pub name: ObjectName,
}

impl OwnedKey {
    /// Names an object of a kind.
    pub fn new(kind: OwnedKind, name: ObjectName) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for OwnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl fmt::Debug for OwnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of what is created for a Gateway: `GATEWAY-CLASS` (GEP-1762). What is no name of a Service, being too long or
/// beginning with a digit or having dots, is made into one, with a hash that keeps it apart from others.
pub fn infrastructure_name(gateway: &str, class: &str) -> String {
    let name = format!("{gateway}-{class}");
    let is_label = name.len() <= LONGEST_LABEL
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_label {
        return name;
    }
    let hash = format!("{:016x}", xxh3_64(format!("{gateway}/{class}").as_bytes()));
    let prefix = if name.starts_with(|first: char| first.is_ascii_lowercase()) { "" } else { "gw-" };
    let mut label: String = format!("{prefix}{name}")
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(LONGEST_LABEL - hash.len() - 1)
        .collect();
    label.truncate(label.trim_end_matches('-').len());
    format!("{label}-{hash}")
}

/// The name of the Secret with the certificate by which the Envoys of a Gateway show who they are.
pub fn client_certificate_name(gateway: &str, class: &str) -> String {
    format!("{}-xds", infrastructure_name(gateway, class))
}

/// The name of the Secret, in the operator's namespace, with the certificate by which the Envoys of another controller's Gateway
/// show whose they are. No name of [`client_certificate_name`] has a dot in it, and no namespace has.
pub fn hosted_certificate_name(gateway: &ObjectName) -> String {
    /// The longest name of an object (RFC 1123 subdomain).
    const LONGEST: usize = 253;
    let ObjectName { namespace, name } = gateway;
    let whole = format!("xds.{namespace}.{name}");
    if whole.len() <= LONGEST { whole } else { format!("xds.{namespace}.{:016x}.hash", xxh3_64(name.as_bytes())) }
}

/// The value of [`GATEWAY_NAME_LABEL`]: the Gateway's name, or, when it is too long for that, its first 20 characters, a
/// dash and the SHA-1 of the rest (GEP-1762).
pub fn gateway_label(gateway: &str) -> String {
    if gateway.len() <= LONGEST_LABEL {
        return gateway.to_owned();
    }
    // Names of objects are ASCII (RFC 1123); of what is not, a boundary is looked for.
    let cut = (0..=20).rev().find(|cut| gateway.is_char_boundary(*cut)).unwrap_or(0);
    let (start, rest) = gateway.split_at(cut);
    let mut label = format!("{start}-");
    for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, rest.as_bytes()).as_ref() {
        write!(label, "{byte:02x}").expect("writing to a String does not fail");
    }
    label
}
