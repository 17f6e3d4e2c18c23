//! The fast tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/xds_script.rs"]
mod xds_script;
mod xds_support;
#[path = "../support/xds_world.rs"]
mod xds_world;

mod admin;
mod api;
mod api_refusals;
mod bootstrap;
mod cli;
mod crds;
mod dump;
mod files;
mod manifest;
mod original;
mod telemetry;
mod watch;
mod work;
mod xds_delta;
mod xds_order;
mod xds_server;
mod xds_services;
mod xds_sotw;
mod xds_wire;
