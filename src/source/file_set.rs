//! A few files that belong together, such as a certificate and its key: read as one, and read again when one of them is written,
//! renamed over, or reached by another link (as the files of a mounted Secret are).
//!
//! Never looks into a file.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::{
    StartError,
    scan::scan,
    signal::{Signal, gather, new_watcher},
    watch::read_file,
};

/// What the files hold, in the order of their paths; why not, when one of them can not be read.
pub type Contents = Result<Vec<Vec<u8>>, StartError>;

/// Files that are watched. Dropping it ends the watch.
#[derive(Debug)]
pub struct FileSet {
    updates: tokio::sync::mpsc::Receiver<Contents>,
    signals: mpsc::Sender<Signal>,
}

impl FileSet {
    /// Reads the files, and goes on to watch them. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// When one of them can not be read.
    pub fn start(paths: Vec<PathBuf>) -> Result<(Vec<Vec<u8>>, FileSet), StartError> {
        let (signals, inbox) = mpsc::channel();
        let mut watch = Watch { paths, signals: signals.clone(), watcher: None, complete: true };
        let first = watch.look()?;
        let known = first.clone();
        let path = watch.paths.first().cloned().unwrap_or_default();
        // Of one element: while it is not taken, what happens meanwhile becomes the next update.
        let (sender, updates) = tokio::sync::mpsc::channel(1);
        thread::Builder::new()
            .name("file-set".to_owned())
            .spawn(move || run(watch, &inbox, &sender, known))
            .map_err(|source| StartError { path, source })?;
        Ok((first, FileSet { updates, signals }))
    }

    /// Waits until the files hold something else, or can no longer be read. Nothing comes only if the watching thread has
    /// died, which is a bug.
    pub async fn next(&mut self) -> Option<Contents> {
        self.updates.recv().await
    }
}

impl Drop for FileSet {
    fn drop(&mut self) {
        // The thread may have ended already; then there is no one to tell.
        let _ = self.signals.send(Signal::Stop);
    }
}

fn run(
    mut watch: Watch,
    inbox: &mpsc::Receiver<Signal>,
    updates: &tokio::sync::mpsc::Sender<Contents>,
    first: Vec<Vec<u8>>,
) {
    let mut known = Ok(first);
    while gather(inbox, !watch.complete).is_some() {
        let found = watch.look();
        // A failure is told once, and not with every event that does not mend it.
        let told = found.as_ref().map(Clone::clone).map_err(ToString::to_string);
        if told != known {
            known = told;
            if updates.blocking_send(found).is_err() {
                return;
            }
        }
    }
}

struct Watch {
    paths: Vec<PathBuf>,
    signals: mpsc::Sender<Signal>,
    /// Kept because it ends when it is dropped.
    watcher: Option<RecommendedWatcher>,
    /// Whether everything is watched, so that nothing has to be looked for.
    complete: bool,
}

impl Watch {
    /// Reads all files, watching before reading, so that there will be word of whatever happens later.
    fn look(&mut self) -> Contents {
        // A new watcher each time: a watch follows the folder it was made for, and not the path.
        let mut watcher = new_watcher(self.signals.clone()).ok();
        let mut complete = watcher.is_some();
        let mut watch = |folder: &Path| {
            if let Some(watcher) = &mut watcher
                && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
                && !matches!(error.kind, notify::ErrorKind::PathNotFound)
            {
                complete = false;
            }
        };
        let contents = self.paths.iter().map(|path| {
            let (found, result) = scan(path, &mut watch);
            let real = found.files.into_values().next();
            let content = result.and_then(|()| {
                let real = real.ok_or_else(|| std::io::Error::other("it is a folder, and must be a file"))?;
                Ok(read_file(&real)?.1)
            });
            content.map_err(|source| StartError { path: path.clone(), source })
        });
        // All are looked at, so that all are watched, whichever can not be read.
        let contents: Vec<_> = contents.collect();
        self.watcher = watcher;
        self.complete = complete;
        contents.into_iter().collect()
    }
}
