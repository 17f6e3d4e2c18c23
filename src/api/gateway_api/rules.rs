//! The rules of Gateway API that its CRDs state in CEL (`x-kubernetes-validations`), since no schema can say them.
//!
//! An API server refuses what breaks one, so a manifest that breaks one is refused here too. Each gives the path of the
//! field and what is wrong with it. Never judges what CEL does not: conflicts, references, what Envoy can do.

use super::{
    GatewayAddress, GatewaySpec, GrpcRouteSpec, HttpPathModifier, HttpPathModifierType, HttpRouteFilter,
    HttpRouteFilterType, HttpRouteMatch, HttpRouteRule, HttpRouteSpec, HttpRouteTimeouts, Listener, ParentReference,
    PassingRoute, PathMatchType, TlsMode,
};

/// A field's path and what is wrong with it.
type Violation = (String, String);

/// The most matches that all rules of a route may have together.
const MOST_MATCHES: usize = 128;

/// What a Gateway breaks.
pub(in super::super) fn gateway_rules(spec: &GatewaySpec) -> Vec<Violation> {
    let mut broken = listeners_rules(&spec.listeners);
    for (index, address) in spec.addresses.iter().enumerate() {
        let path = format!("spec.addresses[{index}]");
        address_rules(address, &path, &mut broken);
        let known = matches!(address.type_.as_str(), "IPAddress" | "Hostname") && address.value.is_some();
        if known && spec.addresses[..index].contains(address) {
            broken.push((path, "must differ from the other addresses".to_owned()));
        }
    }
    if let Some(infrastructure) = &spec.infrastructure {
        for (field, map) in [("labels", &infrastructure.labels), ("annotations", &infrastructure.annotations)] {
            for key in map.keys().filter(|key| !is_qualified_name(key)) {
                broken.push((
                    format!("spec.infrastructure.{field}[{key}]"),
                    "must have a key of at most 63 letters, digits and inner -_., with a DNS name and a slash at most in \
                     front"
                        .to_owned(),
                ));
            }
        }
    }
    broken
}

/// Those of the listeners of a Gateway or of a ListenerSet.
pub(in super::super) fn listeners_rules(listeners: &[Listener]) -> Vec<Violation> {
    let mut broken = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        let path = format!("spec.listeners[{index}]");
        listener_rules(listener, &path, &mut broken);
        let twin = listeners[..index].iter().find(|other| {
            (other.port, &other.protocol, &other.hostname) == (listener.port, &listener.protocol, &listener.hostname)
        });
        if let Some(twin) = twin {
            broken.push((path, format!("must differ from listener {} in port, protocol or hostname", twin.name)));
        }
    }
    broken
}

fn listener_rules(listener: &Listener, path: &str, broken: &mut Vec<Violation>) {
    let protocol = listener.protocol.as_str();
    match (&listener.tls, protocol) {
        (Some(_), "HTTP" | "TCP" | "UDP") => {
            broken.push((format!("{path}.tls"), format!("must not be set with protocol {protocol}")));
        }
        (Some(tls), "HTTPS") if tls.mode != TlsMode::Terminate => {
            broken.push((format!("{path}.tls.mode"), "must be Terminate with protocol HTTPS".to_owned()));
        }
        (None, "TLS") => broken.push((format!("{path}.tls"), "is required with protocol TLS".to_owned())),
        _ => {}
    }
    if let Some(tls) = &listener.tls
        && tls.mode == TlsMode::Terminate
        && tls.certificate_refs.is_empty()
        && tls.options.is_empty()
    {
        broken.push((format!("{path}.tls.certificateRefs"), "must name a Secret when mode is Terminate".to_owned()));
    }
    if listener.hostname.is_some() && matches!(protocol, "TCP" | "UDP") {
        broken.push((format!("{path}.hostname"), format!("must not be set with protocol {protocol}")));
    }
}

