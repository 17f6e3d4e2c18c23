//! TailscaleGatewayParameters: what the Envoys of a Gateway are created with. Never creates anything.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::{apis::meta::v1::Condition, util::intstr::IntOrString},
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ImagePullPolicy;

/// What the Envoys of a Gateway are created with. Everything has a default that is good without it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.tailscale.com",
    version = "v1alpha1",
    kind = "TailscaleGatewayParameters",
    plural = "tailscalegatewayparameters",
    namespaced,
    category = "tailscale-gateway",
    status = "TailscaleGatewayParametersStatus",
    derive = "PartialEq",
    doc = "What the Envoys of a Gateway are created with. A GatewayClass refers to it in spec.parametersRef, for all of its Gateways, and a Gateway in spec.infrastructure.parametersRef; a field that the Gateway's has wins over the class's.",
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.service.type"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleGatewayParametersSpec {
    /// How many pods; 2 by default. Not together with `autoscaling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<u32>,
    /// As many pods as their load needs, by a HorizontalPodAutoscaler; a fixed number when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Container image of Envoy; that of the operator's settings by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When the image is pulled; Kubernetes' own default when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets with credentials for the image's registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,
    /// CPU and memory of Envoy; by default 100m of CPU and 256Mi of memory are requested, and nothing is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// The Service in front of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceParameters>,
    /// Labels of the nodes that pods may run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that pods put up with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub tolerations: Option<Vec<Toleration>>,
    /// Nodes and pods that pods keep close to or away from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods are spread over nodes and zones; by default over both, where it can be done. An entry without
    /// `labelSelector` is about the Gateway's own pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Annotations for the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_annotations: Option<BTreeMap<String, String>>,
    /// Labels for the pods. Those by which the pods are found can not be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// The least important lines that Envoy logs about itself; `info` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<EnvoyLogLevel>,
    /// A line on Envoy's standard output for each request; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLogParameters>,
    /// How Envoy gets the routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_tables: Option<RouteTables>,
    /// How long a pod that is to end waits for its requests at most, in seconds; 60 by default. It ends as soon as
    /// there have been none for five seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: Option<u32>,
    /// How many pods may be missing while nodes are drained; one by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_disruption_budget: Option<DisruptionParameters>,
}

/// As many pods as their load needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// How many pods at least; 2 by default, or `maxReplicas` if that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: Option<u32>,
    /// How many pods at most.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: u32,
    /// The share of the requested CPU that pods should use on average, in percent; 80 by default.
    #[serde(rename = "targetCPUUtilizationPercentage", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu: Option<u32>,
}

/// The Service in front of the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceParameters {
    /// Who reaches it: `LoadBalancer` (the default), `NodePort` or `ClusterIP`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Annotations for the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Whether traffic from outside may go on to another node (`Cluster`, the default), which hides the client's
    /// address, or not (`Local`). Not with type `ClusterIP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
    /// Which implementation of load balancers is asked; the cluster's default when it is left out. Can not be changed
    /// once the Service exists. With type `LoadBalancer` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub load_balancer_class: Option<String>,
    /// Networks that clients may be in, in CIDR notation; all when it is left out. With type `LoadBalancer` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// Whether a load balancer's ports get node ports too; yes by default. With type `LoadBalancer` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// Whether it has addresses of one family or of both; `SingleStack` is Kubernetes' own default. With another one Envoys
    /// bind `::` for both families, which nodes whose kernel has IPv6 switched off refuse. In a cluster whose Services are
    /// IPv6 first, they do so anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Of which families its addresses are, the first one first; as the cluster has it when it is left out. The first one can
    /// not be changed once the Service exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub ip_families: Option<Vec<IpFamily>>,
}

/// Of how many families the addresses of a Service are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamilyPolicy {
    /// Of one.
    SingleStack,
    /// Of both, where the cluster has both.
    PreferDualStack,
    /// Of both, or there is no Service.
    RequireDualStack,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum IpFamily {
    IPv4,
    IPv6,
}

/// Who reaches a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Clients outside, through a load balancer.
    #[default]
    LoadBalancer,
    /// Clients outside, through a port of every node.
    NodePort,
    /// Clients in the cluster.
    ClusterIP,
}

/// Where traffic that reaches a node goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrafficPolicy {
    /// To any pod.
    Cluster,
    /// To pods on the same node.
    Local,
}

