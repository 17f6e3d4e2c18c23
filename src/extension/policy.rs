//! What policies of an Envoy Gateway come to in its routes.
//!
//! It writes SecurityPolicies, BackendTrafficPolicies and EnvoyExtensionPolicies into each of its routes, those of a whole Gateway
//! too, so that a route which we put in would have none of them. It is given those of the route in front of which it stands,
//! which would have taken its requests; and where there is none, those that all routes of its listener have.
//!
//! Of a policy one sees only what it has come to, and a route's own takes the place of its Gateway's. So a Gateway has none where
//! one of its routes has nothing of that kind; and where all have some but not the same, nobody can tell which is its Gateway's:
//! then requests are refused.

use std::{
    collections::{HashMap, HashSet},
    ptr,
};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::{
    hooks::{Editor, Stopped},
    route,
    splice::{Edits, Field, Malformed, Wire, delimited, fields, last, text},
    virtual_host::{Place, Places, is_ours},
};
use crate::{
    model::{is_shared_backend_cluster, rule_cluster_of},
    snapshot::HostedListener,
};

/// `Route.route`, `.metadata`, `.direct_response` and `.typed_per_filter_config`.
const ACTION: u32 = 2;
const METADATA: u32 = 4;
const DIRECT_RESPONSE: u32 = 7;
const PER_FILTER: u32 = 13;
/// `RouteAction.rate_limits`, where an Envoy Gateway before v1.9 writes them.
const RATE_LIMITS: u32 = 13;
/// `RouteAction.upgrade_configs`: a WebSocket has no end of a body that could be waited for.
const UPGRADES: u32 = 25;
const BUFFER: &str = "envoy.filters.http.buffer";
/// `DirectResponseAction.status`, `.body` and `.body_format`; `DataSource.inline_string`.
const STATUS: u32 = 1;
const BODY: u32 = 2;
const BODY_FORMAT: u32 = 3;
const INLINE_STRING: u32 = 3;

/// What a filter of a route belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concern {
    /// SecurityPolicies: who may ask.
    Security,
    /// SecurityPolicies, and filters of routes: what browsers are told and asked.
    Browser,
    /// EnvoyExtensionPolicies, and what is not known.
    Extension,
    /// BackendTrafficPolicies.
    Traffic,
}

/// The beginnings of the names of filters, and what they belong to; what belongs to a backend of the route is left to it: a
/// session's cookie, credentials that the backend wants, and what guards a proxy that resolves any name.
const FILTERS: [(&str, Option<Concern>); 19] = [
    ("envoy.filters.http.stateful_session", None),
    ("envoy.filters.http.credential_injector", None),
    ("envoy.filters.http.rbac.dfp_loopback_deny", None),
    ("envoy.filters.http.dynamic_forward_proxy", None),
    ("envoy.filters.http.cors", Some(Concern::Browser)),
    ("envoy.filters.http.csrf", Some(Concern::Browser)),
    ("envoy.filters.http.ext_authz", Some(Concern::Security)),
    ("envoy.filters.http.api_key_auth", Some(Concern::Security)),
    ("envoy.filters.http.basic_auth", Some(Concern::Security)),
    ("envoy.filters.http.oauth2", Some(Concern::Security)),
    ("envoy.filters.http.jwt_authn", Some(Concern::Security)),
    ("envoy.filters.http.rbac", Some(Concern::Security)),
    ("envoy.filters.http.fault", Some(Concern::Traffic)),
    ("envoy.filters.http.local_ratelimit", Some(Concern::Traffic)),
    ("envoy.filters.http.ratelimit", Some(Concern::Traffic)),
    ("envoy.filters.http.bandwidth_limit", Some(Concern::Traffic)),
    (BUFFER, Some(Concern::Traffic)),
    ("envoy.filters.http.compressor", Some(Concern::Traffic)),
    ("envoy.filters.http.custom_response", Some(Concern::Traffic)),
];

