//! Which tailnet endpoints a Gateway offers, under which path and host: the routes nobody writes by hand.
//!
//! A TailscaleGateway ties a Gateway to tailnets; every endpoint of these with an `externalTarget` gets a route. The
//! listener's `allowedRoutes.namespaces` decides for both objects' namespaces, as it does for HTTPRoutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::{
    Compiler, Fact, GatewayListeners, ListenerSpec, Made, OutputKey, Topic, World,
    attach::namespace_allowed,
    cluster::{endpoint_target, external_target},
    hostname,
    objects::created,
    url::check_path,
};
use crate::{
    api::{
        GatewayReference, RouteGeneration, RouteProtocol, TailnetAttachment, TailscaleEndpoint, TailscaleEndpoints,
        TailscaleGateway, TailscaleTailnet,
    },
    model::{Kind, ObjectKey, ObjectName, Problem, Reason, RouteTableName},
    store::{IndexKey, Output},
};

/// The tailnet endpoints of a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    /// Those that get a route, by what they claim.
    pub(super) endpoints: Vec<ScopedEndpoint>,
    /// What is wrong with the TailscaleGateways.
    pub(super) problems: Vec<Problem>,
}

/// An endpoint with a route.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScopedEndpoint {
    /// The TailscaleGateway that offers it.
    pub(super) via: ObjectName,
    pub(super) object: ObjectName,
    pub(super) endpoint: Arc<str>,
    /// The path prefix in all virtual hosts of the listeners, without a slash at the end; none there when empty.
    pub(super) prefix: Arc<str>,
    /// A host on which the whole path space is the endpoint's.
    pub(super) host: Option<Arc<str>>,
    /// The listeners that offer it, sorted.
    pub(super) listeners: Vec<Arc<str>>,
}

/// Two endpoints want the same on a Gateway; stated for both, for their own reports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointConflict {
    /// The place in `spec.endpoints`.
    pub(super) place: usize,
    pub(super) gateway: ObjectName,
    /// The other one's object and name.
    pub(super) rival: (ObjectName, Arc<str>),
    pub(super) claim: Claim,
    /// This one has it.
    pub(super) ours: bool,
}

/// Whether a Gateway offers endpoints of an object by itself, because of a TailscaleGateway; stated for the object's own report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    pub(super) gateway: ObjectName,
    /// The TailscaleGateway.
    pub(super) via: ObjectName,
    /// Why it offers none; nothing when it offers some.
    pub(super) refusal: Option<Refusal>,
}

/// Why a Gateway offers none of an object's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// No listener takes routes of the object's namespace.
    Namespace,
    /// The TailscaleGateway's patterns give no route, as its own report says.
    Patterns,
}

/// What only one endpoint can have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// A path on every host.
    Path(Arc<str>),
    /// All of a host.
    Host(Arc<str>),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path {path}"),
            Self::Host(host) => write!(f, "host {host}"),
        }
    }
}

/// An endpoint on its way to be scoped.
struct Candidate {
    created: i64,
    place: usize,
    scoped: ScopedEndpoint,
}

/// What is collected for a Gateway.
#[derive(Default)]
struct Collected {
    candidates: Vec<Candidate>,
    problems: Vec<Problem>,
    facts: Vec<(Topic, Fact)>,
}

impl Collected {
    /// Notes what is wrong with a field; what is wrong with it for one endpoint says enough.
    fn note(&mut self, object: &ObjectKey, field: String, reason: Reason, message: String) {
        if !self.problems.iter().any(|known| known.object == *object && known.field == field) {
            self.problems.push(Problem::new(object.clone(), field, reason, message));
        }
    }
}

