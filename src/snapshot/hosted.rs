//! What is put into configurations that another controller makes for Gateways of its own: those of an Envoy Gateway.
//!
//! Told by the pipeline what changed, like the snapshots; read by the extension server's hooks. Never decides where in a foreign
//! configuration a part goes.

use std::{collections::BTreeSet, fmt, sync::Arc};

use bytes::Bytes;
use foldhash::fast::RandomState;
use imbl::{GenericHashMap, OrdMap, shared_ptr::DefaultSharedPtr};
use xxhash_rust::xxh3::Xxh3;

use crate::model::{GatewayRevision, Kind, ObjectKey, ObjectName, Problem};

/// All of it, at one moment. A copy costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Hosted {
    gateways: OrdMap<ObjectName, Arc<HostedGateway>>,
    clusters: OrdMap<(ObjectName, Arc<str>), Arc<HostedCluster>>,
    routes: OrdMap<ObjectKey, Arc<HostedRoute>>,
    /// By hash: of each of a Gateway's clusters and routes it is asked whether it is one of these.
    rules: GenericHashMap<Arc<str>, Arc<HostedRule>, RandomState, DefaultSharedPtr>,
    /// What there is for each Gateway, counted; a change costs no more than what it changes.
    sums: OrdMap<ObjectName, Sum>,
    /// The last revisions of each Gateway.
    recent: OrdMap<ObjectName, Recent>,
}

/// How many revisions of a Gateway are remembered: as many as may be made while an Envoy Gateway makes a translation.
const REMEMBERED: usize = 32;

/// Revisions, the newest last.
type Recent = Arc<[GatewayRevision]>;

/// One difference to it; nothing in place of a value takes it out.
#[derive(Clone, Debug)]
pub enum HostedChange {
    /// A Gateway.
    Gateway(ObjectName, Option<Arc<HostedGateway>>),
    /// A cluster for a Gateway's Envoys.
    Cluster(ObjectName, Arc<str>, Option<Arc<HostedCluster>>),
    /// A route.
    Route(ObjectKey, Option<Arc<HostedRoute>>),
}

