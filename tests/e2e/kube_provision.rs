//! What is planned for Gateways, made so at a real API server: by a ServiceAccount with the chart's permissions and no others.
//!
//! There is no controller manager, so nobody runs pods, and nobody collects what lost its owner.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tailscale_gateway::{
    api::parse,
    kubernetes::{Leadership, permissions::permissions},
    metrics::Metrics,
    model::{Kind, ObjectKey, ObjectName},
    operator::{DEFAULT_ENVOY_IMAGE, PlanChange, Planner, Settings, run::run},
    snapshot::SnapshotCache,
    store::Change,
};
use tokio::{
    runtime::Runtime,
    sync::{OnceCell, mpsc, watch},
};

use crate::support::{
    cluster::{AuditEvent, Cluster, client},
    wait::until,
};

/// Where the ServiceAccount is.
const SYSTEM: &str = "provisioning";
const ACCOUNT: &str = "system:serviceaccount:provisioning:operator";

/// The shared cluster and the one program that looks after Gateways there. Tests have namespaces of their own.
struct Site {
    cluster: &'static Cluster,
    planner: Mutex<Planner>,
    plans: mpsc::UnboundedSender<Vec<PlanChange>>,
    leader: watch::Sender<bool>,
    outcomes: Arc<Mutex<HashMap<ObjectName, Option<String>>>>,
    /// Whoever changes who leads keeps the others out.
    leading: tokio::sync::RwLock<()>,
}

async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(Site::start).await
}

impl Site {
    async fn start() -> Self {
        let cluster = Cluster::shared().await;
        cluster.create_namespace(SYSTEM, &[]).await;
        cluster.apply(&account()).await;
        cluster.apply(CLASSES).await;
        let kubeconfig = cluster.service_account_kubeconfig(SYSTEM, "operator").await;
        let (plans, planned) = mpsc::unbounded_channel();
        let (leader, leads) = watch::channel(true);
        let leads = Leadership::new(leads, Duration::from_secs(15));
        let (outcomes, mut told) = mpsc::unbounded_channel();
        let known: Arc<Mutex<HashMap<ObjectName, Option<String>>>> = Arc::default();
        let noted = Arc::clone(&known);
        // A runtime of its own: it outlasts the test that began it.
        thread::spawn(move || {
            Runtime::new().expect("a runtime").block_on(async {
                let metrics = Arc::new(Metrics::new(Arc::new(SnapshotCache::new())));
                let client = client(&kubeconfig).await;
                let noting = async {
                    while let Some((gateway, words)) = told.recv().await {
                        noted.lock().expect("no panic").insert(gateway, words);
                    }
                };
                tokio::join!(run(client, planned, leads, metrics, outcomes), noting);
            });
        });
        let settings = Settings {
            xds: "tailscale-gateway.system.svc:18000".parse().expect("good"),
            server_name: None,
            envoy_image: DEFAULT_ENVOY_IMAGE.into(),
            own_image: Some("example.com/tailscale-gateway:1".into()),
            privileged_ports: true,
        };
        let site = Self {
            cluster,
            planner: Mutex::new(Planner::new(settings)),
            plans,
            leader,
            outcomes: known,
            leading: tokio::sync::RwLock::default(),
        };
        for class in ["mine", "other", "theirs"] {
            site.follow(Kind::GatewayClass, "", class).await;
        }
        site
    }

    /// Hands an object as the API server has it to the planner, and what is planned then to the program.
    async fn follow(&self, kind: Kind, namespace: &str, name: &str) {
        let resource = format!("{}.{}", kind.plural(), kind.group());
        let mut arguments = vec!["get", &resource, name, "--output", "json", "--ignore-not-found"];
        if kind.namespaced() {
            arguments.extend(["--namespace", namespace]);
        }
        let text = self.cluster.kubectl(&arguments).await.expect_success();
        let change = match text.trim() {
            "" => Change::Remove(ObjectKey::new(kind, ObjectName::new(namespace, name))),
            text => {
                let value = serde_json::from_str(text).expect("kubectl prints JSON");
                Change::Upsert(parse(kind, value).object.expect("what an API server took is good"))
            }
        };
        let plans = self.planner.lock().expect("no panic").apply(&[change]);
        self.plans.send(plans).expect("the program runs");
    }

