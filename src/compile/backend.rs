//! What a route's backend reference stands for: clusters, or the reason why there is none.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::{
    World, cluster,
    endpoints::is_tcp,
    reference::{not_permitted, permitted, referred},
    route::{BackendTarget, Backends, ResolvedBackend},
};
use crate::{
    api::{BackendObjectReference, TailscaleEndpoints},
    model::{ClusterName, Kind, ObjectKey, ObjectName, Problem, Reason, Traffic},
};

/// Resolves the references of one route, and remembers which clusters they name.
pub(super) struct Resolver<'a, 'w> {
    pub(super) key: &'a ObjectKey,
    pub(super) world: &'a mut World<'w>,
    /// The clusters, by their names' texts.
    pub(super) named: BTreeMap<Arc<str>, ClusterName>,
    /// What is sent to them.
    pub(super) traffic: Traffic,
}

impl Backends for Resolver<'_, '_> {
    fn resolve(&mut self, backend: &BackendObjectReference, field: &str) -> Result<ResolvedBackend, Problem> {
        let problem =
            |suffix: &str, reason, message| Problem::new(self.key.clone(), format!("{field}{suffix}"), reason, message);
        let kind = match Kind::find(&backend.group, &backend.kind) {
            Some(kind @ (Kind::Service | Kind::TailscaleEndpoints)) => kind,
            Some(kind @ (Kind::TailscaleService | Kind::TailscaleServices)) => {
                let message = format!("a {kind} can not be a backend yet; use a Service or a TailscaleEndpoints");
                return Err(problem(".kind", Reason::InvalidKind, message));
            }
            _ => {
                let message = format!(
                    "a {} of group {:?} can not be a backend; use a Service or a TailscaleEndpoints",
                    backend.kind, backend.group
                );
                return Err(problem(".kind", Reason::InvalidKind, message));
            }
        };
        let to = ObjectKey::new(kind, referred(self.key, backend.namespace.as_deref(), &backend.name));
        if !permitted(self.key, &to, self.world) {
            return Err(problem("", Reason::RefNotPermitted, not_permitted(self.key, &to)));
        }
        let resolved = match kind {
            Kind::Service => service(&to.name, backend.port, self.world),
            _ => endpoints(&to.name, backend.port, self.traffic, self.world),
        };
        let (targets, websocket) = resolved.map_err(|(suffix, reason, message)| problem(suffix, reason, message))?;
        let targets = targets
            .into_iter()
            .map(|(name, (weight, host_rewrite))| {
                let cluster: Arc<str> = name.to_string().into();
                self.named.insert(Arc::clone(&cluster), name);
                BackendTarget { cluster, weight, host_rewrite }
            })
            .collect();
        Ok(ResolvedBackend { targets, websocket })
    }
}

/// Clusters with their share and the Host that they want; and whether they speak WebSocket.
type Targets = (Vec<(ClusterName, (u32, Option<String>))>, bool);
/// The field behind the reference's own, why, and words.
type Unresolved = (&'static str, Reason, String);

fn service(name: &ObjectName, port: Option<u16>, world: &mut World<'_>) -> Result<Targets, Unresolved> {
    let Some(object) = world.object::<Service>(name) else {
        return Err((".name", Reason::BackendNotFound, format!("there is no Service {name}")));
    };
    let Some(port) = port else {
        return Err((
            ".port",
            Reason::BackendNotFound,
            "a Service needs a port: the number in its spec.ports".to_owned(),
        ));
    };
    if object.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let message = format!(
            "Service {name} is an ExternalName; use a TailscaleEndpoints with an externalTarget for hosts outside the cluster"
        );
        return Err((".name", Reason::BackendNotFound, message));
    }
    let Some(declared) = service_port(&object, port) else {
        let message = format!("Service {name} has no TCP port {port} in its spec.ports");
        return Err((".port", Reason::BackendNotFound, message));
    };
    let protocol = AppProtocol::parse(declared.app_protocol.as_deref()).map_err(|protocol| {
        let message = format!(
            "port {port} of Service {name} wants appProtocol {protocol}, which is not supported; use kubernetes.io/h2c, kubernetes.io/ws or http"
        );
        ("", Reason::UnsupportedProtocolBackend, message)
    })?;
    let cluster = ClusterName::Service { service: name.clone(), port };
    Ok((vec![(cluster, (1, None))], protocol == AppProtocol::WebSocket))
}

/// The port of a Service with this number.
pub(super) fn service_port(service: &Service, port: u16) -> Option<&ServicePort> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ports.iter().find(|declared| declared.port == i32::from(port) && is_tcp(declared.protocol.as_deref()))
}

/// What a Service's port speaks (Gateway API GEP-1911).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppProtocol {
    Http1,
    Http2,
    WebSocket,
}

impl AppProtocol {
    /// Reads `appProtocol`. What needs TLS towards the backend is refused; names without a meaning for HTTP mean HTTP/1.1,
    /// as without the field.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, &str> {
        match text.unwrap_or_default() {
            "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Ok(Self::Http2),
            "kubernetes.io/ws" | "ws" => Ok(Self::WebSocket),
            protocol @ ("https" | "tls" | "wss" | "kubernetes.io/wss" | "udp") => Err(protocol),
            _ => Ok(Self::Http1),
        }
    }
}

/// The endpoints of a TailscaleEndpoints object that have this port, in proportion to their weights; the only one there is
/// when no port is named.
fn endpoints(
    name: &ObjectName,
    port: Option<u16>,
    traffic: Traffic,
    world: &mut World<'_>,
) -> Result<Targets, Unresolved> {
    let Some(object) = world.object::<TailscaleEndpoints>(name) else {
        return Err((".name", Reason::BackendNotFound, format!("there is no TailscaleEndpoints {name}")));
    };
    let all = &object.spec.endpoints;
    let chosen: Vec<_> = match (port, all.as_slice()) {
        (Some(port), _) => all.iter().filter(|endpoint| endpoint.port == port).collect(),
        (None, [only]) => vec![only],
        (None, _) => {
            let message = format!("TailscaleEndpoints {name} has {} endpoints; the port says which", all.len());
            return Err((".port", Reason::BackendNotFound, message));
        }
    };
    if chosen.is_empty() {
        let message = format!("TailscaleEndpoints {name} has no endpoint with this port");
        return Err((".port", Reason::BackendNotFound, message));
    }
    let mut targets: Vec<(ClusterName, (u32, Option<String>))> = Vec::new();
    let mut refused = None;
    for endpoint in chosen {
        let cluster = ClusterName::Endpoint { endpoints: name.clone(), endpoint: Arc::from(endpoint.name.as_str()) };
        if targets.iter().any(|(other, _)| *other == cluster) {
            continue;
        }
        match cluster::endpoint_target_for(endpoint, traffic) {
            Ok(target) => targets.push((cluster, (endpoint.weight.max(1), Some(target.authority)))),
            Err((_, reason, message)) => {
                let reason = match reason {
                    Reason::NotActedOn => Reason::UnsupportedProtocolBackend,
                    _ => Reason::BackendNotFound,
                };
                let message = format!("endpoint {} of TailscaleEndpoints {name}: {message}", endpoint.name);
                refused.get_or_insert((reason, message));
            }
        }
    }
    match refused {
        Some((reason, message)) if targets.is_empty() => Err(("", reason, message)),
        _ => Ok((targets, false)),
    }
}
