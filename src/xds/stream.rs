//! One stream, whatever its protocol: the states of its types, and the order in which they are served.

use std::{sync::Arc, time::Instant};

use super::{
    ErrorDetail, Event, Nonce, Options, Refused, Response, Scope,
    compose::Outcome,
    order::States,
    state::{Refusal, TypeState},
};
use crate::snapshot::{Snapshot, TypeUrl};

/// What the transport does with a stream, in either protocol.
pub trait Machine {
    /// The protocol's request.
    type Request;

    /// Takes a request.
    ///
    /// # Errors
    ///
    /// The stream must end with `INVALID_ARGUMENT` and the text of the error.
    fn on_request(&mut self, request: Self::Request, now: Instant) -> Result<(), Refused>;

    /// Takes the newest snapshot. Nothing is answered before the first one (`xds.md` P77).
    fn on_snapshot(&mut self, snapshot: &Arc<Snapshot>, now: Instant);

    /// The next response, if there is one to send now. Ask only when it can be written: what changes until then is part of
    /// it (`xds.md` P71), and ask again after each one until there is none.
    fn next_response(&mut self, now: Instant) -> Option<Response>;

    /// When [`Machine::next_response`] may have something to send although nothing else happens. Ask after it had nothing.
    fn deadline(&self) -> Option<Instant>;

    /// What happened since this was last asked, in order.
    fn take_events(&mut self) -> Vec<Event>;

    /// The state of each type that the client asked for, in sending order.
    fn status(&self) -> Vec<super::TypeStatus>;

    /// What is under way, in a few numbers: cheap enough to be asked after every step.
    fn summary(&self) -> super::Summary;

    /// How far the client agrees with what it is served: as cheap as [`Self::summary`].
    fn agreement(&self) -> super::Agreement;

    /// The types that the client asked for and that are not served, the first few of them.
    fn unknown_types(&self) -> &[String];

    /// The state of each resource of a type at the client, by name.
    fn resources(&self, type_url: TypeUrl) -> Vec<super::ResourceStatus>;
}

/// The two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Delta,
    Sotw,
}

/// Unknown types are remembered up to this many: a client must not fill our memory with them.
const UNKNOWN_REMEMBERED: usize = 32;

/// A stream.
pub(super) struct Stream {
    pub(super) protocol: Protocol,
    scope: Scope,
    pub(super) options: Options,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) states: States,
    unknown: Vec<String>,
    pub(super) next_nonce: u64,
    pub(super) events: Vec<Event>,
    /// Whether clusters were sent whose endpoints must follow: those go before more clusters.
    pub(super) owes_endpoints: bool,
    /// Whether nothing but time has happened since there was nothing to send.
    is_quiet: bool,
}

impl Stream {
    pub(super) fn new(protocol: Protocol, scope: Scope, options: Options) -> Self {
        Self {
            protocol,
            scope,
            options,
            snapshot: None,
            states: Default::default(),
            unknown: Vec::new(),
            next_nonce: 1,
            events: Vec::new(),
            owes_endpoints: false,
            is_quiet: false,
        }
    }

    /// Whether all types are on this stream.
    pub(super) fn is_aggregated(&self) -> bool {
        self.scope == Scope::Aggregated
    }

    /// The type of a request; nothing for one that is not served (`xds.md` P02).
    pub(super) fn type_of(&mut self, url: &str) -> Result<Option<TypeUrl>, Refused> {
        match self.scope {
            Scope::Only(own) if url.is_empty() || url == own.as_str() => Ok(Some(own)),
            Scope::Only(own) => Err(Refused(format!("this stream is for {}, not for {url:?}", own.as_str()))),
            Scope::Aggregated if url.is_empty() => Err(Refused("type_url is required on an aggregated stream".into())),
            Scope::Aggregated => {
                let known = TypeUrl::parse(url);
                let is_new = known.is_none() && !self.unknown.iter().any(|seen| seen == url);
                if is_new && self.unknown.len() < UNKNOWN_REMEMBERED {
                    self.unknown.push(url.to_owned());
                    self.events.push(Event::UnknownType { type_url: url.to_owned() });
                }
                Ok(known)
            }
        }
    }

