//! The fast tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod api;
mod api_refusals;
mod crds;
mod dump;
mod original;
mod admin;
mod support;
mod telemetry;
mod xds_server;
mod xds_services;
mod xds_wire;
#[path = "../support/mod.rs"]

mod bootstrap;
mod cli;
mod files;
mod manifest;
mod watch;
#[path = "../support/xds_script.rs"]
mod xds_script;
#[path = "../support/xds_world.rs"]
mod xds_world;

mod xds_delta;
mod xds_order;
mod xds_sotw;
