//! `preflight`: what it finds in configurations, and in what a cluster answers.

use std::{collections::BTreeMap, fs};

use jiff::Timestamp;
use serde_json::{Value, json};
use tailscale_gateway::{
    api,
    identity::{Authority, Lifetimes, ServerNames, trust::SecretData},
    model::{Kind, ObjectName},
    preflight::{
        Access, Answers, Configuration, Finding, GATEWAY_API_DEFINITIONS, Installation, Level, Questions, Served,
        Version, check,
    },
};

use crate::support::{preflight_cases as cases, tools::repository};

fn installation(version: Option<&str>) -> Installation {
    Installation {
        namespace: "envoy-gateway-system".to_owned(),
        service_account: "envoy-gateway".to_owned(),
        version: version.map(|version| version.parse().expect("a version")),
        cluster_domain: "cluster.local".to_owned(),
        pod_labels: Some(json!({ "control-plane": "envoy-gateway" })),
    }
}

fn read(configuration: &Value) -> Configuration {
    Configuration::read("FILE", &configuration.to_string()).expect("it is a configuration")
}

#[test]
fn each_configuration_is_found_wrong_in_the_words_that_are_recorded() {
    let (mut text, cases) = cases::cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let findings = check(&read(&case.configuration), &installation(case.version.as_deref()), None);
        let found: Vec<String> = findings.iter().map(Finding::to_string).collect();
        if found != case.found {
            wrong.push(format!("{}: {found:#?}", case.title));
        }
        text += &case.text(&found);
    }
    if std::env::var_os("TSGW_GENERATE").is_some() {
        fs::write(cases::path(), text).expect("the file can be written");
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
    assert!(cases.len() > 30, "only {} cases", cases.len());
}

#[test]
fn what_is_shipped_has_nothing_wrong_in_any_version_that_knows_what_it_says() {
    for version in [None, Some("v1.5.0"), Some("v1.9.1"), Some("v2.0.0")] {
        let findings = check(&read(&cases::shipped()), &installation(version), None);
        assert!(findings.iter().all(|finding| finding.level == Level::Ok) && findings.len() == 1, "{findings:?}");
    }
}

#[test]
fn a_configuration_is_found_in_a_config_map_and_in_values_of_envoy_gateways_chart() {
    let whole = cases::shipped();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "envoy-gateway-config" },
        "data": { "envoy-gateway.yaml": whole.to_string() },
    });
    let values = json!({ "config": { "envoyGateway": { "extensionManager": whole["extensionManager"] } } });
    let several = format!("---\n# Nothing\n---\n{{kind: Namespace}}\n---\n{map}\n");
    for text in [whole.to_string(), map.to_string(), values.to_string(), several] {
        let configuration = Configuration::read("FILE", &text).expect("it is in there");
        let findings = check(&configuration, &installation(None), None);
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{text}: {findings:?}");
    }
    for (text, wanted) in [
        ("", "neither an object of kind EnvoyGateway"),
        ("a: b", "neither an object of kind EnvoyGateway"),
        ("{kind: ConfigMap, data: {other: x}}", "neither an object of kind EnvoyGateway"),
        ("{", "is no YAML"),
    ] {
        let finding = Configuration::read("FILE", text).expect_err("there is none");
        assert!(finding.to_string().starts_with("error: FILE: ") && finding.what.contains(wanted), "{finding}");
    }
}

#[test]
fn the_values_for_envoy_gateways_chart_say_what_its_configuration_says() {
    let values = fs::read_to_string(repository().join("manifests/envoy-gateway/values.yaml")).expect("it is shipped");
    let values: Value = serde_saphyr::from_str(&values).expect("YAML");
    assert_eq!(values["config"]["envoyGateway"]["extensionManager"], cases::shipped()["extensionManager"]);
}

#[test]
fn a_version_is_read_from_an_image() {
    for (image, version) in [
        ("docker.io/envoyproxy/gateway:v1.9.1", Some("v1.9.1")),
        ("registry:5000/gateway:v1.10.0-rc.1", Some("v1.10.0")),
        ("gateway:1.9@sha256:0123", Some("v1.9.0")),
        ("registry:5000/gateway", None),
        ("gateway:latest", None),
        ("gateway", None),
    ] {
        assert_eq!(Version::of_image(image).map(|version| version.to_string()).as_deref(), version, "{image}");
    }
    for text in ["v1.9.1.2", "1", "", "v1.x"] {
        assert!(text.parse::<Version>().is_err(), "{text}");
    }
}

