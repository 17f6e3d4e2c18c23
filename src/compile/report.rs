//! What was found about each object, gathered from the outputs that it went into.

use std::collections::BTreeSet;

use super::{
    Fact, OutputKey, Settings, Topic, World, addresses,
    cluster::{endpoint_target, external_target, health_check_problem},
    definitions,
    objects::generation,
    scope::{EndpointConflict, Offer, Refusal, unknown_tailnet},
};
use crate::{
    api::{
        DefaultScope, GatewayClass, GrpcRoute, HttpRoute, ListenerSet, ObjectMeta, ParentReference, TailscaleEndpoints,
        TailscaleGateway, TailscaleGatewayParameters, TailscaleGatewayParametersSpec, TailscaleProxyGroup,
        TailscaleRoutePolicy, TailscaleService, TailscaleServices, TailscaleTailnet, TargetReference, TcpRoute,
        TlsRoute, UdpRoute,
    },
    gateways::{CONTROLLER_NAME, DEFAULT_CLASS, class_is_known, class_is_ours, class_problem, object_problems},
    model::{
        ClassReport, Details, EndpointDetails, GatewayReport, Kind, ListenerReport, ObjectKey, ObjectName,
        ObjectReport, ParentReport, Problem, Reason, Report, RouteReport, TargetDetails,
    },
    store::Stored,
};

/// What was found about an object; nothing when it is none of our business.
pub(super) fn report(settings: &Settings, object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    match object.kind {
        Kind::GatewayClass => class(settings, object, world),
        Kind::Gateway => gateway(settings, object, world),
        Kind::HttpRoute => route(settings, object, world),
        Kind::GrpcRoute => {
            let route = world.object::<GrpcRoute>(&object.name)?;
            unserved(object, &route.metadata, &route.spec.parent_refs, world)
        }
        Kind::TlsRoute => {
            let route = world.object::<TlsRoute>(&object.name)?;
            unserved(object, &route.metadata, &route.spec.passing.parent_refs, world)
        }
        Kind::TcpRoute => {
            let route = world.object::<TcpRoute>(&object.name)?;
            unserved(object, &route.metadata, &route.spec.passing.parent_refs, world)
        }
        Kind::UdpRoute => {
            let route = world.object::<UdpRoute>(&object.name)?;
            unserved(object, &route.metadata, &route.spec.passing.parent_refs, world)
        }
        Kind::Service => service(object, world),
        Kind::TailscaleEndpoints => endpoints(settings, object, world),
        Kind::TailscaleGateway => tailscale_gateway(settings, object, world),
        Kind::TailscaleGatewayParameters => parameters(settings, object, world),
        Kind::TailscaleTailnet => tailnet(object, world),
        Kind::TailscaleRoutePolicy => inert::<TailscaleRoutePolicy>(object, world, "enforcing route policies", targets),
        Kind::TailscaleProxyGroup => {
            inert::<TailscaleProxyGroup>(object, world, "running tailnet proxies", |_| Details::None)
        }
        Kind::TailscaleService => {
            let backends = |service: &TailscaleService| Details::Backends(service.spec.backends.len());
            inert(object, world, "sharing VIP services", backends)
        }
        Kind::TailscaleServices => {
            inert::<TailscaleServices>(object, world, "sharing VIP services", |_| Details::Backends(0))
        }
        _ => None,
    }
}

fn class(settings: &Settings, object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    let class = world.object::<GatewayClass>(&object.name)?;
    if class.spec.controller_name != CONTROLLER_NAME {
        return None;
    }
    // Files are read by the schemas of this program itself, whose version is a supported one.
    let (definitions_known, unsupported) =
        if settings.in_cluster { definitions::check(object, world) } else { (true, None) };
    let problems = class_problem(object, &class, world).into_iter().chain(unsupported).collect();
    let generation = generation(&class.metadata);
    Some(Report::Class(ClassReport { object: object.clone(), generation, definitions_known, problems }))
}

