//! The xDS protocol: what a stream asked for, what it was sent and accepted, and what it is sent next.
//!
//! The machines here are pure: they are told requests, snapshots and the time, and are asked for the next response. They
//! never read a clock, never wait, never see a byte of the wire and never write one but a resource's own.

mod compose;
mod delta;
mod message;
mod names;
mod order;
mod sotw;
mod state;
mod status;
mod stream;
mod subscription;

pub use delta::DeltaStream;
pub use message::{
    DeltaRequest, ErrorDetail, Event, Kind, Nonce, Options, Refused, Release, Response, Scope, SotwRequest,
};
pub use names::{NameSet, NameSets};
pub use sotw::SotwStream;
pub use status::{ClientState, LastNack, ResourceStatus, TypeStatus};
pub use stream::Machine;
