//! What has to be asked of a cluster, and what it answered.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Configuration, Installation,
    configuration::{Declared, POLICIES},
    definitions, service,
    tls::{self, OwnPort},
};
use crate::{identity::trust::SecretData, model::ObjectName};

/// An answer, or the words in which none was given.
pub type Answer<T> = Result<T, String>;

/// What is asked in the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    /// Names of CustomResourceDefinitions.
    pub definitions: Vec<String>,
    /// Which kinds the API server has in these groups and versions.
    pub api_versions: BTreeSet<String>,
    /// The Service that the configuration names, with its EndpointSlices and the Deployments beside it.
    pub service: Option<ObjectName>,
    /// Secrets that the configuration names.
    pub secrets: BTreeSet<ObjectName>,
}

impl Questions {
    /// What has to be known about what a configuration says.
    pub fn of(configuration: &Configuration, installation: &Installation) -> Self {
        let managers = configuration.managers();
        let declared = managers.iter().flat_map(|manager| manager.all_kinds());
        let ours = managers.iter().find(|manager| manager.ours);
        let target = ours.and_then(|ours| service::target(ours, &installation.namespace, &installation.cluster_domain));
        Self {
            definitions: definitions::names(),
            api_versions: declared.map(|kind| kind.api_version()).collect(),
            service: target.map(|target| ObjectName::new(target.namespace, target.name)),
            secrets: ours.into_iter().flat_map(|ours| tls::references(ours, installation)).collect(),
        }
    }
}

/// A kind that the API server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The `kind` field.
    pub kind: String,
    /// The resource, such as `httproutes`.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// Something that a ServiceAccount may do or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The API group; empty for Kubernetes' core group.
    pub group: String,
    /// The resource, or a part of it, such as `httproutes/status`.
    pub resource: String,
    /// The verb of RBAC.
    pub verb: String,
    /// In which namespace; everywhere when it is left out.
    pub namespace: Option<String>,
    /// With which object; with all when it is left out.
    pub name: Option<String>,
}

/// What a cluster answered.
#[derive(Clone, Debug)]
pub struct Answers {
    /// When.
    pub now: Timestamp,
    /// CustomResourceDefinitions by name; nothing for one that does not exist.
    pub definitions: BTreeMap<String, Answer<Option<Value>>>,
    /// Kinds by group and version; none for a version that does not exist.
    pub served: BTreeMap<String, Answer<Vec<Served>>>,
    /// What the Envoy Gateway's ServiceAccount may do.
    pub rights: BTreeMap<Access, Answer<bool>>,
    /// What this program's own ServiceAccount may do.
    pub own_rights: BTreeMap<Access, Answer<bool>>,
    /// Objects of the kinds that are declared as policies, by group and version, and kind.
    pub policies: BTreeMap<(String, String), Answer<Vec<Value>>>,
    /// The Service that the configuration names.
    pub service: Answer<Option<Value>>,
    /// Its EndpointSlices.
    pub slices: Answer<Vec<Value>>,
    /// The Deployments in its namespace.
    pub deployments: Answer<Vec<Value>>,
    /// The NetworkPolicies in its namespace.
    pub network_policies: Answer<Vec<Value>>,
    /// The Envoy Gateway's namespace.
    pub envoy_gateway_namespace: Answer<Option<Value>>,
    /// Secrets; nothing for one that does not exist.
    pub secrets: BTreeMap<ObjectName, Answer<Option<SecretData>>>,
}

impl Answers {
    /// Before anything was asked.
    pub fn none(now: Timestamp) -> Self {
        Self {
            now,
            definitions: BTreeMap::new(),
            served: BTreeMap::new(),
            rights: BTreeMap::new(),
            own_rights: BTreeMap::new(),
            policies: BTreeMap::new(),
            service: Ok(None),
            slices: Ok(Vec::new()),
            deployments: Ok(Vec::new()),
            network_policies: Ok(Vec::new()),
            envoy_gateway_namespace: Ok(None),
            secrets: BTreeMap::new(),
        }
    }

    /// A declared kind, if the API server has it; nothing is known when it did not say.
    pub(super) fn find(&self, declared: &Declared) -> Answer<Option<&Served>> {
        match self.served.get(&declared.api_version()) {
            Some(Ok(kinds)) => Ok(kinds.iter().find(|served| served.kind == declared.kind)),
            Some(Err(words)) => Err(words.clone()),
            None => Ok(None),
        }
    }

    /// What the Envoy Gateway's ServiceAccount has to be allowed to do with the kinds that it is told of, as far as the API
    /// server has them.
    pub fn needed_rights(&self, configuration: &Configuration) -> BTreeSet<Access> {
        let mut needed = BTreeSet::new();
        for declared in configuration.managers().iter().flat_map(|manager| manager.all_kinds()) {
            let Ok(Some(served)) = self.find(&declared) else { continue };
            for (resource, verb) in verbs(&declared, served) {
                needed.extend(namespaces(configuration, served).into_iter().map(|namespace| Access {
                    group: declared.group.clone(),
                    resource: resource.clone(),
                    verb: verb.to_owned(),
                    namespace,
                    name: None,
                }));
            }
        }
        needed
    }

    /// The kinds that are declared as policies, as far as the API server has them: group and version, kind, resource.
    pub fn policy_kinds(&self, configuration: &Configuration) -> BTreeSet<(String, String, String)> {
        let managers = configuration.managers();
        let declared = managers.iter().flat_map(|manager| manager.kinds(POLICIES));
        let found = declared.filter_map(|declared| {
            let plural = self.find(&declared).ok()??.plural.clone();
            Some((declared.api_version(), declared.kind, plural))
        });
        found.collect()
    }

    /// This program behind the Service, when it is a Deployment.
    pub fn own_port(&self) -> Option<OwnPort> {
        tls::own_port(self.deployments.as_ref().ok()?, self.service.as_ref().ok()?.as_ref()?)
    }
}

/// What an Envoy Gateway does with the objects of a kind: it watches and lists all; of policies it reads each again and writes
/// the status.
pub(super) fn verbs(declared: &Declared, served: &Served) -> Vec<(String, &'static str)> {
    let plural = || served.plural.clone();
    let mut verbs = vec![(plural(), "list"), (plural(), "watch")];
    if declared.list == POLICIES {
        verbs.extend([(plural(), "get"), (format!("{}/status", served.plural), "update")]);
    }
    verbs
}

/// The namespaces in which it does.
pub(super) fn namespaces(configuration: &Configuration, served: &Served) -> Vec<Option<String>> {
    match configuration.namespaces().filter(|_| served.namespaced) {
        Some(namespaces) => namespaces.into_iter().map(|namespace| Some(namespace.to_owned())).collect(),
        None => vec![None],
    }
}
