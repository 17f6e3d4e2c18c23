//! The fast tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod api;
mod api_refusals;
mod crds;
mod dump;
mod original;
mod telemetry;
mod xds_wire;
#[path = "../support/mod.rs"]
mod support;

mod bootstrap;
mod cli;
mod files;
mod manifest;
mod watch;
