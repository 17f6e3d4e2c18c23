//! Make before break, per client: what one type's state at the client means for what may be sent of another
//! (`xds.md` §1.6).
//!
//! Types are sent in the order of [`TypeUrl::ALL`]; that alone puts clusters before their endpoints and those before routes.
//! Here is the rest: routes wait for the clusters they newly name to be warm, and what is referred to is removed last.
//! Only a stream that carries all types can know, so on others nothing is withheld.
//!
//! Never changes a state, and never looks at more than what differs between the client and the snapshot.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::state::{Held, TypeState};
use crate::snapshot::{Resource, Snapshot, TypeUrl, TypeView};

/// The types whose resources name clusters that must exist, because they do not wait for them by themselves.
pub(super) const ROUTING: [TypeUrl; 2] = [TypeUrl::Route, TypeUrl::VirtualHost];

/// Up to this many new clusters are looked for in a route; of more, the route's clusters are looked for among them.
const FEW_CLUSTERS: usize = 64;

/// The states of a stream's types.
pub(super) type States = [Option<Box<TypeState>>; TypeUrl::COUNT];

/// What the other types of a stream say about one of them.
pub(super) struct Order<'a> {
    states: &'a States,
    snapshot: &'a Snapshot,
    aggregated: bool,
    route_hold: Duration,
}

impl<'a> Order<'a> {
    /// `states` may lack the type in question.
    pub(super) fn new(states: &'a States, snapshot: &'a Snapshot, aggregated: bool, route_hold: Duration) -> Self {
        Self { states, snapshot, aggregated, route_hold }
    }

    /// A cluster for which a routing resource must wait: one that it names and its predecessor at the client does not, that
    /// exists, and that the client does not have yet. The acknowledgement of a cluster says that it is warm (P56).
    pub(super) fn unwarmed(
        &self,
        routing: &Resource,
        predecessor: Option<&Resource>,
        held: Option<&Held>,
    ) -> Option<Arc<str>> {
        let clusters = self.state(TypeUrl::Cluster)?;
        let current = self.snapshot.view(TypeUrl::Cluster);
        let views = || clusters.views().filter(|view| view.version() != current.version());
        // One that the client has may be on its way out, when it came back.
        let is_cold = |name: &str| {
            clusters.subscription.covers(name)
                && current.get(name).is_some()
                && views().any(|view| view.get(name).is_none())
                && !predecessor.is_some_and(|old| old.refers_to(name))
        };
        if let Some(held) = held.filter(|held| is_cold(&held.awaited) && routing.refers_to(&held.awaited)) {
            return Some(Arc::clone(&held.awaited));
        }
        views().find_map(|view| {
            let step = current.step_from(view);
            if step.updated.len() > FEW_CLUSTERS {
                let mut all = routing.references().into_iter().flat_map(|clusters| clusters.iter());
                return all.find(|name| is_cold(name)).cloned();
            }
            let mut new = step.updated.iter().map(|cluster| cluster.name());
            new.find(|name| is_cold(name) && routing.refers_to(name)).cloned()
        })
    }

    /// A part of a route table for which a listener must wait: a client that routes by scopes already takes a listener into use
    /// without waiting for those that it does not have yet, and answers 404 meanwhile. One that does not waits by itself, from
    /// when it has the listener: then nothing is withheld.
    pub(super) fn unrouted(&self, listener: &Resource) -> Option<Arc<str>> {
        let parts = listener.references()?;
        let (scopes, routes) = (self.state(TypeUrl::ScopedRoute)?, self.state(TypeUrl::Route)?);
        scopes.acked.iter().find(|scope| routes.subscription.covers(scope.name()))?;
        let is_told = routes.in_flight.is_empty();
        let is_there = |part: &Arc<str>| {
            let is_asked = routes.subscription.covers(part) && !routes.resend.contains(part);
            scopes.acked.get(part).is_some() && is_asked && is_told && routes.acked.get(part).is_some()
        };
        parts.iter().find(|part| !is_there(part)).cloned()
    }

