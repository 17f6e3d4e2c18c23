#![doc = include_str!("ARCHITECTURE.md")]

pub mod api;
pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod model;
pub mod snapshot;
pub mod source;
pub mod store;