fn gateway(settings: &Settings, object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    let made = world.output(&OutputKey::Listeners(object.name.clone())).listeners();
    if !made.ours {
        return unserved_gateway(settings, object, world);
    }
    let ports: BTreeSet<u16> = made.served().map(|listener| listener.port).collect();
    for port in &ports {
        world.keep(OutputKey::Listener(object.name.clone(), *port));
    }
    let mut problems = made.problems.clone();
    if made.listeners.iter().any(|listener| !listener.served) {
        let refused: Vec<&str> =
            made.listeners.iter().filter(|listener| !listener.served).map(|listener| &*listener.name).collect();
        let message = format!("not served: {}; see the conditions of these listeners", refused.join(", "));
        problems.push(Problem::new(object.clone(), "spec.listeners", Reason::ListenersNotValid, message));
    }
    let (addresses, unassigned) = match addresses::of_service(settings, &object.name, world) {
        Some(found) => found,
        None if made.addresses_asked => {
            (made.addresses.iter().map(|address| address.to_string().into()).collect(), None)
        }
        None => (Vec::new(), None),
    };
    let listeners = made
        .listeners
        .iter()
        .map(|listener| ListenerReport {
            name: listener.name.clone(),
            served: listener.served,
            supported_kinds: listener.kinds.clone(),
            attached_routes: world.facts(Topic::Attached(object.name.clone(), listener.name.clone())).len(),
            problems: listener.problems.clone(),
        })
        .collect();
    Some(Report::Gateway(GatewayReport {
        object: object.clone(),
        generation: made.generation,
        addresses,
        unassigned,
        problems,
        listeners,
    }))
}

/// A Gateway of a class that nobody knows. In a cluster, and when others' Gateways are looked at, it is not for us to say so.
fn unserved_gateway(settings: &Settings, object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    let gateway = world.object::<crate::api::Gateway>(&object.name)?;
    if !speaks_for_others(settings) || class_is_known(&gateway.spec.gateway_class_name, world) {
        return None;
    }
    let message = format!(
        "there is no GatewayClass {}, so nothing serves this Gateway here; write {DEFAULT_CLASS}, or add a GatewayClass with the \
         controllerName {CONTROLLER_NAME}",
        gateway.spec.gateway_class_name
    );
    let problems = vec![Problem::new(object.clone(), "spec.gatewayClassName", Reason::NotActedOn, message)];
    let generation = generation(&gateway.metadata);
    Some(Report::Object(ObjectReport { object: object.clone(), generation, problems, details: Details::None }))
}

/// Whether nobody else is there to say that an object has no effect: with files alone.
fn speaks_for_others(settings: &Settings) -> bool {
    !settings.in_cluster && settings.hosting.is_none()
}

fn route(settings: &Settings, object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    let binding = world.output(&OutputKey::Binding(object.name.clone())).binding();
    let route = world.object::<HttpRoute>(&object.name)?;
    let default_gateways = default_gateways(object, &route);
    let mut beside: Vec<Problem> = default_gateways.iter().cloned().collect();
    if speaks_for_others(settings) {
        beside.extend(idle_parents(object, &route, world));
    }
    if binding.parents.is_empty() && beside.is_empty() {
        return None;
    }
    let mut parents = Vec::new();
    for parent in &binding.parents {
        let (refused, tables) = match &parent.tables {
            Ok(tables) => (None, tables.as_slice()),
            Err(problem) => (Some(problem.clone()), Default::default()),
        };
        let mut problems: Vec<Problem> = default_gateways.iter().cloned().collect();
        let mut any_rule_valid = tables.is_empty();
        for table in tables {
            let entries = world.output(&OutputKey::RouteEntries(table.clone(), object.name.clone())).entries();
            any_rule_valid |= entries.any_rule_valid;
            let new: Vec<Problem> =
                entries.problems.iter().filter(|problem| !problems.contains(problem)).cloned().collect();
            problems.extend(new);
        }
        let served = !tables.is_empty();
        parents.push(ParentReport {
            parent: parent.target.clone(),
            exists: parent.exists,
            refused,
            served,
            problems,
            any_rule_valid,
        });
    }
    let generation = generation(&route.metadata);
    Some(Report::Route(RouteReport { object: object.clone(), generation, parents, problems: beside }))
}

/// The note that a route asks for default Gateways, if it does.
fn default_gateways(object: &ObjectKey, route: &HttpRoute) -> Option<Problem> {
    (route.spec.use_default_gateways == Some(DefaultScope::All)).then(|| {
        let message = "default Gateways are not supported yet; the field has no effect, and parentRefs has";
        Problem::new(object.clone(), "spec.useDefaultGateways", Reason::NotActedOn, message)
    })
}