/// Envoy's own log levels, but for `off`, which YAML takes for a boolean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "Envoy's own words")]
pub enum EnvoyLogLevel {
    Trace,
    Debug,
    #[default]
    Info,
    Warning,
    Error,
    Critical,
}

/// How Envoy gets the routes: `Whole` (the default), the routes of a port as one table; `Divided`, each of these in sixteen
/// parts by hostname, so that a changed route costs Envoy a sixteenth. Worth it from about a thousand hostnames on, as every
/// request costs a little more. A change of this replaces the listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RouteTables {
    /// Each route table as one resource.
    #[default]
    Whole,
    /// Each that has more than one hostname in parts, by hostname.
    Divided,
}

/// A line for each request. The operators that a format can have are those of Envoy's documentation ("Access log command
/// operators") that need nothing but a request: names of headers, times, sizes, addresses and TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessLogParameters {
    /// `Text`, a line of text; `Json`, a JSON object; `None` (the default).
    #[serde(rename = "type", default)]
    pub type_: AccessLogType,
    /// The text, with Envoy's command operators such as `%REQ(:PATH)%`; it has to end the line itself. Envoy's default
    /// format when it is left out. With type `Text` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub text: Option<String>,
    /// The members of the JSON object, each a text with Envoy's command operators. A set of usual ones when it is left
    /// out. With type `Json` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 64))]
    pub json: Option<BTreeMap<String, String>>,
}

/// In which form requests are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessLogType {
    /// Not at all.
    #[default]
    None,
    /// As a line of text.
    Text,
    /// As a JSON object on a line.
    Json,
}

/// How many pods may be missing: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionParameters {
    /// How many pods have to stay, as a number or as a percentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_available: Option<IntOrString>,
    /// How many pods may be missing, as a number or as a percentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
}

/// What is known about a TailscaleGatewayParameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleGatewayParametersStatus {
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions")]
    pub conditions: Vec<Condition>,
}

impl TailscaleGatewayParametersSpec {
    /// These parameters where they say something, and the others where they do not. Of `service` each field is looked at
    /// by itself; every other field, lists and maps too, is taken whole. A number of pods takes the place of an autoscaler
    /// and the other way round; the other Service's fields that the type has no use for are left out.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        let counted = self.replicas.is_some() || self.autoscaling.is_some();
        let (replicas, autoscaling) =
            if counted { (self.replicas, self.autoscaling) } else { (base.replicas, base.autoscaling) };
        Self {
            replicas,
            autoscaling,
            image: self.image.or(base.image),
            image_pull_policy: self.image_pull_policy.or(base.image_pull_policy),
            image_pull_secrets: self.image_pull_secrets.or(base.image_pull_secrets),
            resources: self.resources.or(base.resources),
            service: match (self.service, base.service) {
                (Some(ours), Some(base)) => Some(ours.over(base)),
                (ours, base) => ours.or(base),
            },
            node_selector: self.node_selector.or(base.node_selector),
            tolerations: self.tolerations.or(base.tolerations),
            affinity: self.affinity.or(base.affinity),
            topology_spread_constraints: self.topology_spread_constraints.or(base.topology_spread_constraints),
            priority_class_name: self.priority_class_name.or(base.priority_class_name),
            pod_annotations: self.pod_annotations.or(base.pod_annotations),
            pod_labels: self.pod_labels.or(base.pod_labels),
            log_level: self.log_level.or(base.log_level),
            access_log: self.access_log.or(base.access_log),
            route_tables: self.route_tables.or(base.route_tables),
            drain_seconds: self.drain_seconds.or(base.drain_seconds),
            pod_disruption_budget: self.pod_disruption_budget.or(base.pod_disruption_budget),
        }
    }
}

impl ServiceParameters {
    fn over(self, mut base: Self) -> Self {
        let type_ = self.type_.or(base.type_);
        let kind = type_.unwrap_or_default();
        if kind == ServiceType::ClusterIP {
            base.external_traffic_policy = None;
        }
        if kind != ServiceType::LoadBalancer {
            base.load_balancer_class = None;
            base.load_balancer_source_ranges = None;
            base.allocate_load_balancer_node_ports = None;
        }
        if self.ip_family_policy == Some(IpFamilyPolicy::SingleStack) {
            base.ip_families = base.ip_families.filter(|families| families.len() == 1);
        }
        Self {
            type_,
            annotations: self.annotations.or(base.annotations),
            external_traffic_policy: self.external_traffic_policy.or(base.external_traffic_policy),
            load_balancer_class: self.load_balancer_class.or(base.load_balancer_class),
            load_balancer_source_ranges: self.load_balancer_source_ranges.or(base.load_balancer_source_ranges),
            allocate_load_balancer_node_ports: self
                .allocate_load_balancer_node_ports
                .or(base.allocate_load_balancer_node_ports),
            ip_family_policy: self.ip_family_policy.or(base.ip_family_policy),
            ip_families: self.ip_families.or(base.ip_families),
        }
    }
}