fn address_rules(address: &GatewayAddress, path: &str, broken: &mut Vec<Violation>) {
    let Some(value) = &address.value else { return };
    match address.type_.as_str() {
        "IPAddress" if value.parse::<std::net::IpAddr>().is_err() => {
            broken.push((format!("{path}.value"), "must be an IPv4 or IPv6 address".to_owned()));
        }
        "Hostname" if !is_hostname(value.strip_prefix("*.").unwrap_or(value)) => {
            broken.push((format!("{path}.value"), "must be a hostname".to_owned()));
        }
        _ => {}
    }
}

fn is_hostname(text: &str) -> bool {
    text.split('.').all(|label| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    })
}

/// A key of labels or annotations: a name, and at most a DNS name and a slash in front of it.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 63
        && name.bytes().all(inner)
        && ends(name.bytes().next())
        && ends(name.bytes().last())
        && prefix.is_none_or(|prefix| prefix.len() < 253 && is_hostname(prefix))
}

/// What an HTTPRoute breaks.
pub(in super::super) fn route_rules(spec: &HttpRouteSpec) -> Vec<Violation> {
    let mut broken = Vec::new();
    parent_rules(&spec.parent_refs, &mut broken);
    for (index, rule) in spec.rules.iter().enumerate() {
        rule_rules(rule, &format!("spec.rules[{index}]"), &mut broken);
    }
    let matches: usize = spec.rules.iter().map(|rule| rule.matches.len()).sum();
    if matches > MOST_MATCHES {
        broken.push((
            "spec.rules".to_owned(),
            format!("must have at most {MOST_MATCHES} matches in all rules together; they have {matches}"),
        ));
    }
    broken
}

/// References to one parent each name a section, and each another one.
/// What a GRPCRoute breaks.
pub(in super::super) fn grpc_route_rules(spec: &GrpcRouteSpec) -> Vec<Violation> {
    let mut broken = Vec::new();
    parent_rules(&spec.parent_refs, &mut broken);
    for (index, rule) in spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        grpc_filter_rules(&rule.filters, &format!("{path}.filters"), &mut broken);
        for (index, backend) in rule.backend_refs.iter().enumerate() {
            let path = format!("{path}.backendRefs[{index}]");
            needs_port(&backend.object, &path, &mut broken);
            grpc_filter_rules(&backend.filters, &format!("{path}.filters"), &mut broken);
        }
    }
    let matches: usize = spec.rules.iter().map(|rule| rule.matches.len()).sum();
    if matches > MOST_MATCHES {
        let message = format!("must have at most {MOST_MATCHES} matches in all rules together; they have {matches}");
        broken.push(("spec.rules".to_owned(), message));
    }
    broken
}

fn grpc_filter_rules(filters: &[HttpRouteFilter], path: &str, broken: &mut Vec<Violation>) {
    use HttpRouteFilterType as Type;
    for (index, filter) in filters.iter().enumerate() {
        let known =
            [Type::RequestHeaderModifier, Type::ResponseHeaderModifier, Type::RequestMirror, Type::ExtensionRef];
        if !known.contains(&filter.type_) {
            let names = known.map(Type::as_str).join(", ");
            broken.push((format!("{path}[{index}].type"), format!("must be one of {names} in a GRPCRoute")));
        }
    }
}

/// What a TLSRoute, TCPRoute or UDPRoute breaks.
pub(in super::super) fn passing_route_rules(route: &PassingRoute) -> Vec<Violation> {
    let mut broken = Vec::new();
    parent_rules(&route.parent_refs, &mut broken);
    for (index, rule) in route.rules.iter().enumerate() {
        for (place, backend) in rule.backend_refs.iter().enumerate() {
            needs_port(&backend.object, &format!("spec.rules[{index}].backendRefs[{place}]"), &mut broken);
        }
    }
    broken
}

fn parent_rules(parents: &[ParentReference], broken: &mut Vec<Violation>) {
    let same_parent = |a: &ParentReference, b: &ParentReference| {
        (&a.group, &a.kind, &a.name, &a.namespace) == (&b.group, &b.kind, &b.name, &b.namespace)
    };
    for (index, parent) in parents.iter().enumerate() {
        let path = format!("spec.parentRefs[{index}].sectionName");
        let earlier = || parents[..index].iter().filter(|other| same_parent(other, parent));
        if earlier().any(|other| other.section_name == parent.section_name) {
            broken.push((path, "must differ from that of the other references to the same parent".to_owned()));
        } else if earlier().any(|other| other.section_name.is_none() != parent.section_name.is_none()) {
            broken.push((path, "must be set in every reference, or in none, to the same parent".to_owned()));
        }
    }
}

