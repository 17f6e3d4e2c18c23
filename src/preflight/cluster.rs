//! What in a cluster keeps an Envoy Gateway from doing what its configuration says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Access, Answers, Configuration, Finding, Installation, STALLED, answers,
    configuration::Declared,
    definitions, kinds, network,
    service::{self, Target},
    tls,
};

/// All that is found.
pub(super) fn check(configuration: &Configuration, installation: &Installation, answers: &Answers) -> Vec<Finding> {
    let mut findings = definitions::check(&answers.definitions);
    findings.extend(served(configuration, answers));
    findings.extend(rights(configuration, installation, answers));
    findings.extend(policies(answers));
    findings.extend(service(configuration, installation, answers));
    findings.extend(tls::check(configuration, installation, answers));
    findings.extend(own_rights(answers));
    findings
}

/// The declared kinds, each once.
fn declared(configuration: &Configuration) -> Vec<Declared> {
    let mut seen = BTreeSet::new();
    let managers = configuration.managers();
    let all = managers.iter().flat_map(|manager| manager.all_kinds());
    all.filter(|one| seen.insert((one.api_version(), one.kind.clone(), one.list))).collect()
}

/// Kinds that the API server does not have.
fn served(configuration: &Configuration, answers: &Answers) -> Vec<Finding> {
    let mut findings = Vec::new();
    for declared in declared(configuration) {
        let name = format!("{} of {}", declared.kind, declared.api_version());
        match answers.find(&declared) {
            Ok(Some(_)) => {}
            Ok(None) => findings.push(
                Finding::error(&declared.place, format!("the API server has no {name}"))
                    .effect(kinds::absent(declared.list))
                    .remedy("apply its CustomResourceDefinition first, or remove it here"),
            ),
            Err(words) => findings.push(
                Finding::warning(&declared.place, format!("it is not known whether there is a {name}: {words}"))
                    .remedy("ask again"),
            ),
        }
    }
    findings
}

const GRANT: &str = "apply manifests/envoy-gateway/rbac.yaml, or set the chart's envoyGateway.rbac.create";

/// What the Envoy Gateway's ServiceAccount may not do.
fn rights(configuration: &Configuration, installation: &Installation, answers: &Answers) -> Vec<Finding> {
    let (mut findings, mut asked) = (Vec::new(), 0);
    let mut unanswered = BTreeSet::new();
    for declared in declared(configuration) {
        let Ok(Some(served)) = answers.find(&declared) else { continue };
        for namespace in answers::namespaces(configuration, served) {
            let (mut to_read, mut to_write) = (Vec::new(), Vec::new());
            for (resource, verb) in answers::verbs(&declared, served) {
                let access = Access {
                    group: declared.group.clone(),
                    resource: resource.clone(),
                    verb: verb.to_owned(),
                    namespace: namespace.clone(),
                    name: None,
                };
                let lacking = if ["list", "watch"].contains(&verb) { &mut to_read } else { &mut to_write };
                match answers.rights.get(&access) {
                    Some(Ok(true)) => asked += 1,
                    Some(Ok(false)) => lacking.push(format!("{verb} {resource}.{}", declared.group)),
                    Some(Err(words)) => drop(unanswered.insert(words.clone())),
                    None => {}
                }
            }
            let place = match &namespace {
                Some(namespace) => format!("{} in {namespace}", installation.account()),
                None => installation.account(),
            };
            if !to_read.is_empty() {
                findings.push(
                    Finding::error(&place, format!("may not {}", to_read.join(", nor ")))
                        .effect("Envoy Gateway waits for objects of the kind, gives up, ends and starts again without end, and nothing changes in any of its Gateways")
                        .remedy(GRANT),
                );
            }
            if !to_write.is_empty() {
                findings.push(
                    Finding::warning(&place, format!("may not {}", to_write.join(", nor ")))
                        .effect("Envoy Gateway does not write what it makes of such a policy, and says so in its log each time")
                        .remedy(GRANT),
                );
            }
        }
    }
    for words in unanswered {
        findings
            .push(Finding::warning(installation.account(), format!("what it may do is not known: {words}")).remedy(
            "allow to create subjectaccessreviews, or see yourself that manifests/envoy-gateway/rbac.yaml is applied",
        ));
    }
    if findings.is_empty() && asked > 0 {
        findings.push(Finding::ok(
            installation.account(),
            "may read all kinds that it is told of, and write the statuses of policies",
        ));
    }
    findings
}