/// Collects a Gateway's tailnet endpoints, and states what it found for each.
pub(super) fn scope(gateway: &ObjectName, world: &mut World<'_>) -> Output<Compiler> {
    let listeners = world.output(&OutputKey::Listeners(gateway.clone())).listeners();
    let mut collected = Collected::default();
    // Of a Gateway that is neither ours nor foreign there are no listeners.
    if listeners.ours || !listeners.listeners.is_empty() {
        let sets: BTreeSet<&ObjectName> =
            listeners.listeners.iter().filter_map(|listener| listener.set.as_ref()).collect();
        let of_sets = sets.into_iter().map(|set| (Kind::ListenerSet, set));
        for (kind, parent) in [(Kind::Gateway, gateway)].into_iter().chain(of_sets) {
            for name in world.index(IndexKey::TailscaleGatewaysOf(parent.clone())) {
                let object = world.object::<TailscaleGateway>(&name);
                if let Some(object) = object.filter(|object| object.spec.gateway_ref.kind == kind.as_str()) {
                    for (place, tailnet) in tailnets(&object).into_iter().enumerate() {
                        let reference = &object.spec.gateway_ref;
                        attach(gateway, &listeners, parent, &name, reference, place, tailnet, world, &mut collected);
                    }
                }
            }
        }
    }
    let Collected { candidates, problems, mut facts } = collected;
    let endpoints = settle(gateway, candidates, &mut facts);
    for endpoint in endpoints.iter().filter(|_| listeners.ours) {
        for listener in listeners.served().filter(|listener| endpoint.listeners.contains(&listener.name)) {
            let domain = endpoint
                .host
                .as_deref()
                .and_then(|host| hostname::intersection(listener.hostname.as_deref(), Some(host)));
            if let Some(domain) = domain {
                world.keep(OutputKey::VirtualHost(listener.table(gateway), domain));
            }
        }
    }
    Output { value: Made::Scope(Arc::new(Scope { endpoints, problems })), facts }
}

/// A tailnet of a TailscaleGateway.
#[derive(Clone, Copy)]
pub(super) struct Tailnet<'a> {
    /// What the TailscaleGateway calls it.
    pub(super) alias: &'a str,
    /// The name of the TailscaleTailnet.
    pub(super) object: &'a str,
    /// The field that names it.
    pub(super) field: &'static str,
    pub(super) attachment: Option<&'a TailnetAttachment>,
}

/// The tailnets of a TailscaleGateway; the oldest shape names a single one (`original-operator.md` §1.3.1).
pub(super) fn tailnets(gateway: &TailscaleGateway) -> Vec<Tailnet<'_>> {
    let listed = gateway.spec.tailnets.iter().map(|attachment| Tailnet {
        alias: &attachment.name,
        object: &attachment.tailscale_tailnet_ref.name,
        field: "tailscaleTailnetRef.name",
        attachment: Some(attachment),
    });
    let oldest = gateway.spec.tailnet_ref.iter().map(|reference| Tailnet {
        alias: &reference.name,
        object: &reference.name,
        field: "tailnetRef.name",
        attachment: None,
    });
    listed.chain(oldest).collect()
}

