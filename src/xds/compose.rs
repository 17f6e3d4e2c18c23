//! Makes the next response of a type: what differs between the client and the snapshot, and what must be answered, less what
//! must wait.
//!
//! Costs what differs. Only a first subscription, and a full state that is not shared, cost all names.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use tailscale_gateway_proto::envoy::config::{endpoint::v3::ClusterLoadAssignment, route::v3::RouteConfiguration};

use super::{
    Event, Kind, Nonce, Release, Response,
    order::{Keeps, Order, ROUTING},
    state::{self, Contents, Held, InFlight, TypeState},
    stream::{Protocol, Stream},
};
use crate::snapshot::{Body, Resource, Step, TypeUrl, TypeView};

/// A load that is cut into pieces goes on without acknowledgements up to this many, for types whose acknowledgement may take
/// long, as clusters are acknowledged when they are warm, or whose pieces are many.
const PIECES_IN_FLIGHT: usize = 32;

/// What came of looking at a type.
pub(super) enum Outcome {
    /// Something to send, and the clusters in it.
    Send(Response, Vec<Arc<Resource>>),
    /// Nothing to send, but the state has changed: other types may have waited for that.
    Moved,
    /// Nothing.
    Idle,
}

impl Outcome {
    /// The same, when this other one came before.
    fn after(self, before: &Self) -> Self {
        match (self, before) {
            (Self::Idle, Self::Moved) => Self::Moved,
            (outcome, _) => outcome,
        }
    }
}

/// What a response will hold.
#[derive(Default)]
struct Draft {
    resources: Vec<Arc<Resource>>,
    removed: Vec<Arc<str>>,
    /// The size of the resources in bytes.
    len: usize,
    /// Whether anything in it is not a mere repetition.
    changes: bool,
    /// Whether its parts are exactly those of the step.
    is_step: bool,
    /// Whether there was more than fits in.
    cut: bool,
    /// Resources of the step that the client keeps as it has them.
    kept: Vec<(Arc<str>, Option<Arc<Resource>>)>,
    /// Names that were handled, when it is cut.
    handled: Vec<(Arc<str>, Option<Arc<Resource>>)>,
    held: BTreeSet<Arc<str>>,
    retained: BTreeSet<Arc<str>>,
}

/// One look at a type: everything it reads, and the events it causes.
struct Composer<'a> {
    protocol: Protocol,
    type_url: TypeUrl,
    order: Order<'a>,
    keeps: Keeps<'a>,
    current: &'a Arc<TypeView>,
    clusters: &'a TypeView,
    route_hold: std::time::Duration,
    max_chunk: usize,
    now: Instant,
    events: &'a mut Vec<Event>,
}

