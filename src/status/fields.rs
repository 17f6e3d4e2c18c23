//! What the statuses of our kinds say besides conditions.
//!
//! The names are the original operator's (`original-operator.md` §1). Its required numbers always stand there; what nobody
//! knows yet is 0 or `Unknown`, and what it never filled in truthfully is left out.

use serde_json::{Map, Value, json};

use crate::model::{Details, EndpointDetails, Kind, TargetDetails};

/// The fields of an object's status.
pub(super) fn fields(kind: Kind, details: &Details) -> Map<String, Value> {
    let fields = match details {
        Details::None => json!({}),
        Details::Endpoints(endpoints) => json!({
            "discoveredEndpoints": 0,
            "totalEndpoints": endpoints.len(),
            // Envoys check the endpoints, and nobody asks them what they found.
            "healthyEndpoints": 0,
            "unhealthyEndpoints": 0,
            "endpointStatus": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        }),
        Details::Tailnets { names, egress_routes } => json!({
            "tailnetStatus": names
                .iter()
                .map(|name| json!({"name": &**name, "discoveredServices": 0}))
                .collect::<Vec<_>>(),
            "generatedRoutes": {"ingressRoutes": 0, "egressRoutes": egress_routes},
        }),
        Details::Targets(targets) => json!({"appliedTo": targets.iter().map(target).collect::<Vec<_>>()}),
        Details::Backends(count) if kind == Kind::TailscaleServices => {
            json!({"totalBackends": count, "healthyBackends": 0, "unhealthyBackends": 0})
        }
        Details::Backends(count) => json!({"totalBackends": count, "healthyBackends": 0}),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn endpoint(endpoint: &EndpointDetails) -> Value {
    let mut status = json!({
        "name": endpoint.name,
        "tailscaleIP": endpoint.tailscale_ip,
        "healthStatus": "Unknown",
        "discoverySource": "Manual",
        "weight": endpoint.weight,
    });
    if !endpoint.tags.is_empty() {
        status["tags"] = json!(endpoint.tags);
    }
    if let Some(target) = &endpoint.external_target {
        status["externalTarget"] = json!(target);
    }
    status
}

fn target(target: &TargetDetails) -> Value {
    let mut reference = json!({"group": target.group, "kind": target.kind, "name": target.name});
    if let Some(namespace) = &target.namespace {
        reference["namespace"] = json!(namespace);
    }
    json!({"targetRef": reference, "applied": false, "status": "Pending", "message": "policies are not acted on yet"})
}