    /// The state of a type, from its first request on.
    pub(super) fn state(&mut self, type_url: TypeUrl) -> &mut TypeState {
        self.is_quiet = false;
        self.states[type_url.index()].get_or_insert_with(|| Box::new(TypeState::new(&self.options.names)))
    }

    /// The shared form of a name: the snapshot's own, if the resource exists.
    pub(super) fn share(&self, type_url: TypeUrl, name: &str) -> Arc<str> {
        let known = self.snapshot.as_ref().and_then(|snapshot| snapshot.view(type_url).get(name));
        known.map_or_else(|| name.into(), |resource| Arc::clone(resource.name()))
    }

    /// Takes the client's answer to the response in this place.
    pub(super) fn on_answer(&mut self, type_url: TypeUrl, place: usize, error: Option<ErrorDetail>, now: Instant) {
        let protocol = self.protocol;
        let state = self.state(type_url);
        let event = match error {
            None => Event::Ack { type_url, latency: state.on_ack(place, now) },
            Some(error) => {
                let (code, message) = (error.code, error.message.clone());
                let refusal = state.on_nack(protocol, place, error, now);
                let Refusal { latency, parked, suspects } = refusal;
                Event::Nack { type_url, latency, code, message, parked, suspects }
            }
        };
        self.events.push(event);
    }

    pub(super) fn on_snapshot(&mut self, snapshot: &Arc<Snapshot>) {
        self.snapshot = Some(Arc::clone(snapshot));
        self.is_quiet = false;
    }

    pub(super) fn next_response(&mut self, now: Instant) -> Option<Response> {
        self.snapshot.as_ref()?;
        if self.is_quiet && self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.settle_offers();
        loop {
            let mut has_moved = false;
            let first = self.owes_endpoints.then_some(TypeUrl::Endpoints);
            for type_url in first.into_iter().chain(TypeUrl::ALL) {
                match self.compose(type_url, now) {
                    Outcome::Send(response, _) => return Some(response),
                    Outcome::Moved => has_moved = true,
                    Outcome::Idle => {}
                }
            }
            if !has_moved {
                self.is_quiet = true;
                return None;
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.snapshot.as_ref()?;
        let sendable =
            |type_url: TypeUrl| self.states[type_url.index()].as_deref().filter(|state| self.may_send(type_url, state));
        let sendable = || TypeUrl::ALL.into_iter().filter_map(sendable);
        let held = sendable().flat_map(|state| state.held.values().map(|held| held.since));
        let kept = sendable().filter_map(|state| state.keeps_until);
        held.map(|since| since + self.options.route_hold).chain(kept).min()
    }

    pub(super) fn unknown_types(&self) -> &[String] {
        &self.unknown
    }

    /// The place of the newest response of a type, if it waits for an answer.
    pub(super) fn newest(&self, type_url: TypeUrl) -> Option<Nonce> {
        self.states[type_url.index()].as_ref().and_then(|state| state.nonce)
    }
}

/// A machine is its stream, but for its requests.
macro_rules! machine {
    ($machine:ty, $request:ty) => {
        impl $crate::xds::Machine for $machine {
            type Request = $request;

            fn on_request(&mut self, request: $request, now: std::time::Instant) -> Result<(), $crate::xds::Refused> {
                self.request(request, now)
            }

            fn on_snapshot(&mut self, snapshot: &std::sync::Arc<$crate::snapshot::Snapshot>, _now: std::time::Instant) {
                self.0.on_snapshot(snapshot);
            }

            fn next_response(&mut self, now: std::time::Instant) -> Option<$crate::xds::Response> {
                self.0.next_response(now)
            }

            fn deadline(&self) -> Option<std::time::Instant> {
                self.0.deadline()
            }

            fn take_events(&mut self) -> Vec<$crate::xds::Event> {
                std::mem::take(&mut self.0.events)
            }

            fn status(&self) -> Vec<$crate::xds::TypeStatus> {
                self.0.status()
            }

            fn summary(&self) -> $crate::xds::Summary {
                self.0.summary()
            }

            fn agreement(&self) -> $crate::xds::Agreement {
                self.0.agreement()
            }

            fn unknown_types(&self) -> &[String] {
                self.0.unknown_types()
            }

            fn resources(&self, type_url: $crate::snapshot::TypeUrl) -> Vec<$crate::xds::ResourceStatus> {
                self.0.resources(type_url)
            }
        }
    };
}
pub(super) use machine;