/// A cluster in which all is as the guide has it.
fn cluster(configuration: &Configuration) -> Answers {
    let mut answers = Answers::none(Timestamp::from_second(1_800_000_000).expect("a time"));
    let established = json!({ "conditions": [{ "type": "Established", "status": "True" }] });
    for definition in api::crds() {
        let mut definition = serde_json::to_value(definition).expect("JSON");
        definition["status"] = established.clone();
        let name = definition["metadata"]["name"].as_str().expect("a name").to_owned();
        answers.definitions.insert(name, Ok(Some(definition)));
    }
    for kind in GATEWAY_API_DEFINITIONS {
        let annotations = json!({ "gateway.networking.k8s.io/bundle-version": "v1.6.1" });
        let definition = json!({ "metadata": { "annotations": annotations }, "status": established });
        answers.definitions.insert(format!("{}.{}", kind.plural(), kind.group()), Ok(Some(definition)));
    }
    let ours = Kind::ALL.into_iter().filter(|kind| kind.group() == "gateway.tailscale.com");
    let served = ours.map(|kind| Served {
        kind: kind.to_string(),
        plural: kind.plural().to_owned(),
        namespaced: kind.namespaced(),
    });
    answers.served.insert("gateway.tailscale.com/v1alpha1".to_owned(), Ok(served.collect()));
    answers.rights = answers.needed_rights(configuration).into_iter().map(|access| (access, Ok(true))).collect();
    let policy =
        json!({ "metadata": { "namespace": "default", "name": "eg" }, "spec": { "targetRefs": [{ "name": "eg" }] } });
    for (api_version, kind, _) in answers.policy_kinds(configuration) {
        answers.policies.insert((api_version, kind), Ok(vec![policy.clone()]));
    }
    let labels = json!({ "app.kubernetes.io/name": "tailscale-gateway" });
    answers.service = Ok(Some(json!({
        "spec": { "selector": labels, "ports": [{ "name": "xds", "port": 18000 }, { "name": "extension", "port": 5005 }] },
    })));
    answers.slices = Ok(vec![json!({
        "ports": [{ "name": "extension", "port": 5005 }, { "name": "xds", "port": 18000 }],
        "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": true } }, { "addresses": ["10.0.0.2"] }],
    })]);
    let container = json!({
        "args": ["serve", "--extension-listen=0.0.0.0:5005"],
        "ports": [{ "name": "extension", "containerPort": 5005 }],
    });
    let of_name = json!({ "metadata": { "labels": { "kubernetes.io/metadata.name": "envoy-gateway-system" } } });
    answers.envoy_gateway_namespace = Ok(Some(of_name));
    answers.network_policies = Ok(vec![json!({
        "metadata": { "name": "guard" },
        "spec": { "podSelector": { "matchLabels": { "app.kubernetes.io/name": "tailscale-gateway" } }, "ingress": [rule()] },
    })]);
    answers.deployments = Ok(vec![
        json!({ "metadata": { "namespace": "tailscale-gateway", "name": "other" }, "spec": { "template": { "metadata": {} } } }),
        json!({
            "metadata": { "namespace": "tailscale-gateway", "name": "tailscale-gateway" },
            "spec": { "template": {
                "metadata": { "labels": labels },
                "spec": { "serviceAccountName": "tailscale-gateway", "containers": [container] },
            } },
        }),
    ]);
    answers.own_rights = BTreeMap::from([(access("patch", "gateways/status"), Ok(true))]);
    answers
}

/// What lets the Envoy Gateway through, and nobody else.
fn rule() -> Value {
    json!({
        "ports": [{ "port": "extension" }],
        "from": [{
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "envoy-gateway-system" } },
            "podSelector": { "matchExpressions": [{ "key": "control-plane", "operator": "In", "values": ["envoy-gateway"] }] },
        }],
    })
}

fn access(verb: &str, resource: &str) -> Access {
    Access {
        group: "gateway.networking.k8s.io".to_owned(),
        resource: resource.to_owned(),
        verb: verb.to_owned(),
        namespace: None,
        name: None,
    }
}

/// What is found in a cluster besides what is well.
fn bad(configuration: &Configuration, answers: &Answers) -> Vec<String> {
    let findings = check(configuration, &installation(None), Some(answers));
    findings.iter().filter(|finding| finding.level != Level::Ok).map(Finding::to_string).collect()
}

