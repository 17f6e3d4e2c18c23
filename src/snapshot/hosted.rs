//! What is put into configurations that another controller makes for Gateways of its own: those of an Envoy Gateway.
//!
//! Told by the pipeline what changed, like the snapshots; read by the extension server's hooks. Never decides where in a foreign
//! configuration a part goes.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use imbl::{GenericHashMap, OrdMap, shared_ptr::DefaultSharedPtr};
use xxhash_rust::xxh3::Xxh3;

use crate::model::{Kind, ObjectKey, ObjectName, Problem};

/// All of it, at one moment. A copy costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Hosted {
    gateways: OrdMap<ObjectName, Arc<HostedGateway>>,
    clusters: OrdMap<(ObjectName, Arc<str>), Arc<HostedCluster>>,
    routes: OrdMap<ObjectKey, Arc<HostedRoute>>,
    /// By hash: of each of a Gateway's clusters and routes it is asked whether it is one of these.
    rules: GenericHashMap<Arc<str>, Arc<HostedRule>, RandomState, DefaultSharedPtr>,
}

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
    /// Its HTTP and HTTPS listeners.
    pub listeners: Vec<HostedListener>,
    /// The clusters that routes of its listeners name, sorted.
    pub clusters: Arc<[Arc<str>]>,
    /// What its Envoys need to ask this control plane themselves; nothing when they do not.
    pub pointer: Option<Pointer>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The name of the cluster.
    pub name: Arc<str>,
    /// The encoded cluster.
    pub cluster: Bytes,
    /// The encoded Secrets that it needs, by name.
    pub secrets: Vec<(Arc<str>, Bytes)>,
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
    /// Its rules and mirrors with backends of our kinds, by what Envoy Gateway calls their clusters.
    pub rules: Vec<(Arc<str>, Arc<HostedRule>)>,
    /// What is wrong with references to backends of our kinds.
    pub problems: Vec<Problem>,
}

/// A rule (or a mirror) that leads to backends of our kinds.
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

    /// What is wrong with references of foreign Gateways' routes to backends of our kinds.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.routes.values().flat_map(|route| &route.problems)
    }

    /// Whether any rule leads to backends of our kinds.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Takes in a difference.
    pub fn apply(&mut self, change: HostedChange) {
        match change {
            HostedChange::Gateway(name, Some(gateway)) => drop(self.gateways.insert(name, gateway)),
            HostedChange::Gateway(name, None) => drop(self.gateways.remove(&name)),
            HostedChange::Cluster(gateway, name, Some(made)) => drop(self.clusters.insert((gateway, name), made)),
            HostedChange::Cluster(gateway, name, None) => drop(self.clusters.remove(&(gateway, name))),
            HostedChange::Route(key, route) => {
                for (cluster, _) in self.routes.get(&key).cloned().iter().flat_map(|old| &old.rules) {
                    self.rules.remove(cluster);
                }
                match route {
                    Some(route) => {
                        self.rules.extend(route.rules.iter().cloned());
                        self.routes.insert(key, route);
                    }
                    None => drop(self.routes.remove(&key)),
                }
            }
        }
    }

    /// A hash of all that hooks would put into the configuration of a Gateway: another one means that it has to be made again.
    pub fn revision(&self, gateway: &ObjectName) -> u128 {
        let mut hash = Xxh3::new();
        let mut clusters: Vec<&Arc<str>> = Vec::new();
        if let Some(gateway) = self.gateways.get(gateway) {
            for listener in &gateway.listeners {
                let hosts = listener
                    .hosts
                    .iter()
                    .flat_map(|(domain, routes)| routes.iter().map(move |route| (domain.as_bytes(), &route.bytes)));
                let routes = listener.routes.iter().map(|route| (listener.domain.as_bytes(), &route.bytes));
                for (domain, bytes) in routes.chain(hosts) {
                    put(&mut hash, listener.name.as_bytes());
                    put(&mut hash, domain);
                    put(&mut hash, bytes);
                }
            }
            let secrets = gateway.pointer.iter().flat_map(|pointer| &pointer.secrets).chain(&gateway.authorities);
            secrets.for_each(|(_, secret)| put(&mut hash, secret));
            put(&mut hash, gateway.pointer.as_ref().map_or(&[], |pointer| &pointer.cluster));
            clusters.extend(gateway.clusters.iter());
        }
        let mut rules: Vec<_> = self.rules.iter().filter(|(_, rule)| rule.gateways.contains(gateway)).collect();
        rules.sort_unstable_by_key(|(name, _)| *name);
        for (name, rule) in rules {
            put(&mut hash, name.as_bytes());
            hash.update(&rule.others.to_le_bytes());
            hash.update(&rule.factor.to_le_bytes());
            put(&mut hash, rule.mixture.as_deref().unwrap_or_default());
            for share in &rule.shares {
                put(&mut hash, share.name.as_bytes());
                hash.update(&share.weight.to_le_bytes());
                put(&mut hash, &share.filters);
            }
            clusters.extend(rule.alone.iter().chain(rule.shares.iter().filter_map(|share| share.cluster.as_ref())));
        }
        clusters.sort_unstable();
        clusters.dedup();
        for name in clusters {
            put(&mut hash, name.as_bytes());
            put(&mut hash, self.cluster(gateway, name).map_or(&[], |cluster| &cluster.message));
        }
        hash.digest128()
    }
}

/// Behind its length, so that parts can not run into each other.
fn put(hash: &mut Xxh3, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
