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
mod divided_tables;
mod endpoints;
mod envoy_gateway;
mod envoys;
mod extension;
mod extension_port;
mod extension_routes;
mod golden;
mod grpc_client;
mod kube_backends;
mod kube_clocks;
mod kube_cluster;
mod kube_crds;
mod kube_envoy_gateway;
mod kube_extension;
mod kube_identity;
mod kube_installed;
mod kube_provision;
mod kube_quickstart;
mod kube_rights;
mod kube_serve;
mod kube_upgrade;
mod mtls;
mod permissions;
mod preflight;
mod process;
mod quickstart;
mod readme;
mod routing;
mod support_itself;