    /// Applies a Gateway and follows it.
    async fn gateway(&self, namespace: &str, spec: Value) {
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"namespace": namespace, "name": "web"},
            "spec": spec,
        });
        self.cluster.apply(&gateway.to_string()).await;
        self.follow(Kind::Gateway, namespace, "web").await;
    }

    async fn parameters(&self, namespace: &str, spec: Value) {
        let parameters = json!({
            "apiVersion": "gateway.tailscale.com/v1alpha1",
            "kind": "TailscaleGatewayParameters",
            "metadata": {"namespace": namespace, "name": "web"},
            "spec": spec,
        });
        self.cluster.apply(&parameters.to_string()).await;
        self.follow(Kind::TailscaleGatewayParameters, namespace, "web").await;
    }

    async fn get(&self, namespace: &str, kind: &str, name: &str) -> Option<Value> {
        let arguments = ["get", kind, name, "--namespace", namespace, "--output", "json", "--ignore-not-found"];
        let text = self.cluster.kubectl(&arguments).await.expect_success();
        (!text.trim().is_empty()).then(|| serde_json::from_str(&text).expect("kubectl prints JSON"))
    }

    /// Waits until an object is as `holds` wants it.
    async fn until(&self, namespace: &str, kind: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{kind} {namespace}/{name}"), async || match self.get(namespace, kind, name).await {
            Some(object) if holds(&object) => Ok(object),
            other => Err(format!("{other:#?}; outcome {:?}", self.outcome(namespace))),
        })
        .await
    }

    /// What is said of the Gateway, and nothing when all is well.
    fn outcome(&self, namespace: &str) -> Option<String> {
        self.outcomes.lock().expect("no panic").get(&ObjectName::new(namespace, "web")).cloned().flatten()
    }

    async fn until_said(&self, namespace: &str, part: &str) -> String {
        until(&format!("a word of {part:?}"), async || match self.outcome(namespace) {
            Some(words) if words.contains(part) => Ok(words),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    async fn until_all_is_there(&self, namespace: &str) {
        for (kind, name) in OBJECTS {
            self.until(namespace, kind, name, |_| true).await;
        }
    }

    /// The names of all that has our label in a namespace.
    async fn existing(&self, namespace: &str) -> Vec<String> {
        let kinds =
            "serviceaccounts,configmaps,secrets,services,deployments,poddisruptionbudgets,horizontalpodautoscalers";
        let label = "app.kubernetes.io/managed-by=tailscale-gateway";
        let arguments = ["get", kinds, "--namespace", namespace, "--selector", label, "--output", "name"];
        self.cluster.kubectl(&arguments).await.expect_success().lines().map(str::to_owned).collect()
    }

    /// What the program asked the API server to change in a namespace.
    async fn writes(&self, namespace: &str) -> Vec<AuditEvent> {
        let mut events = self.cluster.audit_events().await;
        events.retain(|event| event.is_write() && event.user == ACCOUNT && event.namespace == namespace);
        events
    }

    /// Waits until the program has seen all that happened: it has repaired something that was changed just now.
    async fn settle(&self, namespace: &str) {
        let label = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "tailscale-gateway"}}});
        self.patch(namespace, "serviceaccount", "web-mine", &json!({"automountServiceAccountToken": true})).await;
        self.until(namespace, "serviceaccount", "web-mine", |account| {
            account["automountServiceAccountToken"] == false && account["metadata"]["labels"] != label
        })
        .await;
    }

    async fn patch(&self, namespace: &str, kind: &str, name: &str, patch: &Value) {
        let patch = patch.to_string();
        let arguments = ["patch", kind, name, "--namespace", namespace, "--type", "merge", "--patch", &patch];
        self.cluster.kubectl(&arguments).await.expect_success();
    }
}

/// What there is for a Gateway `web` of the class `mine`.
const OBJECTS: [(&str, &str); 5] = [
    ("serviceaccount", "web-mine"),
    ("configmap", "web-mine"),
    ("service", "web-mine"),
    ("deployment", "web-mine"),
    ("poddisruptionbudget", "web-mine"),
];

