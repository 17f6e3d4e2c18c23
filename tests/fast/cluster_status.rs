//! What statuses say in a cluster alone: of which version its definitions are, and whether a Gateway has its addresses.

use serde_json::{Value, json};
use tailscale_gateway::{
    api::parse,
    compile::{Compiler, Settings},
    model::{Kind, ObjectKey, ObjectName, Programmed},
    pipeline::Pipeline,
    snapshot::SnapshotCache,
    status::status,
    store::Change,
};

/// A cluster with a GatewayClass `tailscale`.
struct Site(Pipeline);

impl Site {
    fn new() -> Self {
        let settings = Settings { in_cluster: true, ..Settings::default() };
        let mut site = Self(Pipeline::new(Compiler::new(settings), SnapshotCache::new().into()));
        let spec = json!({"controllerName": "gateway.tailscale.com/gateway-controller"});
        site.apply(Kind::GatewayClass, json!({"metadata": {"name": "tailscale"}, "spec": spec}));
        site
    }

    fn apply(&mut self, kind: Kind, manifest: Value) {
        let parsed = parse(kind, manifest);
        let object = parsed.object.unwrap_or_else(|| panic!("{:?}", parsed.findings));
        self.0.apply([Change::Upsert(object)]);
    }

    fn definition(&mut self, resource: &str, version: Option<&str>) {
        let name = format!("{resource}.gateway.networking.k8s.io");
        let annotations = version.map(|version| json!({"gateway.networking.k8s.io/bundle-version": version}));
        self.apply(Kind::CustomResourceDefinition, json!({"metadata": {"name": name, "annotations": annotations}}));
    }

    /// A Gateway `web` that asks for these addresses.
    fn gateway(&mut self, addresses: &[&str]) {
        let addresses: Vec<Value> = addresses.iter().map(|address| json!({"value": address})).collect();
        let spec = json!({
            "gatewayClassName": "tailscale",
            "addresses": addresses,
            "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
        });
        self.apply(Kind::Gateway, json!({"metadata": {"namespace": "default", "name": "web"}, "spec": spec}));
    }

    /// Its Service, as the API server has it.
    fn service(&mut self, spec: Value, ingress: &[Value]) {
        let labels = json!({"gateway.networking.k8s.io/gateway-name": "web"});
        let metadata = json!({"namespace": "default", "name": "web-tailscale", "labels": labels});
        let status = json!({"loadBalancer": {"ingress": ingress}});
        self.apply(Kind::Service, json!({"metadata": metadata, "spec": spec, "status": status}));
    }

    fn balanced(&mut self, ingress: &[Value]) {
        self.service(json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80}]}), ingress);
    }

    fn status(&self, key: &ObjectKey, programmed: &Programmed) -> Value {
        status(&self.0.reports()[key], programmed).to_json()
    }

    /// `STATUS REASON` of a condition, and its message.
    fn condition(&self, key: &ObjectKey, type_: &str, programmed: &Programmed) -> (String, String) {
        let status = self.status(key, programmed);
        let found = status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == type_).unwrap();
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        (format!("{} {}", text("status"), text("reason")), text("message"))
    }

    fn versions(&self) -> (String, String) {
        let class = ObjectKey::new(Kind::GatewayClass, ObjectName::new("", "tailscale"));
        let (accepted, _) = self.condition(&class, "Accepted", &Programmed::Pending);
        assert_eq!(accepted, "True Accepted", "it is served as far as it can be");
        self.condition(&class, "SupportedVersion", &Programmed::Pending)
    }

    /// What is said when the Envoys have taken the configuration.
    fn programmed(&self) -> (String, String) {
        self.condition(&web(), "Programmed", &Programmed::Acknowledged)
    }

    fn addresses(&self) -> Vec<String> {
        let status = self.status(&web(), &Programmed::Acknowledged);
        let addresses = status["addresses"].as_array().into_iter().flatten();
        addresses.map(|address| address["value"].as_str().unwrap().to_owned()).collect()
    }
}

fn web() -> ObjectKey {
    ObjectKey::new(Kind::Gateway, ObjectName::new("default", "web"))
}

fn ip(address: &str) -> Value {
    json!({"ip": address})
}

