//! Virtual hosts: where in them routes to tailnet endpoints go, and those that are missing.
//!
//! A route goes in front of the first one that takes all its requests by a shorter prefix, so that catch-alls do not hide it,
//! and behind everything more specific, as Gateway API's order asks for (HTTPRouteRule.matches). With that one's policies.

use std::{collections::HashMap, ops::Range};

use bytes::{Bytes, BytesMut};
use foldhash::fast::RandomState;

use super::{
    hooks::{Editor, Stopped},
    metadata::origin,
    policy::{Policies, Policy},
    route::{self, edit_route},
    splice::{Field, Malformed, delimited, fields, last, text},
};
use crate::{
    model::{ObjectName, foreign_listener_of, foreign_port_of, is_endpoint_route, section_of, virtual_host_name},
    snapshot::{HostedGateway, HostedListener, InjectedRoute},
};

/// `VirtualHost.name`, `.domains`, `.routes` and `.metadata`.
const NAME: u32 = 1;
const DOMAINS: u32 = 2;
const ROUTES: u32 = 3;
const METADATA: u32 = 24;
/// `Route.match`; `RouteMatch.prefix`, `.safe_regex` and `.path_separated_prefix`; `RegexMatcher.regex`.
const MATCH: u32 = 1;
const PREFIX: u32 = 1;
const SAFE_REGEX: u32 = 10;
const SEPARATED_PREFIX: u32 = 14;
const REGEX: u32 = 2;
/// All of a `RouteMatch` that is about paths: with `path`, `case_sensitive` and `connect_matcher`.
const ABOUT_PATHS: [u32; 6] = [PREFIX, 2, 4, SAFE_REGEX, 12, SEPARATED_PREFIX];

/// A listener of a hosted Gateway.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) gateway: &'a HostedGateway,
    pub(super) listener: &'a HostedListener,
}

/// Which listener virtual hosts belong to. Those of one listener have the same metadata, and the same names but for the domain
/// at the end: both are read once.
#[derive(Default)]
pub(super) struct Places<'a> {
    /// The route table that they stand in, if that is known.
    table: Option<&'a str>,
    last: Option<(&'a [u8], &'a str, Option<Place<'a>>)>,
}

impl<'a> Places<'a> {
    /// Says in which table the virtual hosts stand that it is asked about next.
    pub(super) fn enter(&mut self, table: Option<&'a str>) {
        if self.table != table {
            *self = Self { table, last: None };
        }
    }

    /// The listener of a virtual host.
    pub(super) fn of_host(&mut self, editor: &Editor<'a>, host: &Field) -> Result<Option<Place<'a>>, Malformed> {
        let (mut name, mut metadata) = (None, None);
        for field in fields(editor.bytes, host.range()) {
            let field = field?;
            match field.number {
                NAME => name = text(editor.bytes, &field),
                METADATA => metadata = Some(field.range()),
                _ => {}
            }
        }
        Ok(self.of(editor, name, metadata))
    }

    /// The listener of a virtual host: by its metadata, and only without by its name.
    fn of(&mut self, editor: &Editor<'a>, name: Option<&'a str>, metadata: Option<Range<usize>>) -> Option<Place<'a>> {
        let (bytes, hosted) = (editor.bytes, editor.hosted);
        let Some(metadata) = metadata else {
            let (gateway, listener) = foreign_listener_of(name?)?;
            return find(editor, &gateway, listener);
        };
        let (raw, stem) = (&bytes[metadata.clone()], name.and_then(|name| name.rsplit_once('/')).unwrap_or_default().0);
        if let Some((last, of, place)) = self.last
            && (last, of) == (raw, stem)
        {
            return place;
        }
        let (mut place, mut is_shared) = (None, false);
        if let Some(origin) = origin(bytes, metadata).filter(|origin| origin.is("Gateway"))
            && let Some(gateway) = hosted.gateway(&ObjectName::new(origin.namespace, origin.name))
        {
            // Of a listener of a ListenerSet, too, metadata names the Gateway alone: another one may have that section.
            let named =
                |name: Option<&'a str>| name.and_then(foreign_listener_of).filter(|(of, _)| *of == gateway.name);
            let (by_name, port) = (named(name), self.table.and_then(foreign_port_of));
            let exact = by_name.or_else(|| named(self.table.filter(|_| stem.is_empty())));
            let may_be = |listener: &&HostedListener| match (&exact, port) {
                (Some((_, exact)), _) => *listener.name == **exact,
                (None, Some(port)) => listener.port == port && !listener.https,
                (None, None) => true,
            };
            let of_section = |listener: &&HostedListener| section_of(&listener.name) == origin.section;
            let mut all = gateway.listeners.iter().filter(of_section).filter(may_be);
            let first = all.next();
            let others: Vec<&HostedListener> = all.collect();
            is_shared = !others.is_empty();
            let takes =
                |listener: &&HostedListener| !is_shared || is_name_in(name.unwrap_or_default(), &listener.domain);
            let closest = first.into_iter().chain(others).filter(takes).max_by_key(|listener| listener.domain.len());
            place = closest.map(|listener| Place { gateway, listener });
        }
        self.last = Some((raw, stem, place)).filter(|_| !is_shared);
        place
    }
}

