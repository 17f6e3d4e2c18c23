//! Hostnames of listeners and routes: what they match and what they have in common (Gateway API, `HTTPRouteSpec.hostnames`).

use std::sync::Arc;

/// The domain that stands for every hostname.
pub(super) const ANY: &str = "*";

/// The hostnames that a listener and a route have in common, as one domain; nothing when there are none. A missing hostname
/// on either side is every hostname. The result is the narrower of the two.
pub(super) fn intersection(listener: Option<&str>, route: Option<&str>) -> Option<Arc<str>> {
    let (listener, route) = (listener.unwrap_or(ANY), route.unwrap_or(ANY));
    if covers(listener, route) {
        Some(route.into())
    } else if covers(route, listener) {
        Some(listener.into())
    } else {
        None
    }
}

/// Whether every hostname that `narrow` matches is matched by `wide`. A wildcard label stands for one or more labels, so
/// `*.example.com` covers `a.b.example.com` and not `example.com`.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    if wide == ANY || wide == narrow {
        return true;
    }
    let Some(suffix) = wide.strip_prefix('*') else { return false };
    let narrow = narrow.strip_prefix('*').unwrap_or(narrow);
    narrow.len() > suffix.len() && narrow.ends_with(suffix)
}

/// A domain and all wider ones, most specific first: in this order their routes apply to a request for the domain.
pub(super) fn widening(domain: &str) -> Vec<Arc<str>> {
    let mut domains: Vec<Arc<str>> = vec![domain.into()];
    let mut rest = domain.strip_prefix("*.").unwrap_or(domain);
    while let Some((_, parent)) = rest.split_once('.') {
        domains.push(format!("*.{parent}").into());
        rest = parent;
    }
    if domain != ANY {
        domains.push(ANY.into());
    }
    domains
}

/// How specific the hostname of a route is that takes a request: the larger one's routes are asked first (Gateway API,
/// HTTPRouteSpec.hostnames: "characters in a matching non-wildcard hostname", then "characters in a matching hostname").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Specificity {
    exact: usize,
    any: usize,
}

impl Specificity {
    /// Of a hostname, or of none.
    pub(super) fn of(hostname: Option<&str>) -> Self {
        let any = hostname.map_or(0, str::len);
        Self { exact: if hostname.is_some_and(|hostname| hostname.starts_with('*')) { 0 } else { any }, any }
    }
}

/// Of several listener hostnames, the place of the one that a request for the domain belongs to: the most specific one that
/// covers it (Gateway API, `Listener.hostname`: listener isolation).
pub(super) fn owner<'a>(listeners: impl Iterator<Item = Option<&'a str>>, domain: &str) -> Option<usize> {
    listeners
        .enumerate()
        .filter(|(_, hostname)| covers(hostname.unwrap_or(ANY), domain))
        .max_by_key(|(_, hostname)| specificity(hostname.unwrap_or(ANY)))
        .map(|(place, _)| place)
}

/// Orders hostnames that cover the same domain: an exact one over wildcards, and longer over shorter.
fn specificity(hostname: &str) -> (bool, usize) {
    (!hostname.starts_with('*'), hostname.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_any_number_of_labels_but_not_none() {
        assert!(covers("*.example.com", "a.example.com"));
        assert!(covers("*.example.com", "a.b.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(!covers("*.example.com", "badexample.com"));
        assert!(covers("*.example.com", "*.a.example.com"));
        assert!(!covers("*.a.example.com", "*.example.com"));
    }

    #[test]
    fn the_intersection_is_the_narrower_hostname() {
        let both = |listener, route| intersection(listener, route).map(|domain| domain.to_string());
        assert_eq!(both(None, None).as_deref(), Some("*"));
        assert_eq!(both(Some("*.a.com"), None).as_deref(), Some("*.a.com"));
        assert_eq!(both(Some("*.a.com"), Some("x.a.com")).as_deref(), Some("x.a.com"));
        assert_eq!(both(Some("x.a.com"), Some("*.a.com")).as_deref(), Some("x.a.com"));
        assert_eq!(both(Some("x.a.com"), Some("y.a.com")), None);
    }

    #[test]
    fn wider_domains_come_most_specific_first() {
        let domains: Vec<String> = widening("a.b.com").iter().map(ToString::to_string).collect();
        assert_eq!(domains, ["a.b.com", "*.b.com", "*.com", "*"]);
        let domains: Vec<String> = widening("*.b.com").iter().map(ToString::to_string).collect();
        assert_eq!(domains, ["*.b.com", "*.com", "*"]);
    }

    #[test]
    fn the_most_specific_listener_owns_a_domain() {
        let listeners = [None, Some("*.com"), Some("*.example.com"), Some("foo.example.com")];
        let owner_of = |domain| owner(listeners.iter().copied(), domain);
        assert_eq!(owner_of("foo.example.com"), Some(3));
        assert_eq!(owner_of("bar.example.com"), Some(2));
        assert_eq!(owner_of("*.example.com"), Some(2));
        assert_eq!(owner_of("example.com"), Some(1));
        assert_eq!(owner_of("*"), Some(0));
    }
}
