//! Clusters of rules with backends of our kinds: Envoy Gateway makes them without endpoints, and we say where their requests
//! go. Limits, timeouts, balancing and whatever else policies said about them stay as they are.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    hooks::{Editor, Gateways, Stopped},
    route::made_from,
    splice::{Edits, Field, Malformed, delimited, fields, last, text},
    translate::Named,
};
use crate::{
    model::{Kind, ObjectName, backend_of_rule_cluster},
    snapshot::{Hosted, HostedCluster, HostedGateway, HostedRule},
};

/// Fields of `envoy.config.cluster.v3.Cluster`.
const NAME: u32 = 1;
const TYPE: u32 = 2;
const EDS: u32 = 3;
const HEALTH_CHECKS: u32 = 8;
const DNS_LOOKUP_FAMILY: u32 = 17;
const OUTLIER_DETECTION: u32 = 19;
const TRANSPORT_SOCKET: u32 = 24;
const METADATA: u32 = 25;
const LOAD_ASSIGNMENT: u32 = 33;
const EXTENSION_OPTIONS: u32 = 36;
const CLUSTER_TYPE: u32 = 38;
const TRANSPORT_SOCKET_MATCHES: u32 = 43;

/// The key of a cluster's HTTP options among those of its extensions.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// `TransportSocket.name` and `.typed_config`, `Any.value`, and `ProxyProtocolUpstreamTransport.transport_socket`.
const SOCKET_NAME: u32 = 1;
const SOCKET_CONFIG: u32 = 3;
const ANY_VALUE: u32 = 2;
const INNER_SOCKET: u32 = 2;

/// The name of a socket that says whose connection it is before it hands over to another one.
const PROXY_PROTOCOL: &str = "envoy.transport_sockets.upstream_proxy_protocol";

/// What says where a cluster's endpoints come from.
const DISCOVERY: [u32; 4] = [TYPE, EDS, LOAD_ASSIGNMENT, CLUSTER_TYPE];

/// What is added to a configuration: encoded messages, by name.
#[derive(Default)]
pub(super) struct Injection {
    /// Clusters of ours.
    pub(super) own: BTreeMap<Arc<str>, Bytes>,
    /// Clusters for parts of rules.
    pub(super) parts: BTreeMap<Arc<str>, Bytes>,
    pub(super) secrets: BTreeMap<Arc<str>, Bytes>,
}

impl Injection {
    /// Adds all that a Gateway's own routes lead to.
    pub(super) fn add_all_of(&mut self, hosted: &Hosted, gateway: &HostedGateway) {
        for name in &*gateway.clusters {
            if let Some(cluster) = hosted.cluster(&gateway.name, name) {
                self.own.insert(Arc::clone(name), cluster.message.clone());
                self.add_needs(gateway, cluster);
            }
        }
    }

    /// Adds what a cluster fetches its endpoints and secrets with.
    fn add_needs(&mut self, gateway: &HostedGateway, cluster: &HostedCluster) {
        if let Some(pointer) = gateway.pointer.as_ref().filter(|_| cluster.points) {
            self.own.insert(Arc::clone(&pointer.name), pointer.cluster.clone());
            self.secrets.extend(pointer.secrets.iter().cloned());
        }
        self.secrets.extend(gateway.authorities.iter().filter(|_| cluster.checks_authorities).cloned());
    }
}

/// Edits the cluster of a call that is about one. Clusters that would have to be added are added at the end of the translation.
pub(super) fn edit_single(editor: &mut Editor<'_>, cluster: &Field) -> Result<(), Stopped> {
    edit(editor, &Named::new(editor.bytes, *cluster)?, &Gateways::new(), &mut Injection::default())
}

