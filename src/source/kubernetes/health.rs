//! How the watches are: what readiness and the metrics say about each kind.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;

use crate::model::Kind;

/// How the watch of a kind is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KindState {
    /// Not listed yet.
    Waiting,
    /// Listed, and followed since.
    Watching,
    /// Its CRD is not installed.
    NotInstalled,
    /// This program may not read it.
    Forbidden,
    /// The API server does not answer, or answers with an error: its words.
    Failing(String),
}

impl fmt::Display for KindState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("not listed yet"),
            Self::Watching => f.write_str("watched"),
            Self::NotInstalled => f.write_str("its CRD is not installed"),
            Self::Forbidden => f.write_str("reading it is forbidden"),
            Self::Failing(words) => f.write_str(words),
        }
    }
}

/// The state of every kind's watch, for readers in any task. A copy sees the same.
#[derive(Clone)]
pub struct Health(Arc<ArcSwap<BTreeMap<Kind, KindState>>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Kind::ALL.map(|kind| (kind, KindState::Waiting)).into())))
    }
}

impl Health {
    /// The state of every kind.
    pub fn kinds(&self) -> Arc<BTreeMap<Kind, KindState>> {
        self.0.load_full()
    }

    /// Notes a kind's state. Answers whether it is another than before.
    pub(super) fn set(&self, kind: Kind, state: KindState) -> bool {
        let before = self.0.rcu(|kinds| {
            let mut kinds = BTreeMap::clone(kinds);
            kinds.insert(kind, state.clone());
            kinds
        });
        before.get(&kind) != Some(&state)
    }
}
