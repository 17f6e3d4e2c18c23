//! The hook at the end of a translation: all resources of a Gateway at once (of all Gateways of a class, when an Envoy Gateway
//! merges them).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::{
    cluster::{self, Injection},
    hooks::{Editor, Gateways, Hook, Stopped, take_over},
    likely::Likely,
    policy::Policies,
    splice::{Field, Malformed, delimited, fields, text},
    virtual_host::{self, Place, Places, find},
};
use crate::{
    model::{GatewayRevision, Kind, ObjectName, foreign_listener_of, foreign_port_of},
    snapshot::HostedGateway,
};

/// Fields of `PostTranslateModifyRequest`.
const CONTEXT: u32 = 1;
const CLUSTERS: u32 = 2;
const SECRETS: u32 = 3;
const LISTENERS: u32 = 4;
const ROUTES: u32 = 5;
/// Fields of `PostTranslateModifyResponse`.
const NEW_CLUSTERS: u32 = 1;
const NEW_SECRETS: u32 = 2;
/// `RouteConfiguration.name` and `.virtual_hosts`; the name is field 1 of listeners, clusters and secrets, too.
const NAME: u32 = 1;
const VIRTUAL_HOSTS: u32 = 2;

/// How many resources are looked at between two looks at the clock.
const STRIDE: usize = 256;

/// The resources of a request.
#[derive(Default)]
struct Resources<'a> {
    contexts: Vec<Field>,
    /// Those that something may be done to: nearly all go by without being kept.
    clusters: Vec<Named<'a>>,
    secrets: Vec<Named<'a>>,
    listeners: Vec<Field>,
    tables: Vec<Field>,
}

/// A resource and its name; empty when it has none.
pub(super) struct Named<'a> {
    pub(super) field: Field,
    pub(super) name: &'a [u8],
}

impl<'a> Named<'a> {
    /// Its name comes first, and no more of it is looked at.
    pub(super) fn new(bytes: &'a [u8], field: Field) -> Result<Self, Malformed> {
        for inner in fields(bytes, field.range()) {
            let inner = inner?;
            if inner.is(NAME) {
                return Ok(Self { field, name: &bytes[inner.range()] });
            }
        }
        Ok(Self { field, name: &[] })
    }

    /// Its name as a text; empty when it is none.
    pub(super) fn text(&self) -> &'a str {
        std::str::from_utf8(self.name).unwrap_or_default()
    }
}

/// A route table that is looked at: which listeners' routes stand in it.
struct Table<'a> {
    field: Field,
    name: Option<&'a str>,
    places: Vec<Place<'a>>,
}

/// Edits the resources of a request, and makes fields of the response out of all of them.
pub(super) fn translate(editor: &mut Editor<'_>) -> Result<(), Stopped> {
    let bytes = editor.bytes;
    let mut resources = Resources::default();
    let added = Likely::of(&editor.hosted.added_clusters().collect::<Vec<_>>());
    for field in fields(bytes, 0..bytes.len()) {
        let field = field?;
        take_over(Hook::Translate, &field, &mut editor.edits);
        match field.number {
            CONTEXT if field.is(CONTEXT) => resources.contexts.push(field),
            CLUSTERS if field.is(CLUSTERS) => {
                let cluster = Named::new(bytes, field)?;
                if editor.rules.may_begin(cluster.name) || added.may_begin(cluster.name) {
                    resources.clusters.push(cluster);
                }
            }
            SECRETS if field.is(SECRETS) => resources.secrets.push(Named::new(bytes, field)?),
            LISTENERS if field.is(LISTENERS) => resources.listeners.push(field),
            ROUTES if field.is(ROUTES) => resources.tables.push(field),
            _ => {}
        }
    }
    let mut gateways = Gateways::new();
    edit_tables(editor, &resources, &mut gateways)?;
    editor.gateways = gateways.keys().map(|name| (*name).clone()).collect();
    edit_clusters(editor, &resources, &gateways)
}

/// All clusters of a request.
fn clusters(request: &[u8]) -> impl Iterator<Item = Field> {
    fields(request, 0..request.len()).map_while(Result::ok).filter(|field| field.is(CLUSTERS))
}

