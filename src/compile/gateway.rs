//! A Gateway's listeners: which are ours to serve, on which port, with which certificates, and what is wrong with the rest.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{
    Compiler, Made, OutputKey, Settings, World,
    attach::is_one_of,
    division, hostname,
    objects::{check_selector, created, generation},
    reference::{not_permitted, permitted, referred},
};
use crate::{
    api::{
        AccessLogParameters, FromNamespaces, FrontendValidationMode, Gateway, Listener, ListenerSet, RouteTables,
        SecretObjectReference, TlsMode,
    },
    gateways::{Infrastructure, bound_address, bound_port, class_is_ours, gateway_parameters, infrastructure},
    model::{Kind, ObjectKey, ObjectName, Problem, Reason, RouteTableName, section_of},
    store::{IndexKey, Output},
};

/// What a Gateway's specification comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayListeners {
    /// The Gateway's class is ours.
    pub ours: bool,
    /// There is such a Gateway, and its class is another controller's. Only its HTTP and HTTPS listeners are filled in then,
    /// those of ListenerSets behind its own, with what decides where tailnet endpoints are offered.
    pub foreign: bool,
    /// The Gateway's `metadata.generation`.
    pub generation: i64,
    /// Where listeners are bound, without what others include; nowhere when empty.
    pub addresses: Vec<IpAddr>,
    /// The author asked for these addresses.
    pub addresses_asked: bool,
    /// How requests are logged.
    pub access_log: AccessLogParameters,
    /// The route tables that gain by it are divided.
    pub divided: bool,
    /// What is wrong with the Gateway itself.
    pub problems: Vec<Problem>,
    /// The listeners in their author's order.
    pub listeners: Vec<ListenerSpec>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerSpec {
    /// Its name; that of one of a ListenerSet has the set's namespace and name in front, each with a slash.
    pub name: Arc<str>,
    /// The ListenerSet that it is from.
    pub set: Option<ObjectName>,
    /// The port that it declares.
    pub port: u16,
    /// The port that Envoy binds.
    pub bound_port: u16,
    /// It terminates TLS.
    pub https: bool,
    /// Its hostname, in lower case.
    pub hostname: Option<Arc<str>>,
    /// The namespaces that routes may come from.
    pub from: FromNamespaces,
    /// Which namespaces, for `Selector`.
    pub selector: Option<LabelSelector>,
    /// Of the route kinds it asks for, those that it can take.
    pub kinds: Vec<Kind>,
    /// The Secrets with its certificates, those that can not be used left out.
    pub certificates: Vec<ObjectName>,
    /// Envoy is told of it.
    pub served: bool,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl ListenerSpec {
    /// The name by which references to its Gateway or ListenerSet mean it (`sectionName`).
    pub(super) fn section(&self) -> &str {
        section_of(&self.name)
    }

    /// The table with its routes.
    pub fn table(&self, gateway: &ObjectName) -> RouteTableName {
        RouteTableName {
            gateway: gateway.clone(),
            port: self.port,
            section: self.https.then(|| Arc::clone(&self.name)),
        }
    }
}

impl GatewayListeners {
    /// The listeners whose routes stand in a table.
    pub fn of_table<'a>(&'a self, table: &'a RouteTableName) -> impl Iterator<Item = &'a ListenerSpec> {
        self.served().filter(move |listener| {
            listener.port == table.port
                && listener.https == table.section.is_some()
                && table.section.as_ref().is_none_or(|section| *section == listener.name)
        })
    }

    /// The listener of a table that a domain belongs to.
    pub(super) fn owner<'a>(&'a self, table: &'a RouteTableName, domain: &str) -> Option<&'a ListenerSpec> {
        let place = hostname::owner(self.of_table(table).map(|listener| listener.hostname.as_deref()), domain)?;
        self.of_table(table).nth(place)
    }

    /// Whether a table is served in parts.
    pub(super) fn divides(&self, table: &RouteTableName) -> bool {
        self.divided && division::is_divisible(self.of_table(table).map(|listener| listener.hostname.as_deref()))
    }

    /// The listeners that Envoy is told of.
    pub fn served(&self) -> impl Iterator<Item = &ListenerSpec> {
        self.listeners.iter().filter(|listener| listener.served)
    }
}

/// Checks a Gateway's listeners, and states the domains that stand in their tables because of them.
pub(super) fn listeners(settings: &Settings, name: &ObjectName, world: &mut World<'_>) -> Output<Compiler> {
    let mut made = GatewayListeners {
        ours: false,
        foreign: false,
        generation: 0,
        addresses: Vec::new(),
        addresses_asked: false,
        access_log: AccessLogParameters::default(),
        divided: false,
        problems: Vec::new(),
        listeners: Vec::new(),
    };
    let key = ObjectKey::new(Kind::Gateway, name.clone());
    let Some(gateway) = world.object::<Gateway>(name) else { return Output::plain(Made::Listeners(Arc::new(made))) };
    made.generation = generation(&gateway.metadata);
    if !class_is_ours(&gateway.spec.gateway_class_name, settings.in_cluster, world) {
        made.foreign = true;
        if settings.hosting.is_some() {
            made.listeners = gateway.spec.listeners.iter().filter_map(|listener| foreign(None, listener)).collect();
            add_sets(name, &gateway, &mut made.listeners, world);
        }
        return Output::plain(Made::Listeners(Arc::new(made)));
    }
    made.ours = true;
    let parameters = gateway_parameters(name, &gateway, world);
    made.problems.extend(parameters.problems);
    addresses(&key, &gateway, &mut made);
    if settings.in_cluster && infrastructure(&gateway) != Ok(Infrastructure::External) {
        made.addresses = vec![bound_address(&parameters.spec, world)];
        made.addresses_asked = false;
    }
    made.access_log = parameters.spec.access_log.unwrap_or_default();
    made.divided = parameters.spec.route_tables == Some(RouteTables::Divided);
    not_acted_on(settings, &key, &gateway, &mut made.problems);
    for (place, listener) in gateway.spec.listeners.iter().enumerate() {
        let mut checked = check(settings, &key, place, listener, world);
        client_certificates(&key, &gateway, place, &mut checked);
        made.listeners.push(checked);
    }
    conflicts(&key, &mut made.listeners);
    if made.addresses.is_empty() {
        made.listeners.iter_mut().for_each(|listener| listener.served = false);
    }
    for listener in made.served() {
        let table = listener.table(name);
        let domain: Arc<str> = listener.hostname.clone().unwrap_or_else(|| hostname::ANY.into());
        world.keep(OutputKey::VirtualHost(table, domain));
        for secret in &listener.certificates {
            world.keep(OutputKey::GatewaySecret(name.clone(), secret.clone()));
        }
    }
    Output::plain(Made::Listeners(Arc::new(made)))
}

fn addresses(key: &ObjectKey, gateway: &Gateway, made: &mut GatewayListeners) {
    // An entry without a value asks for any address of its type: what happens without entries as well.
    let mut any = gateway.spec.addresses.is_empty();
    for (place, address) in gateway.spec.addresses.iter().enumerate() {
        let value = address.value.as_deref().unwrap_or_default();
        let field = format!("spec.addresses[{place}]");
        if address.type_ != "IPAddress" {
            let message = format!("addresses of type {} are not supported; use an IPAddress", address.type_);
            made.problems.push(Problem::new(key.clone(), field + ".type", Reason::UnsupportedAddress, message));
        } else if value.is_empty() {
            any = true;
        } else {
            match bindable(value) {
                Ok(address) => made.addresses.push(address),
                Err(message) => {
                    let problem = Problem::new(key.clone(), field + ".value", Reason::UnsupportedAddress, message);
                    made.problems.push(problem);
                }
            }
        }
    }
    made.addresses_asked = !any;
    if any {
        made.addresses = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        return;
    }
    // "::" is bound for both families, and no address can be bound twice.
    let all = |ip: &IpAddr| ip.is_unspecified();
    if let Some(both) = made.addresses.iter().copied().find(|ip| ip.is_ipv6() && all(ip)) {
        made.addresses = vec![both];
    } else if let Some(v4) = made.addresses.iter().copied().find(all) {
        made.addresses.retain(|ip| ip.is_ipv6() || *ip == v4);
    }
    made.addresses.sort_unstable();
    made.addresses.dedup();
}

/// Reads an address that a listener can be bound to on some machine: Envoy refuses a listener because of any that it can not.
fn bindable(value: &str) -> Result<IpAddr, String> {
    let Ok(address) = value.parse::<IpAddr>() else { return Err(format!("{value:?} is not an IP address")) };
    // An IPv4 address in IPv6's clothes is one, and Envoy does not bind it.
    let address = address.to_canonical();
    let what = match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            "an IPv6 address of one link only, which means nothing without a network interface"
        }
        _ if address.is_multicast() => "a multicast address, which nobody connects to",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address, which nobody connects to",
        _ => return Ok(address),
    };
    Err(format!("{value:?} is {what}; use an address of the machine, or remove the entry"))
}

