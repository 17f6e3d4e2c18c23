//! NetworkPolicies between an Envoy Gateway and this program, as far as they say it in labels.

use serde_json::Value;

use super::{Answers, Finding, Installation, service::Target};

/// What is known of both ends of a connection.
struct Ends<'a> {
    /// The labels of this program's pods.
    ours: &'a Value,
    /// The labels of the Envoy Gateway's pods and of their namespace.
    theirs: &'a Value,
    namespace: &'a Value,
    /// Whether that is our own one.
    is_beside: bool,
    /// The port of our pods by its name, and by its number.
    name: &'a str,
    number: u64,
}

/// A NetworkPolicy that keeps the Envoy Gateway out.
pub(super) fn check(installation: &Installation, answers: &Answers, target: &Target, port: &Value) -> Option<Finding> {
    let policies = answers.network_policies.as_ref().ok()?;
    let deployment = answers.own_port()?.deployment;
    let named = |one: &&Value| one["metadata"]["name"] == *deployment.name;
    let template = &answers.deployments.as_ref().ok()?.iter().find(named)?["spec"]["template"];
    let theirs = installation.pod_labels.as_ref()?;
    let namespace = &answers.envoy_gateway_namespace.as_ref().ok()?.as_ref()?["metadata"]["labels"];
    let (name, number) = container_port(template, port)?;
    let ends = Ends {
        ours: &template["metadata"]["labels"],
        theirs,
        namespace,
        is_beside: installation.namespace == target.namespace,
        name,
        number,
    };
    // Several that select a pod let through what any of them does.
    let closed: Vec<&Value> = policies.iter().filter(|policy| guards(policy, ends.ours)).collect();
    if closed.is_empty() || closed.iter().any(|policy| lets_through(policy, &ends)) {
        return None;
    }
    let names: Vec<&str> = closed.iter().filter_map(|policy| policy["metadata"]["name"].as_str()).collect();
    let place = format!("NetworkPolicy {}/{}", target.namespace, names.join(", "));
    Some(
        Finding::error(place, format!("lets no pod of an Envoy Gateway in {} through to port {number}", installation.namespace))
            .effect("where the network enforces it, Envoy Gateway waits for an answer without end, and meanwhile nothing changes in any of its Gateways")
            .remedy("set the chart's envoyGateway.namespace, or networkPolicy.extensionFrom"),
    )
}

/// The port of a container that a port of a Service leads to: its name and its number.
fn container_port<'a>(template: &'a Value, port: &Value) -> Option<(&'a str, u64)> {
    let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
    let containers = template["spec"]["containers"].as_array()?;
    let mut ports = containers.iter().flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let found = ports.find(|one| one["name"] == *target || one["containerPort"] == *target)?;
    Some((found["name"].as_str().unwrap_or_default(), found["containerPort"].as_u64()?))
}

/// Whether a policy is about connections to pods with these labels.
fn guards(policy: &Value, labels: &Value) -> bool {
    let types = policy["spec"]["policyTypes"].as_array();
    types.is_none_or(|types| types.iter().any(|one| one == "Ingress"))
        && selects(&policy["spec"]["podSelector"], labels)
}

fn lets_through(policy: &Value, ends: &Ends<'_>) -> bool {
    let rules = policy["spec"]["ingress"].as_array().into_iter().flatten();
    rules.into_iter().any(|rule| {
        let any = |list: &Value, fits: &dyn Fn(&Value) -> bool| match list.as_array() {
            Some(items) if !items.is_empty() => items.iter().any(fits),
            _ => true,
        };
        any(&rule["ports"], &|port| is_port(port, ends)) && any(&rule["from"], &|peer| is_peer(peer, ends))
    })
}

fn is_port(port: &Value, ends: &Ends<'_>) -> bool {
    let is_tcp = port["protocol"].as_str().is_none_or(|protocol| protocol == "TCP");
    is_tcp
        && match (port["port"].as_u64(), port["endPort"].as_u64()) {
            (Some(first), Some(last)) => (first..=last).contains(&ends.number),
            (Some(number), None) => number == ends.number,
            (None, _) => port["port"].is_null() || port["port"] == ends.name,
        }
}

/// Whether a peer is the Envoy Gateway. Of addresses it is not known whose they are, so they may be its.
fn is_peer(peer: &Value, ends: &Ends<'_>) -> bool {
    if !peer["ipBlock"].is_null() {
        return true;
    }
    let namespace = match &peer["namespaceSelector"] {
        Value::Null => ends.is_beside,
        selector => selects(selector, ends.namespace),
    };
    namespace && (peer["podSelector"].is_null() || selects(&peer["podSelector"], ends.theirs))
}

/// Whether a label selector takes these labels (Kubernetes documentation, "Labels and Selectors").
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(name, value)| labels[name] == *value);
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    equal
        && expressions.all(|expression| {
            let value = &labels[expression["key"].as_str().unwrap_or_default()];
            let listed = expression["values"].as_array().is_some_and(|values| values.contains(value));
            match expression["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => !value.is_null(),
                _ => value.is_null(),
            }
        })
}
