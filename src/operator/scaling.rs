//! How many pods there are: at most so many missing while nodes are drained, and as many as their load needs.

use serde_json::{Value, json};

use super::Source;
use crate::model::OwnedKind;

/// The share of the requested CPU that pods use on average, in percent.
const DEFAULT_TARGET_CPU: u32 = 80;

pub(super) fn disruption_budget(source: &Source<'_>) -> Value {
    let budget = source.parameters.pod_disruption_budget.clone().unwrap_or_default();
    let mut spec = json!({
        "selector": { "matchLabels": source.common.selector() },
        // A pod that is not ready serves nobody, so it may go.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    });
    match (budget.min_available, budget.max_unavailable) {
        (Some(min), _) => spec["minAvailable"] = json!(min),
        (None, Some(max)) => spec["maxUnavailable"] = json!(max),
        (None, None) => spec["maxUnavailable"] = json!(1),
    }
    json!({ "metadata": source.metadata(), "spec": spec })
}

pub(super) fn autoscaler(source: &Source<'_>) -> Option<Value> {
    let scaling = source.parameters.autoscaling.as_ref()?;
    let target = scaling.target_cpu.unwrap_or(DEFAULT_TARGET_CPU);
    Some(json!({
        "metadata": source.metadata(),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": OwnedKind::Deployment.api_version(),
                "kind": OwnedKind::Deployment.as_str(),
                "name": &*source.objects.name,
            },
            "minReplicas": scaling.min_replicas.unwrap_or_else(|| scaling.max_replicas.min(super::pods::DEFAULT_REPLICAS)),
            "maxReplicas": scaling.max_replicas,
            "metrics": [{
                "type": "Resource",
                "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": target } },
            }],
        },
    }))
}