/// Edits a cluster, if it belongs to one of our rules, and notes clusters for parts of the rule.
pub(super) fn edit<'a>(
    editor: &mut Editor<'a>,
    cluster: &Named<'a>,
    of_call: &Gateways<'a>,
    injection: &mut Injection,
) -> Result<(), Stopped> {
    let (bytes, hosted) = (editor.bytes, editor.hosted);
    // Most clusters are none of ours, which their names say.
    if !editor.rules.may_begin(cluster.name) {
        return Ok(());
    }
    let (name, cluster) = (cluster.text(), &cluster.field);
    let Some((rule, place)) = rule_of(hosted, name) else { return Ok(()) };
    let mut metadata = None;
    for field in fields(bytes, cluster.range()) {
        let field = field?;
        if field.number == METADATA {
            metadata = Some(field);
        }
    }
    if !made_from(bytes, metadata.as_ref(), rule) {
        return Ok(());
    }
    let Some(gateway) = editor.gateway_for(rule, of_call) else { return Ok(()) };
    if let (Some(mixture), None) = (&rule.mixture, place) {
        let mark = editor.edits.open();
        graft(bytes, cluster, mixture, &Graft::default(), &mut editor.edits)?;
        editor.edits.close(mark, cluster);
        editor.changed += 1;
        return Ok(());
    }
    let http2 = rule.route.kind == Kind::GrpcRoute;
    let in_place = match place {
        None => rule.alone.as_ref(),
        Some(place) => {
            rule.shares_of(place).find(|share| *share.name == *name).and_then(|share| share.cluster.as_ref())
        }
    };
    if let Some(of_ours) = in_place {
        if let Some(ours) = hosted.cluster(&gateway.name, of_ours) {
            injection.add_needs(gateway, ours);
            let mark = editor.edits.open();
            graft(bytes, cluster, &ours.message, &Graft { name: None, http2 }, &mut editor.edits)?;
            editor.edits.close(mark, cluster);
            editor.changed += 1;
        }
        return Ok(());
    }
    for share in rule.shares.iter().filter(|share| place.is_none_or(|place| place == share.place)) {
        if let Some(ours) = share.cluster.as_ref().and_then(|name| hosted.cluster(&gateway.name, name)) {
            injection.add_needs(gateway, ours);
            injection.parts.insert(
                Arc::clone(&share.name),
                copy(bytes, cluster, &ours.message, &Graft { name: Some(&share.name), http2 })?,
            );
        }
    }
    Ok(())
}

/// The rule whose cluster has this name, and the place of the one backend that the cluster is for, if it is for one.
fn rule_of<'a>(hosted: &'a Hosted, name: &str) -> Option<(&'a HostedRule, Option<usize>)> {
    if let Some(rule) = hosted.rule(name) {
        return Some((rule, None));
    }
    let (rule, place) = backend_of_rule_cluster(name)?;
    let rule = hosted.rule(rule)?;
    rule.shares_of(place).next().map(|_| (&**rule, Some(place)))
}

/// How their cluster becomes ours.
#[derive(Default)]
struct Graft<'a> {
    /// Under this name, in place of its own.
    name: Option<&'a str>,
    /// Requests need HTTP/2.
    http2: bool,
}

/// A cluster like theirs with our endpoints, under another name.
fn copy(bytes: &[u8], theirs: &Field, ours: &Bytes, how: &Graft<'_>) -> Result<Bytes, Malformed> {
    let mut edits = Edits::default();
    let theirs = &bytes[theirs.range()];
    let whole =
        Field { number: 0, wire: super::splice::Wire::Delimited, start: 0, tag_end: 0, value: 0, end: theirs.len() };
    graft(theirs, &whole, ours, how, &mut edits)?;
    Ok(edits.apply_to(theirs))
}