#[test]
fn a_cluster_in_which_all_is_as_it_should_be_is_said_to_be_so() {
    let configuration = read(&cases::shipped());
    let findings = check(&configuration, &installation(None), Some(&cluster(&configuration)));
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
    let places: Vec<&str> = findings.iter().map(|finding| finding.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "FILE",
            "CustomResourceDefinitions",
            "ServiceAccount envoy-gateway-system/envoy-gateway",
            "Service tailscale-gateway/tailscale-gateway",
            "extensionManager.service",
            "ServiceAccount tailscale-gateway/tailscale-gateway",
        ]
    );
    let questions = Questions::of(&configuration, &installation(None));
    assert_eq!(questions.service, Some(ObjectName::new("tailscale-gateway", "tailscale-gateway")));
    assert!(questions.definitions.contains(&"gateways.gateway.networking.k8s.io".to_owned()));
}

/// A definition in the answers.
fn definition(answers: &mut Answers, kind: Kind) -> &mut Value {
    let name = format!("{}.{}", kind.plural(), kind.group());
    answers.definitions.get_mut(&name).expect("it is asked for").as_mut().expect("answered").as_mut().expect("there")
}

fn schema(answers: &mut Answers, kind: Kind) -> &mut Value {
    &mut definition(answers, kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
}

type Break = fn(&mut Answers);

/// What is broken, and the beginning of the one line that says so.
const BROKEN: [(Break, &str); 20] = [
    (
        |answers| drop(answers.definitions.insert("tailscaleendpoints.gateway.tailscale.com".to_owned(), Ok(None))),
        "error: CustomResourceDefinition tailscaleendpoints.gateway.tailscale.com: is missing; ",
    ),
    (
        |answers| drop(answers.definitions.insert("gateways.gateway.networking.k8s.io".to_owned(), Ok(None))),
        "error: CustomResourceDefinition gateways.gateway.networking.k8s.io: is missing; ",
    ),
    (
        |answers| {
            drop(
                answers.definitions.insert("tailscaleendpoints.gateway.tailscale.com".to_owned(), Err("no".to_owned())),
            )
        },
        "warning: CustomResourceDefinition tailscaleendpoints.gateway.tailscale.com: is not looked at: no; ",
    ),
    (
        |answers| definition(answers, Kind::TailscaleEndpoints)["status"] = json!({}),
        "error: CustomResourceDefinition tailscaleendpoints.gateway.tailscale.com: is not established; ",
    ),
    (
        |answers| definition(answers, Kind::TailscaleEndpoints)["spec"]["versions"][0]["served"] = json!(false),
        "error: CustomResourceDefinition tailscaleendpoints.gateway.tailscale.com: has no version v1alpha1; ",
    ),
    (
        |answers| {
            drop(
                schema(answers, Kind::TailscaleRoutePolicy)["properties"]
                    .as_object_mut()
                    .expect("fields")
                    .remove("rules"),
            )
        },
        "error: CustomResourceDefinition tailscaleroutepolicies.gateway.tailscale.com: is older than this version: it lacks spec.rules, \
         spec.rules[].actions, spec.rules[].actions[].redirect, …; ",
    ),
    (
        |answers| schema(answers, Kind::TailscaleRoutePolicy)["properties"]["priority"] = json!({ "type": "integer" }),
        "warning: CustomResourceDefinition tailscaleroutepolicies.gateway.tailscale.com: is newer than this version: it has spec.priority; ",
    ),
    (
        |answers| {
            drop(
                schema(answers, Kind::TailscaleRoutePolicy)["properties"]["targetRefs"]
                    .as_object_mut()
                    .expect("a schema")
                    .remove("minItems"),
            )
        },
        "warning: CustomResourceDefinition tailscaleroutepolicies.gateway.tailscale.com: is another than this version's: \
         spec.targetRefs has other rules; ",
    ),
    (
        |answers| {
            let kinds =
                answers.served.get_mut("gateway.tailscale.com/v1alpha1").expect("asked").as_mut().expect("answered");
            kinds.retain(|served| served.kind != "TailscaleGatewayRevision");
        },
        "error: extensionManager.policyResources[0]: the API server has no TailscaleGatewayRevision of gateway.tailscale.com/v1alpha1; \
         Envoy Gateway waits for objects of the kind, ",
    ),
    (
        |answers| drop(answers.served.insert("gateway.tailscale.com/v1alpha1".to_owned(), Err("gone".to_owned()))),
        "warning: extensionManager.backendResources[0]: it is not known whether there is a TailscaleEndpoints of \
         gateway.tailscale.com/v1alpha1: gone; ",
    ),
    (
        |answers| deny(answers, "tailscaleservice", "watch"),
        "error: ServiceAccount envoy-gateway-system/envoy-gateway: may not watch tailscaleservice.gateway.tailscale.com; ",
    ),
    (
        |answers| deny(answers, "tailscaleroutepolicies/status", "update"),
        "warning: ServiceAccount envoy-gateway-system/envoy-gateway: may not update tailscaleroutepolicies/status.gateway.tailscale.com; ",
    ),
    (
        |answers| answers.rights.values_mut().for_each(|answer| *answer = Err("forbidden".to_owned())),
        "warning: ServiceAccount envoy-gateway-system/envoy-gateway: what it may do is not known: forbidden; ",
    ),
    (
        |answers| add_policy(answers, json!({ "metadata": { "namespace": "a", "name": "b" } })),
        "error: TailscaleRoutePolicy a/b: has no spec; Envoy Gateway stops reading policies there: ",
    ),
    (
        |answers| {
            add_policy(answers, json!({ "metadata": { "namespace": "a", "name": "b" }, "spec": { "targetRefs": [] } }))
        },
        "error: TailscaleRoutePolicy a/b: has an empty list of targets; Envoy Gateway ignores it, ",
    ),
    (
        |answers| answers.service = Ok(None),
        "error: Service tailscale-gateway/tailscale-gateway: is missing; Envoy Gateway waits ",
    ),
    (
        |answers| {
            answers.service.as_mut().expect("answered").as_mut().expect("there")["spec"]["ports"][1]["port"] =
                json!(5006)
        },
        "error: Service tailscale-gateway/tailscale-gateway: has no port 5005, only 18000, 5006; ",
    ),
    (
        |answers| {
            let endpoints = &mut answers.slices.as_mut().expect("answered")[0]["endpoints"];
            endpoints[0]["conditions"]["ready"] = json!(false);
            endpoints[1]["conditions"]["ready"] = json!(false);
        },
        "error: Service tailscale-gateway/tailscale-gateway: no pod that is ready answers on port 5005; ",
    ),
    (
        |answers| answers.slices.as_mut().expect("answered")[0]["endpoints"][0]["conditions"]["ready"] = json!(false),
        "warning: Service tailscale-gateway/tailscale-gateway: one pod alone answers on port 5005; ",
    ),
    (
        |answers| drop(answers.own_rights.insert(access("patch", "gateways/status"), Ok(false))),
        "error: ServiceAccount tailscale-gateway/tailscale-gateway: may not patch gateways/status.gateway.networking.k8s.io, ",
    ),
];

fn deny(answers: &mut Answers, resource: &str, verb: &str) {
    for (access, answer) in &mut answers.rights {
        if access.resource == resource && access.verb == verb {
            *answer = Ok(false);
        }
    }
}

fn add_policy(answers: &mut Answers, policy: Value) {
    let key = ("gateway.tailscale.com/v1alpha1".to_owned(), "TailscaleRoutePolicy".to_owned());
    answers.policies.get_mut(&key).expect("asked for").as_mut().expect("answered").push(policy);
}

#[test]
fn each_thing_that_is_broken_in_a_cluster_is_named() {
    let configuration = read(&cases::shipped());
    for (broken, wanted) in BROKEN {
        let mut answers = cluster(&configuration);
        broken(&mut answers);
        let found = bad(&configuration, &answers);
        let is_said = found.iter().any(|line| line.starts_with(wanted));
        // A kind of which nothing is known may be in more than one place.
        let only = found.len() == 1 || wanted.contains("it is not known whether");
        assert!(is_said && only, "wanted {wanted}\nfound {found:#?}");
    }
}

/// The Deployment with arguments, and Secrets mounted where these look for them.
fn with_tls(answers: &mut Answers, arguments: &[&str]) {
    let pod = &mut answers.deployments.as_mut().expect("answered")[1]["spec"]["template"]["spec"];
    pod["containers"][0]["args"].as_array_mut().expect("a list").extend(arguments.iter().map(|one| json!(one)));
    pod["containers"][0]["volumeMounts"] = json!([
        { "name": "port", "mountPath": "/etc/port" }, { "name": "clients", "mountPath": "/etc/clients/" },
    ]);
    pod["volumes"] = json!([
        { "name": "port", "secret": { "secretName": "port" } },
        { "name": "clients", "secret": { "secretName": "clients", "items": [{ "key": "tls.crt", "path": "ca.crt" }] } },
    ]);
}

const TLS: [&str; 2] = ["--extension-tls-cert=/etc/port/tls.crt", "--extension-tls-key=/etc/port/tls.key"];
const CLIENTS: &str = "--extension-client-ca=/etc/clients/ca.crt";

/// The shipped configuration with TLS, and with a client's certificate.
fn secure(client: bool) -> Value {
    let mut configuration = cases::shipped();
    let tls = &mut configuration["extensionManager"]["service"]["tls"];
    *tls = json!({ "certificateRef": { "name": "ca" } });
    if client {
        tls["clientCertificateRef"] = json!({ "name": "client", "namespace": "elsewhere" });
    }
    configuration
}

#[test]
fn one_side_with_tls_and_the_other_without_is_named() {
    let (plain, tls) = (read(&cases::shipped()), read(&secure(false)));
    let at = |configuration: &Configuration, arguments: &[&str]| {
        let mut answers = cluster(configuration);
        with_tls(&mut answers, arguments);
        bad(configuration, &answers)
    };
    let deployment = "Deployment tailscale-gateway/tailscale-gateway";
    for (configuration, arguments, wanted) in [
        (&plain, &TLS[..], format!("error: extensionManager.service.tls: is missing, and {deployment} uses TLS; ")),
        (&tls, &[], format!("error: extensionManager.service.tls: is there, and {deployment} uses no TLS; ")),
        (
            &tls,
            &[TLS[0], TLS[1], CLIENTS],
            format!(
                "error: extensionManager.service.tls.clientCertificateRef: is missing, and {deployment} asks for a certificate; "
            ),
        ),
        (&plain, &["--extension-listen", "off"], String::new()),
    ] {
        let found = at(configuration, arguments);
        assert!(found.iter().any(|line| line.starts_with(&wanted)) || wanted.is_empty(), "{wanted}: {found:#?}");
    }
    // The flag that stands first is the one that is found, and an environment variable is as good.
    let mut answers = cluster(&plain);
    let container =
        &mut answers.deployments.as_mut().expect("answered")[1]["spec"]["template"]["spec"]["containers"][0];
    container["args"] = json!(["serve"]);
    container["env"] = json!([{ "name": "TAILSCALE_GATEWAY_EXTENSION_LISTEN", "value": "off" }]);
    let found = bad(&plain, &answers);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(&format!("error: {deployment}: answers no Envoy Gateways: --extension-listen is off; "))
    );
}

