//! Sets of resource names that streams share: a thousand Envoys that subscribe to the same names hold one set.

use std::sync::Arc;

use imbl::OrdSet;

/// A set of names. Made by [`NameSets`] only.
#[derive(Debug, Default)]
pub struct NameSet {
    names: OrdSet<Arc<str>>,
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
}

/// The sets in use: equal sets are one.
#[derive(Debug, Default)]
pub struct NameSets;