/// Edits virtual hosts and adds those that are missing; notes whose they are.
fn edit_tables<'a>(
    editor: &mut Editor<'a>,
    resources: &Resources<'a>,
    gateways: &mut Gateways<'a>,
) -> Result<(), Stopped> {
    let bytes = editor.bytes;
    let hosts = || {
        let of_table = |table: &Field| {
            let mut name = None;
            fields(bytes, table.range()).map_while(Result::ok).filter_map(move |field| {
                name = if field.is(NAME) { text(bytes, &field) } else { name };
                field.is(VIRTUAL_HOSTS).then_some((name, field))
            })
        };
        resources.tables.iter().flat_map(of_table).collect()
    };
    let names = || clusters(bytes).filter_map(|cluster| Some(Named::new(bytes, cluster).ok()?.text())).collect();
    let mut policies = Policies::new(&hosts, Some(&names));
    let mut places = Places::default();
    let mut tables = Vec::new();
    let mut marks = Vec::new();
    for field in &resources.tables {
        let mark = editor.edits.open();
        let mut table = Table { field: *field, name: None, places: Vec::new() };
        places.enter(None);
        for (at, inner) in fields(bytes, field.range()).enumerate() {
            let inner = inner?;
            if at % STRIDE == 0 {
                editor.go_on()?;
            }
            if inner.is(NAME) {
                table.name = text(bytes, &inner);
                places.enter(table.name);
            } else if inner.is(VIRTUAL_HOSTS)
                && let Some(place) = virtual_host::edit(editor, &inner, &mut places, &mut policies)?
            {
                gateways.insert(&place.gateway.name, place.gateway);
                let known = |other: &&Place<'_>| std::ptr::eq(other.listener, place.listener);
                if table.places.iter().rfind(known).is_none() {
                    table.places.push(place);
                }
            }
        }
        // More may be added at its end.
        marks.push(editor.edits.suspend(mark));
        tables.push(table);
    }
    for name in resources.contexts.iter().flat_map(|context| policy_targets(bytes, context)) {
        gateways.extend(editor.hosted.gateway(&name).map(|gateway| (&gateway.name, &**gateway)));
    }
    if gateways.is_empty() {
        name_gateways(editor, resources, gateways)?;
    }
    for (table, mark) in tables.iter_mut().zip(marks) {
        let mark = editor.edits.resume(mark);
        let listeners = listeners_of(editor, table, gateways);
        add_missing(editor, &table.field, &listeners, &mut policies, gateways)?;
        editor.edits.close(mark, &table.field);
    }
    Ok(())
}

/// All listeners whose routes belong into a table. Listeners of one port without TLS share one; each with TLS has its own.
fn listeners_of<'a>(editor: &Editor<'a>, table: &Table<'a>, gateways: &Gateways<'a>) -> Vec<Place<'a>> {
    let named = || {
        let (gateway, listener) = table.name.and_then(foreign_listener_of)?;
        find(editor, &gateway, listener)
    };
    let first = table.places.first().copied().or_else(named);
    let port = match first {
        Some(place) if place.listener.https => return vec![place],
        Some(place) => Some(place.listener.port),
        None => table.name.and_then(foreign_port_of),
    };
    let of = |gateway: &'a HostedGateway| gateway.listeners.iter().map(move |listener| Place { gateway, listener });
    let owner = first.map(|place| (&place.gateway.name, place.gateway));
    let mut all: Gateways<'a> = gateways.clone();
    all.extend(owner);
    all.values()
        .flat_map(|gateway| of(gateway))
        .filter(|place| !place.listener.https && Some(place.listener.port) == port)
        .collect()
}

/// Adds virtual hosts for domains that tailnet endpoints are offered on and that no route of others asks for.
fn add_missing<'a>(
    editor: &mut Editor<'a>,
    table: &Field,
    listeners: &[Place<'a>],
    policies: &mut Policies<'_, 'a>,
    gateways: &mut Gateways<'a>,
) -> Result<(), Stopped> {
    let bytes = editor.bytes;
    if listeners.iter().all(|place| place.listener.routes.is_empty() && place.listener.hosts.is_empty()) {
        return Ok(());
    }
    let hosts = fields(bytes, table.range()).filter_map(|field| field.ok().filter(|field| field.is(VIRTUAL_HOSTS)));
    let mut there: HashSet<&str, RandomState> = HashSet::default();
    hosts.for_each(|host| there.extend(virtual_host::domains(bytes, &host)));
    for place in listeners {
        let listener = place.listener;
        let own = listener.hosts.iter().map(|(domain, routes)| (domain, routes));
        for (domain, routes) in own.chain([(&listener.domain, &listener.routes)]) {
            if !routes.is_empty() && there.insert(domain) {
                let policy = policies.of_listener(editor, place)?;
                editor.edits.insert(table.end, virtual_host::missing(place, domain, routes, &policy));
                editor.changed += 1;
                gateways.insert(&place.gateway.name, place.gateway);
            }
        }
    }
    Ok(())
}

/// Finds out whom a call is about without virtual hosts and policies that say so: whose listeners they are, by their names; and
/// else to whom the routes of its clusters belong.
fn name_gateways<'a>(
    editor: &Editor<'a>,
    resources: &Resources<'a>,
    gateways: &mut Gateways<'a>,
) -> Result<(), Stopped> {
    let (bytes, hosted) = (editor.bytes, editor.hosted);
    for resource in resources.listeners.iter().chain(&resources.tables) {
        let name = fields(bytes, resource.range()).find_map(|field| field.ok().filter(|field| field.is(NAME)));
        let listener = name.and_then(|name| text(bytes, &name)).and_then(foreign_listener_of);
        let gateway = listener.and_then(|(gateway, _)| hosted.gateway(&gateway));
        gateways.extend(gateway.map(|gateway| (&gateway.name, &**gateway)));
    }
    if gateways.is_empty() {
        for (at, cluster) in clusters(bytes).enumerate() {
            if at % STRIDE == 0 {
                editor.go_on()?;
            }
            for gateway in cluster::gateways_of(hosted, bytes, &cluster) {
                gateways.extend(hosted.gateway(gateway).map(|gateway| (&gateway.name, &**gateway)));
            }
        }
    }
    Ok(())
}