/// Changes their cluster so that its requests go where those of ours go. What they say about health, and how they speak HTTP,
/// counts; what they do not say is as in ours.
fn graft(bytes: &[u8], theirs: &Field, ours: &Bytes, how: &Graft<'_>, edits: &mut Edits) -> Result<(), Malformed> {
    let name = how.name;
    let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
    for field in fields(ours, 0..ours.len()) {
        of_ours.push(field?);
    }
    for field in fields(bytes, theirs.range()) {
        of_theirs.push(field?);
    }
    let has = |list: &[Field], number| list.iter().any(|field| field.number == number);
    let socket = of_ours.iter().find(|field| field.is(TRANSPORT_SOCKET));
    let mut inside = false;
    for field in &of_theirs {
        let replaced = DISCOVERY.contains(&field.number)
            || (socket.is_some() && matches!(field.number, TRANSPORT_SOCKET | TRANSPORT_SOCKET_MATCHES))
            || (name.is_some() && field.number == NAME);
        if let Some(socket) = socket
            && field.is(TRANSPORT_SOCKET)
            && put_inside(bytes, field, &ours[socket.range()], edits).is_some()
        {
            inside = true;
        } else if replaced {
            edits.remove(field);
        } else if how.http2 && field.is(EXTENSION_OPTIONS) {
            speak_http2(bytes, field, edits);
        }
    }
    if let Some(name) = name {
        edits.insert(theirs.end, delimited(NAME, name.as_bytes()));
    }
    for field in &of_ours {
        let taken = match field.number {
            TYPE | EDS | LOAD_ASSIGNMENT | CLUSTER_TYPE => true,
            TRANSPORT_SOCKET => !inside,
            HEALTH_CHECKS | OUTLIER_DETECTION | EXTENSION_OPTIONS | DNS_LOOKUP_FAMILY => !has(&of_theirs, field.number),
            _ => false,
        };
        if taken {
            edits.insert(theirs.end, ours.slice(field.start..field.end));
        }
    }
    Ok(())
}

/// Puts a socket into theirs if that is one of the PROXY protocol, in the place of what it hands over to.
fn put_inside(bytes: &[u8], theirs: &Field, socket: &[u8], edits: &mut Edits) -> Option<()> {
    if text(bytes, &last(bytes, theirs.range(), SOCKET_NAME)?) != Some(PROXY_PROTOCOL) {
        return None;
    }
    let any = last(bytes, theirs.range(), SOCKET_CONFIG)?;
    let config = last(bytes, any.range(), ANY_VALUE)?;
    let around = [theirs, &any, &config].map(|field| (edits.open(), *field));
    if let Some(inner) = last(bytes, config.range(), INNER_SOCKET) {
        edits.remove(&inner);
    }
    edits.insert(config.end, delimited(INNER_SOCKET, socket));
    around.into_iter().rev().for_each(|(mark, field)| edits.close(mark, &field));
    Some(())
}

/// Says HTTP/2 where a cluster's HTTP options say HTTP/1: an Envoy Gateway that has none but our backends for gRPC does not
/// know what they speak, and policies have it write options all the same.
fn speak_http2(bytes: &[u8], entry: &Field, edits: &mut Edits) -> Option<()> {
    // An entry of a map, its Any, that one's HttpProtocolOptions, and their explicit_http_config with http_protocol_options.
    if text(bytes, &last(bytes, entry.range(), 1)?) != Some(HTTP_OPTIONS) {
        return None;
    }
    let any = last(bytes, entry.range(), 2)?;
    let options = last(bytes, any.range(), 2)?;
    let explicit = last(bytes, options.range(), 3)?;
    let http1 = last(bytes, explicit.range(), 1)?;
    let around = [entry, &any, &options, &explicit].map(|field| (edits.open(), *field));
    edits.remove(&http1);
    // Its http2_protocol_options.
    edits.insert(explicit.end, delimited(2, &[]));
    around.into_iter().rev().for_each(|(mark, field)| edits.close(mark, &field));
    Some(())
}

/// The Gateways that the route of a cluster refers to; nothing when the route is none that we know of.
pub(super) fn gateways_of<'a>(hosted: &'a Hosted, bytes: &[u8], cluster: &Field) -> &'a [ObjectName] {
    let metadata = fields(bytes, cluster.range()).filter_map(Result::ok).find(|field| field.is(METADATA));
    let Some(origin) = metadata.and_then(|field| super::metadata::origin(bytes, field.range())) else { return &[] };
    hosted.route_of(origin.kind, origin.namespace, origin.name).map_or(&[], |route| &route.gateways)
}