/// A listener that must not let in clients without a certificate is not served as long as nobody asks them for one.
fn client_certificates(key: &ObjectKey, gateway: &Gateway, place: usize, listener: &mut ListenerSpec) {
    let Some(frontend) = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else { return };
    let per_port = frontend.per_port.iter().find(|entry| entry.port == listener.port).map(|entry| &entry.tls);
    let validation = per_port.unwrap_or(&frontend.default).validation.as_ref();
    if listener.https && validation.is_some_and(|one| one.mode == FrontendValidationMode::AllowValidOnly) {
        let message = "the Gateway's tls.frontend lets in clients with a certificate only, which can not be checked yet; the \
                       listener is not served";
        let field = format!("spec.listeners[{place}].tls");
        listener.problems.push(Problem::new(key.clone(), field, Reason::UnsupportedValue, message));
        listener.served = false;
    }
}

fn not_acted_on(settings: &Settings, key: &ObjectKey, gateway: &Gateway, problems: &mut Vec<Problem>) {
    if let Some(infrastructure) = gateway.spec.infrastructure.as_ref().filter(|_| !settings.in_cluster) {
        for (field, map) in [("labels", &infrastructure.labels), ("annotations", &infrastructure.annotations)] {
            if !map.is_empty() {
                let message = "Envoys are created for a Gateway in a cluster only; here the field has no effect";
                let field = format!("spec.infrastructure.{field}");
                problems.push(Problem::new(key.clone(), field, Reason::NotActedOn, message));
            }
        }
    }
    let mut note = |field: &str, what: &str| {
        let message = format!("{what} is not supported yet; the field has no effect");
        problems.push(Problem::new(key.clone(), field, Reason::NotActedOn, message));
    };
    if let Some(tls) = &gateway.spec.tls {
        if tls.frontend.is_some() {
            note("spec.tls.frontend", "checking client certificates (HTTPS listeners that must are not served)");
        }
        if tls.backend.is_some() {
            note("spec.tls.backend", "a client certificate towards backends");
        }
    }
    if gateway.spec.allowed_listeners.as_ref().is_some_and(|allowed| allowed.namespaces.from != FromNamespaces::None) {
        note("spec.allowedListeners", "adding listeners through a ListenerSet");
    }
    if gateway.spec.default_scope.is_some() {
        note("spec.defaultScope", "being a default Gateway");
    }
}