const CLASSES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: mine}
spec: {controllerName: gateway.tailscale.com/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other}
spec: {controllerName: gateway.tailscale.com/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: theirs}
spec: {controllerName: example.com/controller}
";

/// A ServiceAccount that may do what the chart's may.
fn account() -> String {
    let rules: Vec<Value> = permissions()
        .iter()
        .map(|one| json!({"apiGroups": [one.group], "resources": [one.resource], "verbs": one.verbs}))
        .collect();
    let metadata = json!({"name": "provisioning-operator"});
    let rbac = "rbac.authorization.k8s.io/v1";
    let documents = [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": SYSTEM, "name": "operator"}}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "provisioning-operator"},
            "subjects": [{"kind": "ServiceAccount", "namespace": SYSTEM, "name": "operator"}],
        }),
    ];
    documents.map(|document| document.to_string()).join("\n---\n")
}

fn http(ports: &[u16]) -> Value {
    let listeners: Vec<Value> =
        ports.iter().map(|port| json!({"name": format!("p{port}"), "protocol": "HTTP", "port": port})).collect();
    json!({"gatewayClassName": "mine", "listeners": listeners})
}

/// The same, with the parameters of the namespace.
fn with_parameters(ports: &[u16]) -> Value {
    let mut spec = http(ports);
    spec["infrastructure"] = json!({"parametersRef": {
        "group": "gateway.tailscale.com", "kind": "TailscaleGatewayParameters", "name": "web",
    }});
    spec
}

#[tokio::test]
async fn a_gateway_gets_its_objects_once_and_nothing_is_written_as_long_as_nothing_changes() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("created").await;
    site.gateway(&namespace, http(&[80])).await;
    site.until_all_is_there(&namespace).await;
    let gateway = site.get(&namespace, "gateway", "web").await.expect("it is there");
    for (kind, name) in OBJECTS {
        let metadata = &site.get(&namespace, kind, name).await.expect("it is there")["metadata"];
        assert_eq!(metadata["labels"]["gateway.networking.k8s.io/gateway-name"], "web", "{kind}");
        assert_eq!(metadata["ownerReferences"][0]["uid"], gateway["metadata"]["uid"], "{kind}");
    }
    let writes = site.writes(&namespace).await;
    let found: Vec<_> = writes.iter().map(|one| (one.verb.as_str(), one.resource.as_str(), one.code)).collect();
    assert_eq!(
        found,
        [
            ("patch", "serviceaccounts", 201),
            ("patch", "configmaps", 201),
            ("patch", "services", 201),
            ("patch", "deployments", 201),
            ("patch", "poddisruptionbudgets", 201),
        ]
    );
    // The API server has filled in defaults, and what others do to a Deployment is its status.
    site.patch(&namespace, "gateway", "web", &json!({"metadata": {"labels": {"a": "b"}}})).await;
    site.follow(Kind::Gateway, &namespace, "web").await;
    let status = json!({"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2}}).to_string();
    let arguments =
        ["patch", "deployment", "web-mine", "--namespace", &namespace, "--subresource", "status", "--type", "merge"];
    site.cluster.kubectl(&[&arguments[..], &["--patch", &status]].concat()).await.expect_success();
    site.settle(&namespace).await;
    let more: Vec<_> = site.writes(&namespace).await.into_iter().skip(found.len()).collect();
    assert!(more.iter().all(|one| one.resource == "serviceaccounts") && more.len() == 1, "{more:#?}");
    assert_eq!(site.outcome(&namespace), None);
}

#[tokio::test]
async fn what_is_changed_or_deleted_is_repaired_and_what_others_add_is_kept() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("drift").await;
    site.gateway(&namespace, http(&[80])).await;
    site.until_all_is_there(&namespace).await;

    let foreign =
        json!({"metadata": {"annotations": {"example.com/theirs": "kept"}}, "spec": {"sessionAffinity": "ClientIP"}});
    site.patch(&namespace, "service", "web-mine", &foreign).await;
    let uid = |object: &Value| object["metadata"]["uid"].as_str().expect("it has one").to_owned();
    let deployment = uid(&site.get(&namespace, "deployment", "web-mine").await.expect("it is there"));
    site.patch(&namespace, "service", "web-mine", &json!({"spec": {"type": "ClusterIP"}})).await;
    site.cluster.kubectl(&["delete", "deployment", "web-mine", "--namespace", &namespace]).await.expect_success();
    site.patch(
        &namespace,
        "configmap",
        "web-mine",
        &json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
    )
    .await;

    let service =
        site.until(&namespace, "service", "web-mine", |service| service["spec"]["type"] == "LoadBalancer").await;
    assert_eq!(service["metadata"]["annotations"]["example.com/theirs"], "kept");
    assert_eq!(service["spec"]["sessionAffinity"], "ClientIP");
    site.until(&namespace, "deployment", "web-mine", |new| uid(new) != deployment).await;
    let is_labelled = |map: &Value| map["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tailscale-gateway";
    site.until(&namespace, "configmap", "web-mine", is_labelled).await;
}

#[tokio::test]
async fn ports_come_and_go_with_listeners_and_the_pods_stay() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("ports").await;
    let ports = |service: &Value| -> Vec<u64> {
        service["spec"]["ports"].as_array().expect("a list").iter().filter_map(|port| port["port"].as_u64()).collect()
    };
    site.gateway(&namespace, http(&[80, 8080])).await;
    site.until_all_is_there(&namespace).await;
    let before = site.get(&namespace, "deployment", "web-mine").await.expect("it is there");
    let address = site.get(&namespace, "service", "web-mine").await.expect("it is there")["spec"]["clusterIP"].clone();
    site.gateway(&namespace, http(&[80, 8080, 8443])).await;
    site.until(&namespace, "service", "web-mine", |service| ports(service) == [80, 8080, 8443]).await;
    site.gateway(&namespace, http(&[8443])).await;
    let service = site.until(&namespace, "service", "web-mine", |service| ports(service) == [8443]).await;
    assert_eq!(service["spec"]["clusterIP"], address, "it is the same Service");
    let after = site.get(&namespace, "deployment", "web-mine").await.expect("it is there");
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
}

