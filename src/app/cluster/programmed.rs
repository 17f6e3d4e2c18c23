//! Follows what the Envoys of each Gateway say, here and at other replicas, for the condition `Programmed`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};

use crate::{
    kubernetes::{Sayings, StatusNews},
    model::{Kind, ObjectKey, ObjectName, Programmed},
    pipeline::Reports,
    xds::Registry,
};

/// Acknowledgements are looked at together: many come at once, and a status is for people.
const GATHER: Duration = Duration::from_millis(50);
/// For how long what was acknowledged before still counts while something is under way, or while Envoys connect again: a change
/// that is taken in a few milliseconds is no news.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was told of a Gateway, and since when that is in doubt.
#[derive(Default)]
struct Told {
    said: Option<Programmed>,
    doubted_since: Option<Instant>,
}

/// Who is asked, and who is told.
pub(super) struct Follower {
    pub(super) registry: Arc<Registry>,
    pub(super) reports: Arc<ArcSwap<Reports>>,
    /// What the Envoys at other replicas say.
    pub(super) others: watch::Receiver<Arc<Vec<Sayings>>>,
    /// Where other replicas learn what the Envoys here say.
    pub(super) own: watch::Sender<Arc<Sayings>>,
    pub(super) news: mpsc::UnboundedSender<StatusNews>,
}

impl Follower {
    /// Tells the status writer whenever what the Envoys of a Gateway say changes, until it is gone.
    pub(super) async fn run(mut self) {
        let mut told: BTreeMap<ObjectName, Told> = BTreeMap::new();
        loop {
            let now = Instant::now();
            let here = self.here();
            let others = self.others.borrow_and_update().clone();
            let reports = self.reports.load_full();
            let is_ours = |gateway: &ObjectName| reports.contains_key(&ObjectKey::new(Kind::Gateway, gateway.clone()));
            told.retain(|gateway, _| is_ours(gateway));
            for gateway in here.keys().chain(others.iter().flat_map(|says| says.keys())).filter(|name| is_ours(name)) {
                told.entry(gateway.clone()).or_default();
            }
            let mut next: Option<Instant> = None;
            for (gateway, told) in &mut told {
                let said = together(others.iter().chain([&here]).filter_map(|says| says.get(gateway)));
                if said == Programmed::Pending && told.said != Some(Programmed::Pending) {
                    let until = *told.doubted_since.get_or_insert(now) + PATIENCE;
                    if now < until {
                        next = Some(next.map_or(until, |next| next.min(until)));
                        continue;
                    }
                }
                told.doubted_since = None;
                if told.said.as_ref() != Some(&said) {
                    told.said = Some(said.clone());
                    if self.news.send(StatusNews::Programmed(gateway.clone(), said)).is_err() {
                        return;
                    }
                }
            }
            self.own.send_if_modified(|known| {
                let is_new = **known != here;
                if is_new {
                    *known = Arc::new(here);
                }
                is_new
            });
            tokio::select! {
                () = self.registry.changed() => time::sleep(GATHER).await,
                changed = self.others.changed() => if changed.is_err() {
                    return;
                },
                () = time::sleep_until(next.unwrap_or(now)), if next.is_some() => {}
                () = self.news.closed() => return,
            }
        }
    }

    /// What the Envoys that are connected here say.
    fn here(&self) -> Sayings {
        let connected: BTreeSet<ObjectName> =
            self.registry.clients().iter().map(|client| client.node.gateway.clone()).collect();
        connected.into_iter().map(|gateway| (gateway.clone(), self.registry.programmed(&gateway))).collect()
    }
}

/// What several replicas' Envoys say together: a refusal weighs most, and all must have acknowledged.
fn together<'a>(says: impl Iterator<Item = &'a Programmed>) -> Programmed {
    let mut together = None;
    for said in says {
        match (said, &together) {
            (Programmed::Refused(_), _) => return said.clone(),
            (Programmed::Pending | Programmed::NotProvisioned(_), _) => together = Some(Programmed::Pending),
            (Programmed::Acknowledged, None) => together = Some(Programmed::Acknowledged),
            (Programmed::Acknowledged, Some(_)) => {}
        }
    }
    together.unwrap_or(Programmed::Pending)
}
