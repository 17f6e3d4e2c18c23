//! The command `preflight`: asks a cluster what has to be known, and prints what an Envoy Gateway would do wrong.

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode};

use jiff::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;

use super::{complain, print};
use crate::{
    config::{PreflightConfig, ReportFormat},
    identity::trust::SecretData,
    kubernetes::{
        self, ConnectError,
        look::{Attempt, Look, Resource},
        permissions::{Scope, permissions},
    },
    model::ObjectName,
    preflight::{Access, Answers, Configuration, Finding, Installation, Level, Questions, Served, check},
};

const DEFINITIONS: Resource<'_> = Resource {
    api_version: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
};
const DEPLOYMENTS: Resource<'_> = Resource { api_version: "apps/v1", kind: "Deployment", plural: "deployments" };
const CONFIG_MAPS: Resource<'_> = Resource { api_version: "v1", kind: "ConfigMap", plural: "configmaps" };
const SERVICES: Resource<'_> = Resource { api_version: "v1", kind: "Service", plural: "services" };
const SECRETS: Resource<'_> = Resource { api_version: "v1", kind: "Secret", plural: "secrets" };
const NAMESPACES: Resource<'_> = Resource { api_version: "v1", kind: "Namespace", plural: "namespaces" };
const NETWORK_POLICIES: Resource<'_> =
    Resource { api_version: "networking.k8s.io/v1", kind: "NetworkPolicy", plural: "networkpolicies" };
const SLICES: Resource<'_> =
    Resource { api_version: "discovery.k8s.io/v1", kind: "EndpointSlice", plural: "endpointslices" };

/// The Deployment of an Envoy Gateway, and its ServiceAccount, as its chart calls both.
const ENVOY_GATEWAY: &str = "envoy-gateway";
/// The ConfigMap with its configuration.
const CONFIG_MAP: &str = "envoy-gateway-config";
/// The cluster's domain, unless the Deployment says otherwise.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Why nothing is found.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// The file can not be read.
    #[error("--envoy-gateway-config {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Neither a service account nor a kubeconfig.
    #[error(
        "no cluster: not running in one, and no kubeconfig could be used; give --kubeconfig, or --envoy-gateway-config FILE"
    )]
    NoCluster,
    /// The kubeconfig can not be used.
    #[error(transparent)]
    Connect(ConnectError),
    /// The API server does not answer.
    #[error("the API server does not answer: {0}")]
    Unanswered(String),
    /// The configuration can not be read.
    #[error(
        "ConfigMap {name}: {reason}; give the configuration with --envoy-gateway-config FILE, or the namespace with --envoy-gateway-namespace"
    )]
    Configuration {
        /// The ConfigMap.
        name: ObjectName,
        /// What the API server says.
        reason: String,
    },
    /// No request can be waited for.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// Prints what is found; the exit code is 1 if any of it is an error.
pub fn preflight(config: &PreflightConfig) -> ExitCode {
    match try_preflight(config) {
        Ok(findings) => {
            let printed = print(&text(&findings, config.output));
            let failed = findings.iter().any(|finding| finding.level == Level::Error);
            if failed { ExitCode::FAILURE } else { printed }
        }
        Err(error) => complain(&error),
    }
}

/// Findings, as they are printed.
pub fn text(findings: &[Finding], format: ReportFormat) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    match format {
        ReportFormat::Text => findings.iter().map(|finding| format!("{finding}\n")).collect(),
        ReportFormat::Json => {
            let counts =
                json!({"errors": count(Level::Error), "warnings": count(Level::Warning), "findings": findings});
            format!("{counts:#}\n")
        }
    }
}

fn try_preflight(config: &PreflightConfig) -> Result<Vec<Finding>, PreflightError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(find(config))
}

async fn find(config: &PreflightConfig) -> Result<Vec<Finding>, PreflightError> {
    let given = match &config.envoy_gateway_config {
        None => None,
        Some(path) => {
            let failed = |source| PreflightError::File { path: path.clone(), source };
            Some((path.display().to_string(), fs::read_to_string(path).map_err(failed)?))
        }
    };
    let standalone = |text: &str| Configuration::read("", text).is_ok_and(|read| read.is_standalone());
    if let Some((origin, text)) = given.as_ref().filter(|(_, text)| standalone(text)) {
        return Ok(alone(config, origin, text, None));
    }
    let connected = match kubernetes::connect(config.kubeconfig.as_ref(), config.context.as_deref()).await {
        Ok(client) => {
            let look = Look::new(client);
            let answers = look.answers().await;
            answers.map(|()| look).map_err(PreflightError::Unanswered)
        }
        Err(ConnectError::None(_)) => Err(PreflightError::NoCluster),
        Err(error) => Err(PreflightError::Connect(error)),
    };
    match (connected, given) {
        (Ok(look), given) => with_cluster(config, &look, given).await,
        (Err(error), Some((origin, text))) => {
            // Who names a cluster means it.
            let named = config.kubeconfig.is_some() || config.context.is_some();
            let finding = if named { Finding::error } else { Finding::warning };
            let words = match error {
                PreflightError::NoCluster => {
                    "there is none: not running in one, and no kubeconfig could be used".to_owned()
                }
                error => error.to_string(),
            };
            Ok(alone(config, &origin, &text, Some(unlooked(finding("cluster", words)))))
        }
        (Err(error), None) => Err(error),
    }
}

