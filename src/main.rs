//! The program: reads the command line and hands over.

use std::process::ExitCode;

use clap::Parser;
use tailscale_gateway::{app, config::Config};

/// Gives memory back after a load that many Envoys caused at once, and is quicker than the system's: `bench/README.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    app::run(&Config::parse())
}
