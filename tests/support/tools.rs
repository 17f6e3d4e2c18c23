//! Where the programs are that `make tools` fetches and builds.
//!
//! It fetches nothing: a tool that is not there fails the test that needs it, with the remedy.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

/// The folder for what outlives a test run, shared by all clones: `$XDG_CACHE_HOME/tailscale-gateway`, or the same under
/// `~/.cache`.
pub fn cache() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = base.unwrap_or_else(|| Path::new(&env::var_os("HOME").expect("$HOME is set")).join(".cache"));
    base.join("tailscale-gateway")
}

/// The file `inside` of the package that `tools/requirements/NAME.txt` pins.
///
/// # Panics
/// When it was not fetched.
pub fn tool(requirements: &str, inside: &str) -> PathBuf {
    let mut fetch = Command::new("python3");
    fetch.arg(repository().join("tools/fetch")).args(["--print", requirements]);
    let place = PathBuf::from(stdout(fetch.output().expect("python3 runs"), "tools/fetch --print").trim());
    let file = place.join(inside);
    assert!(file.exists(), "{} is not there: run `make tools`", file.display());
    file
}

/// The program, or the folder, that `tools/build` makes under this name.
///
/// # Panics
/// When it was not made.
pub fn build(name: &str) -> PathBuf {
    /// Where they are: asking a script for each start of a program would take longer than some programs run.
    static FOUND: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let found = found.get_or_insert_default();
    if let Some(place) = found.get(name) {
        return place.clone();
    }
    let mut print = Command::new("python3");
    print.arg(repository().join("tools/build")).args(["--print", name]);
    let place = PathBuf::from(stdout(print.output().expect("python3 runs"), "tools/build --print").trim());
    assert!(place.exists(), "{} is not there: run `make tools`", place.display());
    found.insert(name.to_owned(), place.clone());
    place
}

/// A `python3` that can import grpc.
pub fn python_with_grpc() -> Command {
    let package = tool("grpcio", "grpc");
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", package.parent().expect("a folder inside the package's folder"));
    python
}

/// The root of the source tree.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a program printed.
///
/// # Panics
/// When it failed, with what it wrote to standard error.
pub fn stdout(output: Output, what: &str) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("the program prints UTF-8")
}