impl Stream {
    /// The next response of a type, if there is something to send now.
    pub(super) fn compose(&mut self, type_url: TypeUrl, now: Instant) -> Outcome {
        let Some(snapshot) = self.snapshot.clone() else { return Outcome::Idle };
        let Some(mut state) = self.states[type_url.index()].take() else { return Outcome::Idle };
        let current = snapshot.view(type_url);
        let mut outcome = Outcome::Idle;
        if self.may_send(type_url, &state) {
            let order = Order::new(&self.states, &snapshot, self.is_aggregated(), self.options.route_hold);
            let unknown_until = order.unknown_until(&state, now);
            let gone_until =
                state.returned_at.map(|since| since + self.options.removal_hold).filter(|until| now < *until);
            let may_go = gone_until.is_none() && (unknown_until.is_none() || type_url != TypeUrl::Cluster);
            if may_go && !state.gone.is_empty() {
                let gone = std::mem::take(&mut state.gone);
                let (subscription, sent) = (&state.subscription, &state.sent);
                let is_gone = |name: &Arc<str>| subscription.covers(name) && sent.get(name).is_none();
                state.resend.extend(gone.into_iter().filter(is_gone));
            }
            if state.sent.version() == current.version()
                && state.resend.is_empty()
                && !state.owes
                && state.held.is_empty()
                && state.parked.is_empty()
            {
                outcome = settle_level(&mut state, current, &mut self.events, type_url);
            } else {
                let mut composer = Composer {
                    protocol: self.protocol,
                    type_url,
                    keeps: order.keeps(type_url, unknown_until.is_some()),
                    order,
                    current,
                    clusters: snapshot.view(TypeUrl::Cluster),
                    route_hold: self.options.route_hold,
                    max_chunk: self.options.max_chunk,
                    now,
                    events: &mut self.events,
                };
                let (draft, step) = composer.draft(&mut state);
                outcome = composer.finish(&mut state, draft, &step, &mut self.next_nonce);
                if !matches!(outcome, Outcome::Send(..)) && state.try_suspects() {
                    let (draft, step) = composer.draft(&mut state);
                    outcome = composer.finish(&mut state, draft, &step, &mut self.next_nonce).after(&outcome);
                }
            }
            let waits = !state.gone.is_empty() || !state.retained.is_empty();
            let unknown_until = unknown_until.filter(|_| type_url == TypeUrl::Cluster && waits);
            state.keeps_until = gone_until.filter(|_| !state.gone.is_empty()).into_iter().chain(unknown_until).min();
        }
        self.states[type_url.index()] = Some(state);
        if let Outcome::Send(_, clusters) = &outcome {
            self.owes_endpoints &= type_url != TypeUrl::Endpoints;
            self.tell_endpoints_again(clusters, snapshot.view(TypeUrl::Endpoints));
        }
        outcome
    }

    /// Whether the type has room for another response (`xds.md` P70).
    pub(super) fn may_send(&self, type_url: TypeUrl, state: &TypeState) -> bool {
        let limit = match (type_url, self.protocol) {
            (TypeUrl::Cluster | TypeUrl::Secret, _) if state.loading => PIECES_IN_FLIGHT,
            (TypeUrl::Cluster, _) | (TypeUrl::Endpoints, Protocol::Delta) => 2,
            _ => 1,
        };
        state.in_flight.len() < limit
    }

    /// Envoy warms a cluster that it is sent, and waits for its endpoints without asking for them if it knows them already
    /// (`xds.md` P38, P59): whatever clusters were just sent, their endpoints are sent again.
    fn tell_endpoints_again(&mut self, clusters: &[Arc<Resource>], view: &TypeView) {
        let Some(endpoints) = self.states[TypeUrl::Endpoints.index()].as_mut() else { return };
        let subscription = &endpoints.subscription;
        let told = clusters.iter().map(|cluster| cluster.name()).filter(|name| {
            subscription.names().contains(name) || subscription.is_wildcard() && view.get(name).is_some()
        });
        endpoints.resend.extend(told.inspect(|_| self.owes_endpoints = true).cloned());
    }
}

/// The client has everything: what it accepted is what it was sent.
fn settle_level(state: &mut TypeState, current: &Arc<TypeView>, events: &mut Vec<Event>, type_url: TypeUrl) -> Outcome {
    for name in std::mem::take(&mut state.retained) {
        events.push(Event::RemovalReleased { type_url, name });
    }
    state.sent = Arc::clone(current);
    state.loading = false;
    accept_silence(state)
}

/// With nothing in flight, the client has accepted all that concerns it.
fn accept_silence(state: &mut TypeState) -> Outcome {
    if !state.in_flight.is_empty() {
        return Outcome::Idle;
    }
    let is_known = state.is_known || state.held.is_empty();
    let was_doubted = !state.doubt.is_empty();
    state.clear_doubt();
    let moved = state.acked.version() != state.sent.version()
        || was_doubted && state.doubt.is_empty()
        || is_known != state.is_known;
    state.is_known = is_known;
    state.acked = Arc::clone(&state.sent);
    if moved { Outcome::Moved } else { Outcome::Idle }
}

