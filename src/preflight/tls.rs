//! TLS between an Envoy Gateway and this program: what the one expects and the other shows.

use serde_json::Value;

use super::{Answers, Configuration, Finding, Installation, configuration::Manager};
use crate::{
    identity::{Bundle, Refusal, accepts_client, accepts_server, trust::SecretData},
    model::ObjectName,
};

const AUTHORITY: &str = "service.tls.certificateRef";
const CLIENT: &str = "service.tls.clientCertificateRef";

/// This program behind a Service, as its Deployment has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPort {
    /// The Deployment.
    pub deployment: ObjectName,
    /// The ServiceAccount of its pods.
    pub service_account: ObjectName,
    /// Whether Envoy Gateways are answered at all.
    pub(super) is_open: bool,
    /// Whether the port has TLS, and the Secret and its key with the certificate, when it is in one.
    pub(super) certificate: Option<Option<(ObjectName, String)>>,
    /// The same for the authorities of clients, when these have to show a certificate.
    pub(super) clients: Option<Option<(ObjectName, String)>>,
}

impl OwnPort {
    /// The Secrets that the port's certificate and authorities come from.
    pub fn secrets(&self) -> impl Iterator<Item = &ObjectName> {
        [&self.certificate, &self.clients].into_iter().flatten().flatten().map(|(secret, _)| secret)
    }
}

/// The Secrets that a configuration names.
pub(super) fn references(manager: &Manager<'_>, installation: &Installation) -> Vec<ObjectName> {
    [AUTHORITY, CLIENT].into_iter().filter_map(|field| reference(manager, field, installation)).collect()
}

fn reference(manager: &Manager<'_>, field: &str, installation: &Installation) -> Option<ObjectName> {
    let reference = manager.get(field);
    let text = |field: &str| reference[field].as_str().filter(|text| !text.is_empty());
    Some(ObjectName::new(text("namespace").unwrap_or(&installation.namespace), text("name")?))
}

/// This program among Deployments: the one whose pods a Service selects.
pub(super) fn own_port(deployments: &[Value], service: &Value) -> Option<OwnPort> {
    let selector = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty())?;
    let selected = |deployment: &&Value| {
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        selector.iter().all(|(name, value)| labels[name] == *value)
    };
    let deployment = deployments.iter().find(selected)?;
    let text = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let namespace = text("/metadata/namespace");
    let pod = &deployment["spec"]["template"]["spec"];
    let containers = pod["containers"].as_array()?;
    let serves =
        |container: &&Value| container["args"].as_array().is_some_and(|args| args.iter().any(|arg| arg == "serve"));
    let container = containers.iter().find(serves)?;
    let account = text("/spec/template/spec/serviceAccountName");
    let account = if account.is_empty() { "default" } else { account };
    let file = |flag: &str| setting(container, flag).map(|path| secret_at(pod, container, namespace, &path));
    Some(OwnPort {
        deployment: ObjectName::new(namespace, text("/metadata/name")),
        service_account: ObjectName::new(namespace, account),
        is_open: setting(container, "extension-listen").is_none_or(|listen| listen != "off"),
        certificate: file("extension-tls-cert"),
        clients: file("extension-client-ca"),
    })
}

/// What a container is told by a flag or by its environment variable.
fn setting(container: &Value, flag: &str) -> Option<String> {
    let args: Vec<&str> = container["args"].as_array()?.iter().filter_map(Value::as_str).collect();
    let long = format!("--{flag}");
    for (at, arg) in args.iter().enumerate() {
        match arg.strip_prefix(&long) {
            Some("") => return args.get(at + 1).map(|value| (*value).to_owned()),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            _ => {}
        }
    }
    let variable = format!("TAILSCALE_GATEWAY_{}", flag.replace('-', "_").to_uppercase());
    let variables = container["env"].as_array().into_iter().flatten();
    let named = variables.into_iter().find(|entry| entry["name"] == variable.as_str());
    named.and_then(|entry| entry["value"].as_str()).map(str::to_owned)
}