#[test]
fn certificates_that_do_not_fit_are_named() {
    let configuration = read(&secure(true));
    let now = cluster(&configuration).now;
    let lifetimes = Lifetimes::new(std::time::Duration::from_secs(864_000), std::time::Duration::from_secs(86_400))
        .expect("it fits");
    let authority = || Authority::generate(now, lifetimes).expect("it can be made");
    let (ours, theirs) = (authority(), authority());
    let host = "tailscale-gateway.tailscale-gateway.svc.cluster.local";
    let server = |authority: &Authority, name: &str| {
        authority.issue_server(&ServerNames::new([name]).expect("a name"), now, lifetimes).expect("it can be made")
    };
    let client = |authority: &Authority| {
        let id = "spiffe://gateway.tailscale.com/ns/a/gateway/b".parse().expect("an ID");
        authority.issue_client(&id, now, lifetimes).expect("it can be made")
    };
    let pem = |authority: &Authority| authority.credentials().chain.clone();
    let secret = |parts: &[(&str, String)]| {
        let parts = parts.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into_bytes()));
        Ok(Some(SecretData(parts.collect())))
    };
    let whole = || {
        let mut answers = cluster(&configuration);
        with_tls(&mut answers, &[TLS[0], TLS[1], CLIENTS]);
        let certificate = client(&theirs);
        answers.secrets = BTreeMap::from([
            (ObjectName::new("envoy-gateway-system", "ca"), secret(&[("tls.crt", pem(&ours))])),
            (
                ObjectName::new("elsewhere", "client"),
                secret(&[("tls.crt", certificate.chain.clone()), ("tls.key", "a key".to_owned())]),
            ),
            (ObjectName::new("tailscale-gateway", "port"), secret(&[("tls.crt", server(&ours, host).chain)])),
            (ObjectName::new("tailscale-gateway", "clients"), secret(&[("tls.crt", pem(&theirs))])),
        ]);
        answers
    };
    assert_eq!(bad(&configuration, &whole()), Vec::<String>::new());
    let asked = Questions::of(&configuration, &installation(None)).secrets;
    assert_eq!(
        asked.into_iter().collect::<Vec<_>>(),
        [ObjectName::new("elsewhere", "client"), ObjectName::new("envoy-gateway-system", "ca")]
    );
    let own: Vec<ObjectName> = whole().own_port().expect("it is there").secrets().cloned().collect();
    assert_eq!(own, [ObjectName::new("tailscale-gateway", "port"), ObjectName::new("tailscale-gateway", "clients")]);

    for (name, content, wanted) in [
        (
            ("envoy-gateway-system", "ca"),
            Ok(None),
            "error: Secret envoy-gateway-system/ca: is missing; extensionManager.service.tls.certificateRef names it; ",
        ),
        (
            ("envoy-gateway-system", "ca"),
            Err("no".to_owned()),
            "warning: Secret envoy-gateway-system/ca: is not looked at: no; ",
        ),
        (
            ("envoy-gateway-system", "ca"),
            secret(&[("ca.crt", pem(&ours))]),
            "error: Secret envoy-gateway-system/ca: has no tls.crt; ",
        ),
        (
            ("envoy-gateway-system", "ca"),
            secret(&[("tls.crt", "x".to_owned())]),
            "error: Secret envoy-gateway-system/ca: tls.crt is no certificate in PEM; ",
        ),
        (
            ("envoy-gateway-system", "ca"),
            secret(&[("tls.crt", pem(&theirs))]),
            "error: Secret tailscale-gateway/port: the certificate of this program is not signed by an authority in Secret envoy-gateway-system/ca; ",
        ),
        (
            ("tailscale-gateway", "port"),
            secret(&[("tls.crt", server(&ours, "other.example").chain)]),
            "error: Secret tailscale-gateway/port: the certificate of this program is not for tailscale-gateway.tailscale-gateway.svc.cluster.local; ",
        ),
        (
            ("elsewhere", "client"),
            secret(&[("tls.crt", client(&theirs).chain)]),
            "error: Secret elsewhere/client: has no tls.key; ",
        ),
        (
            ("tailscale-gateway", "clients"),
            secret(&[("tls.crt", pem(&ours))]),
            "error: Secret elsewhere/client: the certificate of the Envoy Gateway is not signed by an authority in Secret tailscale-gateway/clients; ",
        ),
    ] {
        let mut answers = whole();
        answers.secrets.insert(ObjectName::new(name.0, name.1), content);
        let found = bad(&configuration, &answers);
        assert!(found.len() == 1 && found[0].starts_with(wanted), "wanted {wanted}\nfound {found:#?}");
    }
}