#[tokio::test]
async fn what_should_not_exist_any_more_is_deleted_and_nothing_else() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("deleted").await;
    // Something of somebody's that looks like ours, but for the owner.
    let labels = json!({
        "app.kubernetes.io/managed-by": "tailscale-gateway",
        "app.kubernetes.io/component": "envoy",
        "gateway.networking.k8s.io/gateway-name": "web",
    });
    let bystander = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": "bystander", "labels": labels},
    });
    site.cluster.apply(&bystander.to_string()).await;
    site.gateway(&namespace, http(&[80])).await;
    site.until_all_is_there(&namespace).await;
    // The certificate is made elsewhere, with the metadata of the plan.
    let gateway = site.get(&namespace, "gateway", "web").await.expect("it is there");
    let owner = json!([{
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "web", "uid": gateway["metadata"]["uid"],
    }]);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
        "namespace": namespace, "name": "web-mine-xds", "labels": labels, "ownerReferences": owner,
    }});
    site.cluster.apply(&secret.to_string()).await;

    // Another class of ours: objects of another name.
    let mut spec = http(&[80]);
    spec["gatewayClassName"] = json!("other");
    site.gateway(&namespace, spec.clone()).await;
    let renamed = [
        "configmap/bystander",
        "configmap/web-other",
        "deployment.apps/web-other",
        "poddisruptionbudget.policy/web-other",
        "service/web-other",
        "serviceaccount/web-other",
    ];
    let exist = async |expected: &[&str]| {
        until(&format!("{expected:?}"), async || {
            let mut existing = site.existing(&namespace).await;
            existing.sort();
            if existing == expected { Ok(()) } else { Err(format!("{existing:?}")) }
        })
        .await;
    };
    exist(&renamed).await;
    // Another controller's class.
    spec["gatewayClassName"] = json!("theirs");
    site.gateway(&namespace, spec).await;
    exist(&["configmap/bystander"]).await;
    // And a Gateway that goes.
    site.gateway(&namespace, http(&[80])).await;
    site.until_all_is_there(&namespace).await;
    site.cluster.kubectl(&["delete", "gateway", "web", "--namespace", &namespace]).await.expect_success();
    site.follow(Kind::Gateway, &namespace, "web").await;
    exist(&["configmap/bystander"]).await;
}