/// The Secret, and its key, that a path in a container is mounted from.
fn secret_at(pod: &Value, container: &Value, namespace: &str, path: &str) -> Option<(ObjectName, String)> {
    let mounts = container["volumeMounts"].as_array()?;
    let (mount, file) = mounts.iter().find_map(|mount| {
        let rest = path.strip_prefix(mount["mountPath"].as_str()?.trim_end_matches('/'))?.strip_prefix('/')?;
        Some((mount, rest))
    })?;
    let volume = pod["volumes"].as_array()?.iter().find(|volume| volume["name"] == mount["name"])?;
    let secret = &volume["secret"];
    let items = secret["items"].as_array().into_iter().flatten();
    let item = items.into_iter().find(|item| item["path"] == file).and_then(|item| item["key"].as_str());
    Some((ObjectName::new(namespace, secret["secretName"].as_str()?), item.unwrap_or(file).to_owned()))
}

/// What keeps the two from talking.
pub(super) fn check(configuration: &Configuration, installation: &Installation, answers: &Answers) -> Vec<Finding> {
    let managers = configuration.managers();
    let Some(manager) = managers.iter().find(|manager| manager.ours) else { return Vec::new() };
    let mut findings = Vec::new();
    let wants_tls = !manager.get("service.tls").is_null();
    let port = answers.own_port();
    if let Some(port) = &port {
        findings.extend(mismatch(manager, port, wants_tls));
    }
    if !wants_tls {
        if findings.is_empty() && port.is_some() {
            findings.push(Finding::ok(
                manager.place("service"),
                "neither side uses TLS; whoever the network lets through to the port is answered",
            ));
        }
        return findings;
    }
    let authority = part(answers, manager, AUTHORITY, installation, "tls.crt", &mut findings);
    let certificate = part(answers, manager, CLIENT, installation, "tls.crt", &mut findings);
    part(answers, manager, CLIENT, installation, "tls.key", &mut findings);
    let known = |source: &Option<Option<(ObjectName, String)>>| {
        let (secret, key) = source.clone()??;
        let data = answers.secrets.get(&secret)?.as_ref().ok()?.as_ref()?;
        Some((secret.clone(), data.part(&key)?.to_vec()))
    };
    let shown = port.as_ref().and_then(|port| known(&port.certificate));
    if let (Some((secret, authority)), Some((server, chain))) = (&authority, &shown) {
        let host = manager.get("service.fqdn.hostname").as_str().unwrap_or_default();
        findings.extend(server_known(secret, authority, server, chain, host.trim_end_matches('.'), answers));
    }
    let clients = port.as_ref().and_then(|port| known(&port.clients));
    if let (Some((secret, chain)), Some((authority, clients))) = (&certificate, &clients) {
        findings.extend(client_known(secret, chain, authority, clients, answers));
    }
    if findings.is_empty() && authority.is_some() {
        let who = if clients.is_some() { "each side knows the other" } else { "Envoy Gateway knows this program" };
        findings.push(Finding::ok(manager.place("service.tls"), format!("{who} by its certificate")));
    }
    findings
}

/// One side with TLS and the other without.
fn mismatch(manager: &Manager<'_>, port: &OwnPort, wants_tls: bool) -> Vec<Finding> {
    let OwnPort { deployment, .. } = port;
    let failed = "no connection comes about; Envoy Gateway tries without end, and meanwhile nothing changes in any of its Gateways";
    let mut findings = Vec::new();
    if !port.is_open {
        findings.push(
            Finding::error(format!("Deployment {deployment}"), "answers no Envoy Gateways: --extension-listen is off")
                .effect(failed)
                .remedy("set the chart's extension.enabled"),
        );
        return findings;
    }
    match (wants_tls, &port.certificate) {
        (false, Some(_)) => findings.push(
            Finding::error(manager.place("service.tls"), format!("is missing, and Deployment {deployment} uses TLS"))
                .effect(failed)
                .remedy("name the Secret with the authority of its certificate in certificateRef"),
        ),
        (true, None) => findings.push(
            Finding::error(manager.place("service.tls"), format!("is there, and Deployment {deployment} uses no TLS"))
                .effect(failed)
                .remedy("set the chart's extension.tls.secretName, or leave service.tls out"),
        ),
        (true, Some(_)) if port.clients.is_some() && manager.get(CLIENT).is_null() => findings.push(
            Finding::error(
                manager.place(CLIENT),
                format!("is missing, and Deployment {deployment} asks for a certificate"),
            )
            .effect(failed)
            .remedy("name a Secret with one, or leave out the chart's extension.tls.clientCaSecretName"),
        ),
        _ => {}
    }
    findings
}