impl Composer<'_> {
    /// Collects what to send, and says what differs from the client.
    fn draft(&mut self, state: &mut TypeState) -> (Draft, Arc<Step>) {
        let current = self.current;
        let resend = &mut state.resend;
        state.parked.retain(|name, parked| {
            let stays = current.get(name).is_some_and(|now| now.version() == parked.version);
            // What the client may have or not is said again, also when it is gone.
            if !stays && parked.is_unsure {
                resend.insert(Arc::clone(name));
            }
            stays
        });
        let step =
            if state.sent.version() == current.version() { Arc::default() } else { current.step_from(&state.sent) };
        let mut draft = Draft { is_step: true, ..Draft::default() };
        for resource in &step.updated {
            self.update(state, &mut draft, resource);
        }
        for name in &step.removed {
            self.remove(state, &mut draft, name);
        }
        // Answers that nothing differs for.
        let in_step = |name: &Arc<str>| {
            step.updated.binary_search_by(|resource| resource.name().cmp(name)).is_ok()
                || step.removed.binary_search(name).is_ok()
        };
        let mut later = BTreeSet::new();
        for name in std::mem::take(&mut state.resend) {
            if !state.subscription.covers(&name) {
                continue;
            }
            if in_step(&name) {
                later.insert(name);
                continue;
            }
            match current.get(&name) {
                Some(resource) if !self.fits(&draft, resource) => {
                    draft.cut = true;
                    later.insert(name);
                }
                Some(resource) => draft.answer(Arc::clone(resource)),
                None => self.answer_missing(&mut draft, name),
            }
        }
        state.resend.append(&mut later);
        (draft, step)
    }

    /// A resource that is new or has new content.
    fn update(&mut self, state: &mut TypeState, draft: &mut Draft, resource: &Arc<Resource>) {
        let name = resource.name();
        let old = state.sent.get(name);
        if !state.subscription.covers(name) {
            draft.is_step = false;
        } else if state.parked.get(name).is_some_and(|parked| parked.bars(resource.version())) {
            draft.keep(name, old.cloned());
            if state.resend.remove(name) {
                match old {
                    Some(good) => draft.answer(Arc::clone(good)),
                    None => self.answer_missing(draft, Arc::clone(name)),
                }
            }
        } else if !self.fits(draft, resource) {
            draft.cut = true;
        } else if self.holds(&mut state.held, resource, old) {
            draft.held.insert(Arc::clone(name));
            draft.keep(name, old.cloned());
        } else {
            state.resend.remove(name);
            draft.handled.push((Arc::clone(name), Some(Arc::clone(resource))));
            draft.put(Arc::clone(resource));
            draft.changes = true;
        }
    }

    /// A resource that is gone from the snapshot and that the client may have.
    fn remove(&mut self, state: &mut TypeState, draft: &mut Draft, name: &Arc<str>) {
        let old = state.sent.get(name).cloned();
        if !state.subscription.covers(name) {
            draft.is_step = false;
            return;
        }
        let is_asked = state.resend.remove(name);
        if self.keeps.keeps(name) {
            draft.retained.insert(Arc::clone(name));
            draft.keep(name, old.clone());
            if let Some(kept) = old.filter(|_| is_asked) {
                draft.answer(kept);
            }
            return;
        }
        draft.handled.push((Arc::clone(name), None));
        draft.changes = true;
        // Envoy keeps the endpoints of a live cluster when they are removed (P40).
        let is_drained = self.type_url == TypeUrl::Endpoints && self.clusters.get(name).is_some();
        match self.protocol {
            Protocol::Delta if !is_drained => draft.removed.push(Arc::clone(name)),
            _ if is_drained || is_asked => {
                draft.is_step = false;
                draft.resources.extend(empty(self.type_url, name));
            }
            _ => draft.is_step = false,
        }
    }

    /// Answers for a name that does not exist. In the delta protocol that is said, and a full state says it by leaving the name
    /// out; else it can not be said, so an empty resource takes the place of one that the client would wait for (`xds.md` P18,
    /// P34).
    fn answer_missing(&self, draft: &mut Draft, name: Arc<str>) {
        draft.is_step = false;
        match self.protocol {
            Protocol::Delta => draft.removed.push(name),
            Protocol::Sotw if self.is_full_state() => draft.changes = true,
            Protocol::Sotw => draft.resources.extend(empty(self.type_url, &name)),
        }
    }

    /// Whether the response has room. The first resource always has: it can not be split. A Secret has a response of its own: an
    /// Envoy does not say which one it refuses, and takes what it refused without a look when it comes a second time (P12).
    fn fits(&self, draft: &Draft, resource: &Resource) -> bool {
        let has_room = self.type_url != TypeUrl::Secret && draft.len + resource.delta_len() <= self.max_chunk;
        self.is_full_state() || draft.resources.is_empty() || has_room
    }

    fn is_full_state(&self) -> bool {
        self.protocol == Protocol::Sotw && self.type_url.sotw_is_full_state()
    }

    /// Whether a routing resource or a listener must wait. Notes since when, and lets it go in time.
    fn holds(
        &mut self,
        waiting: &mut std::collections::BTreeMap<Arc<str>, Held>,
        resource: &Resource,
        old: Option<&Arc<Resource>>,
    ) -> bool {
        let (type_url, name, now) = (self.type_url, resource.name(), self.now);
        let held = waiting.get(name);
        let awaited = match type_url {
            TypeUrl::Listener => self.order.unrouted(resource),
            _ if ROUTING.contains(&type_url) => self.order.unwarmed(resource, old.map(Arc::as_ref), held),
            _ => return false,
        };
        let release = match awaited {
            Some(awaited) => match held.map(|held| now.saturating_duration_since(held.since)) {
                None => {
                    self.events.push(Event::UpdateHeld {
                        type_url,
                        name: Arc::clone(name),
                        awaited: Arc::clone(&awaited),
                    });
                    waiting.insert(Arc::clone(name), Held { since: now, awaited });
                    return true;
                }
                Some(waited) if waited < self.route_hold => {
                    waiting.insert(Arc::clone(name), Held { since: now - waited, awaited });
                    return true;
                }
                Some(_) => Release::TimedOut,
            },
            None => Release::Ready,
        };
        if let Some(held) = waiting.remove(name) {
            let waited = now.saturating_duration_since(held.since);
            self.events.push(Event::UpdateReleased { type_url, name: Arc::clone(name), release, waited });
        }
        false
    }

    /// Notes in the state what is withheld, and makes the response.
    fn finish(&mut self, state: &mut TypeState, draft: Draft, step: &Arc<Step>, nonce: &mut u64) -> Outcome {
        let after = if draft.cut {
            state::with(&state.sent, &draft.handled)
        } else {
            self.note_withheld(state, &draft);
            state::with(self.current, &draft.kept)
        };
        let is_owed = state.owes && (draft.held.is_empty() || !draft.is_empty());
        if draft.is_empty() && !is_owed && !(draft.changes && self.is_full_state()) {
            state.sent = after;
            return accept_silence(state);
        }
        let kind = match state.nonce {
            None => Kind::Initial,
            Some(_) if draft.changes => Kind::Update,
            Some(_) => Kind::Resend,
        };
        let mut told = Vec::new();
        if self.type_url == TypeUrl::Cluster {
            told.clone_from(&draft.resources);
            // A full state takes back what the client may have applied although it refused it.
            let unsure = state.parked.iter().filter(|(_, parked)| parked.is_unsure && self.is_full_state());
            told.extend(unsure.filter_map(|(name, _)| after.get(name)).cloned());
        }
        let is_step = draft.is_step && !draft.cut;
        let mut counts = (draft.resources.len(), draft.removed.len());
        let (body, contents) = match self.protocol {
            Protocol::Sotw if self.is_full_state() => {
                let (body, count) = full_body(state, &after);
                counts = (count, 0);
                (body, Contents::Full)
            }
            Protocol::Delta if is_step => (step.delta_body(), Contents::Step(Arc::clone(step))),
            Protocol::Sotw if is_step && draft.resources.len() == self.current.len() => {
                (self.current.sotw_body(), Contents::Step(Arc::clone(step)))
            }
            protocol => {
                let resources = draft.resources.iter().map(Arc::as_ref);
                let body = match protocol {
                    Protocol::Delta => Body::delta(resources, draft.removed.iter().map(Arc::as_ref)),
                    Protocol::Sotw => Body::sotw(resources),
                };
                (Arc::new(body), Contents::List(draft.resources, draft.removed))
            }
        };
        let response = Response {
            type_url: self.type_url,
            nonce: Nonce(*nonce),
            version: after.version(),
            body,
            kind,
            resources: counts.0,
            removed: counts.1,
        };
        *nonce += 1;
        state.nonce = Some(response.nonce);
        state.owes = false;
        state.loading = draft.cut;
        state.in_flight.push(InFlight {
            nonce: response.nonce,
            sent_at: self.now,
            after: Arc::clone(&after),
            contents,
            known_bad: Vec::new(),
        });
        state.sent = after;
        Outcome::Send(response, told)
    }

    /// After a look at everything: what is withheld now, and what no longer is.
    fn note_withheld(&mut self, state: &mut TypeState, draft: &Draft) {
        let (type_url, now) = (self.type_url, self.now);
        let events = &mut *self.events;
        state.held.retain(|name, held| {
            let stays = draft.held.contains(name);
            if !stays {
                let (name, waited) = (Arc::clone(name), now.saturating_duration_since(held.since));
                events.push(Event::UpdateReleased { type_url, name, release: Release::Dropped, waited });
            }
            stays
        });
        for name in state.retained.difference(&draft.retained) {
            events.push(Event::RemovalReleased { type_url, name: Arc::clone(name) });
        }
        for name in draft.retained.difference(&state.retained) {
            events.push(Event::RemovalHeld { type_url, name: Arc::clone(name) });
        }
        state.retained.clone_from(&draft.retained);
    }
}