/// The Gateways that the policies in a context name as their targets.
fn policy_targets(bytes: &[u8], context: &Field) -> Vec<ObjectName> {
    let mut targets = Vec::new();
    for policy in policies(bytes, context) {
        let Some(namespace) = policy["metadata"]["namespace"].as_str() else { continue };
        let spec = &policy["spec"];
        let several = spec["targetRefs"].as_array().into_iter().flatten();
        for target in several.chain([&spec["targetRef"]]).filter(|target| target["kind"] == "Gateway") {
            targets.extend(target["name"].as_str().map(|name| ObjectName::new(namespace, name)));
        }
    }
    targets
}

/// The policies in a context, as JSON.
fn policies<'a>(bytes: &'a [u8], context: &Field) -> impl Iterator<Item = serde_json::Value> + use<'a> {
    let policies = fields(bytes, context.range()).filter_map(|field| field.ok().filter(|field| field.is(1)));
    policies.filter_map(|policy| {
        let json = fields(bytes, policy.range()).find_map(|field| field.ok().filter(|field| field.is(1)))?;
        serde_json::from_slice(bytes.get(json.range())?).ok()
    })
}

/// Which revision of each Gateway an Envoy Gateway has seen that asks this.
pub(super) fn revisions(request: &[u8]) -> Vec<(ObjectName, GatewayRevision)> {
    // They come first: an Envoy Gateway writes fields in the order of their numbers.
    let contexts = fields(request, 0..request.len()).map_while(Result::ok).take_while(|field| field.is(CONTEXT));
    let revision = |policy: serde_json::Value| {
        let (metadata, number) = (&policy["metadata"], policy["spec"]["revision"].as_str()?);
        let gateway = ObjectName::new(metadata["namespace"].as_str()?, metadata["name"].as_str()?);
        let is_one = policy["kind"] == Kind::TailscaleGatewayRevision.as_str();
        is_one.then_some((gateway, GatewayRevision::new(u128::from_str_radix(number, 16).ok()?, None)))
    };
    contexts.flat_map(|context| policies(request, &context)).filter_map(revision).collect()
}

/// Edits clusters and adds those that routes of ours lead to, with all that they need.
fn edit_clusters<'a>(
    editor: &mut Editor<'a>,
    resources: &Resources<'a>,
    gateways: &Gateways<'a>,
) -> Result<(), Stopped> {
    let mut injection = Injection::default();
    if editor.hosted.has_rules() {
        for (at, cluster) in resources.clusters.iter().enumerate() {
            if at % STRIDE == 0 {
                editor.go_on()?;
            }
            cluster::edit(editor, cluster, gateways, &mut injection)?;
        }
    }
    for gateway in gateways.values() {
        injection.add_all_of(editor.hosted, gateway);
    }
    let Injection { own, parts, secrets } = injection;
    let theirs = twins(&resources.clusters, &own, &parts);
    // Parts of a rule have names that an Envoy Gateway gives them, too, when another listener needs them.
    let parts = parts.into_iter().filter(|(name, _)| !theirs.contains_key(&**name)).collect();
    add(editor, &theirs, &own, NEW_CLUSTERS);
    add(editor, &theirs, &parts, NEW_CLUSTERS);
    let theirs = twins(&resources.secrets, &secrets, &BTreeMap::new());
    add(editor, &theirs, &secrets, NEW_SECRETS);
    Ok(())
}

/// Resources that are added, by name.
type Added = BTreeMap<Arc<str>, Bytes>;

/// Resources that have the names of some that are added.
fn twins<'a>(resources: &[Named<'a>], added: &Added, more: &Added) -> HashMap<&'a str, Field, RandomState> {
    let names: HashSet<&str, RandomState> = added.keys().chain(more.keys()).map(|name| &**name).collect();
    let named = resources.iter().map(|resource| (resource.text(), resource.field));
    named.filter(|(name, _)| names.contains(name)).collect()
}

/// Adds resources, in the place of those that have their names.
fn add(editor: &mut Editor<'_>, theirs: &HashMap<&str, Field, RandomState>, ours: &Added, number: u32) {
    for (name, message) in ours {
        if let Some(twin) = theirs.get(&**name) {
            editor.edits.discard(twin);
        }
        editor.edits.insert(editor.bytes.len(), delimited(number, message));
        editor.changed += 1;
    }
}
