//! All Kubernetes objects as data: Gateway API, Kubernetes' own kinds, and ours with their CRDs.
//!
//! Parses, validates and fills in defaults; never decides what an object means, and imports nothing of ours but `model`.

mod crds;
mod definition;
mod duration;
mod explain;
pub mod gateway_api;
mod kubernetes;
mod object;
mod owned;
mod parse;
mod path;
pub mod patterns;
mod schema;
pub mod tailscale;

pub use crds::{crd_files, crds, crds_yaml};
pub use definition::CustomResourceDefinition;
pub use duration::{Duration, InvalidDuration};
pub use gateway_api::*;
pub use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, LabelSelector, LabelSelectorRequirement, ObjectMeta, Time},
        util::intstr::IntOrString,
    },
};
pub use kubernetes::file_findings;
pub use object::{Object, Observed};
pub use owned::{OwnedNews, OwnedObject};
pub use parse::{Finding, Parsed, parse};
pub use tailscale::*;
