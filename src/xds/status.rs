//! What the admin pages and CSDS say about a stream. Looks, and changes nothing.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    Nonce,
    state::{Parked, TypeState, Verdict},
    stream::Stream,
};
use crate::snapshot::{TypeUrl, TypeView, Version};

/// A type's state on a stream.
#[derive(Clone, Debug)]
pub struct TypeStatus {
    /// The type.
    pub type_url: TypeUrl,
    /// Whether everything is subscribed.
    pub wildcard: bool,
    /// How many names are subscribed one by one.
    pub subscribed: usize,
    /// How many resources the client has once it applied everything sent.
    pub resources: usize,
    /// The version of what was sent, once something was.
    pub sent: Option<Version>,
    /// The newest response.
    pub nonce: Option<Nonce>,
    /// The version of what was accepted, once something was.
    pub acked: Option<Version>,
    /// How many responses wait for an answer.
    pub in_flight: usize,
    /// When the oldest of them was sent.
    pub waiting_since: Option<Instant>,
    /// The last refusal.
    pub last_nack: Option<LastNack>,
    /// Refused resources, with the version that is not sent again.
    pub parked: BTreeMap<Arc<str>, Version>,
    /// Resources of a refused response that are sent again in parts, to find out which of them is to blame.
    pub suspects: Vec<Arc<str>>,
    /// Resources that wait for their clusters.
    pub held: Vec<Arc<str>>,
    /// Resources that are gone but still referred to at the client.
    pub retained: Vec<Arc<str>>,
}

/// What is under way on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Responses that wait for an answer.
    pub in_flight: usize,
    /// Resources that wait for their clusters.
    pub held: usize,
    /// Resources that are gone but still referred to at the client.
    pub retained: usize,
    /// Refused resources, by [`TypeUrl::index`].
    pub parked: [usize; TypeUrl::COUNT],
}

/// How far a client agrees with what it is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// What it said when it refused something that is still served as it was.
    pub refusal: Option<String>,
    /// Whether something that concerns it has not been sent or not been answered.
    pub is_pending: bool,
    /// Whether it has accepted listeners.
    pub has_listeners: bool,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastNack {
    /// The client's status code.
    pub code: i32,
    /// The client's text.
    pub message: String,
    /// When it came.
    pub at: Instant,
}

/// A resource's state at the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceStatus {
    /// The resource.
    pub name: Arc<str>,
    /// The version that the client has, once it applied everything sent.
    pub version: Option<Version>,
    /// How it stands against the current snapshot.
    pub state: ClientState,
}

/// How a resource at the client stands against the current snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientState {
    /// Sent as it is, and accepted (CSDS: `SYNCED`).
    Acked,
    /// Sent as it is, not yet accepted (CSDS: `STALE`).
    Sent,
    /// Not sent as it is yet (CSDS: `NOT_SENT` or `STALE`).
    Behind,
    /// Refused as it is (CSDS: `ERROR`).
    Refused,
    /// Subscribed, but there is no such resource.
    Missing,
}

