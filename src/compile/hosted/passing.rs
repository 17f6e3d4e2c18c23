//! TLSRoutes, TCPRoutes and UDPRoutes of another controller's Gateway: where their connections and datagrams go.
//!
//! An Envoy Gateway's listeners name one cluster for such a route, and that has the endpoints of backends of one side only: its
//! own, or ours. So what leads to backends of ours alone is served, and a route with both stays as its controller made it.

use std::sync::Arc;

use prost::Message;
use smallvec::SmallVec;
use tailscale_gateway_proto::envoy::config::cluster::v3::Cluster;

use super::{
    cluster::read,
    route::{RouteCompiler, Rules, is_ours},
};
use crate::{
    api::{Gateway, ListenerSet, ParentReference, PassingBackendRef, PassingRouteRule, TlsMode},
    compile::{
        World,
        cluster::{EndpointTarget, endpoint_target_for, mixture},
        reference::referred,
        route::BackendTarget,
        share,
    },
    model::{Kind, ObjectKey, Reason, Traffic, foreign_part_name, foreign_passing_name},
    snapshot::HostedRule,
};

/// What a TLSRoute's connections are: TLS of their clients, if a listener passes it through. And whether another one ends it.
pub(super) fn of_tls_route(key: &ObjectKey, parents: &[ParentReference], world: &mut World<'_>) -> (Traffic, bool) {
    let (mut passed, mut ended) = (false, false);
    for parent in parents {
        let name = referred(key, parent.namespace.as_deref(), &parent.name);
        let listeners = match Kind::find(&parent.group, &parent.kind) {
            Some(Kind::Gateway) => world.object::<Gateway>(&name).map(|gateway| gateway.spec.listeners.clone()),
            Some(Kind::ListenerSet) => world.object::<ListenerSet>(&name).map(|set| set.spec.listeners.clone()),
            _ => None,
        };
        for listener in listeners.iter().flatten().filter(|listener| listener.protocol == "TLS") {
            let named = parent.section_name.as_ref().is_none_or(|section| *section == listener.name)
                && parent.port.is_none_or(|port| port == listener.port);
            let passes = listener.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Passthrough);
            passed |= named && passes;
            ended |= named && !passes;
        }
    }
    (if ended && !passed { Traffic::Connections } else { Traffic::Passthrough }, passed && ended)
}

/// A backend of ours: where its reference stands among all and in the manifest, its weight, and what it comes to.
struct Part {
    place: usize,
    field: String,
    weight: u32,
    targets: Vec<BackendTarget>,
}

impl RouteCompiler<'_, '_> {
    /// The rules of a route, which are one: they have no matches. `mixed`: only some of its listeners end TLS.
    pub(super) fn passing(&mut self, rules: &[PassingRouteRule], mixed: bool) -> Rules {
        let key = self.backends.key;
        // Of other kinds an Envoy Gateway refuses a route with several.
        if key.kind != Kind::TlsRoute && rules.len() != 1 {
            return Rules::new();
        }
        let (mut parts, mut others) = (Vec::new(), false);
        let backends = rules.iter().enumerate().flat_map(|(at, rule)| {
            let field = move |place| format!("spec.rules[{at}].backendRefs[{place}]");
            rule.backend_refs.iter().enumerate().map(move |(place, backend)| (field(place), backend))
        });
        for (place, (field, backend)) in backends.enumerate().filter(|(_, (_, backend))| backend.weight > 0) {
            match is_ours(&backend.object) {
                true => parts.push(self.passing_part(place, field, backend)),
                false => others = true,
            }
        }
        if others {
            self.backends.named.clear();
            for part in parts {
                let message = format!(
                    "nothing goes there: an Envoy Gateway has one cluster for a {}, and other backends stand beside this one; \
                     refer to TailscaleEndpoints alone",
                    key.kind
                );
                self.findings.note(part.field, Reason::UnsupportedValue, message);
            }
            return Rules::new();
        }
        if mixed {
            self.note_ended_tls(&parts);
        }
        let resolved: Vec<&BackendTarget> = parts.iter().flat_map(|part| &part.targets).collect();
        let (alone, mixture) = match resolved.as_slice() {
            [] => return Rules::new(),
            [only] => (Some(self.key_of(only)), None),
            _ => {
                let together = self.together(&parts);
                // None of them is needed by itself.
                self.backends.named.clear();
                let Some(message) = together else { return Rules::new() };
                (None, Some(message.encode_to_vec().into()))
            }
        };
        let rule = HostedRule {
            route: key.clone(),
            gateways: Arc::clone(self.gateways),
            alone,
            mixture,
            shares: Vec::new(),
            others: 0,
            factor: 1,
            auto_host: false,
        };
        vec![(foreign_passing_name(key).into(), Arc::new(rule))]
    }

    fn passing_part(&mut self, place: usize, field: String, backend: &PassingBackendRef) -> Part {
        Part { place, targets: self.resolve(&backend.object, &field), field, weight: backend.weight }
    }

    fn target(&mut self, target: &BackendTarget, traffic: Traffic) -> Option<EndpointTarget> {
        let cluster = self.backends.named.get(&target.cluster).expect("what is resolved is named");
        endpoint_target_for(&read(cluster, self.backends.world)?, traffic).ok()
    }

    /// Behind listeners that end TLS, an endpoint that wants some gets none when others pass theirs through.
    fn note_ended_tls(&mut self, parts: &[Part]) {
        for part in parts {
            let ended = |compiler: &mut Self, target| compiler.target(target, Traffic::Connections);
            if part.targets.iter().any(|target| ended(self, target).is_some_and(|target| target.tls())) {
                let message = "some listeners of this route pass TLS through and some end it, and it has one cluster for \
                               both: behind the latter this endpoint is sent clear text; make a route for each";
                self.findings.note(part.field.clone(), Reason::UnsupportedValue, message);
            }
        }
    }

    /// One cluster for several targets, in proportion to their weights; nothing when they can not share one.
    fn together(&mut self, parts: &[Part]) -> Option<Cluster> {
        let weights: Vec<(u32, SmallVec<[u32; 1]>)> = parts
            .iter()
            .map(|part| (part.weight, part.targets.iter().map(|target| target.weight).collect()))
            .filter(|(_, targets): &(u32, SmallVec<[u32; 1]>)| !targets.is_empty())
            .collect();
        let mut weights = share::weights(&weights).into_iter();
        let (name, traffic) = (foreign_passing_name(self.backends.key), self.backends.traffic);
        let mut localities = Vec::new();
        for part in parts.iter().filter(|part| !part.targets.is_empty()) {
            let weights = weights.next().expect("each part with targets has weights");
            for (target, weight) in part.targets.iter().zip(weights) {
                let to = self.target(target, traffic)?;
                if to.tls() {
                    let message = "one of several endpoints wants TLS: they share a cluster, which can not have a certificate's \
                                   name for each; refer to a single endpoint, or to such without TLS";
                    self.findings.note(part.field.clone(), Reason::UnsupportedValue, message);
                    return None;
                }
                localities.push((foreign_part_name(&name, part.place, &target.cluster), weight, to));
            }
        }
        Some(mixture(&name, &localities))
    }
}