fn rule_rules(rule: &HttpRouteRule, path: &str, broken: &mut Vec<Violation>) {
    for (index, one) in rule.matches.iter().enumerate() {
        path_rules(one, &format!("{path}.matches[{index}].path.value"), broken);
    }
    filter_list_rules(&rule.filters, rule, &format!("{path}.filters"), broken);
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        let path = format!("{path}.backendRefs[{index}]");
        needs_port(&backend.object, &path, broken);
        filter_list_rules(&backend.filters, rule, &format!("{path}.filters"), broken);
    }
    if !rule.backend_refs.is_empty()
        && let Some(index) = rule.filters.iter().position(|filter| filter.request_redirect.is_some())
    {
        broken.push((format!("{path}.filters[{index}]"), "must not redirect in a rule with backendRefs".to_owned()));
    }
    if let Some(HttpRouteTimeouts { request: Some(request), backend_request: Some(backend) }) = &rule.timeouts
        && !request.as_std().is_zero()
        && backend.as_std() > request.as_std()
    {
        broken.push((
            format!("{path}.timeouts.backendRequest"),
            format!("must not be longer than request, which is {request}; got {backend}"),
        ));
    }
}

fn needs_port(backend: &super::BackendObjectReference, path: &str, broken: &mut Vec<Violation>) {
    if backend.group.is_empty() && backend.kind == "Service" && backend.port.is_none() {
        broken.push((format!("{path}.port"), "is required for a Service".to_owned()));
    }
}

/// A path that is compared as it stands is absolute, already normalized, and made of what a path may have.
fn path_rules(one: &HttpRouteMatch, path: &str, broken: &mut Vec<Violation>) {
    if one.path.type_ == PathMatchType::RegularExpression {
        return;
    }
    let value = one.path.value.as_str();
    let inside = ["//", "/./", "/../", "%2f", "%2F", "#"].into_iter().find(|part| value.contains(part));
    let at_end = ["/..", "/."].into_iter().find(|part| value.ends_with(part));
    let message = if !value.starts_with('/') {
        format!("must begin with a slash; got {value}")
    } else if let Some(part) = inside {
        format!("must not contain {part}; got {value}")
    } else if let Some(part) = at_end {
        format!("must not end with {part}; got {value}")
    } else if !is_path(value) {
        format!("must be made of letters, digits, -/._~!$&'()*+,;=:@ and percent-encoded bytes; got {value}")
    } else {
        return;
    };
    broken.push((path.to_owned(), message));
}

/// Whether a text has only what RFC 3986 §3.3 allows in a path.
fn is_path(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => {
                let mut hex = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
                hex() && hex()
            }
            _ => byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte),
        };
        if !good {
            return false;
        }
    }
    true
}

fn filter_list_rules(filters: &[HttpRouteFilter], rule: &HttpRouteRule, path: &str, broken: &mut Vec<Violation>) {
    use HttpRouteFilterType as Type;
    for (index, filter) in filters.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let earlier = |type_| filters[..index].iter().any(|other| other.type_ == type_);
        // Only these two may stand there more than once (Gateway API, HTTPRouteRule.filters); CEL does not count
        // ExternalAuth.
        let repeatable = matches!(filter.type_, Type::RequestMirror | Type::ExtensionRef | Type::ExternalAuth);
        if !repeatable && earlier(filter.type_) {
            broken.push((path.clone(), format!("must not be a second filter of type {}", filter.type_.as_str())));
        }
        let rival = match filter.type_ {
            Type::RequestRedirect => earlier(Type::UrlRewrite),
            Type::UrlRewrite => earlier(Type::RequestRedirect),
            _ => false,
        };
        if rival {
            broken.push((path.clone(), "must not stand beside another filter that redirects or rewrites".to_owned()));
        }
        filter_rules(filter, rule, &path, broken);
    }
}

