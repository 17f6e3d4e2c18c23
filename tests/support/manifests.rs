//! A folder of manifests that a test fills and changes while the program watches it.

use std::{fs, path::Path};

use tempfile::{NamedTempFile, TempDir};

/// The folder; removed with this value.
#[derive(Debug)]
pub struct Manifests {
    folder: TempDir,
    /// Where files are written before they are moved into the folder: beside it, so that no half-written one is seen.
    staging: TempDir,
}

impl Manifests {
    /// An empty folder.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("manifests-").expect("a temporary folder can be made");
        let staging = TempDir::with_prefix("staging-").expect("a temporary folder can be made");
        Self { folder, staging }
    }

    /// A folder with these files: name and content.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let manifests = Self::new();
        for (name, content) in files {
            manifests.write(name, content);
        }
        manifests
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes or replaces a file in one step, as careful editors do. `name` may contain folders.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let target = self.folder.path().join(name);
        fs::create_dir_all(target.parent().expect("a file in the folder")).expect("the folder can be written");
        let staged = NamedTempFile::new_in(self.staging.path()).expect("the staging folder can be written");
        fs::write(staged.path(), content).expect("the staging folder can be written");
        staged.persist(target).expect("a file can be moved within one file system");
    }

    /// Overwrites a file where it is, as careless programs do: whoever watches may see it half-written.
    pub fn write_in_place(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).expect("the folder can be written");
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.folder.path().join(name)).expect("the file is there");
    }
}