#[test]
fn a_class_says_whether_the_definitions_are_of_a_version_that_is_supported() {
    let mut site = Site::new();
    let (unknown, message) = site.versions();
    assert_eq!(unknown, "Unknown Pending");
    assert!(message.contains("list and watch customresourcedefinitions"), "{message}");
    site.definition("gatewayclasses", Some("v1.6.3"));
    site.definition("httproutes", Some("v1.5.1"));
    assert_eq!(site.versions(), ("True SupportedVersion".to_owned(), String::new()));

    site.definition("httproutes", Some("v0.4.0"));
    site.definition("gateways", None);
    site.definition("grpcroutes", Some("v0.4.0"));
    let (not, message) = site.versions();
    assert_eq!(not, "False UnsupportedVersion");
    assert!(message.contains("without a version: gateways; of v0.4.0: grpcroutes, httproutes"), "{message}");
    assert!(message.contains("v1.2 to v1.6"), "{message}");

    // What is mended, or gone, is said no more.
    site.definition("httproutes", Some("v1.6.3"));
    site.definition("gateways", Some("v1.6.3"));
    let name = ObjectName::new("", "grpcroutes.gateway.networking.k8s.io");
    site.0.apply([Change::Remove(ObjectKey::new(Kind::CustomResourceDefinition, name))]);
    assert_eq!(site.versions().0, "True SupportedVersion");
}

#[test]
fn a_gateway_is_programmed_with_the_addresses_that_it_asks_for_and_not_without() {
    let mut site = Site::new();
    site.gateway(&["203.0.113.7", "2001:0db8::1"]);
    let (refused, message) = site.programmed();
    assert_eq!(refused, "False AddressNotUsable");
    assert!(message.contains("203.0.113.7, 2001:db8::1 can not be used: Service default/web-tailscale"), "{message}");
    site.balanced(&[ip("203.0.113.7"), ip("203.0.113.8")]);
    let (refused, message) = site.programmed();
    assert_eq!(refused, "False AddressNotUsable");
    assert!(message.starts_with("spec.addresses[1].value: 2001:db8::1 can not be used"), "{message}");
    assert!(message.contains("has 203.0.113.7, 203.0.113.8"), "{message}");
    site.balanced(&[ip("2001:db8:0::1"), ip("203.0.113.7")]);
    assert_eq!(site.programmed().0, "True Programmed");

    // Of several addresses those beyond the first are taken by the nodes.
    let spec = json!({"type": "LoadBalancer", "externalIPs": ["2001:db8::1"], "ports": [{"port": 80}]});
    site.service(spec, &[ip("203.0.113.7")]);
    assert_eq!(site.programmed().0, "True Programmed");
    assert_eq!(site.addresses(), ["203.0.113.7", "2001:db8::1"]);

    // Inside a cluster it is the Service's own.
    site.gateway(&["10.96.0.80"]);
    site.service(json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.80"], "ports": [{"port": 80}]}), &[]);
    assert_eq!(site.programmed().0, "True Programmed");
    site.gateway(&["10.96.0.81"]);
    assert_eq!(site.programmed().0, "False AddressNotUsable");

    // What Envoys say comes first: as long as they have not taken it, an address is of no use.
    let (said, _) = site.condition(&web(), "Programmed", &Programmed::Refused("no".to_owned()));
    assert_eq!(said, "False Invalid");
    assert_eq!(site.condition(&web(), "Programmed", &Programmed::Pending).0, "Unknown Pending");
}

#[test]
fn a_gateway_without_an_address_is_not_programmed_yet() {
    let mut site = Site::new();
    site.gateway(&[]);
    let (said, message) = site.programmed();
    assert_eq!(said, "False AddressNotAssigned");
    assert!(message.contains("Service default/web-tailscale has no address yet"), "{message}");
    site.balanced(&[]);
    assert_eq!(site.programmed().0, "False AddressNotAssigned");
    site.balanced(&[json!({"hostname": "lb.example.com"})]);
    assert_eq!(
        (site.programmed().0, site.addresses()),
        ("True Programmed".to_owned(), vec!["lb.example.com".to_owned()])
    );
    site.service(json!({"type": "NodePort", "clusterIPs": ["10.96.0.9", "fd00::9"], "ports": [{"port": 80}]}), &[]);
    assert_eq!(site.addresses(), ["10.96.0.9", "fd00::9"]);
}

#[test]
fn of_many_addresses_as_many_are_told_as_an_api_server_takes_and_always_the_same_ones() {
    let mut site = Site::new();
    site.gateway(&["192.0.2.17"]);
    let mut ingress: Vec<Value> = (1..=17).map(|number| ip(&format!("192.0.2.{number}"))).collect();
    ingress.push(json!({"hostname": "lb.example.com"}));
    site.balanced(&ingress);
    let told = site.addresses();
    let first = (1..=15).map(|number| format!("192.0.2.{number}"));
    assert_eq!(told, ["192.0.2.17".to_owned()].into_iter().chain(first).collect::<Vec<_>>());
    assert_eq!(site.programmed().0, "True Programmed");
    ingress.reverse();
    site.balanced(&ingress);
    assert_eq!(site.addresses(), told);
    // As many as fit stay in the order of the Service.
    site.balanced(&[ip("192.0.2.17"), ip("192.0.2.3"), ip("192.0.2.17")]);
    assert_eq!(site.addresses(), ["192.0.2.17", "192.0.2.3"]);
}