/// The parent references of a route that lead to nothing that is served here.
fn idle_parents(object: &ObjectKey, route: &HttpRoute, world: &mut World<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut note = |field: String, message: String| {
        problems.push(Problem::new(object.clone(), field, Reason::NotActedOn, message));
    };
    if route.spec.parent_refs.is_empty() && default_gateways(object, route).is_none() {
        note("spec.parentRefs".to_owned(), "the route names no Gateway and so has no effect; name one".to_owned());
    }
    for (place, parent) in route.spec.parent_refs.iter().enumerate() {
        let field = format!("spec.parentRefs[{place}]");
        let kind = Kind::find(&parent.group, &parent.kind);
        let name = super::reference::referred(object, parent.namespace.as_deref(), &parent.name);
        if kind == Some(Kind::ListenerSet)
            && let Some(gateway) = world.object::<ListenerSet>(&name).and_then(|set| set.gateway())
            && world.output(&OutputKey::Listeners(gateway)).listeners().foreign
        {
            continue;
        }
        if kind != Some(Kind::Gateway) {
            let message = format!(
                "a {} of group {:?} can not be a parent here, and the reference has no effect; name a Gateway",
                parent.kind, parent.group
            );
            note(format!("{field}.kind"), message);
            continue;
        }
        let Some(gateway) = world.object::<crate::api::Gateway>(&name) else { continue };
        let class = gateway.spec.gateway_class_name.as_str();
        if class != DEFAULT_CLASS && !class_is_known(class, world) {
            let message = format!(
                "Gateway {name} is of class {class}, and there is no such GatewayClass: nothing serves it here, and the reference \
                 has no effect"
            );
            note(format!("{field}.name"), message);
        }
    }
    problems
}

/// A route of a kind that our own Gateways do not have yet; nothing when it asks for none of them. Whatever else is wrong with it
/// is for the controllers of its other parents to say.
fn unserved(
    object: &ObjectKey,
    metadata: &ObjectMeta,
    parents: &[ParentReference],
    world: &mut World<'_>,
) -> Option<Report> {
    let mut problems = Vec::new();
    for (place, parent) in parents.iter().enumerate() {
        let name = super::reference::referred(object, parent.namespace.as_deref(), &parent.name);
        let is_gateway = Kind::find(&parent.group, &parent.kind) == Some(Kind::Gateway);
        if is_gateway && world.output(&OutputKey::Listeners(name.clone())).listeners().ours {
            let kind = object.kind;
            let message =
                format!("Gateway {name} does not serve {kind}s yet: this one has no effect there; HTTPRoutes have");
            let field = format!("spec.parentRefs[{place}]");
            problems.push(Problem::new(object.clone(), field, Reason::NotActedOn, message));
        }
    }
    if problems.is_empty() {
        return None;
    }
    let generation = generation(metadata);
    Some(Report::Object(ObjectReport { object: object.clone(), generation, problems, details: Details::None }))
}

/// A Service whose ports its slices do not have.
fn service(object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    let unmatched = world.facts(Topic::UnmatchedPorts(object.name.clone()));
    let problem = |fact: &Fact| match fact {
        Fact::UnmatchedPort(port) => {
            let field = format!("spec.ports[{}].name", port.place);
            Some(Problem::new(object.clone(), field, Reason::NoEndpoints, port.to_string()))
        }
        _ => None,
    };
    let problems: Vec<Problem> = unmatched.iter().filter_map(problem).collect();
    if problems.is_empty() {
        return None;
    }
    Some(Report::Object(ObjectReport { object: object.clone(), generation: 0, problems, details: Details::None }))
}