#[expect(clippy::too_many_arguments, reason = "one call, one subject: a tailnet of a TailscaleGateway")]
fn attach(
    gateway: &ObjectName,
    listeners: &GatewayListeners,
    parent: &ObjectName,
    tailscale_gateway: &ObjectName,
    reference: &GatewayReference,
    place: usize,
    tailnet: Tailnet<'_>,
    world: &mut World<'_>,
    collected: &mut Collected,
) {
    let key = ObjectKey::new(Kind::TailscaleGateway, tailscale_gateway.clone());
    let taking: Vec<_> = listeners
        .served()
        // As with routes: who names the Gateway means its own listeners, and who names a ListenerSet that one's.
        .filter(|listener| match reference.kind == Kind::ListenerSet.as_str() {
            true => listener.set.as_ref() == Some(parent),
            false => listener.set.is_none(),
        })
        .filter(|listener| reference.section_name.as_deref().is_none_or(|section| section == listener.section()))
        .filter(|listener| reference.port.is_none_or(|port| port == listener.port))
        .filter(|listener| namespace_allowed(listener, gateway, &tailscale_gateway.namespace, world))
        .collect();
    if taking.is_empty() {
        let message = format!(
            "no listener that it names on Gateway {gateway} takes routes of namespace {}; see its allowedRoutes",
            tailscale_gateway.namespace
        );
        collected.note(&key, "spec.gatewayRef".to_owned(), Reason::NotAllowedByListeners, message);
        return;
    }
    let mut seen = BTreeSet::new();
    for text in names_of(tailnet, world) {
        for name in world.index(IndexKey::EndpointsOn(text)) {
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(object) = world.object::<TailscaleEndpoints>(&name) else { continue };
            let admitted: Vec<&ListenerSpec> = taking
                .iter()
                .copied()
                .filter(|listener| namespace_allowed(listener, gateway, &name.namespace, world))
                .collect();
            let (mut is_offered, mut refusal) = (false, None);
            for (at, endpoint) in object.spec.endpoints.iter().enumerate() {
                // Of two endpoints of one name the first one counts, and one that can not be reached claims nothing; the
                // object's own report says so.
                let twin = object.spec.endpoints[..at].iter().any(|other| other.name == endpoint.name);
                if external_target(endpoint).is_none() || twin || endpoint_target(endpoint).is_err() {
                    continue;
                }
                if admitted.is_empty() {
                    refusal = Some(Refusal::Namespace);
                    continue;
                }
                let mut note = |field: &str, reason, message| {
                    let field = format!("spec.tailnets[{place}].routeGeneration.egress{field}");
                    collected.note(&key, field, reason, message);
                };
                let Some((prefix, host, listeners)) = offered(tailnet, endpoint, &admitted, &mut note) else {
                    refusal = Some(Refusal::Patterns);
                    continue;
                };
                is_offered = true;
                collected.candidates.push(Candidate {
                    created: created(&object.metadata),
                    place: at,
                    scoped: ScopedEndpoint {
                        via: tailscale_gateway.clone(),
                        object: name.clone(),
                        endpoint: endpoint.name.as_str().into(),
                        prefix: prefix.into(),
                        host: host.map(Into::into),
                        listeners,
                    },
                });
            }
            if is_offered || refusal.is_some() {
                let refusal = refusal.filter(|_| !is_offered);
                let offer = Offer { gateway: gateway.clone(), via: tailscale_gateway.clone(), refusal };
                collected.facts.push((Topic::Offers(name.clone()), Fact::Offer(offer)));
            }
        }
    }
}

/// Where an endpoint appears, and the listeners that offer it there, sorted; nothing when none can. Notes what is wrong with the
/// patterns: the field behind theirs, why, and words.
fn offered(
    tailnet: Tailnet<'_>,
    endpoint: &TailscaleEndpoint,
    admitted: &[&ListenerSpec],
    note: &mut dyn FnMut(&str, Reason, String),
) -> Option<(String, Option<String>, Vec<Arc<str>>)> {
    let (prefix, host, https_only) = match patterns(tailnet, endpoint) {
        Ok(patterns) => patterns,
        Err(message) => {
            note("", Reason::UnsupportedValue, message);
            return None;
        }
    };
    let offering: Vec<&ListenerSpec> =
        admitted.iter().copied().filter(|listener| listener.https || !https_only).collect();
    if offering.is_empty() {
        let message =
            "protocol is HTTPS, and no HTTPS listener of the Gateway takes these routes; add one, or write HTTP";
        note(".protocol", Reason::UnsupportedValue, message.to_owned());
        return None;
    }
    let is_host = |host: &String| {
        offering.iter().any(|listener| hostname::intersection(listener.hostname.as_deref(), Some(host)).is_some())
    };
    if let Some(host) = host.as_ref().filter(|host| !is_host(host)) {
        let what = format!("hostPattern gives {host}, which is no hostname of a listener that takes these routes");
        if prefix.is_empty() {
            note(".hostPattern", Reason::UnsupportedValue, format!("{what}, and pathPrefix gives no path; change one"));
            return None;
        }
        note(
            ".hostPattern",
            Reason::NotActedOn,
            format!("{what}: only paths lead to the endpoints, and the field has no effect"),
        );
    }
    let mut names: Vec<Arc<str>> = offering.iter().map(|listener| Arc::clone(&listener.name)).collect();
    names.sort_unstable();
    Some((prefix, host, names))
}

