//! All resources of one type for one Gateway at one moment, and the difference between two such moments.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use imbl::{OrdMap, ordmap::DiffItem};
use xxhash_rust::xxh3::Xxh3;

use super::{Body, Resource, Version};

/// Differences that a view remembers: streams that are a few changes apart still share them.
const REMEMBERED_STEPS: usize = 8;

/// How often a difference was there already, and how often it had to be made, over all views.
static STEPS: StepCounts = StepCounts { shared: AtomicU64::new(0), made: AtomicU64::new(0) };

struct StepCounts {
    shared: AtomicU64,
    made: AtomicU64,
}

/// How many differences between views were shared and how many made since the program began.
pub fn steps_shared_and_made() -> (u64, u64) {
    (STEPS.shared.load(Ordering::Relaxed), STEPS.made.load(Ordering::Relaxed))
}

/// All resources of a type. Making the next one from it costs the change; keeping an old one costs the difference.
#[derive(Default)]
pub struct TypeView {
    resources: OrdMap<Arc<str>, Arc<Resource>>,
    version: Version,
    steps: Mutex<Vec<(Version, Arc<Step>)>>,
    sotw: OnceLock<Arc<Body>>,
}

impl TypeView {
    /// The view with some resources replaced or added (`Some`) and some removed (`None`).
    pub fn with(&self, changes: impl IntoIterator<Item = (Arc<str>, Option<Arc<Resource>>)>) -> Self {
        let mut resources = self.resources.clone();
        let mut version = self.version.hash();
        for (name, resource) in changes {
            let old = match resource {
                Some(new) => {
                    version = version.wrapping_add(fingerprint(&new));
                    resources.insert(name, new)
                }
                None => resources.remove(&name),
            };
            if let Some(old) = old {
                version = version.wrapping_sub(fingerprint(&old));
            }
        }
        Self { resources, version: Version::from_hash(version), ..Self::default() }
    }

    /// The version of the whole: equal content, equal version, whatever the history.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The resource with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(name)
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The resources by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// What changed since another view. Parts that both share are not looked at; the answer is shared by all that ask for it.
    pub fn step_from(&self, from: &TypeView) -> Arc<Step> {
        let mut steps = self.steps.lock().expect("nothing panics while it holds this lock");
        if let Some((_, step)) = steps.iter().find(|(version, _)| *version == from.version) {
            STEPS.shared.fetch_add(1, Ordering::Relaxed);
            return Arc::clone(step);
        }
        STEPS.made.fetch_add(1, Ordering::Relaxed);
        let step = Arc::new(self.difference(from));
        if steps.len() == REMEMBERED_STEPS {
            steps.remove(0);
        }
        steps.push((from.version, Arc::clone(&step)));
        step
    }

    /// The `resources` of a state-of-the-world response with all of the view, made once.
    pub fn sotw_body(&self) -> Arc<Body> {
        Arc::clone(self.sotw.get_or_init(|| Arc::new(Body::sotw(self.iter().map(Arc::as_ref)))))
    }

    /// The same as [`TypeView::step_from`], for one who asks once.
    pub(super) fn difference(&self, from: &TypeView) -> Step {
        let mut updated = Vec::new();
        let mut removed = Vec::new();
        for item in from.resources.diff(&self.resources) {
            match item {
                DiffItem::Add(_, resource) => updated.push(Arc::clone(resource)),
                DiffItem::Update { new: (_, resource), .. } => updated.push(Arc::clone(resource)),
                DiffItem::Remove(name, _) => removed.push(Arc::clone(name)),
            }
        }
        Step { updated, removed, delta: OnceLock::new() }
    }
}

/// The difference between two views.
#[derive(Default)]
pub struct Step {
    /// Resources that are new or have new content, by name.
    pub updated: Vec<Arc<Resource>>,
    /// Names that are no longer there.
    pub removed: Vec<Arc<str>>,
    delta: OnceLock<Arc<Body>>,
}

impl Step {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.updated.is_empty() && self.removed.is_empty()
    }

    /// The size of the updated resources in a delta response, in bytes.
    pub fn updated_len(&self) -> usize {
        self.updated.iter().map(|resource| resource.delta_len()).sum()
    }

    /// The delta response's fields for the whole step, made once.
    pub fn delta_body(&self) -> Arc<Body> {
        Arc::clone(self.delta.get_or_init(|| {
            Arc::new(Body::delta(self.updated.iter().map(Arc::as_ref), self.removed.iter().map(Arc::as_ref)))
        }))
    }
}

/// A resource's share in its view's version. Shares are added up, so the order of changes does not matter.
fn fingerprint(resource: &Resource) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&resource.version().hash().to_le_bytes());
    hash.update(resource.name().as_bytes());
    hash.digest128()
}