#[tokio::test]
async fn an_object_that_somebody_else_made_is_not_taken_over_and_the_rest_is_made() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("taken").await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": "web-mine"},
        "spec": {"ports": [{"port": 1}], "selector": {"a": "b"}},
    });
    site.cluster.apply(&service.to_string()).await;
    let before = site.get(&namespace, "service", "web-mine").await;
    site.gateway(&namespace, http(&[80])).await;
    let words = site.until_said(&namespace, "Service").await;
    assert_eq!(
        words,
        format!("Service {namespace}/web-mine exists and was not made for this Gateway; delete or rename it")
    );
    site.until_all_is_there(&namespace).await;
    assert_eq!(site.get(&namespace, "service", "web-mine").await, before);
    // The Gateway goes, the Service stays.
    site.cluster.kubectl(&["delete", "gateway", "web", "--namespace", &namespace]).await.expect_success();
    site.follow(Kind::Gateway, &namespace, "web").await;
    until("the rest to be gone", async || match site.existing(&namespace).await {
        none if none.is_empty() => Ok(()),
        some => Err(format!("{some:?}")),
    })
    .await;
    assert_eq!(site.get(&namespace, "service", "web-mine").await, before);
    assert_eq!(site.outcome(&namespace), None);
}

#[tokio::test]
async fn what_the_api_server_refuses_is_said_in_its_words_until_it_is_mended() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("refused").await;
    site.gateway(&namespace, with_parameters(&[80])).await;
    site.parameters(&namespace, json!({"service": {"loadBalancerSourceRanges": ["not a network"]}})).await;
    let words = site.until_said(&namespace, "not a network").await;
    assert!(words.starts_with(&format!("Service {namespace}/web-mine: ")), "{words}");
    // All else is there.
    for (kind, name) in OBJECTS.into_iter().filter(|(kind, _)| *kind != "service") {
        site.until(&namespace, kind, name, |_| true).await;
    }
    site.parameters(&namespace, json!({"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}})).await;
    site.until_all_is_there(&namespace).await;
    until("nothing to be said", async || match site.outcome(&namespace) {
        None => Ok(()),
        Some(words) => Err(words),
    })
    .await;
}

#[tokio::test]
async fn values_that_the_api_server_writes_in_its_own_way_are_applied_once() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("spelling").await;
    site.gateway(&namespace, with_parameters(&[80])).await;
    site.parameters(&namespace, json!({"resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}}})).await;
    site.until_all_is_there(&namespace).await;
    let deployment = site.get(&namespace, "deployment", "web-mine").await.expect("it is there");
    let requests = &deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"];
    assert_ne!(*requests, json!({"cpu": "0.5", "memory": "1024Mi"}), "else this shows nothing");
    site.settle(&namespace).await;
    let writes = site.writes(&namespace).await;
    assert_eq!(writes.iter().filter(|one| one.resource == "deployments").count(), 1, "{writes:#?}");
}

#[tokio::test]
async fn an_autoscaler_takes_over_the_number_of_pods_as_it_is() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("scaled").await;
    site.gateway(&namespace, with_parameters(&[80])).await;
    site.parameters(&namespace, json!({"replicas": 5})).await;
    let five = |deployment: &Value| deployment["spec"]["replicas"] == 5;
    site.until(&namespace, "deployment", "web-mine", five).await;
    site.parameters(&namespace, json!({"autoscaling": {"maxReplicas": 9}})).await;
    site.until(&namespace, "horizontalpodautoscaler", "web-mine", |_| true).await;
    site.settle(&namespace).await;
    assert!(five(&site.get(&namespace, "deployment", "web-mine").await.expect("it is there")));
    // The autoscaler's number stays.
    let scale = ["scale", "deployment", "web-mine", "--replicas", "7", "--namespace", &namespace];
    site.cluster.kubectl(&scale).await.expect_success();
    site.settle(&namespace).await;
    let seven = site.get(&namespace, "deployment", "web-mine").await.expect("it is there");
    assert_eq!(seven["spec"]["replicas"], 7);
    // Without it, ours counts again, and it is gone.
    site.parameters(&namespace, json!({"replicas": 3})).await;
    site.until(&namespace, "deployment", "web-mine", |deployment| deployment["spec"]["replicas"] == 3).await;
    until("the autoscaler to be gone", async || {
        match site.get(&namespace, "horizontalpodautoscaler", "web-mine").await {
            None => Ok(()),
            Some(_) => Err("it is there".to_owned()),
        }
    })
    .await;
}

#[tokio::test]
async fn the_pods_are_let_into_a_namespace_that_enforces_the_restricted_pod_security() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("restricted").await;
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    site.cluster.kubectl(&["label", "namespace", &namespace, enforce]).await.expect_success();
    site.gateway(&namespace, http(&[80])).await;
    site.until_all_is_there(&namespace).await;
    let deployment = site.get(&namespace, "deployment", "web-mine").await.expect("it is there");
    let template = &deployment["spec"]["template"];
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["namespace"] = json!(namespace);
    pod["metadata"]["name"] = json!("web");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let create = async |pod: &Value| {
        std::fs::write(file.path(), pod.to_string()).expect("written");
        let path = file.path().to_str().expect("its path is UTF-8");
        site.cluster.kubectl(&["create", "--dry-run=server", "--filename", path]).await
    };
    create(&pod).await.expect_success();
    // And one that may do more is not let in.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    assert!(create(&pod).await.expect_failure().contains("violates PodSecurity"));
}

#[tokio::test]
async fn nothing_is_written_while_another_replica_leads() {
    let site = site().await;
    let _alone = site.leading.write().await;
    let namespace = site.cluster.namespace("leader").await;
    site.leader.send(false).expect("the program runs");
    site.gateway(&namespace, http(&[80])).await;
    let marker =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": "marker"}});
    site.cluster.apply(&marker.to_string()).await;
    site.leader.send(true).expect("the program runs");
    site.until_all_is_there(&namespace).await;
    let events = site.cluster.audit_events().await;
    let of_namespace = events.iter().filter(|event| event.is_write() && event.namespace == namespace);
    let order: Vec<&str> = of_namespace.map(|event| if event.user == ACCOUNT { "ours" } else { &event.name }).collect();
    let marked = order.iter().position(|name| *name == "marker").expect("it was written");
    assert_eq!(order.iter().position(|name| *name == "ours"), Some(marked + 1), "{order:?}");
}

#[tokio::test]
async fn two_gateways_whose_objects_have_one_name_do_not_fight_for_them() {
    let site = site().await;
    let _leading = site.leading.read().await;
    let namespace = site.cluster.namespace("collision").await;
    let class = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: b-mine}
spec: {controllerName: gateway.tailscale.com/gateway-controller}
";
    site.cluster.apply(class).await;
    site.follow(Kind::GatewayClass, "", "b-mine").await;
    let gateway = async |name: &str, class: &str| {
        let mut spec = http(&[80]);
        spec["gatewayClassName"] = json!(class);
        let metadata = json!({"namespace": namespace, "name": name});
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec,
        });
        site.cluster.apply(&gateway.to_string()).await;
        site.follow(Kind::Gateway, &namespace, name).await;
    };
    gateway("a", "b-mine").await;
    site.until(&namespace, "poddisruptionbudget", "a-b-mine", |_| true).await;
    gateway("a-b", "mine").await;
    until("a word to the second", async || {
        let outcomes = site.outcomes.lock().expect("no panic");
        match outcomes.get(&ObjectName::new(namespace.as_str(), "a-b")).cloned().flatten() {
            Some(words) if words.contains("was not made for this Gateway") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let mut owners = BTreeMap::new();
    for (kind, _) in OBJECTS {
        let object = site.get(&namespace, kind, "a-b-mine").await.expect("it is there");
        owners.insert(kind, object["metadata"]["ownerReferences"][0]["name"].clone());
    }
    assert!(owners.values().all(|owner| owner == "a"), "{owners:?}");
}
