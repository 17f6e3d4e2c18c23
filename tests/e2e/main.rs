//! Real programs together: the tests that start an Envoy, our own binary, and clients that are not ours.

#![allow(unreachable_pub, reason = "nothing in a test binary is reached from outside")]

mod site;
#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod bad_input;
mod bootstrap;
mod bootstraps;
mod chart;
mod cli;
mod compiled_routes;
mod continuity;
mod endpoints;
mod envoys;
mod golden;
mod grpc_client;
mod kube_cluster;
mod kube_crds;
mod kube_extension;
mod kube_identity;
mod kube_provision;
mod kube_quickstart;
mod kube_serve;
mod mtls;
mod permissions;
mod preflight;
mod process;
mod quickstart;
mod readme;
mod routing;
mod support_itself;
