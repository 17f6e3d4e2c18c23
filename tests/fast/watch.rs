//! Folders that change while they are watched. Each test makes a change and waits until it has arrived.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use tailscale_gateway::{
    source::{FileSource, FileWorld, SourceUpdate, manifest::MAX_FILE_BYTES, read_all},
    store::Change,
};
use tempfile::TempDir;

use super::files::namespace;

/// How long a change may take on the slowest machine before the test gives up.
const DEADLINE: Duration = Duration::from_secs(60);

/// A folder that is watched, and what has been told of it.
struct Watched {
    root: PathBuf,
    source: FileSource,
    objects: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Watched {
    fn start(root: &Path) -> Self {
        let (first, source) = FileSource::start(root).expect("it can be read");
        let mut watched = Self { root: root.to_owned(), source, objects: BTreeMap::new(), problems: Vec::new() };
        watched.take(first);
        watched
    }

    fn take(&mut self, update: SourceUpdate) {
        for change in update.changes {
            match change {
                Change::Upsert(object) => {
                    let labels = object.metadata().labels.clone().unwrap_or_default();
                    self.objects.insert(object.key().name.to_string(), labels.get("is").cloned().unwrap_or_default());
                }
                Change::Remove(key) => {
                    let was = self.objects.remove(&key.name.to_string());
                    assert!(was.is_some(), "{key} was never there");
                }
            }
        }
        let root = format!("{}/", self.root.display());
        self.problems = update.problems.iter().map(|problem| problem.to_string().replace(&root, "")).collect();
    }

    /// Such as `a=1 b=2`.
    fn says(&self) -> String {
        self.objects.iter().map(|(name, label)| format!("{name}={label}")).collect::<Vec<_>>().join(" ")
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            match tokio::time::timeout(DEADLINE, self.source.next()).await {
                Ok(update) => self.take(update.expect("the watching thread lives")),
                Err(_) => panic!("{what} did not come; it says {:?} and {:#?}", self.says(), self.problems),
            }
        }
    }

    async fn until_says(&mut self, objects: &str) {
        self.until(objects, |now| now.says() == objects && now.problems.is_empty()).await;
    }

    async fn until_problem(&mut self, begins: &str) {
        self.until(begins, |now| now.problems.iter().any(|problem| problem.starts_with(begins))).await;
    }
}

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::with_prefix("files-").expect("a temporary folder can be made");
    let root = folder.path().join("root");
    fs::create_dir(&root).expect("it can be written");
    (folder, root)
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).expect("it can be written");
}

/// As an editor does it: the new content is a new file with the old name.
fn replace(path: &Path, content: &str) {
    let new = path.with_file_name(".new~");
    write(&new, content);
    fs::rename(new, path).expect("it can be renamed");
}

#[tokio::test]
async fn everything_under_the_path_is_read_but_hidden_and_temporary_files() {
    let (_keep, root) = folder();
    fs::create_dir_all(root.join("sub/deeper")).expect("made");
    fs::create_dir(root.join(".git")).expect("made");
    for (path, name) in [
        ("a.yaml", "a"),
        ("b.yml", "b"),
        ("C.YAML", "c"),
        ("sub/deeper/d.yaml", "d"),
        (".hidden.yaml", "hidden"),
        (".git/e.yaml", "git"),
        ("f.yaml~", "backup"),
        ("#g.yaml#", "autosave"),
        (".h.yaml.swp", "swap"),
        ("i.txt", "text"),
        ("j", "none"),
    ] {
        write(&root.join(path), namespace(name, "1"));
    }
    write(&root.join("k.Json"), r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"k"}}"#);
    write(&root.join("kustomization.yaml"), "resources: [a.yaml]\n");
    let _socket = UnixListener::bind(root.join("socket")).expect("bound");
    let watched = Watched::start(&root);
    assert_eq!(watched.says(), "a=1 b=1 c=1 d=1 k=");
    assert_eq!(watched.problems, [""; 0]);
}

