//! The words that all layers share: keys, xDS names, problems and what the compiler found out about each object.
//!
//! Never imports another module of ours, and never does anything but name and describe.

mod infrastructure;
mod key;
mod name;
mod pem;
mod problem;
mod report;
mod revision;
mod shortened;

pub use infrastructure::{
    APPLIED_ANNOTATION, COMPONENT, COMPONENT_LABEL, GATEWAY_NAME_LABEL, HOSTED_COMPONENT, MANAGED_BY, MANAGED_BY_LABEL,
    OwnedKey, OwnedKind, client_certificate_name, gateway_label, hosted_certificate_name, infrastructure_name,
};
pub use key::{BUNDLE_VERSION_ANNOTATION, Kind, ObjectKey, ObjectName};
pub use name::{
    ADMIN_CLUSTER, AUTHORITIES, ClusterName, FOREIGN_AUTHORITIES, GATEWAY_HEADER, PROBES_LISTENER, RouteTableName,
    ServedTable, TABLE_HEADER, Traffic, XDS_AUTHORITIES, XDS_CERTIFICATE, XDS_CLUSTER, backend_of_rule_cluster,
    endpoint_route_name, foreign_backend_name, foreign_listener_of, foreign_part_name, foreign_passing_name,
    foreign_port_of, foreign_rule_name, hosted_cluster_key, http_route_name, is_endpoint_route,
    is_shared_backend_cluster, listener_name, pointer_authorities_name, pointer_name, preflight_route_name,
    rule_cluster_of, secret_name, section_of, table_part_name, virtual_host_name,
};
pub use pem::{pem_problem, pem_section, private_key_problem};
pub use problem::{Problem, Reason, Severity};
pub use report::{
    ClassReport, Details, Edition, EndpointDetails, GatewayReport, ListenerReport, ObjectReport, ParentReport,
    ParentTarget, Programmed, Report, RouteReport, Said, TargetDetails,
};
pub use revision::GatewayRevision;
pub use shortened::shortened;