/// A rule that no schema can say: where it holds, in CEL for an API server, what to say, and the same in Rust.
pub(in super::super) struct ParametersRule {
    /// The path below `spec`, empty for `spec` itself.
    pub(in super::super) field: &'static str,
    /// In CEL, `self` being the field.
    pub(in super::super) cel: &'static str,
    /// What is wrong when it does not hold.
    pub(in super::super) message: &'static str,
    /// Whether it holds.
    pub(in super::super) holds: fn(&TailscaleGatewayParametersSpec) -> bool,
}

/// What the parameters' fields have to do with each other.
pub(in super::super) const PARAMETERS_RULES: [ParametersRule; 8] = [
    ParametersRule {
        field: "",
        cel: "!(has(self.replicas) && has(self.autoscaling))",
        message: "replicas and autoscaling exclude each other",
        holds: |spec| spec.replicas.is_none() || spec.autoscaling.is_none(),
    },
    ParametersRule {
        field: "autoscaling",
        cel: "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
        message: "minReplicas must be at most maxReplicas",
        holds: |spec| {
            let minimum =
                |scaling: &Autoscaling| scaling.min_replicas.is_none_or(|least| least <= scaling.max_replicas);
            spec.autoscaling.as_ref().is_none_or(minimum)
        },
    },
    ParametersRule {
        field: "service",
        cel: "!has(self.type) || self.type != 'ClusterIP' || !has(self.externalTrafficPolicy)",
        message: "externalTrafficPolicy has no meaning with type ClusterIP",
        holds: |spec| {
            spec.service.as_ref().is_none_or(|service| {
                service.type_ != Some(ServiceType::ClusterIP) || service.external_traffic_policy.is_none()
            })
        },
    },
    ParametersRule {
        field: "service",
        cel: "!has(self.type) || self.type == 'LoadBalancer' || !(has(self.loadBalancerClass) || \
              has(self.loadBalancerSourceRanges) || has(self.allocateLoadBalancerNodePorts))",
        message: "loadBalancerClass, loadBalancerSourceRanges and allocateLoadBalancerNodePorts need type LoadBalancer",
        holds: |spec| {
            spec.service.as_ref().is_none_or(|service| {
                service.type_.unwrap_or_default() == ServiceType::LoadBalancer
                    || (service.load_balancer_class.is_none()
                        && service.load_balancer_source_ranges.is_none()
                        && service.allocate_load_balancer_node_ports.is_none())
            })
        },
    },
    ParametersRule {
        field: "service",
        cel: "!has(self.ipFamilies) || size(self.ipFamilies) < 2 || (has(self.ipFamilyPolicy) && \
              self.ipFamilyPolicy != 'SingleStack')",
        message: "two ipFamilies need ipFamilyPolicy PreferDualStack or RequireDualStack",
        holds: |spec| {
            spec.service.as_ref().is_none_or(|service| {
                service.ip_families.as_ref().is_none_or(|families| families.len() < 2)
                    || service.ip_family_policy.is_some_and(|policy| policy != IpFamilyPolicy::SingleStack)
            })
        },
    },
    ParametersRule {
        field: "accessLog",
        cel: "!has(self.text) || self.type == 'Text'",
        message: "text needs type Text",
        holds: |spec| spec.access_log.as_ref().is_none_or(|log| log.text.is_none() || log.type_ == AccessLogType::Text),
    },
    ParametersRule {
        field: "accessLog",
        cel: "!has(self.json) || self.type == 'Json'",
        message: "json needs type Json",
        holds: |spec| spec.access_log.as_ref().is_none_or(|log| log.json.is_none() || log.type_ == AccessLogType::Json),
    },
    ParametersRule {
        field: "podDisruptionBudget",
        cel: "has(self.minAvailable) != has(self.maxUnavailable)",
        message: "one of minAvailable and maxUnavailable is needed, and not both",
        holds: |spec| {
            spec.pod_disruption_budget
                .as_ref()
                .is_none_or(|budget| budget.min_available.is_some() != budget.max_unavailable.is_some())
        },
    },
];
