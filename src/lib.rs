#![doc = include_str!("ARCHITECTURE.md")]

pub mod model;

pub mod api;
pub mod store;

pub mod compile;
pub mod snapshot;
pub mod status;

pub mod source;

pub mod bootstrap;
pub mod cli;
pub mod config;
