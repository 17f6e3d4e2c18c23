//! The incremental engine: makes again exactly the outputs that read what changed, and stops where an output comes out equal.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Debug,
    hash::Hash,
    mem,
};

use foldhash::fast::RandomState;
use imbl::OrdSet;

use super::{Change, Fact, FactSet, IndexKey, Store, View, objects::Touched};
use crate::model::ObjectKey;

/// What is made from the world. Implemented by `compile`; the engine knows nothing of it.
pub trait Program: Sized {
    /// Names an output.
    type Key: Clone + Ord + Hash + Debug;
    /// An output. Cheap to clone; equality decides whether its readers are made again.
    type Value: Clone + PartialEq;
    /// Names a set of facts.
    type Topic: Clone + Ord + Hash;
    /// Something an output states for outputs of higher levels to look up: the joins that are not over raw objects.
    type Fact: Fact;

    /// The level of an output. It may read outputs of lower levels, and facts that lower levels state, only.
    fn level(&self, key: &Self::Key) -> u8;

    /// The outputs that exist because an object does. Only these, and what they read or keep, are ever made.
    fn roots(&self, object: &ObjectKey) -> Vec<Self::Key>;

    /// Makes an output from what it reads, and nothing else. Must give equal answers to equal reads.
    fn make(&self, key: &Self::Key, view: &mut View<'_, Self>) -> Output<Self>;
}

/// What making an output gives.
pub struct Output<P: Program> {
    /// The output itself.
    pub value: P::Value,
    /// What it states for others to look up.
    pub facts: Vec<(P::Topic, P::Fact)>,
}

impl<P: Program> Output<P> {
    /// An output that states nothing.
    pub fn plain(value: P::Value) -> Self {
        Self { value, facts: Vec::new() }
    }
}

/// What a commit did.
pub struct Commit<P: Program> {
    /// The outputs that are new, differ from before, or (with nothing) are gone.
    pub changed: Vec<(P::Key, Option<P::Value>)>,
    /// How many outputs were made, equal or not.
    pub made: usize,
    /// The objects that the changes really changed.
    pub objects: Vec<ObjectKey>,
}

/// The store and all that was made from it.
pub struct Engine<P: Program> {
    program: P,
    store: Store,
    nodes: Nodes<P>,
}

/// Something that an output read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Read<K, T> {
    Object(ObjectKey),
    Index(IndexKey),
    Output(K),
    Keep(K),
    Topic(T),
}

/// A read by an output of this program.
pub(super) type ReadOf<P> = Read<<P as Program>::Key, <P as Program>::Topic>;

struct Node<P: Program> {
    value: P::Value,
    /// Sorted, each once.
    reads: Vec<ReadOf<P>>,
    /// Sorted.
    facts: Vec<(P::Topic, P::Fact)>,
}

/// Everything that is made, and who reads what. An output is dirty at most until the commit ends.
pub(super) struct Nodes<P: Program> {
    nodes: HashMap<P::Key, Node<P>, RandomState>,
    readers: HashMap<ReadOf<P>, HashSet<P::Key, RandomState>, RandomState>,
    /// What is stated, and by how many outputs.
    pub(super) facts: HashMap<P::Topic, FactSet<P::Fact>, RandomState>,
    roots: HashSet<P::Key, RandomState>,
    /// To be made, lowest level first: when an output's turn comes, all that it may read is up to date.
    dirty: BTreeSet<(u8, P::Key)>,
    /// Lost a reader or their object in this commit; gone at its end unless somebody wants them again.
    orphans: Vec<P::Key>,
    changed: BTreeSet<P::Key>,
    made: usize,
    /// How many outputs are being made right now, one for another.
    depth: usize,
    /// The objects of on-demand kinds that some output reads, whether they are there or not.
    wanted: OrdSet<ObjectKey>,
    /// The topics whose facts changed while an output was made for another. That other one may have read them before.
    restated: Vec<P::Topic>,
}

impl<P: Program> Engine<P> {
    /// An empty world.
    pub fn new(program: P) -> Self {
        Self { program, store: Store::default(), nodes: Nodes::default() }
    }