#[tokio::test]
async fn a_socket_that_is_named_like_a_manifest_is_a_problem_until_a_file_takes_its_place() {
    let (_keep, root) = folder();
    write(&root.join("a.yaml"), namespace("a", "1"));
    let _socket = UnixListener::bind(root.join("b.yaml")).expect("bound");
    symlink("b.yaml", root.join("c.yaml")).expect("linked");
    let mut watched = Watched::start(&root);
    assert_eq!(watched.says(), "a=1");
    let neither = "it is neither a file nor a folder";
    assert_eq!(watched.problems, [format!("b.yaml: {neither}"), format!("c.yaml: {neither}")]);
    replace(&root.join("b.yaml"), &namespace("b", "1"));
    watched.until("the file is read", |watched| watched.says() == "a=1 b=1" && watched.problems.is_empty()).await;
    // One that comes later is told as well.
    let _later = UnixListener::bind(root.join("d.yaml")).expect("bound");
    let told = [format!("d.yaml: {neither}")];
    watched.until("it is told", |watched| watched.says() == "a=1 b=1" && watched.problems == told).await;
    std::fs::remove_file(root.join("d.yaml")).expect("removed");
    watched.until("it is gone", |watched| watched.says() == "a=1 b=1" && watched.problems.is_empty()).await;
}

#[tokio::test]
async fn a_path_that_is_not_there_is_an_error_of_one_line() {
    let (_keep, root) = folder();
    let error = FileSource::start(&root.join("missing")).expect_err("there is nothing").to_string();
    assert_eq!(error, format!("{}/missing: there is no such file or folder", root.display()));
    let _socket = UnixListener::bind(root.join("socket")).expect("bound");
    let error = FileSource::start(&root.join("socket")).expect_err("it is a socket").to_string();
    assert_eq!(error, format!("{}/socket: it is neither a file nor a folder", root.display()));
}

#[tokio::test]
async fn files_that_come_change_and_go_are_told() {
    let (_keep, root) = folder();
    let mut watched = Watched::start(&root);
    write(&root.join("a.yaml"), namespace("a", "1"));
    watched.until_says("a=1").await;
    write(&root.join("a.yaml"), namespace("a", "2"));
    watched.until_says("a=2").await;
    replace(&root.join("a.yaml"), &namespace("a", "3"));
    watched.until_says("a=3").await;
    fs::rename(root.join("a.yaml"), root.join("b.yaml")).expect("renamed");
    write(&root.join("c.yaml"), namespace("c", "1"));
    watched.until_says("a=3 c=1").await;
    fs::remove_file(root.join("b.yaml")).expect("removed");
    watched.until_says("c=1").await;
    fs::rename(root.join("c.yaml"), root.join("c.txt")).expect("renamed");
    watched.until_says("").await;
}

#[tokio::test]
async fn an_object_that_moves_to_another_file_is_never_told_to_be_gone() {
    let (_keep, root) = folder();
    write(&root.join("a.yaml"), namespace("x", "1"));
    let mut watched = Watched::start(&root);
    for (from, to) in [("a.yaml", "b.yaml"), ("b.yaml", "a.yaml")] {
        fs::rename(root.join(from), root.join(to)).expect("renamed");
        write(&root.join("mark.yaml"), namespace("mark", to));
        while watched.objects.get("mark").is_none_or(|mark| mark != to) {
            let update = tokio::time::timeout(DEADLINE, watched.source.next()).await.expect("in time").expect("alive");
            assert!(!update.changes.iter().any(|change| matches!(change, Change::Remove(_))), "{update:?}");
            watched.take(update);
        }
    }
}

#[tokio::test]
async fn a_single_file_is_watched_too_whatever_its_name() {
    let (_keep, root) = folder();
    let file = root.join(".objects");
    write(&file, namespace("a", "1"));
    write(&root.join("other.yaml"), namespace("other", "1"));
    let mut watched = Watched::start(&file);
    assert_eq!(watched.says(), "a=1");
    replace(&file, &namespace("a", "2"));
    watched.until_says("a=2").await;
    write(&file, namespace("b", "1"));
    watched.until_says("b=1").await;
}

