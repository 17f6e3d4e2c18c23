//! What the README leads with works: `make run`, and the three lines that it prints.

use std::process::Command;

use crate::support::{ports::Port, process::Process, tools::repository};

#[tokio::test]
async fn the_three_lines_that_make_run_prints_answer_200() {
    let (xds, admin, envoy_admin) = (Port::lease(), Port::lease(), Port::lease());
    let mut command = Command::new(repository().join("tools/run"));
    command.args(["--check", "--binary", env!("CARGO_BIN_EXE_tailscale-gateway")]);
    for (flag, port) in [("--xds-port", &xds), ("--admin-port", &admin), ("--envoy-admin-port", &envoy_admin)] {
        command.arg(flag).arg(port.number().to_string());
    }
    let run = Process::spawn("tools/run --check", command);
    let status = run.wait().await;
    assert!(status.success(), "{status}");
    let answered = run.lines().iter().filter(|line| line.starts_with("200  curl ")).count();
    assert_eq!(answered, 3);
}