/// What a configuration itself says, and why no cluster was looked at.
fn alone(config: &PreflightConfig, origin: &str, text: &str, unlooked: Option<Finding>) -> Vec<Finding> {
    let installation = Installation {
        namespace: config.envoy_gateway_namespace.clone(),
        service_account: config.service_account.clone().unwrap_or_else(|| ENVOY_GATEWAY.to_owned()),
        version: config.envoy_gateway_version,
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        pod_labels: None,
    };
    let mut findings = match Configuration::read(origin, text) {
        Ok(configuration) => check(&configuration, &installation, None),
        Err(finding) => vec![finding],
    };
    findings.extend(unlooked);
    findings
}

fn unlooked(finding: Finding) -> Finding {
    finding
        .effect("definitions, rights, the Service and certificates were not looked at")
        .remedy("give --kubeconfig or --context of a cluster that answers")
}

async fn with_cluster(
    config: &PreflightConfig,
    look: &Look,
    given: Option<(String, String)>,
) -> Result<Vec<Finding>, PreflightError> {
    let namespace = config.envoy_gateway_namespace.as_str();
    let deployment = look.object(DEPLOYMENTS, &ObjectName::new(namespace, ENVOY_GATEWAY)).await;
    let (mut findings, installation) = installation(config, deployment);
    let (origin, text) = match given {
        Some(given) => given,
        None => {
            let name = ObjectName::new(namespace, CONFIG_MAP);
            let failed = |reason: String| PreflightError::Configuration { name: name.clone(), reason };
            let found = look.object(CONFIG_MAPS, &name).await.map_err(failed)?;
            let found = found.ok_or_else(|| failed("there is none".to_owned()))?;
            // As a document of YAML again, which JSON is.
            (format!("ConfigMap {name}"), with_kind(found).to_string())
        }
    };
    match Configuration::read(&origin, &text) {
        Ok(configuration) if configuration.is_standalone() => findings = check(&configuration, &installation, None),
        Ok(configuration) => {
            let answers = ask(look, &configuration, &installation).await;
            findings.extend(check(&configuration, &installation, Some(&answers)));
        }
        Err(finding) => findings.push(finding),
    }
    Ok(findings)
}

/// An API server leaves out what the path has said already.
fn with_kind(mut config_map: Value) -> Value {
    config_map["kind"] = json!(CONFIG_MAPS.kind);
    config_map
}

/// What is known of the Envoy Gateway by its Deployment, and by flags, which win.
fn installation(config: &PreflightConfig, found: Result<Option<Value>, String>) -> (Vec<Finding>, Installation) {
    let namespace = &config.envoy_gateway_namespace;
    let place = format!("Deployment {namespace}/{ENVOY_GATEWAY}");
    let mut findings = Vec::new();
    let taken = "hooks are judged as if it were of the latest version";
    let remedy = "give --envoy-gateway-version";
    let deployment = match found {
        Ok(Some(deployment)) => deployment,
        Ok(None) => {
            if config.envoy_gateway_version.is_none() {
                findings.push(
                    Finding::warning(place, "is missing")
                        .effect(taken)
                        .remedy("install it, or give --envoy-gateway-namespace or --envoy-gateway-version"),
                );
            }
            Value::Null
        }
        Err(words) => {
            findings.push(Finding::warning(place, format!("is not looked at: {words}")).effect(taken).remedy(remedy));
            Value::Null
        }
    };
    let pod = &deployment["spec"]["template"]["spec"];
    let containers = pod["containers"].as_array().into_iter().flatten();
    let container = containers.into_iter().find(|container| container["name"] == ENVOY_GATEWAY);
    let image = container.and_then(|container| container["image"].as_str());
    let of_image = image.and_then(crate::preflight::Version::of_image);
    if let (Some(image), None, None) = (image, of_image, config.envoy_gateway_version) {
        let place = format!("Deployment {namespace}/{ENVOY_GATEWAY}");
        let what = format!("its image {image} does not say a version");
        findings.push(Finding::warning(place, what).effect(taken).remedy(remedy));
    }
    let variables = container.and_then(|container| container["env"].as_array()).into_iter().flatten();
    let domain = variables.into_iter().find(|entry| entry["name"] == "KUBERNETES_CLUSTER_DOMAIN");
    let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let account = config.service_account.clone().or_else(|| text(Some(&pod["serviceAccountName"])));
    let installation = Installation {
        namespace: namespace.clone(),
        service_account: account.unwrap_or_else(|| ENVOY_GATEWAY.to_owned()),
        version: config.envoy_gateway_version.or(of_image),
        cluster_domain: text(domain.map(|entry| &entry["value"])).unwrap_or_else(|| CLUSTER_DOMAIN.to_owned()),
        pod_labels: deployment["spec"]["template"]["metadata"].get("labels").cloned(),
    };
    (findings, installation)
}