#[test]
fn a_network_policy_that_keeps_the_envoy_gateway_out_is_named() {
    let configuration = read(&cases::shipped());
    let selector = json!({ "matchLabels": { "app.kubernetes.io/name": "tailscale-gateway" } });
    let with = |specs: Value| {
        let policy = |(at, spec): (usize, &Value)| {
            let mut spec = spec.clone();
            if spec["podSelector"].is_null() {
                spec["podSelector"] = selector.clone();
            }
            json!({ "metadata": { "name": format!("guard-{at}") }, "spec": spec })
        };
        let mut answers = cluster(&configuration);
        answers.network_policies = Ok(specs.as_array().expect("a list").iter().enumerate().map(policy).collect());
        bad(&configuration, &answers)
    };
    let changed = |pointer: &str, value: Value| {
        let mut rule = rule();
        *rule.pointer_mut(pointer).expect("it is there") = value;
        json!([{ "ingress": [rule] }])
    };
    let other = json!({ "matchLabels": { "app.kubernetes.io/name": "other" } });
    for open in [
        json!([]),
        json!([{ "ingress": [{}] }]),
        json!([{ "ingress": [] }, { "ingress": [rule()] }]),
        json!([{ "podSelector": other, "ingress": [] }]),
        json!([{ "policyTypes": ["Egress"] }]),
        changed("/ports/0", json!({ "port": 5000, "endPort": 5010 })),
        changed("/ports/0/port", json!(5005)),
        changed("/from/0", json!({ "ipBlock": { "cidr": "10.0.0.0/8" } })),
        changed("/from/0/podSelector", Value::Null),
        changed("/from/0/podSelector/matchExpressions/0", json!({ "key": "control-plane", "operator": "Exists" })),
        changed("/from/0/podSelector/matchExpressions/0", json!({ "key": "other", "operator": "DoesNotExist" })),
    ] {
        assert_eq!(with(open.clone()), Vec::<String>::new(), "{open}");
    }
    for closed in [
        json!([{ "ingress": [] }]),
        json!([{}]),
        changed("/ports/0/port", json!("xds")),
        changed("/ports/0/port", json!(5006)),
        changed("/ports/0", json!({ "port": 5005, "protocol": "UDP" })),
        changed("/from/0/namespaceSelector", Value::Null),
        changed("/from/0/namespaceSelector/matchLabels", json!({ "kubernetes.io/metadata.name": "elsewhere" })),
        changed("/from/0/podSelector/matchExpressions/0/operator", json!("NotIn")),
        changed(
            "/from/0/podSelector/matchExpressions/0",
            json!({ "key": "control-plane", "operator": "DoesNotExist" }),
        ),
    ] {
        let found = with(closed.clone());
        let wanted = "error: NetworkPolicy tailscale-gateway/guard-0: lets no pod of an Envoy Gateway in envoy-gateway-system \
                      through to port 5005; ";
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{closed}: {found:?}");
    }
}