fn filter_rules(filter: &HttpRouteFilter, rule: &HttpRouteRule, path: &str, broken: &mut Vec<Violation>) {
    use HttpRouteFilterType as Type;
    let settings = [
        (Type::RequestHeaderModifier, "requestHeaderModifier", filter.request_header_modifier.is_some()),
        (Type::ResponseHeaderModifier, "responseHeaderModifier", filter.response_header_modifier.is_some()),
        (Type::RequestMirror, "requestMirror", filter.request_mirror.is_some()),
        (Type::RequestRedirect, "requestRedirect", filter.request_redirect.is_some()),
        (Type::UrlRewrite, "urlRewrite", filter.url_rewrite.is_some()),
        (Type::Cors, "cors", filter.cors.is_some()),
        (Type::ExternalAuth, "externalAuth", filter.external_auth.is_some()),
        (Type::ExtensionRef, "extensionRef", filter.extension_ref.is_some()),
    ];
    for (type_, field, set) in settings {
        let path = format!("{path}.{field}");
        if type_ == filter.type_ && !set {
            broken.push((path, format!("is required when type is {}", type_.as_str())));
        } else if type_ != filter.type_ && set {
            broken.push((path, format!("must not be set when type is {}", filter.type_.as_str())));
        }
    }
    if let Some(modifier) = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref()) {
        modifier_rules(modifier, rule, &format!("{path}.requestRedirect.path"), broken);
    }
    if let Some(modifier) = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()) {
        modifier_rules(modifier, rule, &format!("{path}.urlRewrite.path"), broken);
    }
    if let Some(mirror) = &filter.request_mirror {
        let path = format!("{path}.requestMirror");
        needs_port(&mirror.backend_ref, &format!("{path}.backendRef"), broken);
        if mirror.percent.is_some() && mirror.fraction.is_some() {
            broken.push((format!("{path}.fraction"), "must not be set beside percent".to_owned()));
        }
        if mirror.fraction.is_some_and(|fraction| fraction.numerator > fraction.denominator) {
            broken.push((format!("{path}.fraction.numerator"), "must be at most the denominator".to_owned()));
        }
    }
    if let Some(auth) = &filter.external_auth {
        needs_port(&auth.backend_ref, &format!("{path}.externalAuth.backendRef"), broken);
    }
    if let Some(cors) = &filter.cors {
        let lists = [
            ("allowOrigins", &cors.allow_origins),
            ("allowMethods", &cors.allow_methods),
            ("allowHeaders", &cors.allow_headers),
        ];
        for (field, list) in lists {
            if list.len() > 1 && list.iter().any(|entry| entry == "*") {
                broken.push((format!("{path}.cors.{field}"), "must not have * beside other entries".to_owned()));
            }
        }
    }
}

/// The field of a path modifier that belongs to its type is set and no other; a prefix can be replaced only where the rule
/// matches by one prefix.
fn modifier_rules(modifier: &HttpPathModifier, rule: &HttpRouteRule, path: &str, broken: &mut Vec<Violation>) {
    let full = modifier.type_ == HttpPathModifierType::ReplaceFullPath;
    let settings = [
        ("replaceFullPath", full, modifier.replace_full_path.is_some()),
        ("replacePrefixMatch", !full, modifier.replace_prefix_match.is_some()),
    ];
    for (field, wanted, set) in settings {
        if wanted && !set {
            broken.push((format!("{path}.{field}"), "is required by type".to_owned()));
        } else if set && !wanted {
            broken.push((format!("{path}.{field}"), "must not be set with another type".to_owned()));
        }
    }
    let one_prefix = matches!(rule.matches.as_slice(), [one] if one.path.type_ == PathMatchType::PathPrefix);
    if !full && modifier.replace_prefix_match.is_some() && !one_prefix {
        broken.push((
            format!("{path}.replacePrefixMatch"),
            "needs a rule with exactly one match, whose path is of type PathPrefix".to_owned(),
        ));
    }
}