#[tokio::test]
async fn content_of_the_same_length_and_time_is_read_again() {
    let (_keep, root) = folder();
    let file = root.join("a.yaml");
    write(&file, namespace("a", "1"));
    let time = fs::metadata(&file).and_then(|metadata| metadata.modified()).expect("it has a time");
    let mut watched = Watched::start(&root);
    write(&file, namespace("a", "2"));
    fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(time)).expect("set");
    watched.until_says("a=2").await;
}

#[tokio::test]
async fn a_half_written_file_is_a_problem_until_it_is_whole() {
    let (_keep, root) = folder();
    let file = root.join("a.yaml");
    write(&file, format!("{}---\n{}", namespace("a", "1"), namespace("b", "1")));
    let mut watched = Watched::start(&root);
    write(&file, format!("{}---\napiVersion: v1\nkind: \"Na", namespace("a", "2")));
    watched.until_problem("a.yaml: line 6, column 7: ").await;
    assert_eq!(watched.says(), "a=2 b=1");
    write(&file, format!("{}---\n{}", namespace("a", "2"), namespace("c", "1")));
    watched.until_says("a=2 c=1").await;
    write(&file, "");
    watched.until_problem("a.yaml: the file has become empty").await;
    assert_eq!(watched.says(), "a=2 c=1");
    write(&file, "# nothing any more\n");
    watched.until_says("").await;
}

#[tokio::test]
async fn folders_that_come_later_are_watched_and_those_that_go_take_their_objects_along() {
    let (_keep, root) = folder();
    let mut watched = Watched::start(&root);
    fs::create_dir_all(root.join("x/y")).expect("made");
    write(&root.join("x/y/a.yaml"), namespace("a", "1"));
    watched.until_says("a=1").await;
    write(&root.join("x/y/a.yaml"), namespace("a", "2"));
    write(&root.join("x/b.yaml"), namespace("b", "1"));
    watched.until_says("a=2 b=1").await;
    fs::rename(root.join("x"), root.join("z")).expect("renamed");
    write(&root.join("z/y/a.yaml"), namespace("a", "3"));
    watched.until_says("a=3 b=1").await;
    fs::remove_dir_all(root.join("z/y")).expect("removed");
    watched.until_says("b=1").await;
    fs::create_dir(root.join("z/y")).expect("made");
    write(&root.join("z/y/a.yaml"), namespace("a", "4"));
    watched.until_says("a=4 b=1").await;
    fs::rename(root.join("z"), root.join(".z")).expect("renamed");
    watched.until_says("").await;
}

#[tokio::test]
async fn a_mounted_config_map_changes_all_at_once_when_its_link_is_swapped() {
    let (_keep, root) = folder();
    let version = |number: u32, files: &[(&str, &str)]| {
        let folder = root.join(format!("..{number}"));
        fs::create_dir(&folder).expect("made");
        for (file, name) in files {
            write(&folder.join(file), namespace(name, &number.to_string()));
        }
        symlink(format!("..{number}"), root.join("..data_tmp")).expect("linked");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
    };
    version(1, &[("a.yaml", "a"), ("b.yaml", "b")]);
    for file in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{file}"), root.join(file)).expect("linked");
    }
    let mut watched = Watched::start(&root);
    assert_eq!(watched.says(), "a=1 b=1");
    version(2, &[("a.yaml", "a"), ("b.yaml", "b")]);
    fs::remove_dir_all(root.join("..1")).expect("removed");
    watched.until_says("a=2 b=2").await;
    // A key less and one more: first the swap, then the visible links.
    version(3, &[("a.yaml", "a"), ("c.yaml", "c")]);
    symlink("..data/c.yaml", root.join("c.yaml")).expect("linked");
    fs::remove_file(root.join("b.yaml")).expect("removed");
    fs::remove_dir_all(root.join("..2")).expect("removed");
    watched.until_says("a=3 c=3").await;
}

