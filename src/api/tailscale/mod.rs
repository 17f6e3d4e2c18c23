//! Our own kinds, group `gateway.tailscale.com`, as data: the union of what every era of the original operator declared,
//! so that each manifest written for it is accepted. Never decides what a field does.
//!
//! The doc comments of the types become the descriptions of the CRDs, so they speak to those who write manifests.

#![allow(clippy::duplicated_attributes, reason = "printer columns of one kind share types and paths")]

use schemars::{Schema, SchemaGenerator, json_schema};

use super::Duration;

mod endpoint_status;
mod endpoints;
mod gateway;
mod health;
mod parameters;
mod proxy;
mod proxy_group;
mod reference;
mod revision;
mod route_policy;
mod service;
mod services;
mod tailnet;

pub use endpoint_status::*;
pub use endpoints::*;
pub use gateway::*;
pub use health::*;
pub(super) use parameters::PARAMETERS_RULES;
pub use parameters::{
    AccessLogParameters, AccessLogType, Autoscaling, DisruptionParameters, EnvoyLogLevel, IpFamily, IpFamilyPolicy,
    RouteTables, ServiceParameters, ServiceType, TailscaleGatewayParameters, TailscaleGatewayParametersSpec,
    TailscaleGatewayParametersStatus, TrafficPolicy,
};
pub use proxy::*;
pub use proxy_group::*;
pub use reference::*;
pub use revision::*;
pub use route_policy::*;
pub use service::*;
pub use services::*;
pub use tailnet::*;

/// The API group of our own kinds.
pub const TAILSCALE_GROUP: &str = "gateway.tailscale.com";

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn two() -> u32 {
    2
}

fn three() -> u32 {
    3
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn health_path() -> String {
    "/health".into()
}

/// The schema of a list of conditions: one of each type, as `metav1.Condition` limits them.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "Conditions, one of each type.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status last changed from one value to another.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "What is the case, in words.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The metadata.generation that the condition was computed from.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, as one word for programs.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether it is the case.",
                },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "description": "The aspect.",
                },
            },
        },
    })
}