fn endpoints(settings: &Settings, object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    let endpoints = world.object::<TailscaleEndpoints>(&object.name)?;
    let mut problems = Vec::new();
    for (place, endpoint) in endpoints.spec.endpoints.iter().enumerate() {
        let mut problem = |field: &str, reason, message| {
            problems.push(Problem::new(object.clone(), format!("spec.endpoints[{place}].{field}"), reason, message));
        };
        match endpoint_target(endpoint) {
            Err((field, reason, message)) => problem(field, reason, message),
            Ok(target) if target.tls() && settings.trusted_authorities.is_none() => {
                let message =
                    "no trusted authorities are known to check the target's certificate; start with --trusted-ca";
                problem("externalTarget", Reason::UnsupportedValue, message.to_owned());
            }
            _ => {}
        }
        if let Some((field, message)) = health_check_problem(endpoint) {
            problem(field, Reason::UnsupportedValue, message);
        }
        let first = endpoints.spec.endpoints.iter().position(|other| other.name == endpoint.name);
        if first.is_some_and(|first| first < place) {
            let message = format!("the name {} stands twice in this object; the first one counts", endpoint.name);
            problem("name", Reason::Conflicted, message);
        }
    }
    for fact in world.facts(Topic::EndpointConflicts(object.name.clone())).iter() {
        let Fact::Conflict(conflict) = fact else { continue };
        let EndpointConflict { place, gateway, rival: (rival, endpoint), claim, ours } = conflict;
        let whose =
            if *rival == object.name { "this object".to_owned() } else { format!("TailscaleEndpoints {rival}") };
        let outcome = if *ours { "this one has it" } else { "the other one has it" };
        let message = format!(
            "endpoint {endpoint} of {whose} wants the same {claim} on Gateway {gateway}; {outcome}, being older or the first \
             by name; rename one"
        );
        let field = format!("spec.endpoints[{place}].name");
        problems.push(Problem::new(object.clone(), field, Reason::Conflicted, message));
    }
    problems.extend(not_offered(object, world));
    if let Some(message) = unknown_tailnet(&endpoints.spec.tailnet, world) {
        problems.push(Problem::new(object.clone(), "spec.tailnet", Reason::TailnetNotFound, message));
    }
    problems.extend(endpoints_not_acted_on(object, &endpoints));
    let details = endpoints.spec.endpoints.iter().map(|endpoint| EndpointDetails {
        name: endpoint.name.clone(),
        tailscale_ip: endpoint.tailscale_ip.clone().unwrap_or_default(),
        tags: endpoint.tags.clone(),
        weight: i32::try_from(endpoint.weight).unwrap_or(i32::MAX),
        external_target: external_target(endpoint).map(str::to_owned),
    });
    Some(Report::Object(ObjectReport {
        object: object.clone(),
        generation: generation(&endpoints.metadata),
        problems,
        details: Details::Endpoints(details.collect()),
    }))
}

/// Why no Gateway offers any of an object's endpoints by itself, when some should.
fn not_offered(object: &ObjectKey, world: &mut World<'_>) -> Vec<Problem> {
    let offers = world.facts(Topic::Offers(object.name.clone()));
    let mut problems = Vec::new();
    for fact in offers.iter() {
        let Fact::Offer(Offer { gateway, via, refusal }) = fact else { continue };
        let (reason, message) = match refusal {
            None => return Vec::new(),
            Some(Refusal::Namespace) => (
                Reason::NotAllowedByListeners,
                format!(
                    "no listener of Gateway {gateway} that TailscaleGateway {via} names takes routes of namespace {}; see its \
                     allowedRoutes",
                    object.name.namespace
                ),
            ),
            Some(Refusal::Patterns) => (
                Reason::UnsupportedValue,
                format!(
                    "TailscaleGateway {via} gives none of these endpoints a route on Gateway {gateway}; its conditions say why"
                ),
            ),
        };
        problems.push(Problem::new(object.clone(), "", reason, message));
    }
    problems
}

