//! What an Envoy Gateway makes of its configuration, and what in the cluster keeps it from working with this program: found
//! before it is restarted, since afterwards it says nothing, or does not come up. Pure.
//!
//! The configuration is read as an Envoy Gateway reads it: fields that it does not know are ignored without a word. What
//! stands in the cluster is an argument ([`Answers`]), and so is the time. Never asks anybody anything: `cli::preflight` does.

mod answers;
mod cluster;
mod configuration;
mod definitions;
mod fields;
mod kinds;
mod manager;
mod network;
mod service;
mod tls;
mod version;

use std::fmt;

use serde::Serialize;

pub use answers::{Access, Answer, Answers, Questions, Served};
pub use configuration::Configuration;
pub use definitions::GATEWAY_API_DEFINITIONS;
pub use tls::OwnPort;
pub use version::Version;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something does not work.
    Error,
    /// It works, but perhaps not as meant, or it could not be looked at.
    Warning,
    /// It is as it should be.
    Ok,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// A field of the configuration, or an object of the cluster.
    #[serde(rename = "where")]
    pub place: String,
    /// What is so.
    pub what: String,
    /// What the Envoy Gateway does about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(level: Level, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level, place: place.into(), what: what.into(), effect: None, remedy: None }
    }

    /// Something does not work.
    pub fn error(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Level::Error, place, what)
    }

    /// Something is perhaps not as meant.
    pub fn warning(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Level::Warning, place, what)
    }

    /// Something is as it should be.
    pub fn ok(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Level::Ok, place, what)
    }

    /// With what the Envoy Gateway does about it.
    #[must_use]
    pub fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effect = Some(effect.into());
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Ok => "ok",
        };
        write!(f, "{level}: {}: {}", self.place, self.what)?;
        self.effect.iter().chain(&self.remedy).try_for_each(|words| write!(f, "; {words}"))
    }
}

/// The Envoy Gateway that is looked at.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Its namespace.
    pub namespace: String,
    /// The ServiceAccount of its pods.
    pub service_account: String,
    /// Its version, if that is known.
    pub version: Option<Version>,
    /// The cluster's domain, as its pods have it.
    pub cluster_domain: String,
    /// The labels of its pods, if they are known.
    pub pod_labels: Option<serde_json::Value>,
}

impl Installation {
    /// How its ServiceAccount is called in findings.
    fn account(&self) -> String {
        format!("ServiceAccount {}/{}", self.namespace, self.service_account)
    }
}

/// What becomes of a configuration that an Envoy Gateway does not take.
const REFUSED: &str = "an Envoy Gateway that runs keeps the configuration it has and says so in its log only, and one that starts ends at once";
/// What becomes of calls that nobody answers: they wait until somebody does, and have no deadline (envoyproxy/gateway#8806).
const STALLED: &str = "Envoy Gateway waits for an answer without end, and meanwhile nothing changes in any of its Gateways, failOpen or not";

/// All that is found, in the order in which it is best mended. Without answers, only what the configuration itself says.
pub fn check(configuration: &Configuration, installation: &Installation, answers: Option<&Answers>) -> Vec<Finding> {
    let mut findings = configuration.check(installation.version);
    if findings.iter().all(|finding| finding.level == Level::Ok) {
        findings
            .push(Finding::ok(configuration.origin(), "an Envoy Gateway takes it and asks this program as it should"));
    }
    if let Some(answers) = answers {
        findings.extend(cluster::check(configuration, installation, answers));
    }
    findings
}
