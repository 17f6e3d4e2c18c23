//! A test with a network of its own: for programs whose ports can not be chosen, such as an Envoy Gateway's.
//!
//! The test binary starts itself again for that one test, in a new network namespace in which there is loopback and nothing
//! else. Where it may not make one, such tests run one after the other on the machine's own ports, which then must be free.

use std::{
    any::type_name,
    env,
    fs::{self, File},
    process::Command,
};

use tokio::runtime::Builder;

use super::{process::dying_with_parent, tools};

/// Says to the started test that it is alone; its value is the test's name.
const MARK: &str = "TSGW_ALONE";

/// Brings loopback up (`SIOCSIFFLAGS`, `IFF_UP`) and goes on as the command behind it: `ip` is not on every machine.
const LOOPBACK_UP: &str = "
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as of_any_kind:
    fcntl.ioctl(of_any_kind, 0x8914, struct.pack('16sH14x', b'lo', 1))
os.execv(sys.argv[1], sys.argv[1:])
";

/// Runs `body`, which is all of the test function `test`, with a network of its own.
///
/// # Panics
/// When it fails there.
pub fn alone<T: Fn()>(_test: T, body: impl Future<Output = ()>) {
    let (_crate, name) = type_name::<T>().split_once("::").expect("a test function has a path");
    if env::var(MARK).is_ok_and(|mark| mark == name) {
        return Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(body);
    }
    let this = env::current_exe().expect("the test binary knows where it is");
    let test = [this.to_str().expect("its path is text"), "--exact", name, "--nocapture", "--test-threads=1"];
    let namespace = [&["--net"][..], &["--user", "--map-root-user", "--net"]].into_iter().find(|flags| {
        let made = Command::new("unshare").args(*flags).arg("true").output();
        made.is_ok_and(|made| made.status.success())
    });
    let (mut command, _one_after_the_other) = match namespace {
        Some(flags) => {
            let mut command = Command::new("unshare");
            command.args(flags).args(["--", "python3", "-c", LOOPBACK_UP]).args(test);
            (command, None)
        }
        None => {
            let mut command = Command::new(test[0]);
            command.args(&test[1..]);
            (command, Some(turn()))
        }
    };
    command.env(MARK, name);
    let done = dying_with_parent(command).output().expect("unshare and python3, or the test, can be started");
    let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    // The harness says 1 when the name is right.
    let ran = out.contains("test result: ok. 1 passed");
    assert!(done.status.success() && ran, "{name}, in its namespace: {}\n{out}\n{errors}", done.status);
}

/// Waits for its turn, which lasts as long as the file.
fn turn() -> File {
    let folder = tools::cache();
    fs::create_dir_all(&folder).expect("the cache folder can be written");
    let file = File::create(folder.join("alone")).expect("a lock file can be written");
    file.lock().expect("the file can be locked");
    file
}
