#![doc = include_str!("ARCHITECTURE.md")]

pub mod model;

pub mod api;
pub mod gateways;
pub mod identity;
pub mod store;

pub mod compile;
pub mod extension;
pub mod operator;
pub mod preflight;
pub mod snapshot;
pub mod status;
pub mod xds;

pub mod pipeline;
pub mod source;

pub mod admin;
pub mod app;
pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod dump;
pub mod kubernetes;
pub mod metrics;
pub mod security;
pub mod telemetry;