/// Whether a virtual host that is called by its domain, as in the second scheme of names, is one of a listener's.
fn is_name_in(name: &str, domain: &str) -> bool {
    let domain = domain.replace('.', "_");
    domain.strip_prefix('*').map_or(name == domain, |parent| name.ends_with(parent))
}

/// A listener of a Gateway, if that is hosted.
pub(super) fn find<'a>(editor: &Editor<'a>, gateway: &ObjectName, listener: &str) -> Option<Place<'a>> {
    let gateway = editor.hosted.gateway(gateway)?;
    let listener = gateway.listeners.iter().find(|candidate| *candidate.name == *listener)?;
    Some(Place { gateway, listener })
}

/// Edits the virtual host of a call that is about one.
pub(super) fn edit_single(editor: &mut Editor<'_>, host: &Field) -> Result<(), Stopped> {
    let hosts = || vec![(None, *host)];
    let place = edit(editor, host, &mut Places::default(), &mut Policies::new(&hosts, None))?;
    editor.gateways = place.map(|place| place.gateway.name.clone()).into_iter().collect();
    Ok(())
}

/// Edits a virtual host: its routes, and new ones. Tells which listener it belongs to.
pub(super) fn edit<'a>(
    editor: &mut Editor<'a>,
    host: &Field,
    places: &mut Places<'a>,
    policies: &mut Policies<'_, 'a>,
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
    let new = place.map(|place| (place, routes_for(place.listener, &domains))).filter(|(_, routes)| !routes.is_empty());
    if new.is_some() || editor.hosted.has_rules() {
        editor.within(host, |editor| edit_routes(editor, host, new, policies))?;
    }
    Ok(place)
}

/// The routes for a virtual host with these domains.
fn routes_for<'a>(listener: &'a HostedListener, domains: &[&str]) -> &'a [InjectedRoute] {
    let own = listener.hosts.iter().find(|(domain, _)| domains.contains(&&**domain));
    own.map_or(&listener.routes, |(_, routes)| routes)
}

/// The routes of a virtual host by what they match, for such as take all requests of a prefix.
#[derive(Default)]
struct Covers<'a> {
    by_prefix: HashMap<(&'a str, bool), Cover, RandomState>,
}

/// Routes with one prefix.
struct Cover {
    /// Where the first one stands.
    first: usize,
    /// The first one that asks for nothing but the prefix.
    whole: Option<Field>,
}

