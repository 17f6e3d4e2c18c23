//! Route tables that are divided by hostname, so that a change costs an Envoy a part of the table.
//!
//! An Envoy takes a RouteConfiguration in as a whole: with thousands of virtual hosts, that is most of the time a change needs.
//! Divided, each part is one, and a request finds its part by scoped routes: before the route is looked for, a header gets the
//! part's name, from a hash of the Host that Envoy works out in CEL; requests leave without it.
//!
//! A hostname stands in the part that its hash says, a wildcard in all of them: what they have to do with each other is settled
//! within the part as it is in a whole table.

use std::{ops::RangeInclusive, sync::Arc};

use tailscale_gateway_proto::envoy::{
    config::{
        common::mutation_rules::v3::{HeaderMutation, header_mutation::Action},
        core::v3::{HeaderValue, HeaderValueOption, TypedExtensionConfig, header_value_option::HeaderAppendAction},
        route::v3::{
            ScopedRouteConfiguration,
            scoped_route_configuration::{
                Key,
                key::{Fragment, fragment},
            },
        },
    },
    extensions::{
        filters::network::http_connection_manager::v3::{
            ScopedRds, ScopedRoutes,
            http_connection_manager::RouteSpecifier,
            scoped_routes::{
                ConfigSpecifier, ScopeKeyBuilder,
                scope_key_builder::{
                    FragmentBuilder,
                    fragment_builder::{HeaderValueExtractor, Type, header_value_extractor::ExtractType},
                },
            },
        },
        http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation,
    },
};

use super::{
    hostname,
    listener::{any, from_ads},
};
use crate::{
    model::{RouteTableName, ServedTable, TABLE_HEADER, table_part_name},
    snapshot::{Resource, TypeUrl},
};

/// One bit of the hash: whether a hostname has an odd number of these characters. Each class is a few ranges only, because a
/// pattern in CEL may compile to no more than 100 of RE2's instructions, and every range takes some.
type Class = &'static [RangeInclusive<u8>];

/// The digits have ten different codes, which is what tells numbered names apart; the letters have eleven, none of them 0.
const CLASSES: [Class; 4] = [
    &[b'0'..=b'1', b'4'..=b'5', b'8'..=b'9', b'b'..=b'o'],
    &[b'1'..=b'4', b'9'..=b'9', b'k'..=b'x'],
    &[b'3'..=b'9', b'c'..=b'f', b'u'..=b'z'],
    &[b'7'..=b'9', b'a'..=b'e', b'm'..=b'w'],
];

/// How many parts a table has.
pub(super) const PARTS: u8 = 1 << CLASSES.len();

/// The parts of a divided table in which a domain stands.
pub(super) fn parts_of(domain: &str) -> RangeInclusive<u8> {
    if domain.starts_with('*') {
        0..=PARTS - 1
    } else {
        let part = part_of(domain);
        part..=part
    }
}

/// The part in which requests for a hostname in lower case look.
fn part_of(hostname: &str) -> u8 {
    let code = |byte: u8| {
        let bits = CLASSES.iter().enumerate();
        bits.filter(|(_, class)| class.iter().any(|range| range.contains(&byte))).map(|(bit, _)| 1 << bit).sum::<u8>()
    };
    hostname.bytes().fold(0, |hash, byte| hash ^ code(byte))
}

/// The same as [`part_of`], as Envoy works it out for a Host in whatever case, with or without a port. A Host with characters
/// that no hostname has comes to some part, too.
fn part_in_cel() -> String {
    let bits = CLASSES.iter().enumerate();
    let bits: Vec<String> =
        bits.map(|(bit, class)| format!("(request.host.matches('{}')?{}:0)", odd(class), 1 << bit)).collect();
    bits.join("+")
}

/// The pattern for an odd number of characters of a class before the port.
fn odd(class: Class) -> String {
    let inside = |byte: &u8| class.iter().any(|range| range.contains(byte));
    let outside: Vec<u8> = (b'0'..=b'9').chain(b'a'..=b'z').filter(|byte| !inside(byte)).collect();
    let outside: Vec<String> =
        outside.chunk_by(|one, next| one + 1 == *next).map(|run| range(run[0], run[run.len() - 1])).collect();
    let one: String = class.iter().map(|it| range(*it.start(), *it.end())).collect();
    let other = outside.concat();
    format!("(?i)^[{other}._-]*(?:[{one}][{other}._-]*[{one}][{other}._-]*)*[{one}][{other}._-]*(?::|$)")
}

