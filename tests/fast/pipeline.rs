//! The one task that owns the world: when it applies what its sources hand over.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tailscale_gateway::{
    compile::Compiler,
    metrics::Metrics,
    pipeline::{self, Batch, Debounce, Pipeline},
    snapshot::SnapshotCache,
};
use tokio::sync::mpsc;

use super::work::world::{Kind, World};

#[test]
fn p75_a_change_after_silence_is_applied_at_once_and_a_storm_when_it_is_over_or_goes_on_too_long() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut debounce = Debounce::default();
    assert_eq!(debounce.until(at(0), at(0)), None, "the first change of all");
    debounce.applied(at(2));
    assert_eq!(debounce.until(at(12), at(12)), None, "10 ms are silence");
    // Sooner after the last ones, they are gathered: each newcomer is waited for anew.
    assert_eq!(debounce.until(at(11), at(11)), Some(at(13)));
    assert_eq!(debounce.until(at(11), at(12)), Some(at(14)));
    // But not for ever.
    assert_eq!(debounce.until(at(11), at(110)), Some(at(111)));
    assert_eq!(debounce.until(at(11), at(111)), None);
}

#[tokio::test]
async fn p75_changes_that_come_while_others_are_applied_are_one_commit() {
    let cache = Arc::new(SnapshotCache::new());
    let pipeline = Pipeline::new(Compiler::default(), Arc::clone(&cache));
    let (sender, batches) = mpsc::channel(64);
    let (told, mut commits) = mpsc::unbounded_channel();
    let after =
        move |_: &Pipeline, applied: &mut pipeline::Applied| told.send(applied.objects.len()).expect("it is read");
    let metrics = Arc::new(Metrics::new(cache));
    let run = tokio::spawn(pipeline::run(pipeline, batches, metrics, after, || panic!("nothing panics")));
    let world = World::hosts(40);
    let batch = |changes| Batch { changes, seen: Instant::now(), hosted_is_known: true };
    sender.send(batch(world.changes())).await.expect("it is read");
    assert_eq!(commits.recv().await, Some(world.changes().len()));
    // Nothing runs between these, as there is one thread.
    for change in world.change(Kind::Route).into_iter().take(1).chain(world.change(Kind::Endpoint).into_iter().take(1))
    {
        sender.try_send(batch(vec![change])).expect("there is room");
    }
    assert_eq!(commits.recv().await, Some(2), "both in one commit");
    drop(sender);
    run.await.expect("it ends with its sources");
    assert_eq!(commits.recv().await, None);
}
