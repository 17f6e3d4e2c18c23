//! Follows what the Envoys of each Gateway say, for the condition `Programmed`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use crate::{
    kubernetes::StatusNews,
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

/// Tells the status writer whenever what the Envoys of a Gateway say changes, until it is gone.
pub(super) async fn follow(
    registry: Arc<Registry>,
    reports: Arc<ArcSwap<Reports>>,
    news: mpsc::UnboundedSender<StatusNews>,
) {
    let mut told: BTreeMap<ObjectName, Told> = BTreeMap::new();
    loop {
        let now = Instant::now();
        let connected: BTreeSet<ObjectName> =
            registry.clients().iter().map(|client| client.node.gateway.clone()).collect();
        let reports = reports.load_full();
        let is_ours = |gateway: &ObjectName| reports.contains_key(&ObjectKey::new(Kind::Gateway, gateway.clone()));
        told.retain(|gateway, _| is_ours(gateway));
        for gateway in connected.into_iter().filter(is_ours) {
            told.entry(gateway).or_default();
        }
        let mut next: Option<Instant> = None;
        for (gateway, told) in &mut told {
            let said = registry.programmed(gateway);
            let is_doubt = said == Programmed::Pending && told.said != Some(Programmed::Pending);
            if is_doubt {
                let until = *told.doubted_since.get_or_insert(now) + PATIENCE;
                if now < until {
                    next = Some(next.map_or(until, |next| next.min(until)));
                    continue;
                }
            }
            told.doubted_since = None;
            if told.said.as_ref() != Some(&said) {
                told.said = Some(said.clone());
                if news.send(StatusNews::Programmed(gateway.clone(), said)).is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            () = registry.changed() => time::sleep(GATHER).await,
            () = time::sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            () = news.closed() => return,
        }
    }
}
