//! What a compile function sees of the world. Reading is declaring: every accessor notes what was read.

use std::sync::Arc;

use super::{
    FactSet, IndexKey, Program, Store, Stored,
    engine::{Nodes, Read, ReadOf},
};
use crate::model::{ObjectKey, ObjectName};

/// The world for the making of one output. A missing object and an index look-up are reads too.
pub struct View<'a, P: Program> {
    pub(super) store: &'a Store,
    pub(super) program: &'a P,
    pub(super) nodes: &'a mut Nodes<P>,
    pub(super) reads: Vec<ReadOf<P>>,
}

impl<P: Program> View<'_, P> {
    /// The object of this type with this name.
    pub fn object<T: Stored>(&mut self, name: &ObjectName) -> Option<Arc<T>> {
        let key = ObjectKey::new(T::KIND, name.clone());
        let found = self.store.object(&key).and_then(T::of).cloned();
        self.reads.push(Read::Object(key));
        found
    }

    /// The objects that an index holds under a key, by name.
    pub fn index(&mut self, key: IndexKey) -> Vec<ObjectName> {
        let found = self.store.index(&key).map(|names| names.iter().cloned().collect()).unwrap_or_default();
        self.reads.push(Read::Index(key));
        found
    }

    /// Another output, made now if it has not been. It must be of a lower level than the one that is being made.
    pub fn output(&mut self, key: &P::Key) -> P::Value {
        self.reads.push(Read::Output(key.clone()));
        self.nodes.value_of(key, self.store, self.program)
    }

    /// Asks that another output exist as long as this one does, without reading it.
    pub fn keep(&mut self, key: P::Key) {
        self.nodes.want(&key, self.program);
        self.reads.push(Read::Keep(key));
    }

    /// What outputs of lower levels state under a topic. Costs the same however much that is.
    pub fn facts(&mut self, topic: P::Topic) -> FactSet<P::Fact> {
        let found = self.nodes.facts.get(&topic).cloned().unwrap_or_default();
        self.reads.push(Read::Topic(topic));
        found
    }
}
