//! Word that something happened to files, gathered until it is quiet: what all watches of files have in common.
//!
//! Never looks at a file.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use notify::{
    EventKind, RecommendedWatcher,
    event::{AccessKind, AccessMode},
};

/// Nothing must happen for so long before changes are read: `cp -r`, `git checkout` and `kubectl`-like tools write many
/// files in one go.
const QUIET: Duration = Duration::from_millis(25);
/// But no change waits for longer than this.
const CEILING: Duration = Duration::from_millis(250);
/// How often everything is looked at when the system can not watch all of it.
pub(super) const POLL: Duration = Duration::from_secs(2);

/// What the thread is told.
pub(super) enum Signal {
    /// Something happened at these places.
    Touched(Vec<PathBuf>),
    /// Something happened, and nobody knows where.
    Lost,
    /// It is time to look whether something happened.
    Poll,
    /// Nobody listens any more.
    Stop,
}

/// Where something happened since the last look.
#[derive(Default)]
pub(super) struct Dirty {
    pub(super) paths: BTreeSet<PathBuf>,
    /// Whether that is not all, so that every file has to be read again.
    pub(super) lost: bool,
    /// Whether all files are looked at, and read if they look different.
    pub(super) poll: bool,
}

/// Waits until something has happened, and then until nothing more does. Nothing when it is over.
pub(super) fn gather(inbox: &mpsc::Receiver<Signal>, poll: bool) -> Option<Dirty> {
    let mut dirty = Dirty::default();
    let first = match poll {
        false => inbox.recv().ok()?,
        true => match inbox.recv_timeout(POLL) {
            Ok(signal) => signal,
            Err(RecvTimeoutError::Timeout) => Signal::Poll,
            Err(RecvTimeoutError::Disconnected) => return None,
        },
    };
    let deadline = Instant::now() + CEILING;
    let mut next = Some(first);
    while let Some(signal) = next {
        match signal {
            Signal::Touched(paths) => dirty.paths.extend(paths),
            Signal::Lost => dirty.lost = true,
            Signal::Poll => dirty.poll = true,
            Signal::Stop => return None,
        }
        let patience = QUIET.min(deadline.saturating_duration_since(Instant::now()));
        next = inbox.recv_timeout(patience).ok();
    }
    Some(dirty)
}

/// A watcher that reports what it sees as signals.
pub(super) fn new_watcher(signals: mpsc::Sender<Signal>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let signal = match event {
            Ok(event) if event.need_rescan() => Signal::Lost,
            // That a file is opened and read happens with every look at it, and says nothing.
            Ok(event) => match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => Signal::Touched(event.paths),
                EventKind::Access(_) => return,
                _ => Signal::Touched(event.paths),
            },
            Err(_) => Signal::Lost,
        };
        // When nobody listens any more, there is nothing to tell.
        let _ = signals.send(signal);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_gathered_until_it_is_quiet_and_a_stop_ends_it() {
        let (signals, inbox) = mpsc::channel();
        let send = |signal| signals.send(signal).expect("the inbox is there");
        send(Signal::Touched(vec!["a".into()]));
        send(Signal::Touched(vec!["b".into(), "a".into()]));
        send(Signal::Lost);
        let dirty = gather(&inbox, false).expect("something happened");
        assert_eq!((dirty.paths.len(), dirty.lost, dirty.poll), (2, true, false));
        send(Signal::Touched(vec!["c".into()]));
        send(Signal::Stop);
        assert!(gather(&inbox, false).is_none());
        assert!(gather(&inbox, true).expect("it is time to look").poll);
    }
}