/// The texts by which `TailscaleEndpoints.spec.tailnet` can mean a tailnet: the object's name; its domain; the alias in the
/// TailscaleGateway unless that is another object's name; `-` or nothing when it is the only tailnet.
fn names_of(tailnet: Tailnet<'_>, world: &mut World<'_>) -> BTreeSet<Arc<str>> {
    let mut names = BTreeSet::from([Arc::<str>::from(tailnet.object)]);
    if let Some(found) = world.object::<TailscaleTailnet>(&ObjectName::new("", tailnet.object)) {
        let told = found.spec.tailnet.iter();
        let inferred = found.status.as_ref().and_then(|status| status.tailnet_info.as_ref()).map(|info| &info.name);
        names.extend(
            told.chain(inferred).filter(|name| !matches!(name.as_str(), "" | "-")).map(|name| name.as_str().into()),
        );
    }
    if world.object::<TailscaleTailnet>(&ObjectName::new("", tailnet.alias)).is_none() {
        names.insert(tailnet.alias.into());
    }
    if world.index(IndexKey::All(Kind::TailscaleTailnet)).iter().all(|only| *only.name == *tailnet.object) {
        names.extend(["-".into(), "".into()]);
    }
    names
}

/// Why no tailnet can be meant by the text of a `TailscaleEndpoints.spec.tailnet`, if that is so. Reads every tailnet and every
/// TailscaleGateway, which are few.
pub(super) fn unknown_tailnet(text: &str, world: &mut World<'_>) -> Option<String> {
    let all = world.index(IndexKey::All(Kind::TailscaleTailnet));
    if matches!(text, "" | "-") && all.len() > 1 {
        return Some(format!(
            "{text:?} means the only TailscaleTailnet there is, and there are {}; say which",
            all.len()
        ));
    }
    let gateways = world.index(IndexKey::All(Kind::TailscaleGateway));
    let mut tailnets: BTreeSet<(String, String)> =
        all.into_iter().map(|name| (name.name.to_string(), name.name.to_string())).collect();
    for name in gateways {
        if let Some(gateway) = world.object::<TailscaleGateway>(&name) {
            let named = self::tailnets(&gateway);
            tailnets.extend(named.iter().map(|tailnet| (tailnet.alias.to_owned(), tailnet.object.to_owned())));
        }
    }
    let known = tailnets.iter().any(|(alias, object)| {
        let tailnet = Tailnet { alias, object, field: "", attachment: None };
        names_of(tailnet, world).contains(text)
    });
    (!known).then(|| {
        format!("no TailscaleTailnet has the name or domain {text:?}, and no TailscaleGateway calls one so; no Gateway offers these endpoints by itself")
    })
}

/// The path prefix and the host of an endpoint's route, and whether only HTTPS listeners offer it.
fn patterns(tailnet: Tailnet<'_>, endpoint: &TailscaleEndpoint) -> Result<(String, Option<String>, bool), String> {
    let Some(RouteGeneration { egress: Some(egress), .. }) =
        tailnet.attachment.and_then(|attachment| attachment.route_generation.as_ref())
    else {
        return Ok((format!("/api/{}", endpoint.name), None, false));
    };
    let prefix = expand(&egress.path_prefix, tailnet, endpoint)?;
    let prefix = prefix.trim_end_matches('/');
    if !prefix.is_empty()
        && let Err(problem) = check_path(prefix)
    {
        return Err(format!(
            "pathPrefix gives {prefix:?}, which {problem}; write something like /tailscale/{{service}}/"
        ));
    }
    let host = expand(&egress.host_pattern, tailnet, endpoint)?.to_ascii_lowercase();
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label_ok) {
        return Err(format!(
            "hostPattern gives {host:?}, which is not a hostname; write something like {{service}}.example.com"
        ));
    }
    Ok((prefix.to_owned(), Some(host), egress.protocol == RouteProtocol::Https))
}

/// Fills in a pattern's variables (`original-operator.md` §1.3.2).
fn expand(pattern: &str, tailnet: Tailnet<'_>, endpoint: &TailscaleEndpoint) -> Result<String, String> {
    let domain = endpoint.tailscale_fqdn.as_deref().and_then(|fqdn| fqdn.trim_end_matches('.').split_once('.'));
    let text = pattern
        .replace("{service}", &endpoint.name)
        .replace("{tailnet}", tailnet.alias)
        .replace("{domain}", domain.map_or("", |(_, domain)| domain));
    match text.find(['{', '}']) {
        Some(_) => Err(format!("{pattern:?} has a variable other than {{service}}, {{tailnet}} and {{domain}}")),
        None => Ok(text),
    }
}