/// A part of a Secret that the configuration names, or what is wrong with it.
fn part(
    answers: &Answers,
    manager: &Manager<'_>,
    field: &str,
    installation: &Installation,
    key: &str,
    findings: &mut Vec<Finding>,
) -> Option<(ObjectName, Vec<u8>)> {
    let secret = reference(manager, field, installation)?;
    let failed = "no call of Envoy Gateway succeeds";
    let place = format!("Secret {secret}");
    let finding = match answers.secrets.get(&secret)? {
        Ok(Some(SecretData(data))) => match data.get(key) {
            None => Finding::error(place, format!("has no {key}")).effect(failed).remedy(if field == AUTHORITY {
                "put the authority's certificate there"
            } else {
                "put it there"
            }),
            Some(pem) if key == "tls.crt" && Bundle::read(pem).is_err() => {
                Finding::error(place, format!("{key} is no certificate in PEM")).effect(failed).remedy("replace it")
            }
            Some(pem) => return Some((secret, pem.clone())),
        },
        Ok(None) => Finding::error(place, format!("is missing; {} names it", manager.place(field)))
            .effect(failed)
            .remedy("make it, or name another"),
        Err(words) => Finding::warning(place, format!("is not looked at: {words}"))
            .remedy("allow to get it, or see yourself that it is as it should be"),
    };
    if !findings.contains(&finding) {
        findings.push(finding);
    }
    None
}

/// Whether the Envoy Gateway takes the server for the one that it asks for.
fn server_known(
    authority: &ObjectName,
    trusted: &[u8],
    server: &ObjectName,
    chain: &[u8],
    host: &str,
    answers: &Answers,
) -> Option<Finding> {
    let (trusted, chain) = (Bundle::read(trusted).ok()?, Bundle::read(chain).ok()?);
    let refusal = accepts_server(&trusted, chain.certificates(), host, answers.now).err()?;
    let is_trusted_itself = chain.certificates().first().is_some_and(|leaf| trusted.certificates().contains(leaf));
    let why = match refusal {
        // Go trusts what is among its authorities, whatever it is.
        Refusal::UnknownAuthority | Refusal::Other(_) if is_trusted_itself => return None,
        Refusal::UnknownAuthority => format!("is not signed by an authority in Secret {authority}"),
        Refusal::OtherName => format!("is not for {host}"),
        other => format!("can not be used: {other}"),
    };
    Some(
        Finding::error(format!("Secret {server}"), format!("the certificate of this program {why}"))
            .effect(
                "Envoy Gateway refuses it and tries without end, and meanwhile nothing changes in any of its Gateways",
            )
            .remedy("have one issued that fits"),
    )
}

/// Whether this program lets the Envoy Gateway in.
fn client_known(
    client: &ObjectName,
    chain: &[u8],
    authority: &ObjectName,
    trusted: &[u8],
    answers: &Answers,
) -> Option<Finding> {
    let (trusted, chain) = (Bundle::read(trusted).ok()?, Bundle::read(chain).ok()?);
    let refusal = accepts_client(&trusted, chain.certificates(), answers.now).err()?;
    let why = match refusal {
        Refusal::UnknownAuthority => format!("is not signed by an authority in Secret {authority}"),
        other => format!("can not be used: {other}"),
    };
    Some(
        Finding::error(format!("Secret {client}"), format!("the certificate of the Envoy Gateway {why}"))
            .effect("this program refuses it; Envoy Gateway tries without end, and meanwhile nothing changes in any of its Gateways")
            .remedy("have one issued that fits"),
    )
}