fn concern(filter: &str) -> Option<Concern> {
    let known = FILTERS.iter().find(|(beginning, _)| filter.starts_with(beginning));
    known.map_or(Some(Concern::Extension), |(_, concern)| *concern)
}

/// What is answered where it is not known which policies apply.
const REFUSAL: &str = "No route of Envoy Gateway's would take this path, and the policies of those that this listener has differ, \
    so that it is not known which are meant for all: write an HTTPRoute with this backend.\n";

/// What policies have come to in a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy<'a> {
    /// Configurations of filters, whole fields of the route, by the filters' names.
    filters: Vec<(Concern, &'a str, &'a [u8])>,
    /// Rate limits, whole fields of the route's action.
    limits: Vec<&'a [u8]>,
    /// What the route answers since one of its policies is broken: the whole field.
    broken: Option<&'a [u8]>,
    /// Its own way to say that it is not known what applies.
    unknown: bool,
}

impl<'a> Policy<'a> {
    fn of_concern(&self, concern: Concern) -> impl Iterator<Item = &(Concern, &'a str, &'a [u8])> {
        self.filters.iter().filter(move |(of, ..)| *of == concern)
    }

    /// A route of ours, field `routes` of a virtual host, with these policies.
    pub(super) fn put_on(&self, ours: &Bytes) -> Bytes {
        if *self == Self::default() {
            return ours.clone();
        }
        let route = fields(ours, 0..ours.len()).find_map(Result::ok).expect("it is a field");
        let action = last(ours, route.range(), ACTION).expect("a route of ours leads somewhere");
        let mut edits = Edits::default();
        let whole = edits.open();
        let refusal = if self.unknown { Some(refusal()) } else { self.broken.map(Bytes::copy_from_slice) };
        match refusal {
            Some(refusal) => {
                edits.remove(&action);
                edits.insert(route.end, refusal);
            }
            None => {
                let mark = edits.open();
                let upgrades = fields(ours, action.range()).filter_map(Result::ok);
                if self.filters.iter().any(|(_, filter, _)| filter.starts_with(BUFFER)) {
                    upgrades.filter(|field| field.is(UPGRADES)).for_each(|field| edits.remove(&field));
                }
                self.limits.iter().for_each(|limit| edits.insert(action.end, Bytes::copy_from_slice(limit)));
                edits.close(mark, &action);
            }
        }
        self.filters.iter().for_each(|(.., filter)| edits.insert(route.end, Bytes::copy_from_slice(filter)));
        edits.close(whole, &route);
        edits.apply_to(ours)
    }
}

fn refusal() -> Bytes {
    let status = [8, 0x93, 3];
    debug_assert_eq!(fields(&status, 0..3).find_map(Result::ok).map(|field| field.varint(&status)), Some(403));
    let body = delimited(BODY, &delimited(INLINE_STRING, REFUSAL.as_bytes()));
    delimited(DIRECT_RESPONSE, &[&status[..], &body].concat())
}

/// The policies of all listeners, as far as they are asked for.
pub(super) struct Policies<'h, 'a> {
    /// The virtual hosts of the call, and the tables that they stand in.
    hosts: &'h dyn Fn() -> Vec<(Option<&'a str>, Field)>,
    /// The names of the clusters that came with it; nothing when it is about something else.
    clusters: Option<&'h dyn Fn() -> Vec<&'a str>>,
    /// The rules that have clusters, once that was asked; nothing in it where they share some.
    rules: Option<Option<HashSet<&'a str, RandomState>>>,
    /// The virtual hosts of hosted Gateways, once any listener was asked for.
    placed: Option<Vec<(Field, Place<'a>)>>,
    /// Those of the listeners that were asked for.
    listeners: HashMap<*const HostedListener, Policy<'a>, RandomState>,
}

