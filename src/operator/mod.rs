//! What should exist in the cluster for each Gateway of ours: its Envoys, and what these need.
//!
//! Pure: from Gateways, their classes, their parameters and the cluster's family of addresses to objects as an API server takes
//! them. Never looks at routes, Secrets or what exists already; `run` makes it so.

mod bootstrap;
pub mod covers;
pub mod known;
mod metadata;
mod pods;
pub mod run;
mod scaling;
mod service;
pub mod steps;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    api::{Gateway, TailscaleGatewayParametersSpec},
    bootstrap::HostPort,
    gateways::{self, Infrastructure, bound_address, gateway_parameters, infrastructure},
    model::{
        APPLIED_ANNOTATION, Kind, ObjectKey, ObjectName, OwnedKey, OwnedKind, client_certificate_name,
        infrastructure_name,
    },
    store::{Change, Engine, Output, Program, View},
};

use metadata::Common;

/// The image of the Envoys whose parameters name none.
pub const DEFAULT_ENVOY_IMAGE: &str = "docker.io/envoyproxy/envoy:distroless-v1.40.0";

/// What plans depend on besides the objects; the same for all replicas.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Envoys find this control plane.
    pub xds: HostPort,
    /// The name that this control plane's certificate has, if it is not the host of `xds`.
    pub server_name: Option<Arc<str>>,
    /// The image of Envoys whose parameters name none.
    pub envoy_image: Arc<str>,
    /// The image of this program, whose command `drain` ends an Envoy gracefully. Without it a pod that is to end waits as
    /// long as it may, whether or not there are requests.
    pub own_image: Option<Arc<str>>,
    /// Envoys bind ports below 1024 themselves.
    pub privileged_ports: bool,
}

/// What should exist for a Gateway. Cheap to clone behind an [`Arc`]; equal plans are the same plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Whatever exists stays as it is and nothing is added: the Gateway is about to go, or its parameters can not be used.
    Keep {
        /// The certificate of the Envoys that are there: it is renewed while it is there, and not made if it is not. Nothing for
        /// a Gateway that no API server gave a uid.
        certificate: Option<CertificateRequest>,
    },
    /// These objects, and no others.
    Objects {
        /// The certificate by which its Envoys show who they are.
        certificate: CertificateRequest,
        /// The objects, in the order in which they are created.
        objects: Vec<PlannedObject>,
    },
}

/// A Secret whose content is made elsewhere: `ca.crt`, `tls.crt` and `tls.key`.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateRequest {
    /// The Secret.
    pub secret: ObjectName,
    /// The Gateway whose Envoys show the certificate.
    pub gateway: ObjectName,
    /// The Secret's `metadata`: namespace, name, labels, annotations, owner.
    pub metadata: Value,
}

/// An object that should exist.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedObject {
    /// Which one.
    pub key: OwnedKey,
    /// All that this program says about it, as an API server takes it; what is left out is others' to say. An annotation
    /// ([`APPLIED_ANNOTATION`]) has a hash of the rest.
    pub manifest: Value,
}

impl PlannedObject {
    fn new(kind: OwnedKind, name: &ObjectName, mut manifest: Value) -> Self {
        manifest["apiVersion"] = kind.api_version().into();
        manifest["kind"] = kind.as_str().into();
        tidy(&mut manifest);
        // Members of objects are sorted, so equal manifests have equal text.
        let hash = format!("{:032x}", xxh3_128(manifest.to_string().as_bytes()));
        manifest["metadata"]["annotations"][APPLIED_ANNOTATION] = hash.into();
        Self { key: OwnedKey::new(kind, name.clone()), manifest }
    }
}

/// Leaves out what is null: an API server drops it, and then it would be missed. What is empty stays, as it may mean
/// something (`labelSelector: {}` takes all pods).
fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// The planner as a [`Program`]: an output for each Gateway.
#[derive(Clone, Debug)]
pub struct Operator {
    settings: Settings,
}

impl Program for Operator {
    type Key = ObjectName;
    type Value = Option<Arc<Plan>>;
    type Topic = ();
    type Fact = ();

    fn level(&self, _: &ObjectName) -> u8 {
        0
    }

    fn roots(&self, object: &ObjectKey) -> Vec<ObjectName> {
        if object.kind == Kind::Gateway { vec![object.name.clone()] } else { Vec::new() }
    }

    fn make(&self, gateway: &ObjectName, view: &mut View<'_, Self>) -> Output<Self> {
        Output::plain(plan(&self.settings, gateway, view).map(Arc::new))
    }
}

/// The plans of all Gateways, kept up to date.
pub struct Planner {
    engine: Engine<Operator>,
}

/// A plan that is new, or nothing for a Gateway that is gone or not ours: nothing should exist for it.
pub type PlanChange = (ObjectName, Option<Arc<Plan>>);

impl Planner {
    /// An empty world.
    pub fn new(settings: Settings) -> Self {
        Self { engine: Engine::new(Operator { settings }) }
    }

    /// Takes in what of some changes plans depend on, and tells the plans that come out different.
    pub fn apply<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) -> Vec<PlanChange> {
        let relevant = changes.into_iter().filter(|change| is_relevant(change)).cloned();
        let changed = self.engine.commit(relevant).changed;
        changed.into_iter().map(|(gateway, plan)| (gateway, plan.flatten())).collect()
    }

    /// How many objects plans are made from.
    pub fn objects(&self) -> usize {
        self.engine.store().len()
    }

    /// The plan of a Gateway.
    pub fn plan(&self, gateway: &ObjectName) -> Option<&Arc<Plan>> {
        self.engine.output(gateway)?.as_ref()
    }
}

