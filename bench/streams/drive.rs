//! Starts a server in a process of its own, opens streams to it, and measures: what an idle stream costs it in memory, how
//! long a change takes until every stream has it, and the processor time it costs the server until all is quiet again.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use super::{
    Result,
    client::{self, Received},
};

/// Measured changes of each kind, at most and at least.
const ROUNDS: (usize, usize) = (30, 5);
/// No new change of a kind after this long.
const BUDGET: Duration = Duration::from_secs(10);
/// A server is quiet when it used no processor time for this long.
const QUIET: Duration = Duration::from_millis(60);

/// Measures a server and prints the result as a line of JSON.
#[expect(clippy::print_stdout, reason = "the result is the purpose")]
pub(crate) fn drive(command: &[String], streams: usize) -> Result {
    let mut server = Server::start(command)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let address = server.address;
        let received = Arc::new(Received::default());
        let mut tasks = JoinSet::new();
        let (clusters, listeners) = client::cluster_names(address).await?;
        let clusters = Arc::new(clusters);
        let each = 2 * clusters.len() + listeners + 1;
        let connect = |tasks: &mut JoinSet<Result>, from: usize, to: usize| {
            for number in from..to {
                tasks.spawn(client::run(address, number, Arc::clone(&clusters), Arc::clone(&received)));
            }
        };
        // The first few make the server allocate what it needs once.
        let first = streams.div_ceil(10).min(10);
        connect(&mut tasks, 0, first);
        all_have(&received, &mut tasks, first * each).await?;
        let few = server.memory()?;
        let began = Instant::now();
        connect(&mut tasks, first, first + streams);
        all_have(&received, &mut tasks, (first + streams) * each).await?;
        let loaded = began.elapsed();
        let many = server.memory()?;
        let mut result = json!({
            "streams": streams, "clusters": clusters.len(), "load_ms": loaded.as_secs_f64() * 1e3,
            "bytes_per_stream": many.saturating_sub(few) / streams as u64,
        });
        for kind in ["endpoint", "route"] {
            result[kind] = changes(&mut server, kind, first + streams, &received, &mut tasks).await?;
        }
        let after = server.memory()?;
        result["bytes_per_stream_after_changes"] = (after.saturating_sub(few) / streams as u64).into();
        tasks.abort_all();
        Result::Ok(result)
    })?;
    println!("{result}");
    runtime.shutdown_background();
    server.stop()
}

/// Waits until all streams together have this many resources. Fails when a stream ends.
async fn all_have(received: &Received, tasks: &mut JoinSet<Result>, resources: usize) -> Result {
    tokio::select! {
        () = received.resources_are(resources) => Ok(()),
        Some(ended) = tasks.join_next() => Err(ended?.err().unwrap_or_else(|| "a stream ended".into())),
    }
}

/// Changes something again and again, each time waiting until all streams have it and the server is quiet.
async fn changes(
    server: &mut Server,
    kind: &str,
    streams: usize,
    received: &Received,
    tasks: &mut JoinSet<Result>,
) -> Result<serde_json::Value> {
    let mut times = Vec::new();
    let mut processor = Vec::new();
    let budget = Instant::now();
    let (at_most, at_least) = ROUNDS;
    // The first is not counted.
    for round in 0..=at_most {
        server.quiet().await?;
        let before = (received.responses(), server.processor_time()?);
        let began = Instant::now();
        server.say(kind)?;
        tokio::select! {
            () = received.responses_are(before.0 + streams) => {}
            Some(ended) = tasks.join_next() => return Err(ended?.err().unwrap_or_else(|| "a stream ended".into())),
        }
        let took = began.elapsed();
        server.quiet().await?;
        if received.responses() != before.0 + streams {
            return Err(format!("{kind}: {} responses to {streams} streams", received.responses() - before.0).into());
        }
        if round > 0 {
            times.push(took.as_secs_f64() * 1e3);
            processor.push((server.processor_time()? - before.1).as_secs_f64() * 1e3);
        }
        if round >= at_least && budget.elapsed() > BUDGET {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize];
    Ok(json!({
        "rounds": times.len(), "median_ms": at(0.5), "p10_ms": at(0.1), "p90_ms": at(0.9),
        "processor_ms": processor.iter().sum::<f64>() / processor.len() as f64,
    }))
}

/// A server in a process of its own.
struct Server {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(command: &[String]) -> Result<Self> {
        let [program, arguments @ ..] = command else { return Err("no server".into()) };
        let mut process = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take().expect("it is piped");
        let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("the server's first line is {line:?}"))?;
        Ok(Self { process, input, output, address })
    }

    fn say(&mut self, line: &str) -> Result {
        writeln!(self.input, "{line}")?;
        Ok(self.input.flush()?)
    }

    /// Its resident memory in bytes, once it gave back what it can.
    fn memory(&mut self) -> Result<u64> {
        self.say("collect")?;
        self.output.read_line(&mut String::new())?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the process has no memory")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }

    /// What it used of the processors until now, by the scheduler's own account.
    fn processor_time(&self) -> Result<Duration> {
        let mut sum = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let running = times.split_whitespace().next().ok_or("an empty schedstat")?;
            sum += running.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Waits until it has nothing to do.
    async fn quiet(&self) -> Result {
        loop {
            let before = self.processor_time()?;
            tokio::time::sleep(QUIET).await;
            if self.processor_time()? - before < QUIET / 20 {
                return Ok(());
            }
        }
    }

    /// Ends it: it reads to the end of its input.
    fn stop(self) -> Result {
        let Self { mut process, input, output, .. } = self;
        drop((input, output));
        process.wait()?;
        Ok(())
    }
}