impl<'h, 'a> Policies<'h, 'a> {
    /// Those in a call with these virtual hosts and clusters.
    pub(super) fn new(
        hosts: &'h dyn Fn() -> Vec<(Option<&'a str>, Field)>,
        clusters: Option<&'h dyn Fn() -> Vec<&'a str>>,
    ) -> Self {
        Self { hosts, clusters, rules: None, placed: None, listeners: HashMap::default() }
    }

    /// Those of a route.
    pub(super) fn of_route(&mut self, bytes: &'a [u8], route: &Field) -> Result<Policy<'a>, Malformed> {
        let mut policy = Policy::default();
        let (mut name, mut answers) = (None, None);
        for field in fields(bytes, route.range()) {
            let field = field?;
            let whole = &bytes[field.start..field.end];
            match field.number {
                PER_FILTER if field.is(PER_FILTER) => {
                    let filter = last(bytes, field.range(), 1).and_then(|key| text(bytes, &key)).unwrap_or_default();
                    policy.filters.extend(concern(filter).map(|concern| (concern, filter, whole)));
                }
                ACTION if field.is(ACTION) => {
                    for inner in fields(bytes, field.range()) {
                        let inner = inner?;
                        if inner.is(RATE_LIMITS) {
                            policy.limits.push(&bytes[inner.start..inner.end]);
                        }
                    }
                }
                DIRECT_RESPONSE if is_bare_error(bytes, &field)? => answers = Some(whole),
                route::NAME => name = text(bytes, &field).and_then(rule_cluster_of),
                _ => {}
            }
        }
        // A map has no order.
        policy.filters.sort_unstable_by_key(|(_, name, _)| *name);
        policy.broken = answers.filter(|_| name.is_none_or(|rule| self.has_cluster(rule)));
        Ok(policy)
    }

    /// Whether a rule has a cluster. A rule without any usable backend has none, and is answered with 500 too; where a policy is
    /// broken the cluster is there, and nobody gets to it. Where rules share clusters it is not known whether it has one, and
    /// better thought that nobody is to get there.
    fn has_cluster(&mut self, rule: &str) -> bool {
        let Some(clusters) = self.clusters else { return true };
        let rules = self.rules.get_or_insert_with(|| {
            let names = clusters();
            let shared = names.iter().any(|name| is_shared_backend_cluster(name));
            (!shared).then(|| names.into_iter().filter_map(rule_cluster_of).collect())
        });
        rules.as_ref().is_none_or(|rules| rules.contains(rule))
    }

    /// Those of a route of ours that no other one would have taken the requests of: what all routes of its listener have. A
    /// listener without any has its filters in common with others of its port.
    pub(super) fn of_listener(&mut self, editor: &Editor<'a>, place: &Place<'a>) -> Result<Policy<'a>, Stopped> {
        let key = ptr::from_ref(place.listener);
        if let Some(known) = self.listeners.get(&key) {
            return Ok(known.clone());
        }
        let own = |other: &Place<'_>| ptr::eq(other.listener, place.listener);
        let of_port = |other: &Place<'_>| {
            ptr::eq(other.gateway, place.gateway) && !other.listener.https && other.listener.port == place.listener.port
        };
        let common = match self.common(editor, own)? {
            None if !place.listener.https => self.common(editor, of_port)?,
            common => common,
        };
        let policy = common.as_ref().map(Common::policy).unwrap_or_default();
        self.listeners.insert(key, policy.clone());
        Ok(policy)
    }

    /// What the routes of some listeners have in common; nothing when there are none.
    fn common(
        &mut self,
        editor: &Editor<'a>,
        is_one: impl Fn(&Place<'a>) -> bool,
    ) -> Result<Option<Common<'a>>, Stopped> {
        let bytes = editor.bytes;
        let mut common: Option<Common<'a>> = None;
        for host in self.hosts_of(editor, is_one)? {
            editor.go_on()?;
            for route in fields(bytes, host.range()) {
                let route = route?;
                // Those of an Envoy Gateway say from what they were made; others' do not know of its policies.
                if !route.is(3) || is_ours(bytes, &route)? || last(bytes, route.range(), METADATA).is_none() {
                    continue;
                }
                let policy = self.of_route(bytes, &route)?;
                let common = common.get_or_insert_default();
                common.add(&policy);
                if common.is_nothing() {
                    return Ok(Some(Common::default()));
                }
            }
        }
        Ok(common)
    }

    /// The virtual hosts of some listeners.
    fn hosts_of(&mut self, editor: &Editor<'a>, is_one: impl Fn(&Place<'a>) -> bool) -> Result<Vec<Field>, Stopped> {
        if self.placed.is_none() {
            let (mut places, mut placed) = (Places::default(), Vec::new());
            for (table, host) in (self.hosts)() {
                editor.go_on()?;
                places.enter(table);
                placed.extend(places.of_host(editor, &host)?.map(|place| (host, place)));
            }
            self.placed = Some(placed);
        }
        let placed = self.placed.iter().flatten();
        Ok(placed.filter(|(_, place)| is_one(place)).map(|(host, _)| *host).collect())
    }
}