    /// The objects.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What outputs are made with.
    pub fn program(&self) -> &P {
        &self.program
    }

    /// An output as it is now.
    pub fn output(&self, key: &P::Key) -> Option<&P::Value> {
        self.nodes.nodes.get(key).map(|node| &node.value)
    }

    /// All outputs, in no order.
    pub fn outputs(&self) -> impl Iterator<Item = (&P::Key, &P::Value)> {
        self.nodes.nodes.iter().map(|(key, node)| (key, &node.value))
    }

    /// The objects of on-demand kinds ([`Kind::is_on_demand`](crate::model::Kind::is_on_demand)) that some output reads,
    /// whether they are there or not. A copy costs nothing.
    pub fn wanted(&self) -> &OrdSet<ObjectKey> {
        &self.nodes.wanted
    }

    /// Applies changes as one and brings all outputs up to date.
    pub fn commit(&mut self, changes: impl IntoIterator<Item = Change>) -> Commit<P> {
        let mut touched = Touched::default();
        for change in changes {
            self.store.apply(change, &mut touched);
        }
        let Touched { objects, indexes } = touched;
        for key in &objects {
            let exists = self.store.object(key).is_some();
            for root in self.program.roots(key) {
                self.nodes.set_root(root, exists, &self.program);
            }
            self.nodes.mark_readers(&Read::Object(key.clone()), &self.program);
        }
        for key in indexes {
            self.nodes.mark_readers(&Read::Index(key), &self.program);
        }
        self.nodes.settle(&self.store, &self.program);
        let changed = mem::take(&mut self.nodes.changed);
        Commit {
            changed: changed
                .into_iter()
                .map(|key| {
                    let value = self.output(&key).cloned();
                    (key, value)
                })
                .collect(),
            made: mem::take(&mut self.nodes.made),
            objects,
        }
    }
}

impl<P: Program> Default for Nodes<P> {
    fn default() -> Self {
        Self {
            nodes: HashMap::default(),
            readers: HashMap::default(),
            facts: HashMap::default(),
            roots: HashSet::default(),
            dirty: BTreeSet::new(),
            orphans: Vec::new(),
            changed: BTreeSet::new(),
            made: 0,
            depth: 0,
            wanted: OrdSet::new(),
            restated: Vec::new(),
        }
    }
}

impl<P: Program> Nodes<P> {
    /// Makes what is dirty and drops what nobody wants, until neither is left.
    fn settle(&mut self, store: &Store, program: &P) {
        loop {
            while let Some((_, key)) = self.dirty.pop_first() {
                if self.wanted(&key) {
                    self.make(&key, store, program);
                }
            }
            let Some(key) = self.orphans.pop() else { return };
            if !self.wanted(&key) {
                self.drop_node(&key, program);
            }
        }
    }

    /// The value of an output that is being read now.
    pub(super) fn value_of(&mut self, key: &P::Key, store: &Store, program: &P) -> P::Value {
        let level = program.level(key);
        // Almost always everything that is dirty is of a higher level, and then the look costs nothing.
        let may_be_dirty = self.dirty.first().is_some_and(|(lowest, _)| *lowest <= level);
        let is_dirty = may_be_dirty && self.dirty.remove(&(level, key.clone()));
        if let Some(node) = self.nodes.get(key).filter(|_| !is_dirty) {
            return node.value.clone();
        }
        self.make(key, store, program);
        self.nodes.get(key).expect("made just above").value.clone()
    }

    /// Queues an output that is wanted without being read.
    pub(super) fn want(&mut self, key: &P::Key, program: &P) {
        if !self.nodes.contains_key(key) {
            self.dirty.insert((program.level(key), key.clone()));
        }
    }

    fn set_root(&mut self, key: P::Key, exists: bool, program: &P) {
        if exists {
            self.want(&key, program);
            self.roots.insert(key);
        } else {
            self.roots.remove(&key);
            self.orphans.push(key);
        }
    }

    fn wanted(&self, key: &P::Key) -> bool {
        self.roots.contains(key)
            || self.readers.contains_key(&Read::Output(key.clone()))
            || self.readers.contains_key(&Read::Keep(key.clone()))
    }