/// Policies without a target, which older definitions let through.
fn policies(answers: &Answers) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((_, kind), objects) in &answers.policies {
        let objects = match objects {
            Ok(objects) => objects,
            Err(words) => {
                let finding = Finding::warning(format!("{kind} objects"), format!("are not looked at: {words}"));
                findings.push(finding.remedy("allow to list them, or see yourself that each has a target"));
                continue;
            }
        };
        for object in objects {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            let place = format!("{kind} {}/{}", text("namespace"), text("name"));
            let spec = &object["spec"];
            let lists = ["targetRef", "targetRefs", "targetSelectors"].map(|field| &spec[field]);
            let finding = if !spec.is_object() || lists.iter().all(|list| list.is_null()) {
                let what = if spec.is_object() { "has no target" } else { "has no spec" };
                Finding::error(place, what).effect("Envoy Gateway stops reading policies there: this one, all behind it, and all of the kinds after it have no effect")
            } else if lists.iter().all(|list| list.is_null() || list.as_array().is_some_and(Vec::is_empty)) {
                Finding::error(place, "has an empty list of targets")
                    .effect("Envoy Gateway ignores it, and says so in its log at each translation")
            } else {
                continue;
            };
            findings.push(finding.remedy("name its targets, or delete it"));
        }
    }
    findings
}

/// The Service that the configuration names.
fn service(configuration: &Configuration, installation: &Installation, answers: &Answers) -> Vec<Finding> {
    let managers = configuration.managers();
    let Some(manager) = managers.iter().find(|manager| manager.ours) else { return Vec::new() };
    let target = service::target(manager, &installation.namespace, &installation.cluster_domain);
    let Some(target) = target else {
        return vec![
            Finding::warning(
                manager.place("service"),
                "names no Service of this cluster, so who answers there is not looked at",
            )
            .remedy("write fqdn: {hostname: tailscale-gateway.tailscale-gateway.svc.cluster.local, port: 5005}"),
        ];
    };
    let Target { namespace, name, port } = &target;
    let place = format!("Service {namespace}/{name}");
    let not_seen = |words: &String| {
        Finding::warning(&place, format!("is not looked at: {words}"))
            .remedy("allow to get services and list endpointslices there, or see yourself that it has ready endpoints")
    };
    let service = match &answers.service {
        Ok(Some(service)) => service,
        Ok(None) => {
            return vec![
                Finding::error(place, "is missing")
                    .effect(STALLED)
                    .remedy("install this program first, or write the name of its Service"),
            ];
        }
        Err(words) => return vec![not_seen(words)],
    };
    let ports = service["spec"]["ports"].as_array();
    let Some(found) = ports.into_iter().flatten().find(|one| one["port"] == *port) else {
        let known: Vec<String> = ports.into_iter().flatten().map(|one| one["port"].to_string()).collect();
        return vec![
            Finding::error(place, format!("has no port {port}, only {}", known.join(", ")))
                .effect(STALLED)
                .remedy("set the chart's extension.enabled, or write the port that it has"),
        ];
    };
    let slices = match &answers.slices {
        Ok(slices) => slices,
        Err(words) => return vec![not_seen(words)],
    };
    let mut findings = match ready(slices, found) {
        0 => vec![
            Finding::error(place, format!("no pod that is ready answers on port {port}"))
                .effect(STALLED)
                .remedy("see why this program is not ready before Envoy Gateway is told of it"),
        ],
        1 => vec![
            Finding::warning(place, format!("one pod alone answers on port {port}"))
                .effect("while it restarts, Envoy Gateway waits, and nothing changes in any of its Gateways")
                .remedy("run two replicas or more"),
        ],
        some => vec![Finding::ok(place, format!("{some} pods answer on port {port}"))],
    };
    findings.extend(network::check(installation, answers, &target, found));
    findings
}

/// How many addresses are ready behind a port of a Service.
fn ready(slices: &[Value], port: &Value) -> usize {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let has_port = |slice: &&Value| {
        let ports = slice["ports"].as_array().into_iter().flatten();
        ports.into_iter().any(|one| text(&one["name"]) == text(&port["name"]))
    };
    let endpoints =
        slices.iter().filter(has_port).flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    // What is not said is meant to be so (EndpointConditions.ready).
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    let addresses: BTreeSet<String> =
        ready.flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten()).map(text).collect();
    addresses.len()
}

/// What this program's own ServiceAccount may not do.
fn own_rights(answers: &Answers) -> Vec<Finding> {
    let Some(port) = answers.own_port() else { return Vec::new() };
    let place = format!("ServiceAccount {}", port.service_account);
    let mut lacking: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut findings = Vec::new();
    for (access, answer) in &answers.own_rights {
        let resource = if access.group.is_empty() {
            access.resource.clone()
        } else {
            format!("{}.{}", access.resource, access.group)
        };
        match answer {
            Ok(true) => {}
            Ok(false) => lacking.entry(resource).or_default().push(&access.verb),
            // The other account's findings say it.
            Err(_) => return Vec::new(),
        }
    }
    for (resource, verbs) in lacking {
        findings.push(
            Finding::error(&place, format!("may not {} {resource}, which this version needs", verbs.join(", ")))
                .effect("this program says so in its log and does without")
                .remedy("apply the roles of this version: manifests/install.yaml, or the chart"),
        );
    }
    if findings.is_empty() && !answers.own_rights.is_empty() {
        findings.push(Finding::ok(place, "may do all that this version needs"));
    }
    findings
}
