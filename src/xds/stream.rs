//! The machine of one stream.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{DeltaRequest, Event, Nonce, Options, Refused, Response, Scope, SotwRequest};
use crate::snapshot::{Snapshot, TypeUrl, Version};

/// What the transport does with a stream, in either protocol.
pub trait Machine {
    /// The protocol's request.
    type Request;

    /// Takes a request.
    ///
    /// # Errors
    ///
    /// The stream must end with `INVALID_ARGUMENT`.
    fn on_request(&mut self, request: Self::Request, now: Instant) -> Result<(), Refused>;

    /// Takes the newest snapshot. Nothing is answered before the first one.
    fn on_snapshot(&mut self, snapshot: &Arc<Snapshot>, now: Instant);

    /// The next response, if there is one to send now. Ask only when it can be written: what changes until then is part of
    /// it (`xds.md` P71), and ask again after each one until there is none.
    fn next_response(&mut self, now: Instant) -> Option<Response>;

    /// When [`Machine::next_response`] may have something to send although nothing else happens.
    fn deadline(&self) -> Option<Instant>;

    /// What happened since this was last asked, in order.
    fn take_events(&mut self) -> Vec<Event>;

    /// The state of each type that the client asked for, in sending order.
    fn status(&self) -> Vec<TypeStatus>;

    /// The types that the client asked for and that are not served.
    fn unknown_types(&self) -> Vec<String>;

    /// The state of each resource of a type at the client, by name.
    fn resources(&self, type_url: TypeUrl) -> Vec<ResourceStatus>;
}

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
    /// Resources that wait for their clusters.
    pub held: Vec<Arc<str>>,
    /// Resources that are gone but still referred to at the client.
    pub retained: Vec<Arc<str>>,
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

/// A stream of the delta protocol.
pub struct DeltaStream {}

/// A stream of the state-of-the-world protocol.
pub struct SotwStream {}

impl DeltaStream {
    /// A stream on which nothing has happened.
    pub fn new(_scope: Scope, _options: Options) -> Self {
        Self {}
    }
}

impl SotwStream {
    /// A stream on which nothing has happened.
    pub fn new(_scope: Scope, _options: Options) -> Self {
        Self {}
    }
}

macro_rules! skeleton {
    ($stream:ty, $request:ty) => {
        impl Machine for $stream {
            type Request = $request;
            fn on_request(&mut self, _: $request, _: Instant) -> Result<(), Refused> {
                Ok(())
            }
            fn on_snapshot(&mut self, _: &Arc<Snapshot>, _: Instant) {}
            fn next_response(&mut self, _: Instant) -> Option<Response> {
                None
            }
            fn deadline(&self) -> Option<Instant> {
                None
            }
            fn take_events(&mut self) -> Vec<Event> {
                Vec::new()
            }
            fn status(&self) -> Vec<TypeStatus> {
                Vec::new()
            }
            fn unknown_types(&self) -> Vec<String> {
                Vec::new()
            }
            fn resources(&self, _: TypeUrl) -> Vec<ResourceStatus> {
                Vec::new()
            }
        }
    };
}
skeleton!(DeltaStream, DeltaRequest);
skeleton!(SotwStream, SotwRequest);