    /// Says of each resource that is gone from the snapshot whether the client must keep it for now. `is_unknown` is the
    /// answer of [`Order::unknown_until`].
    pub(super) fn keeps(&self, type_url: TypeUrl, is_unknown: bool) -> Keeps<'a> {
        // The connections of a listener that is being replaced or withdrawn are served until they end, and a scope that is taken
        // from an Envoy is taken from them, too. (A table is not: Envoy keeps what it has.)
        if type_url == TypeUrl::ScopedRoute {
            return Keeps::All;
        }
        if !self.aggregated {
            return Keeps::Nothing;
        }
        match type_url {
            TypeUrl::Cluster if is_unknown => Keeps::All,
            TypeUrl::Cluster => Keeps::Routed(self.outdated_routing()),
            TypeUrl::Endpoints => match self.state(TypeUrl::Cluster) {
                Some(clusters) => Keeps::EndpointsOf(clusters, self.snapshot.view(TypeUrl::Cluster)),
                None => Keeps::Nothing,
            },
            TypeUrl::Secret | TypeUrl::ExtensionConfig
                if [TypeUrl::Cluster, TypeUrl::Listener].into_iter().any(|user| self.is_behind(user)) =>
            {
                Keeps::All
            }
            _ => Keeps::Nothing,
        }
    }

    /// Until when the client may route by what it had on an earlier stream, whose content is not known here. It ends when
    /// its first routes are accepted.
    pub(super) fn unknown_until(&self, clusters: &TypeState, now: Instant) -> Option<Instant> {
        let until = clusters.returned_at.filter(|_| self.aggregated)? + self.route_hold;
        let is_known = |type_url| self.state(type_url).map(|state| state.is_known);
        let routes_are_known =
            is_known(TypeUrl::Route).unwrap_or(false) && is_known(TypeUrl::VirtualHost).unwrap_or(true);
        (!routes_are_known && now < until).then_some(until)
    }

    fn state(&self, type_url: TypeUrl) -> Option<&'a TypeState> {
        self.states[type_url.index()].as_deref().filter(|_| self.aggregated)
    }

    /// Whether the client may have something of this type that is not in the snapshot.
    fn is_behind(&self, type_url: TypeUrl) -> bool {
        self.state(type_url).is_some_and(|state| {
            let current = self.snapshot.view(type_url).version();
            state.views().any(|view| view.version() != current)
        })
    }

    /// Routing resources that the client may have and that differ from the snapshot's.
    fn outdated_routing(&self) -> Vec<Arc<Resource>> {
        let mut outdated = Vec::new();
        for type_url in ROUTING {
            let Some(state) = self.state(type_url) else { continue };
            let current = self.snapshot.view(type_url);
            for view in state.views().filter(|view| view.version() != current.version()) {
                let step = current.step_from(view);
                let names = step.updated.iter().map(|routing| routing.name()).chain(&step.removed);
                outdated.extend(
                    names.filter(|name| state.subscription.covers(name)).filter_map(|name| view.get(name)).cloned(),
                );
            }
        }
        outdated
    }
}

/// Which resources that are gone from the snapshot the client must keep for now.
pub(super) enum Keeps<'a> {
    /// None.
    Nothing,
    /// All, until what may refer to them is replaced or known (P62, P63).
    All,
    /// Clusters that one of these routing resources names (P58).
    Routed(Vec<Arc<Resource>>),
    /// Endpoints of clusters that the client still has, though they are gone from the snapshot too.
    EndpointsOf(&'a TypeState, &'a TypeView),
}

impl Keeps<'_> {
    /// Whether the client must keep this one.
    pub(super) fn keeps(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Routed(outdated) => outdated.iter().any(|routing| routing.refers_to(name)),
            Self::EndpointsOf(clusters, current) => {
                clusters.subscription.covers(name) && clusters.sent.get(name).is_some() && current.get(name).is_none()
            }
        }
    }
}
