//! Reads files, and reads them again when they change: the IO around [`FileWorld`].
//!
//! Never decides which object counts and never looks into a file.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::SystemTime,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    FileWorld, Located,
    manifest::{MAX_FILE_BYTES, too_large},
    scan::{Scan, is_manifest, scan},
    signal::{Dirty, POLL, Signal, gather, new_watcher},
};
use crate::{model::ObjectKey, store::Change};

/// What is new.
#[derive(Debug, Default)]
pub struct SourceUpdate {
    /// The objects that changed, each once.
    pub changes: Vec<Change>,
    /// Everything that is wrong with the files now, by file and place.
    pub problems: Vec<Located>,
}

/// A path that nothing can be read from.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), reason(source))]
pub struct StartError {
    /// The path, as it was given.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        _ => error.to_string(),
    }
}

/// Files that are watched. Dropping it ends the watch.
#[derive(Debug)]
pub struct FileSource {
    updates: tokio::sync::mpsc::Receiver<SourceUpdate>,
    signals: mpsc::Sender<Signal>,
}

impl FileSource {
    /// Reads everything under a path (or the one file it is), and goes on to watch it. Blocks while it reads.
    ///
    /// Should the path itself go away later, everything it gave stays, with a problem that says so, until it is back.
    ///
    /// # Errors
    ///
    /// When the path is not there or can not be read at all. A file under it that can not is only a problem.
    pub fn start(path: &Path) -> Result<(SourceUpdate, FileSource), StartError> {
        let (signals, inbox) = mpsc::channel();
        let mut tree = Tree::new(path.to_owned(), Some(signals.clone()));
        let mut changes = Batch::default();
        tree.look_at_all(&Dirty::default(), &mut changes)
            .map_err(|source| StartError { path: path.to_owned(), source })?;
        let first = SourceUpdate { changes: changes.into_changes(), problems: tree.problems() };
        let known = first.problems.clone();
        // Of one element: while it is not taken, what happens meanwhile becomes the next update.
        let (sender, updates) = tokio::sync::mpsc::channel(1);
        thread::Builder::new()
            .name("file-source".to_owned())
            .spawn(move || run(tree, &inbox, &sender, known))
            .map_err(|source| StartError { path: path.to_owned(), source })?;
        Ok((first, FileSource { updates, signals }))
    }

    /// Waits for the next update. Nothing comes only if the watching thread has died, which is a bug.
    pub async fn next(&mut self) -> Option<SourceUpdate> {
        self.updates.recv().await
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        // The thread may have ended already; then there is no one to tell.
        let _ = self.signals.send(Signal::Stop);
    }
}

/// Reads everything under some paths, once. What stands under two of them is read once.
///
/// # Errors
///
/// When one of the paths is not there or can not be read at all.
pub fn read_all(paths: &[PathBuf]) -> Result<FileWorld, StartError> {
    let mut world = FileWorld::new();
    let mut seen = HashSet::new();
    for path in paths {
        let failed = |source| StartError { path: path.clone(), source };
        let (found, result) = scan(path, &mut |_| {});
        result.map_err(failed)?;
        for (path, message) in found.unreadable {
            world.unreadable(&path, message);
        }
        for (path, real) in found.files {
            if seen.insert(real.clone()) {
                match read_file(&real) {
                    Ok((_, content)) => drop(world.load(&path, &content)),
                    Err(error) => drop(world.unreadable(&path, error.to_string())),
                }
            }
        }
    }
    Ok(world)
}

fn run(
    mut tree: Tree,
    inbox: &mpsc::Receiver<Signal>,
    updates: &tokio::sync::mpsc::Sender<SourceUpdate>,
    mut known: Vec<Located>,
) {
    while let Some(dirty) = gather(inbox, tree.unwatched.is_some()) {
        let mut changes = Batch::default();
        tree.look(&dirty, &mut changes);
        let (changes, problems) = (changes.into_changes(), tree.problems());
        if changes.is_empty() && problems == known {
            continue;
        }
        known.clone_from(&problems);
        if updates.blocking_send(SourceUpdate { changes, problems }).is_err() {
            return;
        }
    }
}

/// A path, what is known of the files under it, and what they say.
struct Tree {
    root: PathBuf,
    world: FileWorld,
    found: Scan,
    known: BTreeMap<PathBuf, Known>,
    /// Why the root can not be looked at, when that is so.
    root_problem: Option<String>,
    /// Why not everything is watched, when that is so.
    unwatched: Option<String>,
    /// Where the watcher reports to; nothing when this is not watched.
    signals: Option<mpsc::Sender<Signal>>,
    /// Kept because it ends when it is dropped.
    watcher: Option<RecommendedWatcher>,
}

