//! The fast tests, in one binary.

mod admin;
mod dump;
mod support;
mod telemetry;
mod xds_server;
mod xds_services;
mod xds_wire;
