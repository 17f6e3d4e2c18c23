//! The cases in `tests/golden/translate` and `tests/golden/operator`: manifests, and what becomes of them.
//!
//! One file for each: documents, the line `# Output`, and the rest. Comments at the beginning of a line may say
//!
//! * `# Shown: Route Cluster`: the types of resource whose content the file records; all of them when it does not say;
//! * `# Flags: --privileged-ports --in-cluster`: how the program is started.

use std::{fs, path::PathBuf};

use super::tools::repository;

/// The line between the documents and what becomes of them.
const MARK: &str = "\n# Output\n";

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its file.
    pub path: PathBuf,
    /// The file's name.
    pub name: String,
    /// The documents, comments included.
    pub input: String,
    /// What the file says becomes of them.
    pub output: String,
    /// The types of resource that it shows, if not all.
    pub shown: Option<Vec<String>>,
    /// With which flags.
    pub flags: Vec<String>,
}

impl Case {
    /// The text of the file with another output.
    pub fn text(&self, output: &str) -> String {
        format!("{}{MARK}{output}", self.input)
    }
}

/// All cases of `translate`, by name.
pub fn cases() -> Vec<Case> {
    cases_in("translate")
}

/// All cases in a folder of `tests/golden`, by name.
///
/// # Panics
/// When there are none.
pub fn cases_in(folder: &str) -> Vec<Case> {
    let folder = repository().join("tests/golden").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let mut cases: Vec<Case> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).map(read).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "{} has no cases", folder.display());
    cases
}

fn read(path: PathBuf) -> Case {
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (input, output) = text.split_once(MARK).unwrap_or((text.trim_end(), ""));
    let words = |label: &str| {
        let line = input.lines().find_map(|line| line.strip_prefix(label))?;
        Some(line.split_whitespace().map(str::to_owned).collect())
    };
    Case {
        name: path.file_name().expect("a file of a folder").to_string_lossy().into_owned(),
        shown: words("# Shown:"),
        flags: words("# Flags:").unwrap_or_default(),
        input: input.to_owned(),
        output: output.to_owned(),
        path,
    }
}
