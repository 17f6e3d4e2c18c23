//! Programs whose clock is wrong, as a machine's is when nobody sets it, or for which time passes faster than it does.

use std::{fs, path::Path, process, process::Command, sync::OnceLock};

use super::tools::{repository, stdout};

/// The environment in which a program's wall clock is wrong by so many seconds.
///
/// # Panics
/// When there is no C compiler, without which nothing here could have been built.
pub fn wrong_by(seconds: i64) -> Vec<(String, String)> {
    preloaded("TSGW_TEST_CLOCK_SECONDS", seconds.to_string())
}

/// The environment in which a quarter of an hour passes for a program as soon as there is a file of this name.
///
/// # Panics
/// As [`wrong_by`].
pub fn later(file: &Path) -> Vec<(String, String)> {
    preloaded("TSGW_TEST_CLOCK_LATER", file.to_str().expect("its path is UTF-8").to_owned())
}

fn preloaded(variable: &str, value: String) -> Vec<(String, String)> {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(folder).expect("the folder for temporary files can be written");
        let (made, library) = (folder.join(format!("clock-{}.so", process::id())), folder.join("clock.so"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&made).arg(repository().join("tests/support/clock.c"));
        stdout(compiler.output().expect("cc can be started"), "cc");
        // In one step: another test process may be using it.
        fs::rename(made, &library).expect("the folder can be written");
        library.to_str().expect("the folder has a name in UTF-8").to_owned()
    });
    let pair = |name: &str, value: String| (name.to_owned(), value);
    vec![pair("LD_PRELOAD", library.clone()), pair(variable, value)]
}