fn check(
    settings: &Settings,
    key: &ObjectKey,
    place: usize,
    listener: &Listener,
    world: &mut World<'_>,
) -> ListenerSpec {
    let field = format!("spec.listeners[{place}]");
    let mut problems = Vec::new();
    let mut problem = |suffix: &str, reason, message: String| {
        problems.push(Problem::new(key.clone(), format!("{field}{suffix}"), reason, message));
    };
    let https = listener.protocol == "HTTPS";
    let protocol_ok = https || listener.protocol == "HTTP";
    if !protocol_ok {
        let message = format!("protocol {} is not supported; use HTTP or HTTPS", listener.protocol);
        problem(".protocol", Reason::UnsupportedProtocol, message);
    }
    let bound_port = bound_port(listener.port, settings.privileged_ports);
    let mut certificates = Vec::new();
    let mut tls_ok = true;
    match (&listener.tls, https) {
        (Some(tls), true) if tls.mode == TlsMode::Passthrough => {
            tls_ok = false;
            let message = "an HTTPS listener ends TLS itself; set mode to Terminate".to_owned();
            problem(".tls.mode", Reason::UnsupportedProtocol, message);
        }
        (Some(tls), true) => {
            if !tls.options.is_empty() {
                let message = "no TLS option is known; the field has no effect".to_owned();
                problem(".tls.options", Reason::NotActedOn, message);
            }
            for (at, reference) in tls.certificate_refs.iter().enumerate() {
                match certificate(key, reference, world) {
                    Ok(secret) if certificates.contains(&secret) => {}
                    Ok(secret) => certificates.push(secret),
                    Err((reason, message)) => problem(&format!(".tls.certificateRefs[{at}]"), reason, message),
                }
            }
            tls_ok = !certificates.is_empty();
            if tls.certificate_refs.is_empty() {
                let message = "an HTTPS listener needs at least one Secret with a certificate".to_owned();
                problem(".tls.certificateRefs", Reason::InvalidCertificateRef, message);
            }
        }
        (None, true) => {
            tls_ok = false;
            let message = "an HTTPS listener needs a Secret with a certificate in tls.certificateRefs".to_owned();
            problem(".tls", Reason::InvalidCertificateRef, message);
        }
        (Some(_), false) if protocol_ok => {
            problem(".tls", Reason::NotActedOn, "tls has no effect on an HTTP listener; remove it".to_owned());
        }
        _ => {}
    }
    let mut kinds = Vec::new();
    if listener.allowed_routes.kinds.is_empty() && protocol_ok {
        kinds.push(Kind::HttpRoute);
    }
    for (at, kind) in listener.allowed_routes.kinds.iter().enumerate() {
        match Kind::find(&kind.group, &kind.kind) {
            Some(Kind::HttpRoute) if protocol_ok => kinds.push(Kind::HttpRoute),
            _ => {
                let message = format!("routes of kind {} can not be attached; only HTTPRoute can", kind.kind);
                problem(&format!(".allowedRoutes.kinds[{at}]"), Reason::InvalidRouteKinds, message);
            }
        }
    }
    kinds.dedup();
    let namespaces = &listener.allowed_routes.namespaces;
    let selects = match (namespaces.from, &namespaces.selector) {
        (FromNamespaces::Selector, None) => {
            let message = "from is Selector and there is no selector, so no namespace is allowed; add one".to_owned();
            Err((String::new(), message))
        }
        (FromNamespaces::Selector, Some(selector)) => check_selector(selector),
        _ => Ok(()),
    };
    if let Err((suffix, message)) = &selects {
        let field = format!(".allowedRoutes.namespaces.selector{suffix}");
        problem(&field, Reason::UnsupportedValue, message.clone());
    }
    ListenerSpec {
        name: listener.name.as_str().into(),
        set: None,
        port: listener.port,
        bound_port,
        https,
        hostname: hostname_of(listener),
        from: namespaces.from,
        selector: namespaces.selector.clone(),
        kinds,
        certificates,
        served: protocol_ok && tls_ok && selects.is_ok(),
        problems,
    }
}

