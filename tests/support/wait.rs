//! Waiting for what can not tell by itself that it has happened.
//!
//! The only place with a clock: everything else waits for an event. A condition that does not come true within [`DEADLINE`]
//! is a failed test, never a reason to go on.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How long anything may take at most. Far above what is ever needed, also on a busy machine: it only ends failing tests.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(5);

/// Asks `probe` until it answers `Ok`, and returns that. `Err` says why not yet.
///
/// # Panics
/// When [`DEADLINE`] passes, with `what` and the last reason.
pub async fn until<T, F>(what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let end = Instant::now() + DEADLINE;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match probe().await {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= end => panic!("waited {DEADLINE:?} for {what}: {reason}"),
            Err(_) => {}
        }
    }
}

/// Waits for an event, at most [`DEADLINE`].
///
/// # Panics
/// When it passes, with `what`.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for {what}"),
    }
}