#[tokio::test]
async fn links_to_files_and_folders_elsewhere_are_followed_and_watched() {
    let (keep, root) = folder();
    let elsewhere = keep.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("folder")).expect("made");
    write(&elsewhere.join("file"), namespace("a", "1"));
    write(&elsewhere.join("folder/b.yaml"), namespace("b", "1"));
    symlink(elsewhere.join("file"), root.join("a.yaml")).expect("linked");
    symlink("../elsewhere/folder", root.join("sub")).expect("linked");
    let mut watched = Watched::start(&root);
    assert_eq!(watched.says(), "a=1 b=1");
    write(&elsewhere.join("file"), namespace("a", "2"));
    watched.until_says("a=2 b=1").await;
    replace(&elsewhere.join("file"), &namespace("a", "3"));
    write(&elsewhere.join("folder/c.yaml"), namespace("c", "1"));
    watched.until_says("a=3 b=1 c=1").await;
    fs::create_dir(elsewhere.join("other")).expect("made");
    write(&elsewhere.join("other/d.yaml"), namespace("d", "1"));
    symlink("../elsewhere/other", root.join(".tmp")).expect("linked");
    fs::rename(root.join(".tmp"), root.join("sub")).expect("renamed");
    watched.until_says("a=3 d=1").await;
    fs::rename(elsewhere.join("other"), elsewhere.join("gone")).expect("renamed");
    watched.until_problem("sub: it is a link to ../elsewhere/other, and there is nothing").await;
    assert_eq!(watched.says(), "a=3 d=1", "nobody said that the objects are to go");
    fs::rename(elsewhere.join("gone"), elsewhere.join("other")).expect("renamed");
    watched.until_says("a=3 d=1").await;
}

#[tokio::test]
async fn a_link_that_leads_nowhere_is_a_problem_until_it_does() {
    let (_keep, root) = folder();
    symlink("sub/target.yaml", root.join("a.yaml")).expect("linked");
    let mut watched = Watched::start(&root);
    assert_eq!(watched.problems, ["a.yaml: it is a link to sub/target.yaml, and there is nothing"]);
    fs::create_dir(root.join("sub")).expect("made");
    write(&root.join("sub/target.yaml"), namespace("a", "1"));
    watched.until_says("a=1").await;
    fs::remove_file(root.join("sub/target.yaml")).expect("removed");
    fs::remove_file(root.join("a.yaml")).expect("removed");
    watched.until_says("").await;
}

#[tokio::test]
async fn links_in_a_circle_end_and_what_is_reached_twice_counts_once() {
    let (_keep, root) = folder();
    fs::create_dir(root.join("sub")).expect("made");
    write(&root.join("sub/x.yaml"), namespace("x", "1"));
    symlink("..", root.join("sub/up")).expect("linked");
    symlink("sub/x.yaml", root.join("a.yaml")).expect("linked");
    symlink("sub", root.join("again")).expect("linked");
    symlink("self.yaml", root.join("self.yaml")).expect("linked");
    let watched = Watched::start(&root);
    assert_eq!(watched.says(), "x=1");
    assert_eq!(watched.problems, ["self.yaml: too many links lead to one another"]);
}

#[tokio::test]
async fn what_the_path_gave_stays_when_the_path_itself_goes_until_it_is_back() {
    let (keep, root) = folder();
    write(&root.join("a.yaml"), namespace("a", "1"));
    write(&root.join("b.yaml"), namespace("b", "1"));
    let mut watched = Watched::start(&root);
    fs::remove_dir_all(&root).expect("removed");
    let name = root.display().to_string();
    watched
        .until_problem(&format!("{name}: there is no such file or folder; what it held before stays in force"))
        .await;
    let there = |watched: &Watched| watched.objects.contains_key("a");
    assert!(there(&watched));
    let new = keep.path().join("new");
    fs::create_dir(&new).expect("made");
    write(&new.join("a.yaml"), namespace("a", "2"));
    fs::rename(&new, &root).expect("renamed");
    watched.until_says("a=2").await;
    write(&root.join("c.yaml"), namespace("c", "1"));
    watched.until_says("a=2 c=1").await;
}

