//! Envoy's v3 API as Rust types, generated from [`DESCRIPTORS`].
//!
//! Never holds a rule of ours: only the messages, their type URLs ([`prost::Name`]) and the gRPC services.
#![allow(clippy::all, rustdoc::all)]

pub mod envoy_gateway;

include!(concat!(env!("OUT_DIR"), "/mod.rs"));

/// The encoded `google.protobuf.FileDescriptorSet` of every type in this crate: for canonical JSON and gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("../descriptors.bin");
