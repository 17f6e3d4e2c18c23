//! The fast tests, in one binary.

#[path = "../support/mod.rs"]
mod support;

mod bootstrap;
mod cli;
mod files;
mod manifest;
mod watch;