/// Asks all that has to be known; one answer leads to the next question.
async fn ask(look: &Look, configuration: &Configuration, installation: &Installation) -> Answers {
    let questions = Questions::of(configuration, installation);
    let mut answers = Answers::none(Timestamp::now());
    for name in questions.definitions {
        let found = look.object(DEFINITIONS, &ObjectName::new("", name.as_str())).await;
        answers.definitions.insert(name, found);
    }
    for api_version in questions.api_versions {
        let served = look.kinds(&api_version).await.map(|list| {
            let whole = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
            whole.map(|one| Served { kind: one.kind, plural: one.name, namespaced: one.namespaced }).collect()
        });
        answers.served.insert(api_version, served);
    }
    if let Some(service) = &questions.service {
        answers.service = look.object(SERVICES, service).await;
        let label = format!("kubernetes.io/service-name={}", service.name);
        answers.slices = look.objects(SLICES, &service.namespace, &label).await;
        answers.deployments = look.objects(DEPLOYMENTS, &service.namespace, "").await;
        answers.network_policies = look.objects(NETWORK_POLICIES, &service.namespace, "").await;
        let theirs = ObjectName::new("", installation.namespace.as_str());
        answers.envoy_gateway_namespace = look.object(NAMESPACES, &theirs).await;
    }
    for (api_version, kind, plural) in answers.policy_kinds(configuration) {
        let resource = Resource { api_version: &api_version, kind: &kind, plural: &plural };
        let objects = look.objects(resource, "", "").await;
        answers.policies.insert((api_version, kind), objects);
    }
    let account = ObjectName::new(installation.namespace.as_str(), installation.service_account.as_str());
    answers.rights = rights(look, &account, answers.needed_rights(configuration)).await;
    let own = answers.own_port();
    let mut secrets = questions.secrets;
    if let Some(own) = &own {
        answers.own_rights = rights(look, &own.service_account, own_needs(&own.service_account)).await;
        secrets.extend(own.secrets().cloned());
    }
    for name in secrets {
        let found = look.object(SECRETS, &name).await.map(|found| found.map(|secret| data(&secret)));
        answers.secrets.insert(name, found);
    }
    answers
}

async fn rights(
    look: &Look,
    account: &ObjectName,
    needed: impl IntoIterator<Item = Access>,
) -> BTreeMap<Access, Result<bool, String>> {
    let needed: Vec<Access> = needed.into_iter().collect();
    let attempts: Vec<Attempt<'_>> = needed.iter().map(attempt).collect();
    let answered = look.may(account, &attempts).await;
    needed.into_iter().zip(answered).collect()
}

fn attempt(access: &Access) -> Attempt<'_> {
    let Access { group, resource, verb, namespace, name } = access;
    Attempt { group, resource, verb, namespace: namespace.as_deref(), name: name.as_deref() }
}

/// What this program's own ServiceAccount needs.
fn own_needs(account: &ObjectName) -> Vec<Access> {
    let needs = permissions().into_iter().flat_map(|one| {
        let namespace = (one.scope == Scope::OwnNamespace).then(|| account.namespace.to_string());
        one.verbs.iter().map(move |verb| Access {
            group: one.group.to_owned(),
            resource: one.resource.clone(),
            verb: (*verb).to_owned(),
            namespace: namespace.clone(),
            name: one.name.map(str::to_owned),
        })
    });
    needs.collect()
}

/// What a Secret holds. What is no base64 is as good as missing: no API server has it.
fn data(secret: &Value) -> SecretData {
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret.clone()).unwrap_or_default();
    SecretData(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
}
