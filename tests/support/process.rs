//! A program that runs beside the test and never outlives it.
//!
//! It is killed by its own process id when the guard is dropped, and by the kernel when the test process dies. Everything it
//! prints is kept; a failing test shows it.
#![allow(clippy::print_stderr, reason = "the output of a child belongs into the report of the failed test")]

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::wait::{until, within};

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Mutex<Child>,
    output: Arc<Output>,
}

/// What a program printed so far, both streams in the order in which the lines arrived.
#[derive(Debug)]
struct Output {
    lines: Mutex<Vec<String>>,
    /// How many lines there are, and how many of the two streams are still open.
    progress: watch::Sender<(usize, usize)>,
}

impl Process {
    /// Starts a program. `name` is what reports call it.
    ///
    /// # Panics
    /// When it can not be started.
    pub fn spawn(name: impl Into<String>, command: Command) -> Self {
        let name = name.into();
        let what = format!("{command:?}");
        let mut child = match spawn_on_lasting_thread(dying_with_parent(command)) {
            Ok(child) => child,
            Err(error) => panic!("{name} does not start: {error}\n{what}"),
        };
        let output = Arc::new(Output { lines: Mutex::default(), progress: watch::Sender::new((0, 2)) });
        read_lines(child.stdout.take().expect("standard output is piped"), output.clone());
        read_lines(child.stderr.take().expect("standard error is piped"), output.clone());
        Self { name, child: Mutex::new(child), output }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// Everything it printed so far.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.output.lines).clone()
    }

    /// Waits for a line that contains `part` and returns it; one that was printed earlier counts.
    ///
    /// # Panics
    /// When the program ends without having printed one, or the deadline passes.
    pub async fn wait_for_line(&self, part: &str) -> String {
        let search = async {
            let mut progress = self.output.progress.subscribe();
            let mut seen = 0;
            loop {
                let (_, open) = *progress.borrow_and_update();
                let lines = self.lines();
                if let Some(line) = lines[seen..].iter().find(|line| line.contains(part)) {
                    return line.clone();
                }
                assert!(open > 0, "{} ended without a line that contains {part:?}", self.name);
                seen = lines.len();
                progress.changed().await.expect("this value keeps the sender");
            }
        };
        within(&format!("{} to print {part:?}", self.name), search).await
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal; nothing happens when it has ended already.
    pub fn signal(&self, signal: Signal) {
        let mut child = lock(&self.child);
        // As long as the status was not fetched, the kernel gives the process id to nobody else.
        if matches!(child.try_wait(), Ok(None)) {
            let _ended_meanwhile = kill_process(Pid::from_child(&child), signal);
        }
    }

    /// How it ended, when it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().expect("the process is our child")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When the deadline passes.
    pub async fn wait(&self) -> ExitStatus {
        until(&format!("{} to end", self.name), async || self.ended().ok_or("it still runs".to_owned())).await
    }

    /// # Panics
    /// When it has ended.
    pub fn assert_running(&self) {
        if let Some(status) = self.ended() {
            panic!("{} ended: {status}", self.name);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let status = lock(&self.child).wait();
        if thread::panicking() {
            eprintln!("---- output of {} ({status:?}) ----", self.name);
            for line in lock(&self.output.lines).iter() {
                eprintln!("{line}");
            }
            eprintln!("---- end of the output of {} ----", self.name);
        }
    }
}

/// The command behind util-linux's `setpriv --pdeathsig KILL` where there is one. It replaces itself by the program, which
/// so keeps the process id.
pub(super) fn dying_with_parent(command: Command) -> Command {
    let Some(setpriv) = ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().find(|path| Path::new(path).exists()) else {
        return command;
    };
    let mut wrapper = Command::new(setpriv);
    wrapper.args(["--pdeathsig", "KILL", "--"]);
    wrapped(wrapper, command)
}

/// A command that is given another one after its own arguments, with the other's environment and folder.
pub(super) fn wrapped(mut wrapper: Command, command: Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(key, value),
            None => wrapper.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapper.current_dir(folder);
    }
    wrapper
}

/// Spawns on one thread that lasts as long as the test process: the kernel's "parent" that a child dies with is the thread
/// that made it, and threads of tests come and go.
fn spawn_on_lasting_thread(mut command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in received {
                let _nobody_waits = reply.send(command.spawn());
            }
        });
        orders
    });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (reply, spawned) = mpsc::channel();
    spawner.send((command, reply)).expect("the spawner never ends");
    spawned.recv().expect("the spawner answers every order")
}

/// Reads a stream to its end on a thread of its own.
fn read_lines(stream: impl Read + Send + 'static, output: Arc<Output>) {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            lock(&output.lines).push(text);
            output.progress.send_modify(|(lines, _)| *lines += 1);
            line.clear();
        }
        output.progress.send_modify(|(_, open)| *open -= 1);
    });
}

/// A lock whose holder panicked still guards whole values: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
