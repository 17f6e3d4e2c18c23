//! The extension server of an Envoy Gateway: what it asks when it has made the configuration of one of its Gateways, and the
//! answers, which put tailnet routes and clusters in.
//!
//! [`hooks`] and what it uses are pure: a message and what the pipeline last published go in, changes to the message come out.
//! [`server`] is the IO. A handler takes no lock that a writer holds, and waits for nobody unless an Envoy Gateway knows of more
//! than this replica does ([`behind`]). [`revisions`] have an Envoy Gateway ask again.

mod calls;
mod cluster;
pub mod hooks;
mod likely;
mod metadata;
mod policy;
pub mod revisions;
mod route;
pub mod server;
pub mod splice;
mod tls;
mod translate;
mod unary;
mod virtual_host;

pub use calls::{Call, Calls, Failure};
pub use hooks::{Answer, Hook, Outcome, answer, behind, echo};
pub use revisions::{
    Found, Revisions,
    folder::RevisionFolder,
    run::{Place, RevisionNews},
};
pub use server::{Bound, ServerOptions, serve};
pub use splice::Malformed;
pub use tls::{TlsError, server_config};
