//! The words that all layers share: keys, xDS names, problems and what the compiler found out about each object.
//!
//! Never imports another module of ours, and never does anything but name and describe.

mod key;
mod name;
mod problem;
mod report;

pub use key::{Kind, ObjectKey, ObjectName};
pub use name::{
    AUTHORITIES, ClusterName, DomainBucket, RouteTableName, XDS_AUTHORITIES, XDS_CERTIFICATE, XDS_CLUSTER,
    endpoint_route_name, http_route_name, listener_name, preflight_route_name, secret_name,
};
pub use problem::{Problem, Reason, Severity};
pub use report::{
    ClassReport, Details, EndpointDetails, GatewayReport, ListenerReport, ObjectReport, ParentReport, ParentTarget,
    Programmed, Report, RouteReport, TargetDetails,
};
