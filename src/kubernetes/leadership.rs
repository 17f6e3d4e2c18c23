//! How a replica writes that may stop being the one to do so: each write takes its place before it looks whether it may, and
//! ends before anybody else may begin.
//!
//! Never decides who leads: that is [`lease`](super::lease)'s.

use std::{future::Future, time::Duration};

use thiserror::Error;
use tokio::{
    sync::watch::{self, error::RecvError},
    time,
};
use tokio_util::task::TaskTracker;

/// Whether this replica is the one that writes, and the way in which it does. A copy is the same.
#[derive(Clone, Debug)]
pub struct Leadership {
    leads: watch::Receiver<bool>,
    within: Duration,
    writes: TaskTracker,
}

/// Why nothing is known of what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotWritten {
    /// This replica does not lead.
    #[error("this replica writes no more")]
    Lost,
    /// The API server has not answered in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Late(Duration),
}

impl Leadership {
    /// By a Lease that lasts so long. Its holder stops when a third of that is left, and no write may take as long.
    pub fn new(leads: watch::Receiver<bool>, lease: Duration) -> Self {
        Self { leads, within: lease / 4, writes: TaskTracker::new() }
    }

    /// Whether this replica leads now.
    pub fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// The same, and [`Self::changed`] waits for something else from now on.
    pub fn look(&mut self) -> bool {
        *self.leads.borrow_and_update()
    }

    /// Waits until it is other than it was last looked at. Safe to cancel.
    ///
    /// # Errors
    ///
    /// When nobody decides any more who leads.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        self.leads.changed().await
    }

    /// Waits until this replica leads, or does not. Safe to cancel.
    ///
    /// # Errors
    ///
    /// When nobody decides any more who leads.
    pub async fn until(&mut self, leads: bool) -> Result<(), RecvError> {
        self.leads.wait_for(|now| *now == leads).await.map(drop)
    }

    /// Makes a request that changes something, if this replica leads; it may take as long as `longest`, and not longer than the
    /// Lease allows.
    ///
    /// # Errors
    ///
    /// When this replica does not lead, and when it takes too long.
    pub async fn write<T>(&self, longest: Duration, request: impl Future<Output = T>) -> Result<T, NotWritten> {
        // First the place, then the look: whoever takes the lead away waits for the places that are taken then.
        let _place = self.writes.token();
        if !self.leads() {
            return Err(NotWritten::Lost);
        }
        let within = longest.min(self.within);
        time::timeout(within, request).await.map_err(|_| NotWritten::Late(within))
    }

    /// Waits until no write is under way, for those that were when the lead was given up. Answers whether that is so: it is
    /// waited no longer than any of them may take.
    pub(super) async fn is_idle(&self) -> bool {
        self.writes.close();
        time::timeout(self.within + Duration::from_millis(100), self.writes.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_write_under_way_is_waited_for_and_none_begins_when_the_lead_is_lost() {
        let (lead, leads) = watch::channel(true);
        let leadership = Leadership::new(leads, LONG);
        let (answer, answered) = oneshot::channel();
        let mut writing = pin!(leadership.write(LONG, answered));
        assert!(writing.as_mut().now_or_never().is_none());
        lead.send_replace(false);
        let copy = leadership.clone();
        let mut idle = pin!(copy.is_idle());
        assert!(idle.as_mut().now_or_never().is_none(), "one is under way");
        let too_late = leadership.write(LONG, async { unreachable!("it must not begin") });
        assert_eq!(too_late.await, Err::<(), _>(NotWritten::Lost));
        answer.send("written").expect("it is waited for");
        assert_eq!(writing.await, Ok(Ok("written")));
        assert!(idle.await);
    }

    #[tokio::test]
    async fn a_write_may_take_less_time_than_is_left_of_the_lease_and_no_longer_than_it_should() {
        let limit = async |lease: u64, longest: u64| {
            let (_lead, leads) = watch::channel(true);
            let mut limit = Leadership::new(leads, Duration::from_millis(lease));
            limit.look();
            match limit.write(Duration::from_millis(longest), std::future::pending::<()>()).await {
                Err(NotWritten::Late(limit)) => limit.as_millis(),
                other => panic!("{other:?}"),
            }
        };
        // A third of it is left when its holder stops.
        assert_eq!((limit(12, 100).await, limit(12_000, 1).await), (3, 1));
    }
}
