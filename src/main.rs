//! The program: reads the command line and hands over.

use std::process::ExitCode;

use clap::Parser;
use tailscale_gateway::{app, config::Config};

fn main() -> ExitCode {
    app::run(&Config::parse())
}
