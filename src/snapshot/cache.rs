//! The snapshots of all Gateways, and how a stream learns of a new one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Rendering, Resource, Step, TypeUrl, TypeView};
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

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.types.iter().all(|view| view.is_empty())
    }

    /// What is different from another one.
    fn changes_since(&self, old: &Snapshot) -> Vec<ViewChange> {
        let mut changes = Vec::new();
        for type_url in TypeUrl::ALL {
            let Step { updated, removed, .. } = &self.view(type_url).difference(old.view(type_url));
            let updated = updated.iter().map(|resource| (resource.name(), Some(resource)));
            let removed = removed.iter().map(|name| (name, None));
            changes.extend(updated.chain(removed).map(|(name, resource)| ViewChange {
                type_url,
                name: Arc::clone(name),
                resource: resource.cloned(),
            }));
        }
        changes
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
    cells: Mutex<Table>,
    ready: watch::Sender<bool>,
    behind: AtomicBool,
}

#[derive(Default)]
struct Table {
    cells: HashMap<ObjectName, Cells>,
    /// Cells that hold nothing and that nobody reads are swept out when there are this many: a client may ask for any name.
    sweep_at: usize,
}

/// The snapshots of one Gateway: as compiled, and in those other renderings that somebody asked for.
#[derive(Default)]
struct Cells {
    compiled: Arc<Cell>,
    rendered: Vec<Rendered>,
}

#[derive(Clone)]
struct Rendered {
    rendering: Rendering,
    cell: Arc<Cell>,
    /// Set once it shows what is compiled.
    begun: Arc<OnceLock<()>>,
    /// Whether it is told of changes.
    is_told: Arc<Mutex<bool>>,
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
        let (compiled, _) = self.cells(gateway, Rendering::Aggregated);
        compiled.apply(changes.iter().cloned());
        // Looked up afterwards: a rendering that is not there or not told yet will be made from what is stored now. One that was
        // begun in between has the changes twice, which changes nothing.
        let rendered = self.lock().cells.get(gateway).map(|cells| cells.rendered.clone()).unwrap_or_default();
        for Rendered { rendering, cell, is_told, .. } in rendered {
            if *is_told.lock().expect("nothing panics while it holds this lock") {
                cell.apply(changes.iter().map(|change| change.rendered(rendering)));
            }
        }
    }

    /// The current snapshot of a Gateway; an empty one if there is no such Gateway.
    pub fn current(&self, gateway: &ObjectName) -> Arc<Snapshot> {
        self.lock().cells.get(gateway).map(|cells| cells.compiled.current.load_full()).unwrap_or_default()
    }

    /// Whether there is anything for a Gateway.
    pub fn is_served(&self, gateway: &ObjectName) -> bool {
        self.lock().cells.get(gateway).is_some_and(|cells| !cells.compiled.current.load().is_empty())
    }

    /// Follows the snapshots of a Gateway in a rendering, also of one that does not exist yet.
    pub fn watch(&self, gateway: &ObjectName, rendering: Rendering) -> SnapshotWatch {
        let (compiled, rendered) = self.cells(gateway, rendering);
        let cell = match rendered {
            None => compiled,
            Some(rendered) => {
                // Whoever else wants it waits for the first; nobody else does.
                rendered.begun.get_or_init(|| rendered.begin(&compiled));
                rendered.cell
            }
        };
        SnapshotWatch { news: cell.revision.subscribe(), cell }
    }

    /// The Gateways that have a snapshot or a reader, sorted.
    pub fn gateways(&self) -> Vec<ObjectName> {
        let mut table = self.lock();
        table.sweep();
        let mut names: Vec<ObjectName> = table.cells.keys().cloned().collect();
        names.sort();
        names
    }

    fn cells(&self, gateway: &ObjectName, rendering: Rendering) -> (Arc<Cell>, Option<Rendered>) {
        let mut table = self.lock();
        if !table.cells.contains_key(gateway) && table.cells.len() >= table.sweep_at {
            table.sweep();
        }
        let cells = table.cells.entry(gateway.clone()).or_default();
        let compiled = Arc::clone(&cells.compiled);
        if rendering == Rendering::Aggregated {
            return (compiled, None);
        }
        let known = cells.rendered.iter().find(|known| known.rendering == rendering).cloned();
        let rendered = known.unwrap_or_else(|| {
            let (cell, begun, is_told) = Default::default();
            let new = Rendered { rendering, cell, begun, is_told };
            cells.rendered.push(new.clone());
            new
        });
        (compiled, Some(rendered))
    }

    /// Held for a look-up only; snapshots are made and swapped without it.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.cells.lock().expect("nothing panics while it holds this lock")
    }
}