/// How a file looked when it was read last.
struct Known {
    real: PathBuf,
    stamp: Stamp,
    hash: u128,
}

/// What tells, without reading it, that a file is another one or has been written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    identity: (u64, u64, i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            // The time of the last change of the inode can not be set back as that of the content can.
            #[cfg(unix)]
            identity: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Tree {
    fn new(root: PathBuf, signals: Option<mpsc::Sender<Signal>>) -> Self {
        Self {
            root,
            world: FileWorld::new(),
            found: Scan::default(),
            known: BTreeMap::new(),
            root_problem: None,
            unwatched: None,
            signals,
            watcher: None,
        }
    }

    fn problems(&self) -> Vec<Located> {
        let about_root = |message: &String| Located::whole_file(self.root.as_path(), message.clone());
        let mut problems = self.world.problems();
        problems.extend(self.root_problem.iter().map(about_root));
        problems.extend(self.unwatched.iter().map(about_root));
        problems.sort();
        problems
    }

    /// Looks at what may have changed.
    fn look(&mut self, dirty: &Dirty, changes: &mut Batch) {
        let mut touched = Vec::new();
        for path in &dirty.paths {
            match self.judge(path) {
                Touch::Nothing => {}
                Touch::File(display) => touched.push((display, path)),
                Touch::Tree => return self.look_again(dirty, changes),
            }
        }
        if dirty.lost || dirty.poll {
            return self.look_again(dirty, changes);
        }
        // What has gone goes last: an object that moved to another file is never missing.
        let (present, gone): (Vec<_>, Vec<_>) =
            touched.into_iter().partition(|(_, real)| fs::symlink_metadata(real).is_ok_and(|found| found.is_file()));
        for (path, real) in present {
            self.read(&path, real, changes);
        }
        for (path, _) in gone {
            self.forget(&path, changes);
        }
    }

    fn look_again(&mut self, dirty: &Dirty, changes: &mut Batch) {
        self.root_problem = match self.look_at_all(dirty, changes) {
            Ok(()) => None,
            Err(error) => Some(format!("{}; what it held before stays in force", reason(&error))),
        };
    }

    /// What it means that something happened at a real path.
    fn judge(&self, path: &Path) -> Touch {
        if self.found.turns.contains(path) || self.found.folders.contains_key(path) {
            return Touch::Tree;
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Touch::Nothing };
        let Some(folder) = self.found.folders.get(folder) else { return Touch::Nothing };
        if name.as_encoded_bytes().starts_with(b".") {
            return Touch::Nothing;
        }
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() || metadata.is_dir() => Touch::Tree,
            // A socket or a pipe: looking at the tree says so, and never opens it.
            Ok(metadata) if !metadata.is_file() && is_manifest(name) => Touch::Tree,
            _ if is_manifest(name) => Touch::File(folder.join(name)),
            _ => Touch::Nothing,
        }
    }

    /// Finds everything anew, and reads what is new or has changed.
    ///
    /// # Errors
    ///
    /// When the root can not be read. Then nothing has changed but what is watched.
    fn look_at_all(&mut self, dirty: &Dirty, changes: &mut Batch) -> io::Result<()> {
        // A new watcher each time: a watch follows the folder it was made for, and not the path, so that after folders
        // and links have been moved about nobody can say what the old one watches.
        let mut unwatched = None;
        let mut watcher = self.signals.as_ref().and_then(|signals| {
            new_watcher(signals.clone()).inspect_err(|error| unwatched = Some(error.to_string())).ok()
        });
        let mut watched = HashSet::new();
        let (found, result) = scan(&self.root, &mut |folder| {
            if let Some(watcher) = &mut watcher
                && watched.insert(folder.to_owned())
                && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
                // What is gone already is reported by the folder it was in.
                && !matches!(error.kind, notify::ErrorKind::PathNotFound)
            {
                unwatched = Some(format!("{}: {error}", folder.display()));
            }
        });
        self.watcher = watcher;
        self.unwatched = unwatched.map(|error| {
            format!("not all changes are reported ({error}), so that they are looked for every {} s", POLL.as_secs())
        });
        self.found = found;
        result?;

        let files = self.found.files.clone();
        for (path, real) in &files {
            if dirty.lost || dirty.paths.contains(real) || !self.is_known(path, real) {
                self.read(path, real, changes);
            }
        }
        let unreadable = std::mem::take(&mut self.found.unreadable);
        for (path, message) in &unreadable {
            self.known.remove(path);
            changes.add(self.world.unreadable(path, message.as_str()));
        }
        // What stood in a folder that can not be entered now is not known to be gone.
        let gone: Vec<PathBuf> = self
            .world
            .paths()
            .filter(|path| !files.contains_key(*path) && !unreadable.iter().any(|(shut, _)| path.starts_with(shut)))
            .map(Path::to_owned)
            .collect();
        for path in gone {
            self.forget(&path, changes);
        }
        Ok(())
    }

    /// Whether a file looks as it did when it was read last.
    fn is_known(&self, path: &Path, real: &Path) -> bool {
        self.known.get(path).is_some_and(|known| {
            known.real == real && fs::metadata(real).is_ok_and(|metadata| Stamp::of(&metadata) == known.stamp)
        })
    }

    fn read(&mut self, path: &Path, real: &Path, changes: &mut Batch) {
        match read_file(real) {
            Ok((stamp, content)) => {
                let hash = xxh3_128(&content);
                let known = Known { real: real.to_owned(), stamp, hash };
                let before = self.known.insert(path.to_owned(), known);
                if before.is_none_or(|before| before.hash != hash) {
                    changes.add(self.world.load(path, &content));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.forget(path, changes),
            Err(error) => {
                self.known.remove(path);
                changes.add(self.world.unreadable(path, error.to_string()));
            }
        }
    }

    fn forget(&mut self, path: &Path, changes: &mut Batch) {
        self.known.remove(path);
        changes.add(self.world.remove(path));
    }
}

/// What it means that something happened somewhere.
enum Touch {
    /// Nothing.
    Nothing,
    /// This file may have changed, come or gone.
    File(PathBuf),
    /// Anything may have.
    Tree,
}

/// Changes on their way, the last one for each object.
#[derive(Default)]
struct Batch(BTreeMap<ObjectKey, Change>);

impl Batch {
    fn add(&mut self, changes: Vec<Change>) {
        for change in changes {
            let key = match &change {
                Change::Upsert(object) => object.key(),
                Change::Remove(key) => key.clone(),
            };
            self.0.insert(key, change);
        }
    }

    fn into_changes(self) -> Vec<Change> {
        self.0.into_values().collect()
    }
}

/// The content of a file, and how it looked just before it was read.
pub(super) fn read_file(path: &Path) -> io::Result<(Stamp, Vec<u8>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(too_large(metadata.len())));
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    // One byte more than is allowed is enough to see that the file has grown too large meanwhile.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    Ok((Stamp::of(&metadata), content))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: a}}";

    /// A folder that nobody watches, so that nothing but the test says that something happened.
    fn unwatched() -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut tree = Tree::new(folder.path().to_owned(), None);
        tree.look_at_all(&Dirty::default(), &mut Batch::default()).expect("it can be read");
        (folder, tree)
    }

    fn look(tree: &mut Tree, dirty: &Dirty) -> usize {
        let mut changes = Batch::default();
        tree.look(dirty, &mut changes);
        changes.into_changes().len()
    }

    #[test]
    fn when_events_are_lost_everything_is_looked_at_and_read_again() {
        let (folder, mut tree) = unwatched();
        let file = folder.path().join("a.yaml");
        fs::write(&file, NAMESPACE).expect("written");
        assert_eq!(look(&mut tree, &Dirty::default()), 0, "nobody said so");
        assert_eq!(look(&mut tree, &Dirty { lost: true, ..Dirty::default() }), 1);
        // Nothing shows that the file is another one: as if it had been written twice within one tick of the clock.
        fs::write(&file, NAMESPACE.replace("name: a", "name: b")).expect("written");
        let stamp = Stamp::of(&fs::metadata(&file).expect("it is there"));
        tree.known.get_mut(&file).expect("it is known").stamp = stamp;
        assert_eq!(look(&mut tree, &Dirty { poll: true, ..Dirty::default() }), 0, "it looks the same");
        assert_eq!(look(&mut tree, &Dirty { lost: true, ..Dirty::default() }), 2, "one comes, one goes");
    }

    #[test]
    fn where_nothing_can_be_watched_a_look_now_and_then_finds_what_looks_different() {
        let (folder, mut tree) = unwatched();
        let file = folder.path().join("a.yaml");
        let poll = Dirty { poll: true, ..Dirty::default() };
        fs::write(&file, NAMESPACE).expect("written");
        assert_eq!(look(&mut tree, &poll), 1);
        assert_eq!(look(&mut tree, &poll), 0);
        fs::remove_file(&file).expect("removed");
        assert_eq!(look(&mut tree, &poll), 1);
    }
}