/// Who gets what several want: the oldest, then the first by name; all of them are told.
fn settle(gateway: &ObjectName, candidates: Vec<Candidate>, facts: &mut Vec<(Topic, Fact)>) -> Vec<ScopedEndpoint> {
    let mut claims: BTreeMap<Claim, Vec<Candidate>> = BTreeMap::new();
    for candidate in merge(candidates) {
        claims.entry(candidate.scoped.claim()).or_default().push(candidate);
    }
    let mut winners = Vec::new();
    for (claim, mut rivals) in claims {
        rivals.sort_by(|a, b| (a.created, &a.scoped.object, a.place).cmp(&(b.created, &b.scoped.object, b.place)));
        let mut rivals = rivals.into_iter();
        let winner = rivals.next().expect("every claim was made by somebody");
        for loser in rivals {
            for (one, other, ours) in [(&winner, &loser, true), (&loser, &winner, false)] {
                let conflict = EndpointConflict {
                    place: one.place,
                    gateway: gateway.clone(),
                    rival: (other.scoped.object.clone(), Arc::clone(&other.scoped.endpoint)),
                    claim: claim.clone(),
                    ours,
                };
                facts.push((Topic::EndpointConflicts(one.scoped.object.clone()), Fact::Conflict(conflict)));
            }
        }
        winners.push(winner.scoped);
    }
    share_hosts(&mut winners);
    winners
}

/// An endpoint that comes by several ways (TailscaleGateways, or names of one tailnet) is one, offered by the listeners of
/// all of them.
fn merge(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| a.scoped.identity().cmp(&b.scoped.identity()));
    let mut merged: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        match merged.last_mut().filter(|last| last.scoped.identity() == candidate.scoped.identity()) {
            Some(last) => {
                last.scoped.listeners.extend(candidate.scoped.listeners);
                last.scoped.listeners.sort_unstable();
                last.scoped.listeners.dedup();
            }
            None => merged.push(candidate),
        }
    }
    merged
}

/// A host whose pattern is the same for several endpoints is nobody's as a whole: there, only their paths lead to them.
fn share_hosts(winners: &mut [ScopedEndpoint]) {
    let mut by_host: BTreeMap<Arc<str>, BTreeSet<(ObjectName, Arc<str>)>> = BTreeMap::new();
    for winner in winners.iter() {
        if let Some(host) = &winner.host {
            by_host.entry(Arc::clone(host)).or_default().insert((winner.object.clone(), Arc::clone(&winner.endpoint)));
        }
    }
    for winner in winners.iter_mut().filter(|winner| !winner.prefix.is_empty()) {
        if winner.host.as_ref().is_some_and(|host| by_host[host].len() > 1) {
            winner.host = None;
        }
    }
}

impl ScopedEndpoint {
    /// What it can not share: its path, or its host when the path is all of that.
    fn claim(&self) -> Claim {
        match &self.host {
            Some(host) if self.prefix.is_empty() => Claim::Host(Arc::clone(host)),
            _ => Claim::Path(Arc::clone(&self.prefix)),
        }
    }

    /// Whether both are the same endpoint.
    pub(super) fn is(&self, other: &Self) -> bool {
        (&self.object, &self.endpoint) == (&other.object, &other.endpoint)
    }

    fn identity(&self) -> (&ObjectName, &str, &str, Option<&str>) {
        (&self.object, &self.endpoint, &self.prefix, self.host.as_deref())
    }

    /// Whether it stands in the virtual hosts of a listener.
    pub(super) fn offered_by(&self, listener: &str) -> bool {
        self.listeners.iter().any(|name| **name == *listener)
    }
}

/// The endpoints that stand in a table.
pub(super) fn of_table<'a>(
    scope: &'a Scope,
    listeners: &'a GatewayListeners,
    table: &'a RouteTableName,
) -> impl Iterator<Item = &'a ScopedEndpoint> {
    scope
        .endpoints
        .iter()
        .filter(|endpoint| listeners.of_table(table).any(|listener| endpoint.offered_by(&listener.name)))
}