impl Table {
    /// Forgets what holds nothing and what nobody reads; only this table hands out new readers.
    fn sweep(&mut self) {
        self.cells.retain(|_, Cells { compiled, rendered }| {
            rendered.retain(|rendered| Arc::strong_count(&rendered.cell) > 1);
            !rendered.is_empty() || Arc::strong_count(compiled) > 1 || !compiled.current.load().is_empty()
        });
        self.sweep_at = (self.cells.len() * 2).max(64);
    }
}

impl Rendered {
    /// Renders all that is compiled, and what is published meanwhile.
    fn begin(&self, compiled: &Cell) {
        let mut shown = Arc::new(Snapshot::default());
        loop {
            let now = compiled.current.load_full();
            if Arc::ptr_eq(&now, &shown) {
                let mut is_told = self.is_told.lock().expect("nothing panics while it holds this lock");
                if Arc::ptr_eq(&compiled.current.load_full(), &shown) {
                    *is_told = true;
                    return;
                }
                continue;
            }
            self.cell.apply(now.changes_since(&shown).iter().map(|change| change.rendered(self.rendering)));
            shown = now;
        }
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

    /// The same, and how many had been published by then. It may be a newer one already, and then there is news.
    pub fn take(&mut self) -> (Arc<Snapshot>, u64) {
        let revision = *self.news.borrow_and_update();
        (self.cell.current.load_full(), revision)
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

#[cfg(test)]
mod tests {
    use tailscale_gateway_proto::envoy::config::cluster::v3::Cluster;

    use super::*;

    fn gateway(name: &str) -> ObjectName {
        ObjectName::new("default", name)
    }

    fn change(name: &str, content: &str) -> ViewChange {
        let message = Cluster { name: name.to_owned(), alt_stat_name: content.to_owned(), ..Default::default() };
        let resource = Resource::new(TypeUrl::Cluster, name, &message);
        ViewChange { type_url: TypeUrl::Cluster, name: name.into(), resource: Some(Arc::new(resource)) }
    }

    #[test]
    fn names_that_clients_make_up_are_forgotten_when_the_clients_are_gone() {
        let cache = SnapshotCache::new();
        cache.publish(&gateway("web"), [change("a", "1")]);
        let stays = cache.watch(&gateway("expected"), Rendering::PerTypeDelta);
        for number in 0..1_000 {
            drop(cache.watch(&gateway(&number.to_string()), Rendering::PerTypeSotw));
            assert!(cache.lock().cells.len() <= 64, "after {number} names");
        }
        assert_eq!(cache.gateways(), [gateway("expected"), gateway("web")]);
        drop(stays);
        assert_eq!(cache.gateways(), [gateway("web")]);
        assert!(cache.is_served(&gateway("web")) && !cache.is_served(&gateway("expected")));
    }

    #[test]
    fn a_gateway_that_is_gone_is_forgotten_and_whoever_follows_it_hears_when_it_comes_back() {
        let cache = SnapshotCache::new();
        cache.publish(&gateway("web"), [change("a", "1")]);
        let mut watch = cache.watch(&gateway("web"), Rendering::Aggregated);
        cache.publish(&gateway("web"), [ViewChange { resource: None, ..change("a", "1") }]);
        assert_eq!(cache.gateways(), [gateway("web")]);
        cache.publish(&gateway("web"), [change("a", "2")]);
        assert_eq!(watch.current().view(TypeUrl::Cluster).len(), 1);
        cache.publish(&gateway("web"), [ViewChange { resource: None, ..change("a", "1") }]);
        drop(watch);
        assert!(cache.gateways().is_empty());
    }

    #[test]
    fn a_rendering_that_begins_while_changes_are_published_misses_none() {
        let cache = SnapshotCache::new();
        let web = gateway("web");
        for round in 0..50 {
            let rendering = if round % 2 == 0 { Rendering::PerTypeSotw } else { Rendering::PerTypeDelta };
            let last = std::thread::scope(|scope| {
                scope.spawn(|| (0..20).for_each(|step| cache.publish(&web, [change("a", &format!("{round}.{step}"))])));
                let watches = [0; 3].map(|_| scope.spawn(|| cache.watch(&web, rendering)));
                watches.map(|watch| watch.join().expect("it returns"))
            });
            for mut watch in last {
                let (rendered, compiled) = (watch.current(), cache.current(&web));
                let [rendered, compiled] = [&rendered, &compiled].map(|all| all.view(TypeUrl::Cluster).version());
                assert_eq!(rendered, compiled, "a cluster without endpoints looks the same in all renderings");
            }
            cache.lock().cells.clear();
        }
    }
}
