//! Where the last [`Hosted`] is, for readers in other tasks.

use std::{ops::Deref, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::Hosted;

/// The last one that was made. Reading takes no lock that a writer holds; only who waits for another one does.
#[derive(Debug, Default)]
pub struct PublishedHosted {
    last: ArcSwap<Hosted>,
    news: Notify,
}

impl PublishedHosted {
    /// Begins with one.
    pub fn new(hosted: Arc<Hosted>) -> Self {
        Self { last: ArcSwap::new(hosted), news: Notify::new() }
    }

    /// The last one, for a moment.
    pub fn load(&self) -> impl Deref<Target = Arc<Hosted>> {
        self.last.load()
    }

    /// The last one, to keep.
    pub fn load_full(&self) -> Arc<Hosted> {
        self.last.load_full()
    }

    /// Puts another one in its place.
    pub fn store(&self, hosted: Arc<Hosted>) {
        self.last.store(hosted);
        self.news.notify_waiters();
    }

    /// Waits for the first one, from the last one on, of which `is_it` says yes.
    pub async fn wait_for(&self, mut is_it: impl FnMut(&Hosted) -> bool) -> Arc<Hosted> {
        loop {
            // Hears of what is stored from here on, and so of whatever the look below misses.
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let hosted = self.load_full();
            if is_it(&hosted) {
                return hosted;
            }
            news.await;
        }
    }
}
