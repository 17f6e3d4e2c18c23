//! Which manifest files stand under a path, through whatever links, and what has to be watched to know of changes.
//!
//! Never reads a file and never changes one.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsStr,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// As many links may lead to one place: Linux's own limit (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// What is wrong with a socket, a pipe or a device that is named like a manifest. None of these is ever opened: that may wait
/// for ever.
const NEITHER: &str = "it is neither a file nor a folder";

/// What stands under a path.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The files to read: as the user would write the path, and where it really is. No real file stands here twice.
    pub(super) files: BTreeMap<PathBuf, PathBuf>,
    /// The folders: where each really is, and as the user would write it.
    pub(super) folders: BTreeMap<PathBuf, PathBuf>,
    /// Real paths that decide what all the others mean: links on the way to something, and where they end.
    pub(super) turns: BTreeSet<PathBuf>,
    /// What can not be entered or read, as the user would write it, and why. What is under it is not known.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

/// Looks through everything under `root`, or at `root` alone if it is a file.
///
/// `watch` is called for every folder in which something may happen that matters, and before it is looked at: so nothing
/// that happens later is missed.
///
/// Hidden files and folders are left out, and with them editors' temporary files and the inner folders of a mounted
/// ConfigMap (its visible names are links into them), and so are files that are not named `*.yaml`, `*.yml` or `*.json`.
///
/// When `root` itself is not there or can not be read, the error stands beside what there is to watch for its return.
pub(super) fn scan(root: &Path, watch: &mut dyn FnMut(&Path)) -> (Scan, io::Result<()>) {
    let mut scanner = Scanner { found: Scan::default(), real_files: BTreeSet::new(), links: VecDeque::new(), watch };
    let result = scanner.root(root);
    while let Some((path, link)) = scanner.links.pop_front() {
        scanner.link(path, &link);
    }
    (scanner.found, result)
}

/// Whether a file of this name is read when it stands in a folder.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let path = Path::new(name);
    // Kustomize's instructions are no object, and have a name of their own.
    let is_kustomization = path.file_stem().is_some_and(|stem| stem == "kustomization");
    let extension = path.extension().unwrap_or_default();
    !is_hidden(name)
        && !is_kustomization
        && ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

struct Scanner<'a> {
    found: Scan,
    real_files: BTreeSet<PathBuf>,
    /// Links that are looked at when everything is found that stands where it seems to: what is reached both ways has its
    /// plain name.
    links: VecDeque<(PathBuf, PathBuf)>,
    watch: &'a mut dyn FnMut(&Path),
}

impl Scanner<'_> {
    fn root(&mut self, root: &Path) -> io::Result<()> {
        let real = self.follow(root)?;
        // Its coming, going and replacement show in the folder it is in.
        self.turn(real.clone());
        let metadata = fs::metadata(&real)?;
        if metadata.is_dir() {
            fs::read_dir(&real)?;
            self.folder(root, real);
        } else if metadata.is_file() {
            self.file(root.to_owned(), real);
        } else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, NEITHER));
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, real: PathBuf) {
        if self.found.folders.contains_key(&real) {
            return;
        }
        (self.watch)(&real);
        let entries = fs::read_dir(&real).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        self.found.folders.insert(real, path.to_owned());
        let mut entries = match entries {
            Ok(entries) => entries,
            // Gone between being seen and being entered: there will be word of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.found.unreadable.push((path.to_owned(), error.to_string())),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            if is_hidden(&name) {
                continue;
            }
            let path = path.join(&name);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.folder(&path, entry.path()),
                Ok(kind) if kind.is_symlink() => self.links.push_back((path, entry.path())),
                Ok(_) if !is_manifest(&name) => {}
                Ok(kind) if kind.is_file() => self.file(path, entry.path()),
                Ok(_) => self.found.unreadable.push((path, NEITHER.to_owned())),
                Err(error) => self.found.unreadable.push((path, error.to_string())),
            }
        }
    }

    fn file(&mut self, path: PathBuf, real: PathBuf) {
        if self.real_files.insert(real.clone()) {
            self.found.files.insert(path, real);
        }
    }

    fn link(&mut self, path: PathBuf, link: &Path) {
        let target = self.follow(link).and_then(|real| Ok((fs::metadata(&real)?, real)));
        match target {
            Ok((metadata, real)) if metadata.is_dir() => {
                self.turn(real.clone());
                self.folder(&path, real);
            }
            Ok(_) if !path.file_name().is_some_and(is_manifest) => {}
            Ok((metadata, real)) => {
                self.turn(real.clone());
                match metadata.is_file() {
                    true => self.file(path, real),
                    false => self.found.unreadable.push((path, NEITHER.to_owned())),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let target = fs::read_link(link).map(|target| format!(" to {}", target.display())).unwrap_or_default();
                self.found.unreadable.push((path, format!("it is a link{target}, and there is nothing")));
            }
            Err(error) => self.found.unreadable.push((path, error.to_string())),
        }
    }

    /// Where a path really is. Every link on the way, and the first thing that is missing, is noted.
    fn follow(&mut self, path: &Path) -> io::Result<PathBuf> {
        let path = std::path::absolute(path)?;
        let mut real = PathBuf::new();
        let mut links = 0;
        let mut rest: VecDeque<PathBuf> = parts(&path);
        while let Some(part) = rest.pop_front() {
            match part.components().next() {
                Some(Component::ParentDir) => drop(real.pop()),
                Some(Component::Normal(_)) => {
                    let next = real.join(&part);
                    let metadata = match fs::symlink_metadata(&next) {
                        Ok(metadata) => metadata,
                        Err(error) => {
                            self.turn(next);
                            return Err(error);
                        }
                    };
                    if !metadata.is_symlink() {
                        real = next;
                        continue;
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::other("too many links lead to one another"));
                    }
                    // Watched first, so that the target that is read is the last one, or there is word of a later one.
                    self.turn(next.clone());
                    for part in parts(&fs::read_link(&next)?).into_iter().rev() {
                        rest.push_front(part);
                    }
                }
                // A root or a drive: the way begins anew.
                Some(_) => real.push(&part),
                None => {}
            }
        }
        Ok(real)
    }

    fn turn(&mut self, real: PathBuf) {
        if let Some(folder) = real.parent() {
            (self.watch)(folder);
        }
        self.found.turns.insert(real);
    }
}

fn parts(path: &Path) -> VecDeque<PathBuf> {
    path.components()
        .filter(|component| !matches!(component, Component::CurDir))
        .map(|component| PathBuf::from(component.as_os_str()))
        .collect()
}