#[tokio::test]
async fn a_path_that_is_a_link_can_be_pointed_elsewhere() {
    let (keep, root) = folder();
    write(&root.join("a.yaml"), namespace("a", "1"));
    let other = keep.path().join("other");
    fs::create_dir(&other).expect("made");
    write(&other.join("a.yaml"), namespace("a", "2"));
    let link = keep.path().join("current");
    symlink(&root, &link).expect("linked");
    let mut watched = Watched::start(&link);
    assert_eq!(watched.says(), "a=1");
    symlink(&other, keep.path().join("next")).expect("linked");
    fs::rename(keep.path().join("next"), &link).expect("renamed");
    watched.until_says("a=2").await;
    write(&other.join("a.yaml"), namespace("a", "3"));
    watched.until_says("a=3").await;
}

#[tokio::test]
async fn bad_files_are_named_and_the_good_ones_are_served() {
    let (_keep, root) = folder();
    write(&root.join("good.yaml"), namespace("good", "1"));
    write(&root.join("broken.yaml"), "a: [");
    write(&root.join("binary.json"), b"\x7fELF\0\0");
    write(&root.join("unknown.yaml"), "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n");
    write(&root.join("refused.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: Not_A_Name}\n");
    write(&root.join("twice.yaml"), namespace("good", "2"));
    // 10 MB of one object, and a file (of no blocks) that is larger than any that is read.
    write(&root.join("ten.yaml"), format!("{}  \n# {}\n", namespace("ten", "1"), "x".repeat(10 << 20)));
    fs::File::create(root.join("large.yaml")).and_then(|file| file.set_len(MAX_FILE_BYTES + 1)).expect("made");
    let watched = Watched::start(&root);
    assert_eq!(watched.says(), "good=1 ten=1");
    let named: Vec<&str> = watched.problems.iter().filter_map(|problem| problem.split(':').next()).collect();
    let mut files = named.clone();
    files.dedup();
    assert_eq!(files, ["binary.json", "broken.yaml", "large.yaml", "refused.yaml", "twice.yaml", "unknown.yaml"]);
}

#[tokio::test]
async fn hundreds_of_files_at_once_all_arrive() {
    let (keep, root) = folder();
    let mut watched = Watched::start(&root);
    let new = keep.path().join("new");
    fs::create_dir(&new).expect("made");
    for number in 0..300 {
        write(&new.join(format!("{number}.yaml")), namespace(&format!("n{number}"), "1"));
        write(&root.join(format!("{number}.yaml")), namespace(&format!("m{number}"), "1"));
    }
    fs::rename(new, root.join("sub")).expect("renamed");
    watched.until("all", |now| now.objects.len() == 600 && now.problems.is_empty()).await;
    fs::remove_dir_all(root.join("sub")).expect("removed");
    watched.until("half", |now| now.objects.len() == 300).await;
}

#[test]
fn the_same_file_under_two_paths_is_read_once() {
    let (_keep, root) = folder();
    fs::create_dir(root.join("sub")).expect("made");
    write(&root.join("sub/a.yaml"), namespace("a", "1"));
    let names = |world: &FileWorld| world.objects().map(|object| object.key().to_string()).collect::<Vec<_>>();
    let world = read_all(&[root.join("sub/../sub/a.yaml"), root.clone(), root.join("sub")]).expect("read");
    assert_eq!(names(&world), ["Namespace a"]);
    assert!(world.problems().is_empty(), "{:?}", world.problems());
    let error = read_all(&[root.clone(), root.join("none")]).expect_err("there is no such path");
    assert!(error.to_string().ends_with("none: there is no such file or folder"), "{error}");
}