#[test]
fn a_service_is_found_by_every_name_that_leads_there() {
    let name = |host: &str| {
        let mut configuration = cases::shipped();
        configuration["extensionManager"]["service"]["fqdn"]["hostname"] = json!(host);
        Questions::of(&read(&configuration), &installation(None)).service.map(|name| name.to_string())
    };
    for (host, wanted) in [
        ("tailscale-gateway.tailscale-gateway.svc.cluster.local", Some("tailscale-gateway/tailscale-gateway")),
        ("a.b.svc.cluster.local.", Some("b/a")),
        ("a.b.svc", Some("b/a")),
        ("a.b", Some("b/a")),
        ("a", Some("envoy-gateway-system/a")),
        ("a.example.com", None),
        ("a.b.c.svc", None),
        ("10.0.0.1", None),
    ] {
        assert_eq!(name(host).as_deref(), wanted, "{host}");
    }
}

#[test]
fn rights_are_asked_for_where_an_envoy_gateway_looks() {
    let mut configuration = cases::shipped();
    configuration["provider"]["kubernetes"] = json!({ "watch": { "type": "Namespaces", "namespaces": ["a", "b"] } });
    let configuration = read(&configuration);
    let namespaces: Vec<Option<String>> = cluster(&configuration)
        .rights
        .into_keys()
        .filter(|access| access.verb == "list")
        .map(|one| one.namespace)
        .collect();
    assert_eq!(namespaces.len(), 8, "four kinds in two namespaces");
    assert!(namespaces.iter().all(|namespace| namespace.as_deref().is_some_and(|name| ["a", "b"].contains(&name))));
}

#[test]
fn the_guides_and_the_charts_roles_for_an_envoy_gateway_are_what_it_needs() {
    let text = fs::read_to_string(repository().join("manifests/envoy-gateway/rbac.yaml")).expect("it is shipped");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let granted = |access: &Access| {
        let rules = documents[0]["rules"].as_array().expect("rules").iter();
        let has = |list: &Value, word: &str| list.as_array().is_some_and(|list| list.iter().any(|one| one == word));
        rules.into_iter().any(|rule| {
            has(&rule["apiGroups"], &access.group)
                && has(&rule["resources"], &access.resource)
                && has(&rule["verbs"], &access.verb)
        })
    };
    let configuration = read(&cases::shipped());
    let needed = cluster(&configuration).needed_rights(&configuration);
    assert!(needed.len() >= 12 && needed.iter().all(granted), "{needed:?}");
    let chart =
        fs::read_to_string(repository().join("manifests/chart/templates/envoygateway.yaml")).expect("it is shipped");
    let rules = |text: &str| text.split("rules:\n").nth(1).and_then(|rest| rest.split("---").next()).map(str::to_owned);
    assert_eq!(rules(&chart), rules(&text));
}
