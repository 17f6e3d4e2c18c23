//! A world for the protocol's machines: resources with a name and a content, and clients that read what is really sent.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tailscale_gateway::{
    snapshot::{References, Resource, Segment, Snapshot, TypeUrl, ViewChange},
    xds::Response,
};
use tailscale_gateway_proto::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse},
    google::protobuf::Any,
};

/// What stands for the content of a resource that the server made up.
pub const EMPTY: &str = "empty";

/// The types by the short names used in tests.
pub const TYPES: [(&str, TypeUrl); TypeUrl::COUNT] = [
    ("Secret", TypeUrl::Secret),
    ("Extension", TypeUrl::ExtensionConfig),
    ("Cluster", TypeUrl::Cluster),
    ("Endpoints", TypeUrl::Endpoints),
    ("Listener", TypeUrl::Listener),
    ("Route", TypeUrl::Route),
    ("ScopedRoute", TypeUrl::ScopedRoute),
    ("VirtualHost", TypeUrl::VirtualHost),
    ("Runtime", TypeUrl::Runtime),
];

/// The type with this short name.
pub fn type_named(name: &str) -> TypeUrl {
    TYPES.iter().find(|(short, _)| *short == name).unwrap_or_else(|| panic!("there is no type {name}")).1
}

/// The short name of a type.
pub fn name_of(type_url: TypeUrl) -> &'static str {
    TYPES[type_url.index()].0
}

/// A resource. Its message has its name and content in field 1, where Envoy's messages have their name.
pub fn resource(type_url: TypeUrl, name: &str, content: &str, clusters: &[&str]) -> Arc<Resource> {
    let mut routes = BytesMut::new();
    prost::encoding::string::encode(15, &clusters.join(" "), &mut routes);
    let tail = if clusters.is_empty() { Segment::default() } else { Segment::new(routes.freeze()) };
    let mut named: Vec<Arc<str>> = clusters.iter().map(|name| (*name).into()).collect();
    named.sort_unstable();
    let named: Arc<dyn References> = Arc::new(named);
    Arc::new(Resource::spliced(type_url, name, &format!("{name}={content}"), tail, Some(named)))
}

/// The snapshot after one change.
pub fn set(snapshot: &Snapshot, type_url: TypeUrl, name: &str, resource: Option<Arc<Resource>>) -> Snapshot {
    snapshot.with([ViewChange { type_url, name: name.into(), resource }])
}

/// What a client reads in a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Name, content and version text; the last is empty in the state-of-the-world protocol.
    pub resources: Vec<(String, String, String)>,
    /// The removed names.
    pub removed: Vec<String>,
}

impl Received {
    /// Reads a delta response. Its resources must be of its type, and no name may stand in it twice (`xds.md` P03, P39).
    pub fn delta(response: &Response) -> Self {
        let message = DeltaDiscoveryResponse::decode(bytes_of(response)).expect("the body is a delta response's");
        let mut received = Self { removed: message.removed_resources, ..Self::default() };
        for resource in message.resources {
            let any = resource.resource.expect("a resource is never sent without content");
            let (name, content) = read(response.type_url, &any.type_url, &any.value);
            assert_eq!(name, resource.name);
            received.resources.push((name, content, resource.version));
        }
        received.check(response)
    }

    /// Reads a state-of-the-world response, likewise.
    pub fn sotw(response: &Response) -> Self {
        let message = DiscoveryResponse::decode(bytes_of(response)).expect("the body is a response's");
        let read = |any: Any| {
            let (name, content) = read(response.type_url, &any.type_url, &any.value);
            (name, content, String::new())
        };
        Self { resources: message.resources.into_iter().map(read).collect(), removed: Vec::new() }.check(response)
    }

    fn check(self, response: &Response) -> Self {
        let mut names: Vec<&String> = self.resources.iter().map(|(name, ..)| name).chain(&self.removed).collect();
        names.sort();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name stands twice in {self:?}");
        assert_eq!((self.resources.len(), self.removed.len()), (response.resources, response.removed), "{self:?}");
        self
    }
}

fn bytes_of(response: &Response) -> Bytes {
    let bytes: Bytes = response.body.pieces().collect::<Vec<_>>().concat().into();
    assert_eq!(bytes.len(), response.body.len());
    bytes
}

fn read(type_url: TypeUrl, any_url: &str, value: &Bytes) -> (String, String) {
    assert_eq!(any_url, type_url.as_str(), "P03: a resource is of its response's type");
    let text = String::decode(value.clone()).expect("field 1 is a string");
    match text.split_once('=') {
        Some((name, content)) => (name.to_owned(), content.to_owned()),
        None => (text, EMPTY.to_owned()),
    }
}