fn range(first: u8, last: u8) -> String {
    let (first, last) = (char::from(first), char::from(last));
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// The parts of a table, by name.
pub(super) fn parts(table: &RouteTableName) -> impl Iterator<Item = ServedTable> {
    (0..PARTS).map(|part| ServedTable { table: table.clone(), part: Some(part) })
}

/// What puts the name of a request's part into its header, over whatever the client had there.
pub(super) fn early_mutation(table: &RouteTableName) -> TypedExtensionConfig {
    let value = table_part_name(table, format_args!("%CEL({})%", part_in_cel()));
    let name_the_part = HeaderMutation {
        action: Some(Action::Append(HeaderValueOption {
            header: Some(HeaderValue { key: TABLE_HEADER.to_owned(), value, ..Default::default() }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
            ..Default::default()
        })),
    };
    TypedExtensionConfig {
        name: "envoy.http.early_header_mutation.header_mutation".to_owned(),
        typed_config: Some(any(&EarlyHeaderMutation { mutations: vec![name_the_part] })),
    }
}

/// Where a connection manager finds the parts.
pub(super) fn scoped_routes(table: &RouteTableName) -> RouteSpecifier {
    let whole_value = HeaderValueExtractor {
        name: TABLE_HEADER.to_owned(),
        extract_type: Some(ExtractType::Index(0)),
        ..Default::default()
    };
    RouteSpecifier::ScopedRoutes(ScopedRoutes {
        name: table.to_string(),
        scope_key_builder: Some(ScopeKeyBuilder {
            fragments: vec![FragmentBuilder { r#type: Some(Type::HeaderValueExtractor(whole_value)) }],
        }),
        rds_config_source: from_ads(),
        config_specifier: Some(ConfigSpecifier::ScopedRds(ScopedRds {
            scoped_rds_config_source: from_ads(),
            ..Default::default()
        })),
    })
}

/// The scope of a part: its name in the header leads to it. All scopes of a Gateway come to all of its connection managers, so
/// a part's name says of which table it is.
pub(super) fn scope(part: &ServedTable) -> Arc<Resource> {
    let name = part.to_string();
    let message = ScopedRouteConfiguration {
        name: name.clone(),
        route_configuration_name: name.clone(),
        key: Some(Key { fragments: vec![Fragment { r#type: Some(fragment::Type::StringKey(name.clone())) }] }),
        ..Default::default()
    };
    Arc::new(Resource::new(TypeUrl::ScopedRoute, name, &message))
}

/// Whether a table with these listeners' hostnames gains by being divided: one of a single hostname has a single virtual host.
pub(super) fn is_divisible<'a>(mut hostnames: impl Iterator<Item = Option<&'a str>>) -> bool {
    hostnames.any(|hostname| hostname.unwrap_or(hostname::ANY).starts_with('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many hostnames each part has.
    fn spread(hostnames: impl Iterator<Item = String>) -> [usize; PARTS as usize] {
        let mut counts = [0; PARTS as usize];
        hostnames.for_each(|hostname| counts[usize::from(part_of(&hostname))] += 1);
        counts
    }

    #[test]
    fn numbered_hostnames_are_spread_over_all_parts() {
        let counts = spread((0..3000).map(|number| format!("route-{number}.example.com")));
        assert!(counts.iter().all(|count| (150..=225).contains(count)), "{counts:?}");
        let counts = spread((0..100).map(|number| format!("{number:02}.tenants.example.com")));
        assert!(counts.iter().all(|count| *count <= 12), "{counts:?}");
    }

    #[test]
    fn no_letter_or_digit_is_without_a_share_in_the_hash() {
        let codes = (b'0'..=b'9').chain(b'a'..=b'z').map(|byte| part_of(&char::from(byte).to_string()));
        assert!(codes.into_iter().all(|code| code != 0));
    }

    #[test]
    fn a_hostname_stands_in_one_part_and_a_wildcard_in_all() {
        assert_eq!(parts_of("*").count(), usize::from(PARTS));
        assert_eq!(parts_of("*.example.com").count(), usize::from(PARTS));
        assert_eq!(parts_of("a.example.com").collect::<Vec<_>>(), [part_of("a.example.com")]);
    }

    #[test]
    fn the_pattern_for_a_class_names_every_character_of_a_hostname_once() {
        assert_eq!(
            odd(CLASSES[1]),
            "(?i)^[05-8a-jy-z._-]*(?:[1-49k-x][05-8a-jy-z._-]*[1-49k-x][05-8a-jy-z._-]*)*[1-49k-x][05-8a-jy-z._-]*(?::|$)"
        );
    }
}
