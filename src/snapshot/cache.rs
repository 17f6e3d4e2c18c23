//! The snapshots of all Gateways, and how a stream learns of a new one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Rendering, Resource, TypeUrl, TypeView};
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
        let mut by_type: [Vec<ByName>; TypeUrl::COUNT] = Default::default();
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

/// A name and what it names from now on.
type ByName = (Arc<str>, Option<Arc<Resource>>);

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
    cells: Mutex<HashMap<ObjectName, Cells>>,
    ready: watch::Sender<bool>,
    behind: AtomicBool,
}

/// The snapshots of one Gateway: as compiled, and in those other renderings that somebody asked for.
#[derive(Default)]
struct Cells {
    compiled: Arc<Cell>,
    rendered: Vec<(Rendering, Arc<Cell>)>,
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
        Self { cells: Mutex::default(), ready: watch::Sender::new(false), behind: AtomicBool::new(false) }
    }

    /// Says that every source has synced and is compiled: from now on streams are answered (`xds.md` P77).
    pub fn set_ready(&self) {
        self.ready.send_replace(true);
    }

    /// Says whether the sources may have more than is published here: then a client that has more is not served, lest
    /// something newer be taken away from it.
    pub fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::Relaxed);
    }

    /// Whether the sources may have more than is published here.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Whether streams are answered, and news of it.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Publishes changes to one Gateway's snapshot as one step.
    pub fn publish(&self, gateway: &ObjectName, changes: impl IntoIterator<Item = ViewChange>) {
        let changes: Vec<ViewChange> = changes.into_iter().collect();
        self.cell(gateway, Rendering::Aggregated).apply(changes.iter().cloned());
        // Looked up afterwards: a rendering that is not there yet will be made from what is stored now. One that was made in
        // between has the changes twice, which changes nothing.
        let rendered = self.lock().entry(gateway.clone()).or_default().rendered.clone();
        for (rendering, cell) in rendered {
            cell.apply(changes.iter().map(|change| change.rendered(rendering)));
        }
    }

    /// The current snapshot of a Gateway; an empty one if there is no such Gateway.
    pub fn current(&self, gateway: &ObjectName) -> Arc<Snapshot> {
        self.cell(gateway, Rendering::Aggregated).current.load_full()
    }

    /// Follows the snapshots of a Gateway in a rendering, also of one that does not exist yet.
    pub fn watch(&self, gateway: &ObjectName, rendering: Rendering) -> SnapshotWatch {
        let cell = self.cell(gateway, rendering);
        SnapshotWatch { news: cell.revision.subscribe(), cell }
    }

    /// The Gateways that have a snapshot or had a reader, sorted.
    pub fn gateways(&self) -> Vec<ObjectName> {
        let mut names: Vec<ObjectName> = self.lock().keys().cloned().collect();
        names.sort();
        names
    }

    fn cell(&self, gateway: &ObjectName, rendering: Rendering) -> Arc<Cell> {
        let mut cells = self.lock();
        let cells = cells.entry(gateway.clone()).or_default();
        if rendering == Rendering::Aggregated {
            return Arc::clone(&cells.compiled);
        }
        if let Some((_, cell)) = cells.rendered.iter().find(|(known, _)| *known == rendering) {
            return Arc::clone(cell);
        }
        let cell = Arc::new(Cell::default());
        let all = cells.compiled.current.load();
        cell.apply(TypeUrl::ALL.into_iter().flat_map(|type_url| all.view(type_url).iter()).map(|resource| {
            ViewChange {
                type_url: resource.type_url(),
                name: Arc::clone(resource.name()),
                resource: rendering.render(resource),
            }
        }));
        cells.rendered.push((rendering, Arc::clone(&cell)));
        cell
    }

    /// Held for a look-up only; a snapshot is swapped without it.
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectName, Cells>> {
        self.cells.lock().expect("nothing panics while it holds this lock")
    }
}

impl Cell {
    fn apply(&self, changes: impl IntoIterator<Item = ViewChange>) {
        let next = self.current.load().with(changes);
        self.current.store(Arc::new(next));
        self.revision.send_modify(|revision| *revision += 1);
    }
}

impl ViewChange {
    fn rendered(&self, rendering: Rendering) -> Self {
        Self { resource: self.resource.as_ref().and_then(|resource| rendering.render(resource)), ..self.clone() }
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
