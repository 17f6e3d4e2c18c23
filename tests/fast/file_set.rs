//! Files that belong together, watched. Each test makes a change and waits until it has arrived.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tailscale_gateway::source::FileSet;
use tempfile::TempDir;

use crate::support::wait::within;

/// Waits until the files hold these texts; what comes between is left aside.
async fn until_holds(files: &mut FileSet, wanted: &[&str]) {
    let search = async {
        loop {
            let contents = files.next().await.expect("the watching thread lives");
            if contents.is_ok_and(|contents| texts(&contents) == wanted) {
                return;
            }
        }
    };
    within(&format!("the files to hold {wanted:?}"), search).await;
}

fn texts(contents: &[Vec<u8>]) -> Vec<&str> {
    contents.iter().map(|content| std::str::from_utf8(content).unwrap()).collect()
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
}

/// As kubelet does it: a folder with the new files, and a link that is replaced in one step.
fn mount(volume: &Path, generation: &str, certificate: &str, key: &str) {
    let folder = volume.join(format!("..{generation}"));
    fs::create_dir_all(&folder).unwrap();
    write(&folder.join("tls.crt"), certificate);
    write(&folder.join("tls.key"), key);
    symlink(format!("..{generation}"), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
}

#[tokio::test]
async fn files_are_read_again_when_they_are_written_renamed_over_or_back_again() {
    let folder = TempDir::with_prefix("set-").unwrap();
    let (a, b) = (folder.path().join("a.pem"), folder.path().join("b"));
    write(&a, "a1");
    write(&b, "b1");
    let (first, mut files) = FileSet::start(vec![a.clone(), b.clone()]).unwrap();
    assert_eq!(texts(&first), ["a1", "b1"]);
    write(&a, "a2");
    until_holds(&mut files, &["a2", "b1"]).await;
    let new = folder.path().join("new");
    write(&new, "b2");
    fs::rename(&new, &b).unwrap();
    until_holds(&mut files, &["a2", "b2"]).await;

    fs::remove_file(&a).unwrap();
    let gone = within("word of the missing file", files.next()).await.unwrap().unwrap_err();
    assert_eq!(gone.to_string(), format!("{}: there is no such file or folder", a.display()));
    write(&b, "b3");
    write(&a, "a3");
    until_holds(&mut files, &["a3", "b3"]).await;
}

#[tokio::test]
async fn the_files_of_a_mounted_secret_are_followed_through_every_exchange() {
    let folder = TempDir::with_prefix("set-").unwrap();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    mount(&volume, "1", "c1", "k1");
    let (first, mut files) = FileSet::start(vec![volume.join("tls.crt"), volume.join("tls.key")]).unwrap();
    assert_eq!(texts(&first), ["c1", "k1"]);
    for generation in 2..6 {
        let (certificate, key) = (format!("c{generation}"), format!("k{generation}"));
        mount(&volume, &generation.to_string(), &certificate, &key);
        fs::remove_dir_all(volume.join(format!("..{}", generation - 1))).unwrap();
        until_holds(&mut files, &[&certificate, &key]).await;
    }
}

#[test]
fn files_that_are_not_there_at_the_start_are_an_error_that_names_them() {
    let folder = TempDir::with_prefix("set-").unwrap();
    write(&folder.path().join("a"), "");
    let start = |second: PathBuf| FileSet::start(vec![folder.path().join("a"), second]).unwrap_err().to_string();
    let missing = folder.path().join("b");
    assert_eq!(start(missing.clone()), format!("{}: there is no such file or folder", missing.display()));
    assert!(start(folder.path().to_owned()).ends_with("it is a folder, and must be a file"));
}