/// Whether an action answers with 500 and without a word, as an Envoy Gateway does where something is wrong.
fn is_bare_error(bytes: &[u8], action: &Field) -> Result<bool, Malformed> {
    let (mut is_error, mut says_something) = (false, false);
    for field in fields(bytes, action.range()) {
        let field = field?;
        match field.number {
            STATUS => is_error = field.wire == Wire::Varint && field.varint(bytes) == 500,
            BODY | BODY_FORMAT => says_something = true,
            _ => {}
        }
    }
    Ok(is_error && !says_something)
}

/// What some routes have in common.
#[derive(Default)]
struct Common<'a> {
    /// The first one's; of what may be left out, what all have. Nothing as long as there is none.
    first: Option<Policy<'a>>,
    security: Compared,
    extension: Compared,
}

/// What comparing some routes' policies of one kind has shown.
#[derive(Default)]
struct Compared {
    /// One of them has nothing of it.
    none: bool,
    /// Not all have the same.
    differ: bool,
}

impl<'a> Common<'a> {
    fn add(&mut self, policy: &Policy<'a>) {
        let first = self.first.get_or_insert_with(|| policy.clone());
        let has = |concern| policy.of_concern(concern).next().is_some();
        let same = |concern| policy.broken == first.broken && policy.of_concern(concern).eq(first.of_concern(concern));
        // One that is broken may be of either kind.
        let broken = policy.broken.is_some();
        self.security.none |= !(broken || has(Concern::Security) || has(Concern::Browser));
        self.security.differ |= !same(Concern::Security);
        self.extension.none |= !(broken || has(Concern::Extension));
        self.extension.differ |= !same(Concern::Extension);
        let needed = |concern| matches!(concern, Concern::Security | Concern::Extension);
        first.filters.retain(|filter| needed(filter.0) || policy.filters.contains(filter));
        first.limits.retain(|limit| policy.limits.contains(limit));
    }

    /// Whether nothing is in common, whatever else there is.
    fn is_nothing(&self) -> bool {
        let Some(first) = &self.first else { return false };
        let shared = first.filters.iter().any(|(concern, ..)| *concern == Concern::Traffic) || !first.limits.is_empty();
        self.security.none && self.extension.none && !shared
    }

    fn policy(&self) -> Policy<'a> {
        let Some(mut policy) = self.first.clone() else { return Policy::default() };
        let unclear = |compared: &Compared| compared.differ && !compared.none;
        if unclear(&self.security) || unclear(&self.extension) {
            return Policy { unknown: true, ..Policy::default() };
        }
        policy.filters.retain(|(concern, ..)| match concern {
            Concern::Security | Concern::Browser => !self.security.none,
            Concern::Extension => !self.extension.none,
            Concern::Traffic => true,
        });
        policy.broken = policy.broken.filter(|_| !self.security.none && !self.extension.none);
        policy
    }
}