/// Adds the listeners of ListenerSets that a Gateway of another controller lets add some, in the order in which that settles who
/// has a port, protocol and hostname: the oldest sets first (Gateway API, ListenerSet). Who comes too late has nothing.
fn add_sets(name: &ObjectName, gateway: &Gateway, listeners: &mut Vec<ListenerSpec>, world: &mut World<'_>) {
    let Some(allowed) = gateway.spec.allowed_listeners.as_ref().map(|allowed| &allowed.namespaces) else { return };
    let mut sets: Vec<(i64, ObjectName, Arc<ListenerSet>)> = Vec::new();
    for set in world.index(IndexKey::ListenerSetsOf(name.clone())) {
        if is_one_of(&set.namespace, allowed.from, allowed.selector.as_ref(), &name.namespace, world)
            && let Some(object) = world.object::<ListenerSet>(&set)
        {
            sets.push((created(&object.metadata), set, object));
        }
    }
    sets.sort_by(|(a, one, _), (b, other, _)| (a, one).cmp(&(b, other)));
    for (_, set, object) in &sets {
        for listener in object.spec.listeners.iter().filter_map(|listener| foreign(Some(set), listener)) {
            let rules_out = |other: &ListenerSpec| {
                other.port == listener.port && (other.https != listener.https || other.hostname == listener.hostname)
            };
            if !listeners.iter().any(rules_out) {
                listeners.push(listener);
            }
        }
    }
}

