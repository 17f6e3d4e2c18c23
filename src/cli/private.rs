//! Files that their owner alone can read, each replaced in one step.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Writes a file in a folder, which is made if it is not there. Whoever watches the folder sees the new file come whole.
pub(super) fn write_private(folder: &Path, name: &str, content: &str) -> io::Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!(".{name}.new")));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    remove_if_there(&new)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)
}

/// Removes a file, if there is one.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