/// A Gateway of another controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedGateway {
    /// Its name.
    pub name: ObjectName,
    /// Its `metadata.uid`; nothing without a cluster.
    pub uid: Option<Arc<str>>,
    /// Its HTTP and HTTPS listeners.
    pub listeners: Vec<HostedListener>,
    /// The clusters that routes of its listeners name, sorted.
    pub clusters: Arc<[Arc<str>]>,
    /// What its Envoys need to ask this control plane themselves; nothing when they do not.
    pub pointer: Option<Arc<Pointer>>,
    /// The authorities that HTTPS targets are checked against, when its Envoys do not ask for them themselves: an encoded
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` and its name.
    pub authorities: Option<(Arc<str>, Bytes)>,
}

/// A cluster for the Envoys of a foreign Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedCluster {
    /// An encoded `envoy.config.cluster.v3.Cluster`.
    pub message: Bytes,
    /// It fetches something by [`HostedGateway::pointer`].
    pub points: bool,
    /// It needs [`HostedGateway::authorities`].
    pub checks_authorities: bool,
}

/// How Envoys of a foreign Gateway reach this control plane's xDS.
#[derive(Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The name of the cluster.
    pub name: Arc<str>,
    /// The encoded cluster.
    pub cluster: Bytes,
    /// The encoded Secrets that it needs, by name. There is a private key among them.
    pub secrets: Vec<(Arc<str>, Bytes)>,
    /// A hash of what in them is public, which changes with the rest: a hash of a private key is nothing to be shown.
    pub secrets_version: u128,
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pointer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A listener of a foreign Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedListener {
    /// Its name.
    pub name: Arc<str>,
    /// The port that it declares.
    pub port: u16,
    /// It terminates TLS.
    pub https: bool,
    /// Its hostname as a domain; `*` when it has none.
    pub domain: Arc<str>,
    /// The routes for every virtual host that is not one of `hosts`, in the order of precedence.
    pub routes: Arc<[InjectedRoute]>,
    /// Domains on which the whole path space is one endpoint's, each with its routes; sorted.
    pub hosts: Vec<(Arc<str>, Arc<[InjectedRoute]>)>,
}

/// A route to put into a virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectedRoute {
    /// Its path prefix, without a slash at the end unless it is `/`.
    pub prefix: Arc<str>,
    /// Field `routes` of `envoy.config.route.v3.VirtualHost`, with tag and length.
    pub bytes: Bytes,
}

/// A route of a foreign Gateway, as far as it concerns us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedRoute {
    /// The foreign Gateways that it refers to, sorted.
    pub gateways: Arc<[ObjectName]>,
    /// Its rules with backends of our kinds, by what Envoy Gateway calls their clusters.
    pub rules: Vec<(Arc<str>, Arc<HostedRule>)>,
    /// What is wrong with references to backends of our kinds.
    pub problems: Vec<Problem>,
}

/// A rule that leads to backends of our kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedRule {
    /// The route.
    pub route: ObjectKey,
    /// The foreign Gateways that the route refers to, sorted.
    pub gateways: Arc<[ObjectName]>,
    /// The one cluster that takes every request of it, if there is one.
    pub alone: Option<Arc<str>>,
    /// An encoded `envoy.config.cluster.v3.Cluster` that several endpoints share, in place of `alone`: of what goes there, an
    /// Envoy Gateway can not divide more.
    pub mixture: Option<Bytes>,
    /// What takes a share, if not one cluster takes all.
    pub shares: Vec<HostedShare>,
    /// The sum of the weights of the backends that are not ours, to be multiplied by `factor`.
    pub others: u32,
    /// What the weights of the backends that are not ours are multiplied by, so that shares come out whole.
    pub factor: u32,
    /// Requests carry the Host that the endpoint names which they go to.
    pub auto_host: bool,
}

/// A cluster of ours that takes a share of a rule's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedShare {
    /// The place of its reference among the rule's `backendRefs`.
    pub place: usize,
    /// The name of the cluster under which it stands in the foreign configuration.
    pub name: Arc<str>,
    /// The cluster that it is made from; nothing when the reference can not be resolved: then nothing has the name, and its
    /// requests are answered 500.
    pub cluster: Option<Arc<str>>,
    /// Its weight, more than 0.
    pub weight: u32,
    /// The rest of `envoy.config.route.v3.WeightedCluster.ClusterWeight`: what its own filters do with requests.
    pub filters: Bytes,
    /// An Envoy Gateway does not take the reference: it has counted the share among those that it answers with 500 itself.
    pub refused: bool,
}

impl HostedRule {
    /// The shares that come from the reference at a place.
    pub fn shares_of(&self, place: usize) -> impl Iterator<Item = &HostedShare> {
        self.shares.iter().filter(move |share| share.place == place)
    }
}

impl Hosted {
    /// Whether nothing is to be put anywhere.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.gateways.values().all(|gateway| gateway.clusters.is_empty())
    }

    /// A Gateway.
    pub fn gateway(&self, name: &ObjectName) -> Option<&Arc<HostedGateway>> {
        self.gateways.get(name)
    }

    /// All Gateways, by name.
    pub fn gateways(&self) -> impl Iterator<Item = &Arc<HostedGateway>> {
        self.gateways.values()
    }

    /// A cluster for a Gateway's Envoys.
    pub fn cluster(&self, gateway: &ObjectName, name: &Arc<str>) -> Option<&Arc<HostedCluster>> {
        self.clusters.get(&(gateway.clone(), Arc::clone(name)))
    }

    /// A route.
    pub fn route(&self, key: &ObjectKey) -> Option<&Arc<HostedRoute>> {
        self.routes.get(key)
    }

    /// A route of Gateway API, by the words for it in Envoy Gateway's metadata.
    pub fn route_of(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<HostedRoute>> {
        let kind = Kind::find(Kind::HttpRoute.group(), kind)?;
        self.routes.get(&ObjectKey::new(kind, ObjectName::new(namespace, name)))
    }

    /// The rule whose cluster has this name in the foreign configuration.
    pub fn rule(&self, cluster: &str) -> Option<&Arc<HostedRule>> {
        self.rules.get(cluster)
    }

    /// What the clusters of all rules are called in foreign configurations.
    pub fn rule_clusters(&self) -> impl Iterator<Item = &str> {
        self.rules.keys().map(|cluster| &**cluster)
    }

    /// What clusters are called that may be put into foreign configurations.
    pub fn added_clusters(&self) -> impl Iterator<Item = &str> {
        let own = self.clusters.keys().map(|(_, name)| &**name);
        let pointers =
            self.gateways.values().filter_map(|gateway| gateway.pointer.as_ref().map(|pointer| &*pointer.name));
        let parts = self.rules.values().flat_map(|rule| rule.shares.iter().map(|share| &*share.name));
        own.chain(pointers).chain(parts)
    }

    /// What is wrong with references of foreign Gateways' routes to backends of our kinds.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.routes.values().flat_map(|route| &route.problems)
    }

    /// Whether any rule leads to backends of our kinds.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Takes in a difference, and adds to `touched` the Gateways that it concerns.
    pub fn apply(&mut self, change: HostedChange, touched: &mut BTreeSet<ObjectName>) {
        match change {
            HostedChange::Gateway(name, gateway) => {
                let before = self.gateways.get(&name).map(|before| Sum::of_gateway(before));
                self.count(&name, before, gateway.as_deref().map(Sum::of_gateway));
                match gateway {
                    Some(gateway) => drop(self.gateways.insert(name.clone(), gateway)),
                    None => drop(self.gateways.remove(&name)),
                }
                touched.insert(name);
            }
            HostedChange::Cluster(gateway, name, cluster) => {
                let key = (gateway.clone(), name);
                let before = self.clusters.get(&key).map(|before| Sum::of_cluster(&key.1, before));
                self.count(&gateway, before, cluster.as_deref().map(|cluster| Sum::of_cluster(&key.1, cluster)));
                match cluster {
                    Some(cluster) => drop(self.clusters.insert(key, cluster)),
                    None => drop(self.clusters.remove(&key)),
                }
                touched.insert(gateway);
            }
            HostedChange::Route(key, route) => {
                let before = match &route {
                    Some(route) => self.routes.insert(key, Arc::clone(route)),
                    None => self.routes.remove(&key),
                };
                for (cluster, rule) in before.iter().flat_map(|before| &before.rules) {
                    self.rules.remove(cluster);
                    rule.gateways
                        .iter()
                        .for_each(|gateway| self.count(gateway, Some(Sum::of_rule(cluster, rule)), None));
                }
                for (cluster, rule) in route.iter().flat_map(|route| &route.rules) {
                    self.rules.insert(Arc::clone(cluster), Arc::clone(rule));
                    rule.gateways
                        .iter()
                        .for_each(|gateway| self.count(gateway, None, Some(Sum::of_rule(cluster, rule))));
                }
                let gateways = before.iter().chain(&route).flat_map(|route| &*route.gateways);
                touched.extend(gateways.cloned());
            }
        }
    }

    /// A number for all that hooks would put into the configuration of a Gateway: another one means that it has to be made
    /// again. Nothing when nothing is put there.
    pub fn revision(&self, name: &ObjectName) -> Option<GatewayRevision> {
        let gateway = self.gateways.get(name)?;
        let sum = self.sums.get(name).filter(|sum| sum.reasons > 0)?;
        let mut hash = Xxh3::new();
        hash.update(&sum.hash.to_le_bytes());
        if let Some(pointer) = gateway.pointer.as_ref().filter(|_| sum.pointing > 0) {
            put(&mut hash, &pointer.cluster);
            hash.update(&pointer.secrets_version.to_le_bytes());
        }
        if let Some((name, secret)) = gateway.authorities.as_ref().filter(|_| sum.checking > 0) {
            put(&mut hash, name.as_bytes());
            put(&mut hash, secret);
        }
        Some(GatewayRevision::new(hash.digest128(), gateway.uid.clone()))
    }

    /// Whether a Gateway's revision says something that has not been so here, or not of late: others have come further.
    pub fn is_behind(&self, name: &ObjectName, revision: &GatewayRevision) -> bool {
        !self.recent.get(name).into_iter().flat_map(|recent| recent.iter()).any(|known| known.says_the_same(revision))
    }

    /// Notes the revisions of these Gateways, once all that came with their changes is applied.
    pub fn remember(&mut self, touched: &BTreeSet<ObjectName>) {
        for name in touched {
            let Some(revision) = self.revision(name) else {
                if !self.gateways.contains_key(name) {
                    self.recent.remove(name);
                }
                continue;
            };
            let before = self.recent.get(name).map_or(&[][..], |recent| recent);
            if before.last().is_some_and(|last| last.says_the_same(&revision)) {
                continue;
            }
            let from = (before.len() + 1).saturating_sub(REMEMBERED);
            let recent = before[from..].iter().cloned().chain([revision]).collect();
            self.recent.insert(name.clone(), recent);
        }
    }

    fn count(&mut self, gateway: &ObjectName, before: Option<Sum>, now: Option<Sum>) {
        let mut sum = self.sums.get(gateway).copied().unwrap_or_default();
        sum.subtract(before.unwrap_or_default());
        sum.add(now.unwrap_or_default());
        match sum == Sum::default() {
            true => self.sums.remove(gateway),
            false => self.sums.insert(gateway.clone(), sum),
        };
    }
}

/// What there is for a Gateway. Parts are added and taken away one by one, in whatever order: so their hashes are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    /// Of all parts, which hold whatever hooks look at.
    hash: u128,
    /// Rules, and clusters that listeners' routes name: without any, nothing is put anywhere.
    reasons: usize,
    /// Clusters that fetch something by [`HostedGateway::pointer`].
    pointing: usize,
    /// Clusters that need [`HostedGateway::authorities`].
    checking: usize,
}

impl Sum {
    /// The `uid` is nothing that hooks look at, and what hangs on clusters is looked at when there are such clusters.
    fn of_gateway(gateway: &HostedGateway) -> Self {
        let HostedGateway { name: _, uid: _, listeners, clusters, pointer: _, authorities: _ } = gateway;
        let mut hash = Xxh3::new();
        for HostedListener { name, port, https, domain, routes, hosts } in listeners {
            put(&mut hash, name.as_bytes());
            put(&mut hash, domain.as_bytes());
            hash.update(&port.to_le_bytes());
            hash.update(&[u8::from(*https)]);
            put_routes(&mut hash, routes);
            hash.update(&(hosts.len() as u64).to_le_bytes());
            for (domain, routes) in hosts {
                put(&mut hash, domain.as_bytes());
                put_routes(&mut hash, routes);
            }
        }
        clusters.iter().for_each(|name| put(&mut hash, name.as_bytes()));
        Self { hash: hash.digest128(), reasons: clusters.len(), ..Self::default() }
    }

    fn of_cluster(name: &str, cluster: &HostedCluster) -> Self {
        let HostedCluster { message, points, checks_authorities } = cluster;
        let mut hash = Xxh3::new();
        put(&mut hash, name.as_bytes());
        put(&mut hash, message);
        let flags = [*points, *checks_authorities].map(usize::from);
        Self { hash: hash.digest128(), reasons: 0, pointing: flags[0], checking: flags[1] }
    }

    fn of_rule(cluster: &str, rule: &HostedRule) -> Self {
        let HostedRule { route, gateways: _, alone, mixture, shares, others, factor, auto_host } = rule;
        let mut hash = Xxh3::new();
        put(&mut hash, cluster.as_bytes());
        put(&mut hash, route.to_string().as_bytes());
        put_optional(&mut hash, alone.as_deref().map(str::as_bytes));
        put_optional(&mut hash, mixture.as_deref());
        hash.update(&others.to_le_bytes());
        hash.update(&factor.to_le_bytes());
        hash.update(&[u8::from(*auto_host)]);
        for HostedShare { place, name, cluster, weight, filters, refused } in shares {
            hash.update(&(*place as u64).to_le_bytes());
            put(&mut hash, name.as_bytes());
            put_optional(&mut hash, cluster.as_deref().map(str::as_bytes));
            hash.update(&weight.to_le_bytes());
            put(&mut hash, filters);
            hash.update(&[u8::from(*refused)]);
        }
        Self { hash: hash.digest128(), reasons: 1, ..Self::default() }
    }

    fn add(&mut self, part: Self) {
        self.hash = self.hash.wrapping_add(part.hash);
        self.reasons += part.reasons;
        self.pointing += part.pointing;
        self.checking += part.checking;
    }

    fn subtract(&mut self, part: Self) {
        self.hash = self.hash.wrapping_sub(part.hash);
        self.reasons -= part.reasons;
        self.pointing -= part.pointing;
        self.checking -= part.checking;
    }
}

/// Behind its length, so that parts can not run into each other.
fn put(hash: &mut Xxh3, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn put_routes(hash: &mut Xxh3, routes: &[InjectedRoute]) {
    hash.update(&(routes.len() as u64).to_le_bytes());
    for InjectedRoute { prefix, bytes } in routes {
        put(hash, prefix.as_bytes());
        put(hash, bytes);
    }
}

/// Nothing is not the same as an empty part.
fn put_optional(hash: &mut Xxh3, part: Option<&[u8]>) {
    hash.update(&[u8::from(part.is_some())]);
    put(hash, part.unwrap_or_default());
}
