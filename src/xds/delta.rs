//! The delta protocol's requests (`xds.md` §1.4).

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Instant,
};

use super::{
    DeltaRequest, Event, Nonce, Options, Refused, Scope,
    state::{Offered, TypeState},
    stream::{Protocol, Stream, machine},
};
use crate::snapshot::{Snapshot, TypeUrl};

/// A stream of the delta protocol.
pub struct DeltaStream(Stream);

machine!(DeltaStream, DeltaRequest);

impl DeltaStream {
    /// A stream on which nothing has happened.
    pub fn new(scope: Scope, options: Options) -> Self {
        Self(Stream::new(Protocol::Delta, scope, options))
    }

    fn request(&mut self, request: DeltaRequest, now: Instant) -> Result<(), Refused> {
        let Some(type_url) = self.0.type_of(&request.type_url)? else { return Ok(()) };
        let knows_clusters = self.0.states[TypeUrl::Cluster.index()].is_some();
        self.answer(type_url, &request.response_nonce, request.error, now);

        let share = |names: Vec<String>| names.iter().map(|name| self.0.share(type_url, name)).collect();
        let (subscribe, unsubscribe) = (share(request.subscribe), share(request.unsubscribe));
        let sets = Arc::clone(&self.0.options.names);
        let is_aggregated = self.0.is_aggregated();
        let state = self.0.state(type_url);
        let change = state.subscription.delta(&sets, type_url, subscribe, unsubscribe);
        if change.first && !request.initial_versions.is_empty() {
            // Envoy asks for clusters first, unless it was warming some when the connection broke. Then they wait for
            // endpoints that it may have already (P38).
            let distrusted = is_aggregated && type_url == TypeUrl::Endpoints && !knows_clusters;
            state.offered = Some(Offered { versions: request.initial_versions, distrusted });
            state.returned_at = Some(now);
        }
        // A client may wait for the first answer of a wildcard even if it is empty (P42). So it gets one even when it
        // has everything: it costs a few bytes, and no client can be left waiting by it.
        state.owes |= state.subscription.is_wildcard() && (change.first || change.widened.is_some());
        state.follow(&change);
        if change.widened.is_some() {
            state.ask_in_flight_again();
        }
        Ok(())
    }

    /// A nonce correlates an answer with its response and does nothing else: subscriptions count whatever it is (P31, P32).
    fn answer(&mut self, type_url: TypeUrl, nonce: &str, error: Option<super::ErrorDetail>, now: Instant) {
        if nonce.is_empty() && error.is_none() {
            return;
        }
        let nonce = Nonce::parse(nonce);
        match nonce.and_then(|nonce| self.0.state(type_url).position(nonce)) {
            Some(place) => self.0.on_answer(type_url, place, error, now),
            None if error.is_none() && nonce.is_some() && nonce == self.0.newest(type_url) => {}
            None => self.0.events.push(Event::StaleNonce { type_url }),
        }
    }
}

impl Stream {
    /// Compares what reconnecting clients have with the snapshot, now that there is one (`xds.md` P37).
    pub(super) fn settle_offers(&mut self) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        for type_url in TypeUrl::ALL {
            let Some(mut state) = self.states[type_url.index()].take() else { continue };
            if let Some(offered) = state.offered.take() {
                let event = self.settle(type_url, &mut state, &offered, &snapshot);
                self.events.push(event);
            }
            self.states[type_url.index()] = Some(state);
        }
    }

    fn settle(&mut self, type_url: TypeUrl, state: &mut TypeState, offered: &Offered, snapshot: &Snapshot) -> Event {
        let current = snapshot.view(type_url);
        let mut matched = HashSet::new();
        let mut gone = BTreeSet::new();
        let mut changed = BTreeSet::new();
        for (name, version) in offered.versions.iter().filter(|(name, _)| state.subscription.covers(name)) {
            match current.get(name) {
                Some(resource) if !offered.distrusted && resource.version().matches(version) => {
                    matched.insert(&**resource.name());
                }
                Some(resource) => drop(changed.insert(Arc::clone(resource.name()))),
                None => drop(gone.insert(self.share(type_url, name))),
            }
        }
        if type_url == TypeUrl::Endpoints {
            self.distrust_sent_clusters(&mut matched, &mut changed);
        }
        // All that it has is the snapshot, less what it lacks: so a client that has everything costs no memory.
        let subscription = &state.subscription;
        let is_lacking = |name: &Arc<str>| !matched.contains(&**name);
        let lacking: Vec<Arc<str>> = if subscription.is_wildcard() {
            current.iter().map(|resource| resource.name()).filter(|name| is_lacking(name)).cloned().collect()
        } else {
            subscription
                .names()
                .iter()
                .filter(|name| is_lacking(name) && current.get(name).is_some())
                .cloned()
                .collect()
        };
        let lacking: Vec<_> = lacking.into_iter().map(|name| (name, None)).collect();
        state.sent = super::state::with(current, &lacking);
        state.acked = Arc::clone(&state.sent);
        state.resend.retain(|name| !matched.contains(&**name));
        let event = Event::Reconnected { type_url, matched: matched.len(), resent: changed.len(), gone: gone.len() };
        match type_url {
            TypeUrl::Cluster if self.is_aggregated() => {
                state.base = Some(Arc::clone(&state.sent));
                for name in &gone {
                    state.resend.remove(name);
                }
                // Its routes may name them still: what they hold is not known here. What changed may be gone before it is sent.
                gone.append(&mut changed);
                state.gone = gone;
            }
            _ => {
                if self.options.removal_hold.is_zero() {
                    state.resend.append(&mut gone);
                } else {
                    state.resend.retain(|name| !gone.contains(name));
                    state.gone = gone;
                }
                state.resend.append(&mut changed);
            }
        }
        event
    }

    /// Clusters that were sent on this stream warm, and wait for endpoints even if the client has them (P38).
    fn distrust_sent_clusters(&mut self, matched: &mut HashSet<&str>, changed: &mut BTreeSet<Arc<str>>) {
        let Some(clusters) = self.states[TypeUrl::Cluster.index()].as_mut() else { return };
        let base = clusters.base.take().unwrap_or_default();
        matched.retain(|name| {
            let Some(sent) = clusters.sent.get(name) else { return true };
            let is_old = base.get(name).is_some_and(|known| known.version() == sent.version());
            if !is_old {
                changed.insert(Arc::clone(sent.name()));
            }
            is_old
        });
    }
}
