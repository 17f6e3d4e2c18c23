//! Follows how the watches are: says so in the readiness and the metrics, and lets nobody be taken back to an older state while
//! they are broken.

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    admin::Readiness,
    metrics::Metrics,
    snapshot::SnapshotCache,
    source::{KindState, KindStates, PATIENCE},
};

/// Follows the watches until they are gone.
pub(super) async fn follow(
    mut states: watch::Receiver<KindStates>,
    cache: Arc<SnapshotCache>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
) {
    let mut broken_since: Option<Instant> = None;
    loop {
        let states_now = states.borrow_and_update().clone();
        let is_broken = states_now.values().any(KindState::hides_something);
        if !is_broken {
            broken_since = None;
        }
        let patience_ends = is_broken.then(|| *broken_since.get_or_insert_with(Instant::now) + PATIENCE);
        cache.set_behind(patience_ends.is_some_and(|end| Instant::now() < end));
        for (kind, state) in &states_now {
            metrics.kind_state(*kind, state.label());
        }
        if !*cache.ready().borrow() {
            let missing: Vec<String> = states_now
                .iter()
                .filter(|(_, state)| **state == KindState::Waiting || state.hides_something())
                .map(|(kind, state)| format!("{kind}: {state}"))
                .collect();
            if !missing.is_empty() {
                readiness.set_waiting(format!("reading the cluster; {}", missing.join("; ")));
            }
            if *cache.ready().borrow() {
                readiness.set_ready();
            }
        }
        let wake_at = patience_ends.filter(|end| Instant::now() < *end);
        tokio::select! {
            changed = states.changed() => if changed.is_err() {
                return;
            },
            () = time::sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
        }
    }
}
