//! Who is connected: one entry per open stream, for the admin pages, CSDS and the watch over slow readers.
//!
//! Never in a stream's way: the list is locked when a stream comes, goes, or someone looks; a stream's machine has a lock of
//! its own. Never copies a stream's state: who looks asks the machine.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Agreement, Machine, NodeInfo, ResourceStatus, Scope, Summary, TypeStatus, wire::Protocol};
use crate::{
    metrics::Metrics,
    model::{ObjectName, Programmed},
    snapshot::TypeUrl,
};

/// The streams that are open.
#[derive(Default)]
pub struct Registry {
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    next: AtomicU64,
    /// A stream came or went, or a client answered.
    news: Notify,
}

/// An open stream, whatever its protocol.
pub type Client = Stream<dyn Inspect + Send>;

impl Registry {
    /// The open streams, in the order in which they came.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// What the connected Envoys of a Gateway say about its configuration. One that is still fetching counts as one that has not
    /// acknowledged yet.
    pub fn programmed(&self, gateway: &ObjectName) -> Programmed {
        let (mut settled, mut pending) = (false, false);
        for client in self.clients().iter().filter(|client| client.node.gateway == *gateway) {
            let agreement = client.machine().agreement();
            if let Some(words) = agreement.refusal {
                return Programmed::Refused(format!("{}: {words}", client.node.id));
            }
            pending |= agreement.is_pending;
            settled |= agreement.has_listeners;
        }
        if settled && !pending { Programmed::Acknowledged } else { Programmed::Pending }
    }

    /// Waits until a stream comes or goes, or a client answers. For one reader: each piece of news is told once.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    pub(super) fn notify(&self) {
        self.news.notify_one();
    }

    /// Sets the gauges that are known to the streams alone: what is parked and what waits to be withdrawn.
    pub fn measure(&self, metrics: &Metrics) {
        let mut parked = [0; TypeUrl::COUNT];
        let mut retained = 0;
        for client in self.clients() {
            let summary = client.machine().summary();
            parked.iter_mut().zip(summary.parked).for_each(|(sum, of_client)| *sum += of_client);
            retained += summary.retained;
        }
        for of in TypeUrl::ALL {
            metrics.parked(of, parked[of.index()]);
        }
        metrics.pending_removals(retained);
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn insert(&self, client: Arc<Client>) {
        self.lock().insert(client.id, client);
        self.notify();
    }

    pub(super) fn remove(&self, id: u64) {
        self.lock().remove(&id);
        self.notify();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.clients.lock().expect("nothing panics while it holds this lock")
    }
}

/// An open stream.
pub struct Stream<M: ?Sized> {
    /// Its number in this process: 1, 2, 3…
    pub id: u64,
    /// The Envoy at the other end.
    pub node: NodeInfo,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// The types it may carry.
    pub scope: Scope,
    /// When its first request came.
    pub since: SystemTime,
    /// Where it comes from.
    pub peer: SocketAddr,
    pub(super) started: Instant,
    pub(super) close: CancellationToken,
    /// Milliseconds from `started` to the moment at which the transport was given a piece, plus one; 0 once it asked for the
    /// next.
    handed_out: AtomicU64,
    pub(super) machine: Mutex<M>,
}

impl<M> Stream<M> {
    pub(super) fn new(
        id: u64,
        node: NodeInfo,
        protocol: Protocol,
        scope: Scope,
        (peer, close): (SocketAddr, CancellationToken),
        machine: M,
    ) -> Self {
        Self {
            id,
            node,
            protocol,
            scope,
            since: SystemTime::now(),
            peer,
            started: Instant::now(),
            close,
            handed_out: AtomicU64::new(0),
            machine: Mutex::new(machine),
        }
    }
}

impl<M: ?Sized> Stream<M> {
    pub(super) fn machine(&self) -> MutexGuard<'_, M> {
        self.machine.lock().expect("a machine that panicked has ended its stream")
    }

    /// The transport was given a piece.
    pub(super) fn mark_handed_out(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.handed_out.store(millis + 1, Ordering::Relaxed);
    }

    /// The transport asked for the next piece: it has room.
    pub(super) fn mark_room(&self) {
        self.handed_out.store(0, Ordering::Relaxed);
    }

    /// For how long the transport has not been able to write what it was given; nothing when all is written.
    pub fn stuck_for(&self) -> Option<Duration> {
        let at = self.handed_out.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_millis(at)))
    }
}

impl<M: Inspect + ?Sized> Stream<M> {
    /// The state of each type, in sending order.
    pub fn status(&self) -> Vec<TypeStatus> {
        self.machine().status()
    }

    /// The types it asked for that are not served.
    pub fn unknown_types(&self) -> Vec<String> {
        self.machine().unknown_types()
    }

    /// The state of each resource of a type, by name.
    pub fn resources(&self, type_url: TypeUrl) -> Vec<ResourceStatus> {
        self.machine().resources(type_url)
    }
}

/// What can be seen of a machine from outside, whatever its protocol.
pub trait Inspect {
    /// See [`Machine::summary`].
    fn summary(&self) -> Summary;
    /// See [`Machine::agreement`].
    fn agreement(&self) -> Agreement;
    /// See [`Machine::status`].
    fn status(&self) -> Vec<TypeStatus>;
    /// See [`Machine::unknown_types`].
    fn unknown_types(&self) -> Vec<String>;
    /// See [`Machine::resources`].
    fn resources(&self, type_url: TypeUrl) -> Vec<ResourceStatus>;
}

impl<M: Machine> Inspect for M {
    fn summary(&self) -> Summary {
        Machine::summary(self)
    }

    fn agreement(&self) -> Agreement {
        Machine::agreement(self)
    }

    fn status(&self) -> Vec<TypeStatus> {
        Machine::status(self)
    }

    fn unknown_types(&self) -> Vec<String> {
        Machine::unknown_types(self).to_vec()
    }

    fn resources(&self, type_url: TypeUrl) -> Vec<ResourceStatus> {
        Machine::resources(self, type_url)
    }
}