/// A listener of a Gateway of another controller, or of a ListenerSet of it; that controller looks to the rest of it.
fn foreign(set: Option<&ObjectName>, listener: &Listener) -> Option<ListenerSpec> {
    let https = match listener.protocol.as_str() {
        "HTTP" => false,
        "HTTPS" => true,
        _ => return None,
    };
    let namespaces = &listener.allowed_routes.namespaces;
    Some(ListenerSpec {
        name: set.map_or_else(|| listener.name.clone(), |set| format!("{set}/{}", listener.name)).into(),
        set: set.cloned(),
        port: listener.port,
        bound_port: listener.port,
        https,
        hostname: hostname_of(listener),
        from: namespaces.from,
        selector: namespaces.selector.clone(),
        kinds: Vec::new(),
        certificates: Vec::new(),
        served: true,
        problems: Vec::new(),
    })
}

fn hostname_of(listener: &Listener) -> Option<Arc<str>> {
    let hostname = listener.hostname.as_deref().filter(|hostname| !hostname.is_empty());
    hostname.map(|hostname| hostname.to_ascii_lowercase().into())
}

fn certificate(
    key: &ObjectKey,
    reference: &SecretObjectReference,
    world: &mut World<'_>,
) -> Result<ObjectName, (Reason, String)> {
    if Kind::find(&reference.group, &reference.kind) != Some(Kind::Secret) {
        let message = format!("certificates are read from Secrets only, not from a {}", reference.kind);
        return Err((Reason::InvalidCertificateRef, message));
    }
    let secret = ObjectKey::new(Kind::Secret, referred(key, reference.namespace.as_deref(), &reference.name));
    if !permitted(key, &secret, world) {
        return Err((Reason::RefNotPermitted, not_permitted(key, &secret)));
    }
    match world.output(&OutputKey::Secret(secret.name.clone())).secret() {
        Ok(_) => Ok(secret.name),
        Err(message) => Err((Reason::InvalidCertificateRef, message.to_string())),
    }
}

/// Listeners that can not be told apart are all refused (Gateway API, `GatewaySpec.listeners`: no winner is picked).
fn conflicts(key: &ObjectKey, listeners: &mut [ListenerSpec]) {
    let mut by_port: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (place, listener) in listeners.iter().enumerate() {
        if !listener.problems.iter().any(|problem| problem.reason == Reason::UnsupportedProtocol) {
            by_port.entry(listener.bound_port).or_default().push(place);
        }
    }
    let mut refused: Vec<(usize, Reason, String)> = Vec::new();
    for (bound_port, places) in by_port {
        for &place in &places {
            let this = &listeners[place];
            let others = || places.iter().filter(|other| **other != place).map(|other| &listeners[*other]);
            if let Some(other) = others().find(|other| other.port != this.port) {
                let message = format!(
                    "ports {} and {} would both be bound as {bound_port} (10000 is added to ports below 1024); change one, or use --privileged-ports",
                    this.port, other.port
                );
                refused.push((place, Reason::PortUnavailable, message));
            } else if let Some(other) = others().find(|other| other.https != this.https) {
                let message = format!(
                    "listener {} has another protocol on port {}; use one protocol per port",
                    other.name, this.port
                );
                refused.push((place, Reason::ProtocolConflict, message));
            } else if let Some(other) = others().find(|other| other.hostname == this.hostname) {
                let message =
                    format!("listener {} has the same hostname on port {}; change one of them", other.name, this.port);
                refused.push((place, Reason::HostnameConflict, message));
            }
        }
    }
    for (place, reason, message) in refused {
        let field = match reason {
            Reason::ProtocolConflict => "protocol",
            Reason::HostnameConflict => "hostname",
            _ => "port",
        };
        listeners[place].served = false;
        listeners[place].problems.push(Problem::new(
            key.clone(),
            format!("spec.listeners[{place}].{field}"),
            reason,
            message,
        ));
    }
}
