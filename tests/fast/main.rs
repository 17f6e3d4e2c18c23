//! The fast tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(unreachable_pub, reason = "nothing in a test binary is reached from outside")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/xds_play.rs"]
mod xds_play;
#[path = "../support/xds_script.rs"]
mod xds_script;
mod xds_support;
#[path = "../support/xds_world.rs"]
mod xds_world;

mod admin;
mod api;
mod api_refusals;
mod bootstrap;
mod certificates;
mod cli;
mod cluster_status;
mod compile_route;
mod crds;
mod dump;
mod extension;
mod features;
mod file_set;
mod files;
mod golden;
mod identity;
mod identity_rotation;
mod identity_trust;
mod layers;
mod manifest;
mod operator;
mod operator_steps;
mod oracle;
mod original;
mod packaging;
mod parameters;
mod pipeline;
mod preflight;
mod status_merge;
mod telemetry;
mod watch;
mod work;
mod xds_cost;
mod xds_delta;
mod xds_model;
mod xds_order;
mod xds_programmed;
mod xds_server;
mod xds_services;
mod xds_sotw;
mod xds_tls;
mod xds_wire;
