//! Objects from a Kubernetes API server: a watch for each kind, and of Secrets only what is read.
//!
//! Lists come in pages and apply as one change set, also after an outage. A kind whose CRD is not installed, or that this
//! program may not read, is reported by name and looked for again. It stops nothing else; but of a kind that was never read it
//! is not known that there is nothing, so at the start the rest waits for it for a while. Never writes anything.

mod contents;
mod health;
mod interpret;
mod watch;

use std::{collections::BTreeSet, time::Duration};

use kube::{Client, api::ApiResource};
use tokio::{sync::mpsc, task::JoinSet};

pub use self::health::{Health, KindState, KindStates};
use self::{contents::Contents, watch::Watch};
use crate::{
    api::Observed,
    model::{Kind, ObjectKey},
    store::Change,
};

/// How many updates wait for the pipeline at most; then the watches wait.
const BACKLOG: usize = 256;

/// For how long what can not be read is waited for, and clients that have something are sent elsewhere meanwhile. What can not be
/// read for longer can be read nowhere, and the rest must go on.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What an API server told at once, to be applied as one.
#[derive(Clone, Debug, Default)]
pub struct ClusterUpdate {
    /// The differences.
    pub changes: Vec<Change>,
    /// What stands at the API server beside that, of kinds whose status is ours to write; nothing of objects that are gone.
    pub observed: Vec<(ObjectKey, Option<Observed>)>,
}

impl ClusterUpdate {
    /// Takes in a later one.
    pub fn extend(&mut self, later: ClusterUpdate) {
        self.changes.extend(later.changes);
        self.observed.extend(later.observed);
    }
}

/// A cluster that is being watched. Ends its watches when it is dropped.
pub struct KubernetesSource {
    updates: mpsc::Receiver<FromWatch>,
    wanted: Vec<(Kind, tokio::sync::watch::Sender<BTreeSet<ObjectKey>>)>,
    /// On-demand objects about which the API server has said something since they were wanted.
    answered: BTreeSet<ObjectKey>,
    /// Kinds that could never be read, and without which the rest goes on.
    unread: BTreeSet<Kind>,
    _tasks: JoinSet<()>,
}

/// What a kind's watch hands over.
struct FromWatch {
    kind: Kind,
    sight: Sight,
    update: ClusterUpdate,
    /// On-demand objects that this answers for.
    answers: Vec<ObjectKey>,
}

/// What is known of a kind after an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// What was known before, and what has changed.
    Part,
    /// All there is, or that there is no such kind.
    Whole,
    /// Nothing, and the rest goes on without.
    Nothing,
}

impl KubernetesSource {
    /// Begins to watch, and waits until every kind has been listed or is known not to be there. On-demand kinds are empty:
    /// see [`Self::want`].
    ///
    /// Waits as long as the API server does not answer, and for [`PATIENCE`] for a kind that may not be read; without classes and
    /// Gateways for ever. [`Health`] says for what.
    pub async fn start(client: Client, health: Health) -> (ClusterUpdate, Self) {
        let (sender, updates) = mpsc::channel(BACKLOG);
        let mut tasks = JoinSet::new();
        let mut wanted = Vec::new();
        let followed = || Kind::ALL.into_iter().filter(|kind| kind.is_followed());
        for kind in followed() {
            if kind.is_on_demand() {
                let (want, wants) = tokio::sync::watch::channel(BTreeSet::new());
                wanted.push((kind, want));
                tasks.spawn(Contents::new(client.clone(), kind, wants, sender.clone(), health.clone()).run());
            } else {
                tasks.spawn(Watch::new(client.clone(), kind, sender.clone(), health.clone()).run());
            }
        }
        let mut source = Self { updates, wanted, answered: BTreeSet::new(), unread: BTreeSet::new(), _tasks: tasks };
        let mut missing: BTreeSet<Kind> = followed().collect();
        let mut first = ClusterUpdate::default();
        while !missing.is_empty() {
            let Some(from) = source.updates.recv().await else { break };
            if from.sight != Sight::Part {
                missing.remove(&from.kind);
            }
            first.extend(source.take(from));
        }
        (first, source)
    }

    /// Names the on-demand objects that are read now. Those that were wanted before and are no longer are removed.
    pub fn want<'a>(&mut self, wanted: impl IntoIterator<Item = &'a ObjectKey>) {
        let mut by_kind: Vec<BTreeSet<ObjectKey>> = vec![BTreeSet::new(); self.wanted.len()];
        for key in wanted {
            if let Some(place) = self.wanted.iter().position(|(kind, _)| *kind == key.kind) {
                by_kind[place].insert(key.clone());
            }
        }
        self.answered.retain(|key| by_kind.iter().any(|wanted| wanted.contains(key)));
        for ((_, want), now) in self.wanted.iter().zip(by_kind) {
            want.send_if_modified(|known| {
                let is_new = *known != now;
                *known = now;
                is_new
            });
        }
    }

    /// Something that is wanted and for which the API server has not answered yet.
    pub fn unanswered<'a>(&self, wanted: impl IntoIterator<Item = &'a ObjectKey>) -> Option<&'a ObjectKey> {
        wanted.into_iter().find(|key| !self.answered.contains(key))
    }

    /// The kinds that could never be read since the start, of those that say what is put into configurations of other controllers:
    /// as long as there is one, it is not known what should be there.
    pub fn unread_of_hosted(&self) -> impl Iterator<Item = Kind> {
        self.unread.iter().copied().filter(|kind| says_what_is_hosted(*kind))
    }

    /// The next update, together with those that wait already; nothing when the watches are gone. Safe to cancel.
    pub async fn next(&mut self) -> Option<ClusterUpdate> {
        let first = self.updates.recv().await?;
        let mut update = self.take(first);
        while let Ok(more) = self.updates.try_recv() {
            update.extend(self.take(more));
        }
        Some(update)
    }

    fn take(&mut self, from: FromWatch) -> ClusterUpdate {
        self.answered.extend(from.answers);
        match from.sight {
            Sight::Part => {}
            Sight::Whole => drop(self.unread.remove(&from.kind)),
            Sight::Nothing => drop(self.unread.insert(from.kind)),
        }
        from.update
    }
}

/// Whether objects of a kind say what is put into configurations of other controllers: to go on there as if there were none is to
/// take it away.
pub fn says_what_is_hosted(kind: Kind) -> bool {
    let are_ours = [Kind::TailscaleTailnet, Kind::TailscaleGateway, Kind::TailscaleEndpoints, Kind::TailscaleService];
    let are_routes = [Kind::HttpRoute, Kind::GrpcRoute, Kind::TlsRoute, Kind::TcpRoute, Kind::UdpRoute];
    // By a namespace's labels a listener takes its endpoints; a Secret shows our xDS whose Envoys ask.
    let are_asked = [Kind::ListenerSet, Kind::ReferenceGrant, Kind::Namespace, Kind::Secret];
    are_ours.contains(&kind) || are_routes.contains(&kind) || are_asked.contains(&kind)
}

/// A kind's resource in one of its versions.
fn resource(kind: Kind, version: &str) -> ApiResource {
    let group = kind.group();
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    }
}