    fn make(&mut self, key: &P::Key, store: &Store, program: &P) {
        let restated = self.restated.len();
        self.depth += 1;
        let mut view = View { store, program, nodes: self, reads: Vec::new() };
        let Output { value, mut facts } = program.make(key, &mut view);
        let mut reads = view.reads;
        self.depth -= 1;
        // Nobody knew yet what this output reads when those facts changed.
        let outdated = self.restated[restated..]
            .iter()
            .any(|topic| reads.iter().any(|read| matches!(read, Read::Topic(read) if read == topic)));
        if outdated {
            self.dirty.insert((program.level(key), key.clone()));
        }
        if self.depth == 0 {
            self.restated.clear();
        }
        reads.sort_unstable();
        reads.dedup();
        reads.shrink_to_fit();
        facts.sort_unstable();
        facts.dedup();
        facts.shrink_to_fit();
        self.made += 1;
        let old = self.nodes.remove(key);
        let (old_reads, old_facts) = old.as_ref().map_or_else(Default::default, |old| (&*old.reads, &*old.facts));
        self.replace_reads(key, old_reads, &reads);
        self.replace_facts(old_facts, &facts, program);
        let equal = old.is_some_and(|old| old.value == value);
        self.nodes.insert(key.clone(), Node { value, reads, facts });
        if !equal {
            self.changed.insert(key.clone());
            self.mark_readers(&Read::Output(key.clone()), program);
        }
    }

    fn drop_node(&mut self, key: &P::Key, program: &P) {
        if let Some(Node { reads, facts, .. }) = self.nodes.remove(key) {
            self.replace_reads(key, &reads, &[]);
            self.replace_facts(&facts, &[], program);
            self.changed.insert(key.clone());
        }
    }

    fn mark_readers(&mut self, read: &ReadOf<P>, program: &P) {
        if let Some(readers) = self.readers.get(read) {
            self.dirty.extend(readers.iter().map(|key| (program.level(key), key.clone())));
        }
    }

    fn replace_reads(&mut self, key: &P::Key, old: &[ReadOf<P>], new: &[ReadOf<P>]) {
        for (read, side) in differences(old, new) {
            match side {
                Side::New => {
                    if let Read::Object(object) = read
                        && object.kind.is_on_demand()
                    {
                        self.wanted.insert(object.clone());
                    }
                    self.readers.entry(read.clone()).or_default().insert(key.clone());
                }
                Side::Old => {
                    let readers = self.readers.get_mut(read).expect("every recorded read has its reader noted");
                    readers.remove(key);
                    if readers.is_empty() {
                        self.readers.remove(read);
                        match read {
                            Read::Output(unread) | Read::Keep(unread) => self.orphans.push(unread.clone()),
                            Read::Object(unread) if unread.kind.is_on_demand() => drop(self.wanted.remove(unread)),
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    fn replace_facts(&mut self, old: &[(P::Topic, P::Fact)], new: &[(P::Topic, P::Fact)], program: &P) {
        let mut topics = BTreeSet::new();
        for ((topic, fact), side) in differences(old, new) {
            let facts = self.facts.entry(topic.clone()).or_default();
            let has_changed = match side {
                Side::New => facts.insert(fact.clone()),
                Side::Old => facts.remove(fact),
            };
            if facts.is_empty() {
                self.facts.remove(topic);
            }
            if has_changed {
                topics.insert(topic);
            }
        }
        for topic in topics {
            self.mark_readers(&Read::Topic(topic.clone()), program);
            if self.depth > 0 {
                self.restated.push(topic.clone());
            }
        }
    }
}

enum Side {
    Old,
    New,
}

/// The elements that only one of two sorted lists has.
fn differences<'a, T: Ord>(old: &'a [T], new: &'a [T]) -> Vec<(&'a T, Side)> {
    let mut differences = Vec::new();
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(left), Some(right)) if left == right => {
                old.next();
                new.next();
            }
            (Some(left), right) if right.is_none_or(|right| left < right) => {
                differences.push((*left, Side::Old));
                old.next();
            }
            (_, Some(right)) => {
                differences.push((*right, Side::New));
                new.next();
            }
            (_, None) => return differences,
        }
    }
}