fn is_relevant(change: &Change) -> bool {
    let kind = match change {
        Change::Upsert(object) => object.kind(),
        Change::Remove(key) => key.kind,
    };
    match (kind, change) {
        (Kind::GatewayClass | Kind::Gateway | Kind::TailscaleGatewayParameters, _) => true,
        (Kind::Service, Change::Upsert(service)) => gateways::is_cluster_service(&service.key().name),
        (Kind::Service, Change::Remove(key)) => gateways::is_cluster_service(&key.name),
        _ => false,
    }
}

/// All that a Gateway's objects are made from.
struct Source<'a> {
    settings: &'a Settings,
    name: &'a ObjectName,
    gateway: &'a Gateway,
    parameters: TailscaleGatewayParametersSpec,
    common: Common,
    /// The name of its objects.
    objects: ObjectName,
    certificate: ObjectName,
    /// The address that its Envoys bind.
    address: IpAddr,
    ports: Ports,
}

/// The ports of a Gateway's Envoys.
struct Ports {
    /// The ports of listeners that can be served, and whether one there speaks HTTP and not HTTPS.
    listeners: Vec<(u16, bool)>,
    /// The Envoy's admin page, on the loopback interface.
    admin: u16,
    /// Where it says whether it is ready.
    probes: u16,
}

/// The first choice for an Envoy's admin page.
const ADMIN_PORT: u16 = 19_000;
/// The first choice for its readiness.
const PROBES_PORT: u16 = 19_001;

fn plan(settings: &Settings, name: &ObjectName, view: &mut View<'_, Operator>) -> Option<Plan> {
    let gateway = view.object::<Gateway>(name)?;
    let class = gateway.spec.gateway_class_name.as_str();
    if !gateways::class_is_ours(class, true, view) {
        return None;
    }
    let parameters = gateway_parameters(name, &gateway, view);
    let Some(uid) = gateway.metadata.uid.as_deref() else { return Some(Plan::Keep { certificate: None }) };
    let of_name = |object: String| ObjectName::new(Arc::clone(&name.namespace), object);
    let common = Common::new(name, uid, gateway.spec.infrastructure.as_ref());
    let secret = of_name(client_certificate_name(&name.name, class));
    let certificate =
        CertificateRequest { metadata: common.metadata(&secret, None), secret: secret.clone(), gateway: name.clone() };
    // What belongs to a Gateway that is being deleted may go before it, and must not come again.
    let is_staying = gateway.metadata.deletion_timestamp.is_none();
    let (Ok(infrastructure), true) = (infrastructure(&gateway), is_staying && parameters.problems.is_empty()) else {
        return Some(Plan::Keep { certificate: Some(certificate) });
    };
    let source = Source {
        settings,
        name,
        gateway: &gateway,
        address: bound_address(&parameters.spec, view),
        parameters: parameters.spec,
        common,
        objects: of_name(infrastructure_name(&name.name, class)),
        certificate: secret,
        ports: Ports::of(&gateway, settings.privileged_ports),
    };
    let objects = match infrastructure {
        Infrastructure::External => Vec::new(),
        Infrastructure::Provisioned => source.objects(),
    };
    Some(Plan::Objects { certificate, objects })
}

impl Source<'_> {
    fn objects(&self) -> Vec<PlannedObject> {
        let files = bootstrap::files(self);
        let objects = [
            Some((OwnedKind::ServiceAccount, pods::service_account(self))),
            Some((OwnedKind::ConfigMap, bootstrap::config_map(self, &files))),
            service::service(self).map(|service| (OwnedKind::Service, service)),
            Some((OwnedKind::Deployment, pods::deployment(self, &bootstrap::checksum(&files)))),
            Some((OwnedKind::PodDisruptionBudget, scaling::disruption_budget(self))),
            scaling::autoscaler(self).map(|autoscaler| (OwnedKind::HorizontalPodAutoscaler, autoscaler)),
        ];
        objects
            .into_iter()
            .flatten()
            .map(|(kind, manifest)| PlannedObject::new(kind, &self.objects, manifest))
            .collect()
    }

    /// Of the Gateway's objects.
    fn metadata(&self) -> Value {
        self.common.metadata(&self.objects, None)
    }
}

impl Ports {
    /// By the specification alone: a port stays when its certificate is missing or another listener contradicts it. A load
    /// balancer that loses a port, or goes, is worse than one with a port where nobody answers.
    fn of(gateway: &Gateway, privileged_ports: bool) -> Self {
        let served = gateway.spec.listeners.iter().filter_map(|listener| match listener.protocol.as_str() {
            "HTTP" => Some((listener.port, true)),
            "HTTPS" => Some((listener.port, false)),
            _ => None,
        });
        let mut listeners: Vec<(u16, bool)> = Vec::new();
        for (port, http) in served {
            match listeners.iter_mut().find(|(known, _)| *known == port) {
                Some((_, also)) => *also |= http,
                None => listeners.push((port, http)),
            }
        }
        listeners.sort_unstable();
        let mut taken: BTreeSet<u16> =
            listeners.iter().map(|(port, _)| gateways::bound_port(*port, privileged_ports)).collect();
        let mut free = |first: u16| {
            let port =
                (first..=u16::MAX).find(|port| !taken.contains(port)).expect("a Gateway has at most 64 listeners");
            taken.insert(port);
            port
        };
        Self { admin: free(ADMIN_PORT), probes: free(PROBES_PORT), listeners }
    }
}
