//! The snapshots of all Gateways, and how a stream learns of a new one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Resource, TypeUrl, TypeView};
use crate::model::ObjectName;

/// All resources for the Envoys of one Gateway at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    types: [Arc<TypeView>; TypeUrl::COUNT],
}

impl Snapshot {
    /// The resources of a type.
    pub fn view(&self, type_url: TypeUrl) -> &Arc<TypeView> {
        &self.types[type_url.index()]
    }

    /// The snapshot after some changes; types without a change are shared with this one.
    pub fn with(&self, changes: impl IntoIterator<Item = ViewChange>) -> Self {
        let mut by_type: [Vec<(Arc<str>, Option<Arc<Resource>>)>; TypeUrl::COUNT] = Default::default();
        for ViewChange { type_url, name, resource } in changes {
            by_type[type_url.index()].push((name, resource));
        }
        let mut next = self.clone();
        for (type_url, changes) in TypeUrl::ALL.into_iter().zip(by_type) {
            if !changes.is_empty() {
                next.types[type_url.index()] = Arc::new(self.view(type_url).with(changes));
            }
        }
        next
    }
}

/// One difference to a snapshot.
#[derive(Clone, Debug)]
pub struct ViewChange {
    /// The type.
    pub type_url: TypeUrl,
    /// The resource's name.
    pub name: Arc<str>,
    /// Its new content; nothing when it is removed.
    pub resource: Option<Arc<Resource>>,
}

/// The snapshots of all Gateways. One task writes; any number of streams read without a lock that it holds.
pub struct SnapshotCache {
    cells: Mutex<HashMap<ObjectName, Arc<Cell>>>,
    ready: watch::Sender<bool>,
}

#[derive(Default)]
struct Cell {
    current: ArcSwap<Snapshot>,
    revision: watch::Sender<u64>,
}

impl Default for SnapshotCache {
    fn default() -> Self {
        Self::new()
    }
}

impl SnapshotCache {
    /// An empty cache that is not ready: streams are held until [`SnapshotCache::set_ready`].
    pub fn new() -> Self {
        Self { cells: Mutex::default(), ready: watch::Sender::new(false) }
    }

    /// Says that every source has synced and is compiled: from now on streams are answered (`xds.md` P77).
    pub fn set_ready(&self) {
        self.ready.send_replace(true);
    }

    /// Whether streams are answered, and news of it.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Publishes changes to one Gateway's snapshot as one step.
    pub fn publish(&self, gateway: &ObjectName, changes: impl IntoIterator<Item = ViewChange>) {
        let cell = self.cell(gateway);
        let next = cell.current.load().with(changes);
        cell.current.store(Arc::new(next));
        cell.revision.send_modify(|revision| *revision += 1);
    }

    /// The current snapshot of a Gateway; an empty one if there is no such Gateway.
    pub fn current(&self, gateway: &ObjectName) -> Arc<Snapshot> {
        self.cell(gateway).current.load_full()
    }

    /// Follows the snapshots of a Gateway, also of one that does not exist yet.
    pub fn watch(&self, gateway: &ObjectName) -> SnapshotWatch {
        let cell = self.cell(gateway);
        SnapshotWatch { news: cell.revision.subscribe(), cell }
    }

    /// The Gateways that have a snapshot or had a reader, sorted.
    pub fn gateways(&self) -> Vec<ObjectName> {
        let mut names: Vec<ObjectName> = self.lock().keys().cloned().collect();
        names.sort();
        names
    }

    fn cell(&self, gateway: &ObjectName) -> Arc<Cell> {
        Arc::clone(self.lock().entry(gateway.clone()).or_default())
    }

    /// Held for a look-up only; a snapshot is swapped without it.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectName, Arc<Cell>>> {
        self.cells.lock().expect("nothing panics while it holds this lock")
    }
}

/// A reader of one Gateway's snapshots.
#[derive(Clone)]
pub struct SnapshotWatch {
    cell: Arc<Cell>,
    news: watch::Receiver<u64>,
}

impl SnapshotWatch {
    /// The newest snapshot; marks it as seen.
    pub fn current(&mut self) -> Arc<Snapshot> {
        self.news.borrow_and_update();
        self.cell.current.load_full()
    }

    /// How many snapshots have been published so far.
    pub fn revision(&self) -> u64 {
        *self.news.borrow()
    }

    /// Waits until there is a snapshot newer than the one last seen. Safe to cancel.
    pub async fn changed(&mut self) {
        self.news.changed().await.expect("the cell that this reader holds also holds the sender");
    }
}
