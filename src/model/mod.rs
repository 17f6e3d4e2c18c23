//! The words that all layers share: keys, xDS names, problems and what the compiler found out about each object.
//!
//! Never imports another module of ours, and never does anything but name and describe.

mod infrastructure;
mod key;
mod name;
mod problem;
mod report;

pub use infrastructure::{
    APPLIED_ANNOTATION, COMPONENT, COMPONENT_LABEL, GATEWAY_NAME_LABEL, MANAGED_BY, MANAGED_BY_LABEL, OwnedKey,
    OwnedKind, client_certificate_name, gateway_label, infrastructure_name,
};
pub use key::{Kind, ObjectKey, ObjectName};
pub use name::{
    ADMIN_CLUSTER, AUTHORITIES, ClusterName, DomainBucket, PROBES_LISTENER, RouteTableName, XDS_AUTHORITIES,
    XDS_CERTIFICATE, XDS_CLUSTER, endpoint_route_name, http_route_name, listener_name, preflight_route_name,
    secret_name,
};
pub use problem::{Problem, Reason, Severity};
pub use report::{
    ClassReport, Details, EndpointDetails, GatewayReport, ListenerReport, ObjectReport, ParentReport, ParentTarget,
    Programmed, Report, RouteReport, TargetDetails,
};
