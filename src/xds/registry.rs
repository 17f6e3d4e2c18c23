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
    snapshot::{SnapshotWatch, TypeUrl},
};

/// The streams that are open.
#[derive(Default)]
pub struct Registry {
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    next: AtomicU64,
    /// A stream came or went, a client answered, or something is to be said to one.
    news: Notify,
}

/// What the Envoys of a Gateway say.
#[derive(Default)]
struct Together {
    refusal: Option<String>,
    is_pending: bool,
    has_listeners: bool,
}

impl Together {
    fn programmed(self) -> Programmed {
        match self {
            Self { refusal: Some(words), .. } => Programmed::Refused(words),
            Self { has_listeners: true, is_pending: false, .. } => Programmed::Acknowledged,
            _ => Programmed::Pending,
        }
    }
}

/// An open stream, whatever its protocol.
pub type Client = Stream<dyn Inspect + Send>;

impl Registry {
    /// The open streams, in the order in which they came.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// What the connected Envoys of each Gateway say about its newest configuration. One that is still fetching, or that does
    /// not take what is sent, counts as one that has not acknowledged yet.
    pub fn programmed(&self) -> BTreeMap<ObjectName, Programmed> {
        let mut together: BTreeMap<ObjectName, Together> = BTreeMap::new();
        for client in self.clients() {
            let machine = client.machine();
            let Agreement { refusal, is_pending, has_listeners } = machine.agreement();
            // While nothing can happen to the machine: an answer is marked before it is taken in, and what follows from it is
            // not sent yet.
            let is_told_all = client.is_told_all();
            drop(machine);
            let of_gateway = together.entry(client.node.gateway.clone()).or_default();
            if let Some(words) = refusal {
                of_gateway.refusal.get_or_insert_with(|| format!("{}: {words}", client.node.id));
            }
            of_gateway.is_pending |= is_pending || !is_told_all;
            of_gateway.has_listeners |= has_listeners;
        }
        together.into_iter().map(|(gateway, together)| (gateway, together.programmed())).collect()
    }

    /// Waits until a stream comes or goes, a client answers, or something is to be said to one. For one reader: each piece of
    /// news is told once.
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
    /// What there is to tell it.
    snapshots: SnapshotWatch,
    /// How many snapshots had been published when there was nothing left to send, plus one; 0 while there is something.
    told: AtomicU64,
    pub(super) machine: Mutex<M>,
}

impl<M> Stream<M> {
    pub(super) fn new(
        id: u64,
        node: NodeInfo,
        protocol: Protocol,
        scope: Scope,
        (peer, close): (SocketAddr, CancellationToken),
        snapshots: SnapshotWatch,
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
            snapshots,
            told: AtomicU64::new(0),
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

    /// Something has come that may have to be sent.
    pub(super) fn mark_to_tell(&self) {
        self.told.store(0, Ordering::Release);
    }

    /// Of the snapshot with this revision nothing is left to send. Answers whether that is news.
    pub(super) fn mark_told(&self, revision: u64) -> bool {
        self.told.swap(revision + 1, Ordering::AcqRel) != revision + 1
    }

    /// Whether nothing is left to send of what is published now. What was sent may wait for an answer.
    pub(super) fn is_told_all(&self) -> bool {
        self.told.load(Ordering::Acquire) == self.snapshots.revision() + 1
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