impl Stream {
    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (state, parked) in self.states.iter().zip(&mut summary.parked) {
            if let Some(state) = state {
                summary.in_flight += state.in_flight.len();
                summary.held += state.held.len();
                summary.retained += state.retained.len();
                *parked = state.parked.values().filter(|parked| parked.verdict == Verdict::Guilty).count();
            }
        }
        summary
    }

    pub(super) fn agreement(&self) -> Agreement {
        let mut agreement = Agreement::default();
        for (type_url, state) in TypeUrl::ALL.into_iter().zip(&self.states) {
            let Some(state) = state else { continue };
            let current = self.snapshot.as_ref().map(|snapshot| snapshot.view(type_url));
            let is_refused = |name: &str, parked: &Parked| {
                current.and_then(|view| view.get(name)).is_some_and(|now| parked.condemns(now.version()))
            };
            if let Some(nack) = &state.last_nack
                && state.parked.iter().any(|(name, parked)| is_refused(name, parked))
            {
                agreement.refusal.get_or_insert_with(|| nack.message.clone());
            }
            agreement.is_pending |= !state.in_flight.is_empty()
                || state.loading
                || !state.held.is_empty()
                || state.parked.values().any(|parked| parked.verdict != Verdict::Guilty)
                || state.sent.version() != state.acked.version();
            agreement.has_listeners |= type_url == TypeUrl::Listener && state.was_acked;
        }
        agreement
    }

    pub(super) fn status(&self) -> Vec<TypeStatus> {
        let known = TypeUrl::ALL.into_iter().zip(&self.states);
        known.filter_map(|(type_url, state)| Some(self.type_status(type_url, state.as_deref()?))).collect()
    }

    fn type_status(&self, type_url: TypeUrl, state: &TypeState) -> TypeStatus {
        let subscription = &state.subscription;
        let has = |name: &&Arc<str>| state.sent.get(name).is_some();
        let current = self.snapshot.as_ref().map(|snapshot| snapshot.view(type_url));
        let is_current = |name: &str, parked: &Parked| {
            current.and_then(|view| view.get(name)).is_some_and(|now| now.version() == parked.version)
        };
        let parked = || state.parked.iter().filter(|(name, parked)| is_current(name, parked));
        TypeStatus {
            type_url,
            wildcard: subscription.is_wildcard(),
            subscribed: subscription.names().len(),
            resources: match subscription.is_wildcard() {
                true => state.sent.len(),
                false => subscription.names().iter().filter(has).count(),
            },
            sent: state.nonce.map(|_| state.sent.version()),
            nonce: state.nonce,
            acked: state.was_acked.then(|| state.acked.version()),
            in_flight: state.in_flight.len(),
            waiting_since: state.in_flight.first().map(|sent| sent.sent_at),
            last_nack: state.last_nack.clone(),
            parked: parked()
                .filter(|(_, parked)| parked.verdict == Verdict::Guilty)
                .map(|(name, parked)| (Arc::clone(name), parked.version))
                .collect(),
            suspects: parked()
                .filter(|(_, parked)| parked.verdict != Verdict::Guilty)
                .map(|(name, _)| Arc::clone(name))
                .collect(),
            held: state.held.keys().cloned().collect(),
            retained: state.retained.union(&state.gone).cloned().collect(),
        }
    }

    pub(super) fn resources(&self, type_url: TypeUrl) -> Vec<ResourceStatus> {
        let (Some(state), Some(snapshot)) = (&self.states[type_url.index()], &self.snapshot) else {
            return Vec::new();
        };
        let current = snapshot.view(type_url);
        let names: Vec<&Arc<str>> = if state.subscription.is_wildcard() {
            let mut names: Vec<_> = current.iter().chain(state.sent.iter()).map(|resource| resource.name()).collect();
            names.extend(state.subscription.names().iter());
            names.sort_unstable();
            names.dedup();
            names
        } else {
            state.subscription.names().iter().collect()
        };
        names.into_iter().map(|name| resource_status(state, current, name)).collect()
    }
}

fn resource_status(state: &TypeState, current: &TypeView, name: &Arc<str>) -> ResourceStatus {
    let version_in = |view: &TypeView| view.get(name).map(|resource| resource.version());
    let (wanted, sent) = (version_in(current), version_in(&state.sent));
    let client_state = match (wanted, sent) {
        (None, None) => ClientState::Missing,
        (Some(wanted), _) if state.parked.get(name).is_some_and(|parked| parked.condemns(wanted)) => {
            ClientState::Refused
        }
        (wanted, sent) if wanted != sent => ClientState::Behind,
        _ if version_in(&state.acked) == sent => ClientState::Acked,
        _ => ClientState::Sent,
    };
    ResourceStatus { name: Arc::clone(name), version: sent, state: client_state }
}
