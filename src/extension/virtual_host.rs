//! Virtual hosts: where in them routes to tailnet endpoints go, and those that are missing.
//!
//! A route goes in front of the first one that takes all its requests by a shorter prefix, so that catch-alls do not hide it,
//! and behind everything more specific, as Gateway API's order asks for (HTTPRouteRule.matches).

use std::{collections::HashMap, ops::Range};

use bytes::{Bytes, BytesMut};
use foldhash::fast::RandomState;

use super::{
    hooks::{Editor, Stopped},
    metadata::origin,
    route::{self, edit_route},
    splice::{Field, delimited, fields, text},
};
use crate::{
    model::{ObjectName, foreign_listener_of, is_endpoint_route, virtual_host_name},
    snapshot::{HostedGateway, HostedListener, InjectedRoute},
};

/// `VirtualHost.name`, `.domains`, `.routes` and `.metadata`.
const NAME: u32 = 1;
const DOMAINS: u32 = 2;
const ROUTES: u32 = 3;
const METADATA: u32 = 24;
/// `Route.match`; `RouteMatch.prefix` and `.path_separated_prefix`.
const MATCH: u32 = 1;
const PREFIX: u32 = 1;
const SEPARATED_PREFIX: u32 = 14;

/// A listener of a hosted Gateway.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) gateway: &'a HostedGateway,
    pub(super) listener: &'a HostedListener,
}

/// Which listener virtual hosts belong to. Those of one listener have the same metadata: it is read once.
#[derive(Default)]
pub(super) struct Places<'a> {
    last: Option<(&'a [u8], Option<Place<'a>>)>,
}

impl<'a> Places<'a> {
    /// The listener of a virtual host: by its metadata, and only without by its name.
    fn of(&mut self, editor: &Editor<'a>, name: Option<&'a str>, metadata: Option<Range<usize>>) -> Option<Place<'a>> {
        let (bytes, hosted) = (editor.bytes, editor.hosted);
        let Some(metadata) = metadata else {
            let (gateway, listener) = foreign_listener_of(name?)?;
            return find(editor, &gateway, listener);
        };
        let raw = &bytes[metadata.clone()];
        if let Some((last, place)) = self.last
            && last == raw
        {
            return place;
        }
        let place = origin(bytes, metadata).filter(|origin| origin.is("Gateway")).and_then(|origin| {
            let gateway = hosted.gateway(&ObjectName::new(origin.namespace, origin.name))?;
            let listener = gateway.listeners.iter().find(|listener| *listener.name == *origin.section)?;
            Some(Place { gateway, listener })
        });
        self.last = Some((raw, place));
        place
    }
}

/// A listener of a Gateway, if that is hosted.
pub(super) fn find<'a>(editor: &Editor<'a>, gateway: &ObjectName, listener: &str) -> Option<Place<'a>> {
    let gateway = editor.hosted.gateway(gateway)?;
    let listener = gateway.listeners.iter().find(|candidate| *candidate.name == *listener)?;
    Some(Place { gateway, listener })
}

/// Edits the virtual host of a call that is about one.
pub(super) fn edit_single(editor: &mut Editor<'_>, host: &Field) -> Result<(), Stopped> {
    let place = edit(editor, host, &mut Places::default())?;
    editor.gateways = place.map(|place| place.gateway.name.clone()).into_iter().collect();
    Ok(())
}

/// Edits a virtual host: its routes, and new ones. Tells which listener it belongs to.
pub(super) fn edit<'a>(
    editor: &mut Editor<'a>,
    host: &Field,
    places: &mut Places<'a>,
) -> Result<Option<Place<'a>>, Stopped> {
    let bytes = editor.bytes;
    let (mut name, mut metadata, mut domains) = (None, None, Vec::new());
    for field in fields(bytes, host.range()) {
        let field = field?;
        match field.number {
            NAME => name = text(bytes, &field),
            DOMAINS => domains.extend(text(bytes, &field)),
            METADATA => metadata = Some(field.range()),
            _ => {}
        }
    }
    let place = places.of(editor, name, metadata);
    let new = place.map_or(&[][..], |place| routes_for(place.listener, &domains));
    if !new.is_empty() || editor.hosted.has_rules() {
        editor.within(host, |editor| edit_routes(editor, host, new))?;
    }
    Ok(place)
}