fn edit_routes<'a>(
    editor: &mut Editor<'a>,
    host: &Field,
    new: Option<(Place<'a>, &'a [InjectedRoute])>,
    policies: &mut Policies<'_, 'a>,
) -> Result<(), Stopped> {
    let bytes = editor.bytes;
    let mut covers = Covers::default();
    for field in fields(bytes, host.range()) {
        let field = field?;
        if !field.is(ROUTES) {
            continue;
        }
        if new.is_some() {
            if is_ours(bytes, &field)? {
                // Put in by another hook of the same translation.
                editor.edits.remove(&field);
                continue;
            }
            covers.add(bytes, &field)?;
        }
        if editor.hosted.has_rules() {
            edit_route(editor, &field)?;
        }
    }
    let Some((place, routes)) = new else { return Ok(()) };
    // Routes stand in front of few others, and many of them of one.
    let mut last: Option<(usize, Policy<'a>)> = None;
    for route in routes {
        let at = covers.first(&route.prefix).unwrap_or(host.end);
        let cover = covers.whole(&route.prefix);
        let key = cover.map_or(host.end, |cover| cover.start);
        let policy = match last.take().filter(|(known, _)| *known == key) {
            Some((_, policy)) => policy,
            None => match cover {
                Some(cover) => policies.of_route(bytes, &cover)?,
                None => policies.of_listener(editor, &place)?,
            },
        };
        editor.edits.insert(at, policy.put_on(&route.bytes));
        last = Some((key, policy));
    }
    editor.changed += 1;
    Ok(())
}

/// Whether a route was put in by us.
pub(super) fn is_ours(bytes: &[u8], route: &Field) -> Result<bool, Malformed> {
    let mut ours = false;
    for field in fields(bytes, route.range()) {
        let field = field?;
        if field.is(route::NAME) {
            ours = text(bytes, &field).is_some_and(is_endpoint_route);
        }
    }
    Ok(ours)
}

impl<'a> Covers<'a> {
    /// Notes a route, if it matches a prefix.
    fn add(&mut self, bytes: &'a [u8], route: &Field) -> Result<(), Malformed> {
        let (mut prefix, mut whole) = (None, true);
        for field in fields(bytes, route.range()) {
            let field = field?;
            if !field.is(MATCH) {
                continue;
            }
            for inner in fields(bytes, field.range()) {
                let inner = inner?;
                if inner.is(PREFIX) || inner.is(SEPARATED_PREFIX) {
                    prefix = text(bytes, &inner).map(|text| (text, inner.number == SEPARATED_PREFIX));
                } else if inner.is(SAFE_REGEX) {
                    let regex = last(bytes, inner.range(), REGEX).and_then(|regex| text(bytes, &regex));
                    prefix = regex.filter(|regex| takes_every_path(regex)).map(|_| ("/", false));
                }
                whole &= ABOUT_PATHS.contains(&inner.number);
            }
        }
        if let Some(prefix) = prefix {
            let cover = self.by_prefix.entry(prefix).or_insert(Cover { first: route.start, whole: None });
            cover.whole = cover.whole.or(Some(*route).filter(|_| whole));
        }
        Ok(())
    }

    /// The routes that take requests of a longer prefix.
    fn of<'b>(&'b self, prefix: &'b str) -> impl Iterator<Item = &'b Cover> {
        let shorter = move |end| prefix.is_char_boundary(end).then(|| &prefix[..end]);
        let plain = (0..prefix.len()).filter_map(shorter).filter_map(|text| self.by_prefix.get(&(text, false)));
        // A plain prefix that ends with the slash behind ours is none of these: it takes less than ours.
        let segments = prefix.match_indices('/').filter_map(move |(end, _)| shorter(end));
        let separated = segments.filter_map(|text| self.by_prefix.get(&(text, true)));
        plain.chain(separated)
    }

    /// Where the first one of these stands.
    fn first(&self, prefix: &str) -> Option<usize> {
        self.of(prefix).map(|cover| cover.first).min()
    }

    /// The first one of these that takes every request.
    fn whole(&self, prefix: &str) -> Option<Field> {
        self.of(prefix).filter_map(|cover| cover.whole).min_by_key(|route| route.start)
    }
}

/// Whether a regular expression takes every path, as far as one sees it: such as people write to say just that.
fn takes_every_path(regex: &str) -> bool {
    let inner = regex.strip_prefix('^').unwrap_or(regex);
    let inner = inner.strip_suffix('$').unwrap_or(inner);
    let inner = inner.strip_prefix("(?s)").unwrap_or(inner);
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let group = inner.strip_prefix("(?:").or(inner.strip_prefix('('));
    let inner = group.and_then(|group| group.strip_suffix(')')).unwrap_or(inner);
    matches!(inner, ".*" | ".+")
}

/// A virtual host that Envoy Gateway has not made because no route asks for its domain: field `virtual_hosts` of
/// `envoy.config.route.v3.RouteConfiguration`.
pub(super) fn missing(place: &Place<'_>, domain: &str, routes: &[InjectedRoute], policy: &Policy<'_>) -> Bytes {
    let mut host = BytesMut::new();
    let name = virtual_host_name(&place.gateway.name, &place.listener.name, domain);
    host.extend_from_slice(&delimited(NAME, name.as_bytes()));
    host.extend_from_slice(&delimited(DOMAINS, domain.as_bytes()));
    routes.iter().for_each(|route| host.extend_from_slice(&policy.put_on(&route.bytes)));
    delimited(2, &host)
}

/// The domains of a virtual host.
pub(super) fn domains<'a>(bytes: &'a [u8], host: &Field) -> impl Iterator<Item = &'a str> {
    fields(bytes, host.range())
        .filter_map(|field| field.ok().filter(|field| field.is(DOMAINS)))
        .filter_map(|field| text(bytes, &field))
}
