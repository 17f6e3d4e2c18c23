//! Sets of resource names that streams share: a thousand Envoys that subscribe to the same names hold one set.
//!
//! Never compares two sets name by name: a sum of keyed hashes stands for a set, whatever the order it was made in.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, Weak},
};

use imbl::OrdSet;

/// A set of names. Made by [`NameSets`] only: from one `NameSets`, equal sets are the same `Arc`.
#[derive(Debug, Default)]
pub struct NameSet {
    names: OrdSet<Arc<str>>,
    /// The sum of the names' hashes.
    hash: u128,
}

impl NameSet {
    /// How many names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether this name is one of them.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }
}

/// The sets in use by some streams: equal sets are one.
///
/// The hash is keyed, with keys that nobody outside can learn: a client can not craft a set that passes for another's.
#[derive(Debug, Default)]
pub struct NameSets {
    keys: [RandomState; 2],
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sets: HashMap<u128, Weak<NameSet>>,
    /// Sets that nobody holds any more are swept out when there are this many.
    sweep_at: usize,
}

impl NameSets {
    /// The set without names.
    pub fn empty(&self) -> Arc<NameSet> {
        self.shared(NameSet::default())
    }

    /// A set with some names more and some less. Costs the change, and keeps the rest of its memory shared with `base`.
    pub fn with<'a>(
        &self,
        base: &Arc<NameSet>,
        add: impl IntoIterator<Item = &'a Arc<str>>,
        remove: impl IntoIterator<Item = &'a Arc<str>>,
    ) -> Arc<NameSet> {
        let mut next = NameSet { names: base.names.clone(), hash: base.hash };
        let mut changed = false;
        for name in add {
            if !next.names.contains(name) {
                next.names.insert(Arc::clone(name));
                next.hash = next.hash.wrapping_add(self.hash(name));
                changed = true;
            }
        }
        for name in remove {
            if next.names.remove(name).is_some() {
                next.hash = next.hash.wrapping_sub(self.hash(name));
                changed = true;
            }
        }
        if changed { self.shared(next) } else { Arc::clone(base) }
    }

    /// How many different sets are held.
    pub fn in_use(&self) -> usize {
        let table = self.table.lock().expect("nothing panics while it holds this lock");
        table.sets.values().filter(|set| set.strong_count() > 0).count()
    }

    /// Whether a list without repetitions has exactly the names of a set. Of a list with repetitions it may say no.
    pub fn is_list_of<'a>(&self, set: &NameSet, list: impl Iterator<Item = &'a str>) -> bool {
        let mut count = 0;
        let mut hash = 0u128;
        for name in list {
            count += 1;
            hash = hash.wrapping_add(self.hash(name));
        }
        count == set.len() && hash == set.hash
    }

    /// The names of a set that are not in a list.
    pub fn missing_from(set: &NameSet, list: &HashSet<&str>) -> Vec<Arc<str>> {
        set.iter().filter(|name| !list.contains(&***name)).cloned().collect()
    }

    fn hash(&self, name: &str) -> u128 {
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(name)));
        high << 64 | low
    }

    fn shared(&self, set: NameSet) -> Arc<NameSet> {
        let mut table = self.table.lock().expect("nothing panics while it holds this lock");
        if let Some(known) = table.sets.get(&set.hash).and_then(Weak::upgrade) {
            return known;
        }
        if table.sets.len() >= table.sweep_at {
            table.sets.retain(|_, known| known.strong_count() > 0);
            table.sweep_at = (table.sets.len() * 2).max(64);
        }
        let set = Arc::new(set);
        table.sets.insert(set.hash, Arc::downgrade(&set));
        set
    }
}