/// The routes for a virtual host with these domains.
fn routes_for<'a>(listener: &'a HostedListener, domains: &[&str]) -> &'a [InjectedRoute] {
    let own = listener.hosts.iter().find(|(domain, _)| domains.contains(&&**domain));
    own.map_or(&listener.routes, |(_, routes)| routes)
}

fn edit_routes(editor: &mut Editor<'_>, host: &Field, new: &[InjectedRoute]) -> Result<(), Stopped> {
    let bytes = editor.bytes;
    // The first route with each prefix, and whether it takes whole segments only.
    let mut prefixes: HashMap<(&str, bool), usize, RandomState> = HashMap::default();
    for field in fields(bytes, host.range()) {
        let field = field?;
        if !field.is(ROUTES) {
            continue;
        }
        if !new.is_empty() {
            if is_ours(bytes, &field)? {
                // Put in by another hook of the same translation.
                editor.edits.remove(&field);
                continue;
            }
            if let Some(prefix) = prefix_of(bytes, &field)? {
                prefixes.entry(prefix).or_insert(field.start);
            }
        }
        if editor.hosted.has_rules() {
            edit_route(editor, &field)?;
        }
    }
    for route in new {
        editor.edits.insert(first_cover(&prefixes, &route.prefix).unwrap_or(host.end), route.bytes.clone());
    }
    editor.changed += usize::from(!new.is_empty());
    Ok(())
}

fn is_ours(bytes: &[u8], route: &Field) -> Result<bool, Stopped> {
    let mut ours = false;
    for field in fields(bytes, route.range()) {
        let field = field?;
        if field.is(route::NAME) {
            ours = text(bytes, &field).is_some_and(is_endpoint_route);
        }
    }
    Ok(ours)
}

/// The prefix that a route matches, and whether by whole segments.
fn prefix_of<'a>(bytes: &'a [u8], route: &Field) -> Result<Option<(&'a str, bool)>, Stopped> {
    let mut prefix = None;
    for field in fields(bytes, route.range()) {
        let field = field?;
        if !field.is(MATCH) {
            continue;
        }
        for inner in fields(bytes, field.range()) {
            let inner = inner?;
            if inner.is(PREFIX) || inner.is(SEPARATED_PREFIX) {
                prefix = text(bytes, &inner).map(|text| (text, inner.number == SEPARATED_PREFIX));
            }
        }
    }
    Ok(prefix)
}

/// Where the first route stands that takes every request of a longer prefix.
fn first_cover(prefixes: &HashMap<(&str, bool), usize, RandomState>, prefix: &str) -> Option<usize> {
    let shorter = |end| prefix.is_char_boundary(end).then(|| &prefix[..end]);
    let plain = (0..prefix.len()).filter_map(shorter).filter_map(|text| prefixes.get(&(text, false)));
    // A plain prefix that ends with the slash behind ours is none of these: it takes less than ours.
    let segments = prefix.match_indices('/').filter_map(|(end, _)| shorter(end));
    let separated = segments.filter_map(|text| prefixes.get(&(text, true)));
    plain.chain(separated).min().copied()
}

/// A virtual host that Envoy Gateway has not made because no route asks for its domain: field `virtual_hosts` of
/// `envoy.config.route.v3.RouteConfiguration`.
pub(super) fn missing(place: &Place<'_>, domain: &str, routes: &[InjectedRoute]) -> Bytes {
    let mut host = BytesMut::new();
    let name = virtual_host_name(&place.gateway.name, &place.listener.name, domain);
    host.extend_from_slice(&delimited(NAME, name.as_bytes()));
    host.extend_from_slice(&delimited(DOMAINS, domain.as_bytes()));
    routes.iter().for_each(|route| host.extend_from_slice(&route.bytes));
    delimited(2, &host)
}

/// The domains of a virtual host.
pub(super) fn domains<'a>(bytes: &'a [u8], host: &Field) -> impl Iterator<Item = &'a str> {
    fields(bytes, host.range())
        .filter_map(|field| field.ok().filter(|field| field.is(DOMAINS)))
        .filter_map(|field| text(bytes, &field))
}
