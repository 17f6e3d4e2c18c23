//! What Envoys are served: encoded resources, and for each Gateway one persistent map per type.
//!
//! Never asks the compiler for anything: it is told what changed. Never decides what a stream gets: `xds` does.

mod body;
mod cache;
mod hosted;
mod proxyless;
mod published;
mod rendering;
mod resource;
mod segment;
mod type_url;
mod view;

pub use body::Body;
pub use cache::{Snapshot, SnapshotCache, SnapshotWatch, ViewChange};
pub use hosted::{
    Hosted, HostedChange, HostedCluster, HostedGateway, HostedListener, HostedRoute, HostedRule, HostedShare,
    InjectedRoute, Pointer,
};
pub use published::PublishedHosted;
pub use rendering::Rendering;
pub use resource::{References, Resource, Version};
pub use segment::{Pieces, Segment};
pub use type_url::TypeUrl;
pub use view::{Step, TypeView, steps_shared_and_made};