fn endpoints_not_acted_on(object: &ObjectKey, endpoints: &TailscaleEndpoints) -> Vec<Problem> {
    let spec = &endpoints.spec;
    let note = |set: bool, field: &str, what: &str| {
        let message = format!("{what} is not acted on yet; the field has no effect");
        set.then(|| Problem::new(object.clone(), field, Reason::NotActedOn, message))
    };
    [
        note(
            spec.auto_discovery.as_ref().is_some_and(|auto| auto.enabled),
            "spec.autoDiscovery",
            "discovery of tailnet devices",
        ),
        note(spec.proxy.is_some(), "spec.proxy", "running tailnet proxies"),
        note(!spec.ports.is_empty(), "spec.ports", "publishing ports through tailnet proxies"),
        note(!spec.tags.is_empty(), "spec.tags", "tagging tailnet proxies"),
        note(
            spec.endpoints.iter().any(|endpoint| !endpoint.tags.is_empty()),
            "spec.endpoints[].tags",
            "tagging tailnet proxies",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn tailscale_gateway(settings: &Settings, object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    let gateway = world.object::<TailscaleGateway>(&object.name)?;
    let mut problems = Vec::new();
    let mut egress_routes = 0;
    let target = &gateway.spec.gateway_ref;
    let name = super::reference::referred(object, target.namespace.as_deref(), &target.name);
    let set = (target.kind == Kind::ListenerSet.as_str()).then(|| name.clone());
    let name = match &set {
        Some(set) => world.object::<ListenerSet>(set).and_then(|object| object.gateway()),
        None => Some(name),
    };
    let found = name.and_then(|name| Some((world.object::<crate::api::Gateway>(&name)?, name)));
    match found {
        _ if set.is_none() && target.kind != Kind::Gateway.as_str() => {
            let message = format!("a {} can not be referred to here; name a Gateway", target.kind);
            problems.push(Problem::new(object.clone(), "spec.gatewayRef.kind", Reason::InvalidKind, message));
        }
        None => {
            let name = super::reference::referred(object, target.namespace.as_deref(), &target.name);
            let message = match set {
                Some(_) => format!("there is no ListenerSet {name}, or not the Gateway that it names"),
                None => format!("there is no Gateway {name}"),
            };
            problems.push(Problem::new(object.clone(), "spec.gatewayRef.name", Reason::TargetNotFound, message));
        }
        Some((target, name))
            if settings.hosting.is_none()
                && !class_is_ours(&target.spec.gateway_class_name, settings.in_cluster, world) =>
        {
            let message = format!(
                "Gateway {name} is of class {}, which another controller serves; it gets no routes from here: if that is an \
                 Envoy Gateway, start with --extension-listen and have it ask here",
                target.spec.gateway_class_name
            );
            problems.push(Problem::new(object.clone(), "spec.gatewayRef.name", Reason::NotActedOn, message));
        }
        Some((_, name)) if set.as_ref().is_some_and(|set| !has_set(&name, set, world)) => {
            let (reason, message) = match world.output(&OutputKey::Listeners(name.clone())).listeners().ours {
                true => (
                    Reason::NotActedOn,
                    format!(
                        "Gateway {name} has no listeners of ListenerSets, which are not supported yet; name the Gateway"
                    ),
                ),
                false => (
                    Reason::NotAllowedByListeners,
                    format!(
                        "Gateway {name} has no HTTP or HTTPS listener of this ListenerSet; see its allowedListeners, and whether \
                         another listener has the same port and hostname, or another protocol there"
                    ),
                ),
            };
            problems.push(Problem::new(object.clone(), "spec.gatewayRef.name", reason, message));
        }
        Some((_, name)) => {
            let scope = world.output(&OutputKey::Scope(name.clone())).scope();
            egress_routes = scope.endpoints.iter().filter(|endpoint| endpoint.via == object.name).count();
            problems.extend(scope.problems.iter().filter(|problem| problem.object == *object).cloned());
        }
    }
    for (place, tailnet) in super::scope::tailnets(&gateway).into_iter().enumerate() {
        if world.object::<TailscaleTailnet>(&ObjectName::new("", tailnet.object)).is_none() {
            let message = format!(
                "there is no TailscaleTailnet {}; endpoints of this tailnet are served all the same",
                tailnet.object
            );
            let field = match tailnet.attachment {
                Some(_) => format!("spec.tailnets[{place}].{}", tailnet.field),
                None => format!("spec.{}", tailnet.field),
            };
            problems.push(Problem::new(object.clone(), field, Reason::TailnetNotFound, message));
        }
        let Some(tailnet) = tailnet.attachment else { continue };
        let mut note = |field: &str, what: &str| {
            let message = format!("{what} is not acted on yet; the field has no effect");
            let field = format!("spec.tailnets[{place}].{field}");
            problems.push(Problem::new(object.clone(), field, Reason::NotActedOn, message));
        };
        if tailnet.service_discovery.as_ref().is_some_and(|discovery| discovery.enabled) {
            note("serviceDiscovery", "discovery of tailnet services");
        }
        if tailnet.route_generation.as_ref().is_some_and(|routes| routes.ingress.is_some()) {
            note("routeGeneration.ingress", "generating routes for tailnet clients");
        }
    }
    let mut note = |set: bool, field: &str, what: &str| {
        if set {
            let message = format!("{what}; the field has no effect");
            problems.push(Problem::new(object.clone(), field, Reason::NotActedOn, message));
        }
    };
    note(
        gateway.spec.extension_server.is_some(),
        "spec.extensionServer",
        "this program is the extension server itself and is set up by its own flags",
    );
    note(
        gateway.spec.route_discovery.is_some(),
        "spec.routeDiscovery",
        "discovery of subnet routes is not acted on yet",
    );
    note(gateway.spec.proxy_group.is_some(), "spec.proxyGroup", "running tailnet proxies is not acted on yet");
    let names = super::scope::tailnets(&gateway).into_iter().map(|tailnet| tailnet.alias.into()).collect();
    Some(Report::Object(ObjectReport {
        object: object.clone(),
        generation: generation(&gateway.metadata),
        problems,
        details: Details::Tailnets { names, egress_routes },
    }))
}

/// Whether a Gateway has listeners from a ListenerSet.
fn has_set(gateway: &ObjectName, set: &ObjectName, world: &mut World<'_>) -> bool {
    let listeners = world.output(&OutputKey::Listeners(gateway.clone())).listeners();
    listeners.listeners.iter().any(|listener| listener.set.as_ref() == Some(set))
}

fn targets(policy: &TailscaleRoutePolicy) -> Details {
    let target = |target: &TargetReference| TargetDetails {
        group: target.group.clone().unwrap_or_else(|| match target.kind.starts_with("Tailscale") {
            true => Kind::TailscaleTailnet.group().to_owned(),
            false => Kind::Gateway.group().to_owned(),
        }),
        kind: target.kind.clone(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
    };
    Details::Targets(policy.spec.target_refs.iter().map(target).collect())
}

fn parameters(settings: &Settings, object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    let parameters = world.object::<TailscaleGatewayParameters>(&object.name)?;
    let mut problems: Vec<Problem> = object_problems(&parameters.spec)
        .into_iter()
        .map(|(field, problem)| Problem::new(object.clone(), field, Reason::UnsupportedValue, problem.to_string()))
        .collect();
    let rest = TailscaleGatewayParametersSpec { access_log: None, route_tables: None, ..parameters.spec.clone() };
    if !settings.in_cluster && rest != TailscaleGatewayParametersSpec::default() {
        let message =
            "Envoys are created for a Gateway in a cluster only; here accessLog and routeTables alone have an effect";
        problems.push(Problem::new(object.clone(), "spec", Reason::NotActedOn, message));
    }
    Some(Report::Object(ObjectReport {
        object: object.clone(),
        generation: generation(&parameters.metadata),
        problems,
        details: Details::None,
    }))
}

/// So far a TailscaleTailnet says what a tailnet is called.
fn tailnet(object: &ObjectKey, world: &mut World<'_>) -> Option<Report> {
    let found = world.object::<TailscaleTailnet>(&object.name)?;
    let message = "talking to the Tailscale API is not acted on yet; of this object only the tailnet's name is used";
    let problems = vec![Problem::new(object.clone(), "", Reason::NotActedOn, message)];
    Some(Report::Object(ObjectReport {
        object: object.clone(),
        generation: generation(&found.metadata),
        problems,
        details: Details::None,
    }))
}

/// The report of a kind that later work acts on: accepted and checked, and it says so.
fn inert<T>(
    object: &ObjectKey,
    world: &mut World<'_>,
    what: &str,
    details: impl FnOnce(&T) -> Details,
) -> Option<Report>
where
    T: Stored + kube::Resource,
{
    let found = world.object::<T>(&object.name)?;
    let message = format!("{what} is not acted on yet; the object is valid and has no effect");
    let problems = vec![Problem::new(object.clone(), "", Reason::NotActedOn, message)];
    let details = details(&found);
    Some(Report::Object(ObjectReport {
        object: object.clone(),
        generation: generation(found.meta()),
        problems,
        details,
    }))
}
