//! The xDS protocol: what a stream asked for, what it was sent and accepted, and what it is sent next.
//!
//! The machines here are pure: they are told requests, snapshots and the time, and are asked for the next response. They
//! never read a clock, never wait, never see a byte of the wire and never write one but a resource's own. [`server`] and what
//! it uses ([`wire`], `frames`, `conversation`, [`node`], [`registry`], [`tls`], `csds`) are all the IO there is.
//!
//! Resources have no lifetime (`ttl`, `xds.md` P45): none that is compiled needs one, as an Envoy that lost its control plane keeps what
//! it has. So there are no heartbeats either.

pub mod access;
mod compose;
mod conversation;
mod csds;
mod delta;
mod frames;
mod message;
mod names;
pub mod node;
mod order;
pub mod registry;
pub mod server;
mod small_frames;
mod sotw;
mod state;
mod status;
mod stream;
mod subscription;
pub mod tls;
pub mod wire;

pub use access::{Caller, Denied};
pub use delta::DeltaStream;
pub use message::{
    DeltaRequest, ErrorDetail, Event, Kind, Nonce, Options, Refused, Release, Response, Scope, SotwRequest,
};
pub use names::{NameSet, NameSets};
pub use node::NodeInfo;
pub use registry::Registry;
pub use server::{ServerOptions, serve};
pub use sotw::SotwStream;
pub use status::{Agreement, ClientState, LastNack, ResourceStatus, Summary, TypeStatus};
pub use stream::Machine;
pub use tls::{Tls, TlsError};