impl Draft {
    fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }

    fn put(&mut self, resource: Arc<Resource>) {
        self.len += resource.delta_len();
        self.resources.push(resource);
    }

    /// Puts a resource that the client should have already.
    fn answer(&mut self, resource: Arc<Resource>) {
        self.is_step = false;
        self.put(resource);
    }

    /// Leaves a resource of the step at the client as it is there.
    fn keep(&mut self, name: &Arc<str>, old: Option<Arc<Resource>>) {
        self.is_step = false;
        self.kept.push((Arc::clone(name), old));
    }
}

/// The resources of a full state, and how many.
fn full_body(state: &TypeState, after: &TypeView) -> (Arc<Body>, usize) {
    if state.subscription.is_wildcard() {
        return (after.sotw_body(), after.len());
    }
    let resources: Vec<&Resource> =
        state.subscription.names().iter().filter_map(|name| after.get(name)).map(Arc::as_ref).collect();
    (Arc::new(Body::sotw(resources.iter().copied())), resources.len())
}

/// What stands for a resource that does not exist, of the types that a client would else wait for in vain.
fn empty(type_url: TypeUrl, name: &Arc<str>) -> Option<Arc<Resource>> {
    let text = || name.to_string();
    let resource = match type_url {
        TypeUrl::Endpoints => {
            let message = ClusterLoadAssignment { cluster_name: text(), ..Default::default() };
            Resource::new(type_url, Arc::clone(name), &message)
        }
        TypeUrl::Route => {
            let message = RouteConfiguration { name: text(), ..Default::default() };
            Resource::new(type_url, Arc::clone(name), &message)
        }
        _ => return None,
    };
    Some(Arc::new(resource))
}
