//! How the watches are: what readiness, the metrics and the log say about each kind.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tokio::sync::watch;

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
    Forbidden {
        /// Whether it is known all the same what there was: it was listed before, there was no such kind, or it has been waited
        /// for long enough.
        known: bool,
    },
    /// The API server does not answer, or answers with an error: its words.
    Failing(String),
}

impl KindState {
    /// The state in one word, for a label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Watching => "watching",
            Self::NotInstalled => "not_installed",
            Self::Forbidden { .. } => "forbidden",
            Self::Failing(_) => "failing",
        }
    }
}

impl KindState {
    /// Whether there may be objects of which nobody knows, because the API server does not tell.
    pub fn hides_something(&self) -> bool {
        matches!(self, Self::Failing(_) | Self::Forbidden { known: false })
    }
}

impl fmt::Display for KindState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("not listed yet"),
            Self::Watching => f.write_str("watched"),
            Self::NotInstalled => f.write_str("its CRD is not installed"),
            Self::Forbidden { .. } => f.write_str("reading it is forbidden"),
            Self::Failing(words) => f.write_str(words),
        }
    }
}

/// The state of every kind's watch.
pub type KindStates = BTreeMap<Kind, KindState>;

/// The state of every kind's watch, for readers in any task. A copy sees the same.
#[derive(Clone)]
pub struct Health(Arc<watch::Sender<KindStates>>);

impl Default for Health {
    fn default() -> Self {
        let followed = Kind::ALL.into_iter().filter(|kind| kind.is_followed());
        Self(Arc::new(watch::Sender::new(followed.map(|kind| (kind, KindState::Waiting)).collect())))
    }
}

impl Health {
    /// The states, and news of them.
    pub fn subscribe(&self) -> watch::Receiver<KindStates> {
        self.0.subscribe()
    }

    /// Notes a kind's state. Answers whether it is another than before.
    pub(super) fn set(&self, kind: Kind, state: KindState) -> bool {
        self.0.send_if_modified(|kinds| kinds.insert(kind, state.clone()) != Some(state))
    }
}
