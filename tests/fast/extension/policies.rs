//! What policies of an Envoy Gateway come to on routes that we put in.

use bytes::Bytes;
use prost::{Message, Name};
use tailscale_gateway::model::is_endpoint_route;
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            route::v3::{RateLimit, Route, RouteConfiguration, VirtualHost, route::Action},
        },
        extensions::filters::http::{cors::v3::Cors, rbac::v3::RbacPerRoute},
    },
    envoy_gateway::{PostTranslateModifyRequest, PostTranslateModifyResponse},
    google::protobuf::Any,
};

use crate::support::extension_cases::{Case, Played, cases, translated};

const RBAC: &str = "envoy.filters.http.rbac";

/// The case about policies, with others in place of what its `# Policies:` says.
fn case(policies: &str) -> (Case, Played) {
    let case = cases().into_iter().find(|case| case.name == "policies.yaml").unwrap();
    let line = case.input.lines().find(|line| line.starts_with("# Policies:")).unwrap();
    let case = Case::of(&case.input.replace(line, &format!("# Policies: {policies}")));
    let played = case.play();
    (case, played)
}

fn hosts(tables: &[Bytes]) -> Vec<VirtualHost> {
    tables.iter().flat_map(|table| RouteConfiguration::decode(table.clone()).unwrap().virtual_hosts).collect()
}

/// Our route in the virtual host of a domain; the last one, where several listeners have one.
fn ours(response: &PostTranslateModifyResponse, domain: &str) -> Route {
    let host = hosts(&response.routes).into_iter().rfind(|host| host.domains == [domain]).unwrap();
    host.routes.into_iter().find(|route| is_endpoint_route(&route.name)).unwrap()
}

/// What stands in our route.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It leads to its endpoint, and these filters are told something.
    Filters(Vec<String>),
    /// It answers with a status.
    Answer(u32),
}

fn found(route: &Route) -> Found {
    match &route.action {
        Some(Action::DirectResponse(answer)) => Found::Answer(answer.status),
        _ => {
            let mut filters: Vec<String> = route.typed_per_filter_config.keys().cloned().collect();
            filters.sort();
            Found::Filters(filters)
        }
    }
}

fn filters(names: &[&str]) -> Found {
    Found::Filters(names.iter().map(|&name| name.to_owned()).collect())
}

/// What becomes of our route in the virtual host of a domain.
fn with(policies: &str, domain: &str) -> Found {
    let (case, played) = case(policies);
    found(&ours(&translated(&played.last_request(&case), &played.hosted()), domain))
}

#[test]
fn the_policies_of_the_route_behind_are_taken_and_no_others() {
    let all = "default/guarded=deny default/own=allow";
    assert_eq!(with(all, "guarded.example.com"), filters(&[RBAC]));
    assert_eq!(with(all, "own.example.com"), filters(&[RBAC]));
    assert_eq!(with(all, "gone.example.com"), filters(&[]));
    let (case, played) = case(all);
    let response = translated(&played.last_request(&case), &played.hosted());
    let config = |domain| ours(&response, domain).typed_per_filter_config[RBAC].value.clone();
    let rules = |domain| RbacPerRoute::decode(config(domain)).unwrap().rbac.unwrap().rules;
    assert!(rules("guarded.example.com").is_some() && rules("own.example.com").is_none());
}

#[test]
fn without_a_route_behind_those_count_that_all_of_the_listener_have() {
    let all = "default/guarded=deny default/own=deny default/only=deny default/backend-is-gone=deny";
    assert_eq!(with(all, "only.example.com"), filters(&[RBAC]));
    // One without any: then the Gateway has none.
    assert_eq!(with(&all.replace("default/own=deny ", ""), "only.example.com"), filters(&[]));
    // None without any, and not all the same: nobody knows what the Gateway's is.
    assert_eq!(with(&all.replace("own=deny", "own=allow"), "only.example.com"), Found::Answer(403));
    // Virtual hosts of ours. Those of another listener are not asked about.
    assert_eq!(with(all, "*"), filters(&[]));
    assert_eq!(with("default/some=deny default/none=deny", "*"), filters(&[RBAC]));
    assert_eq!(with("default/some=deny default/none=allow", "*"), Found::Answer(403));
}

#[test]
fn what_a_broken_policy_keeps_from_everybody_is_kept() {
    assert_eq!(with("default/guarded=broken", "guarded.example.com"), Found::Answer(500));
    // A rule whose backends are gone is answered the same way; that is no policy.
    assert_eq!(with("default/guarded=deny", "gone.example.com"), filters(&[]));
    let all = "default/guarded=broken default/own=broken default/only=broken default/backend-is-gone=deny";
    assert_eq!(with(all, "only.example.com"), Found::Answer(403));
    assert_eq!(with("default/some=broken default/none=broken", "*"), Found::Answer(500));
    assert_eq!(with("default/some=broken", "*"), filters(&[]));
}

#[test]
fn where_rules_share_clusters_what_may_be_a_broken_policy_keeps_everybody_out() {
    let (case, played) = case("default/guarded=broken");
    let mut request = played.last_request(&case);
    // As with `mergeBackends`: no rule has a cluster of its own.
    request.clusters.truncate(1);
    let mut cluster = Cluster::decode(request.clusters[0].clone()).unwrap();
    for name in ["service/default/a/80", "serviceimport/default/a/80/grpc", "backend/default/a/80"] {
        cluster.name = name.to_owned();
        request.clusters[0] = cluster.encode_to_vec().into();
        let found = |domain| found(&ours(&translated(&request, &played.hosted()), domain));
        assert_eq!(found("guarded.example.com"), Found::Answer(500), "{name}");
        assert_eq!(found("gone.example.com"), Found::Answer(500), "nobody can tell it from a broken policy");
        assert_eq!(found("own.example.com"), filters(&[]), "{name}");
    }
}

/// Changes the routes of an Envoy Gateway in a request.
fn change(request: &mut PostTranslateModifyRequest, how: impl Fn(&str, &mut Route)) {
    for table in &mut request.routes {
        let mut message = RouteConfiguration::decode(table.clone()).unwrap();
        for host in &mut message.virtual_hosts {
            for route in &mut host.routes {
                how(&host.domains[0], route);
            }
        }
        *table = message.encode_to_vec().into();
    }
}

fn tell(route: &mut Route, filter: &str, value: &'static [u8]) {
    let config = Any { type_url: Cors::type_url(), value: Bytes::from_static(value) };
    route.typed_per_filter_config.insert(filter.to_owned(), config);
}

#[test]
fn what_is_a_backends_own_stays_with_its_route() {
    let (case, played) = case("default/guarded=deny");
    let mut request = played.last_request(&case);
    let limit = RateLimit { disable_key: "only here".to_owned(), ..Default::default() };
    change(&mut request, |domain, route| {
        if domain == "guarded.example.com" {
            for filter in [
                "envoy.filters.http.stateful_session",
                "envoy.filters.http.credential_injector/a",
                "envoy.filters.http.rbac.dfp_loopback_deny",
                "envoy.filters.http.local_ratelimit",
                "envoy.filters.http.ext_authz/securitypolicy/default/a",
                "some.filter.of.others",
            ] {
                tell(route, filter, b"");
            }
            if let Some(Action::Route(action)) = &mut route.action {
                action.rate_limits.push(limit.clone());
            }
        }
    });
    let route = ours(&translated(&request, &played.hosted()), "guarded.example.com");
    let expected = [
        "envoy.filters.http.ext_authz/securitypolicy/default/a",
        "envoy.filters.http.local_ratelimit",
        RBAC,
        "some.filter.of.others",
    ];
    assert_eq!(found(&route), filters(&expected));
    let Some(Action::Route(action)) = route.action else { panic!("it leads nowhere") };
    assert_eq!(action.rate_limits, [limit]);
    assert_eq!(action.upgrade_configs.len(), 1, "what it had it still has");
    // A body that is waited for as a whole is none of a WebSocket.
    change(&mut request, |_, route| tell(route, "envoy.filters.http.buffer", b""));
    let route = ours(&translated(&request, &played.hosted()), "guarded.example.com");
    let Some(Action::Route(action)) = route.action else { panic!("it leads nowhere") };
    assert_eq!((action.upgrade_configs, action.rate_limits.len()), (Vec::new(), 1));
}

#[test]
fn what_browsers_are_told_by_some_routes_alone_is_no_reason_to_refuse_requests() {
    let (case, played) = case("");
    let mut request = played.last_request(&case);
    let cors = "envoy.filters.http.cors";
    change(&mut request, |domain, route| {
        tell(route, cors, if domain == "own.example.com" { b"\x0a\0" } else { b"" });
        tell(route, "envoy.filters.http.fault", b"");
    });
    let answer =
        |request: &PostTranslateModifyRequest| found(&ours(&translated(request, &played.hosted()), "only.example.com"));
    assert_eq!(answer(&request), filters(&["envoy.filters.http.fault"]));
    change(&mut request, |_, route| tell(route, cors, b""));
    assert_eq!(answer(&request), filters(&[cors, "envoy.filters.http.fault"]));
    // But a policy of its own that says only that stands in the place of its Gateway's.
    change(&mut request, |domain, route| {
        if domain == "own.example.com" {
            tell(route, RBAC, b"");
        }
    });
    assert_eq!(answer(&request), Found::Answer(403));
}

#[test]
fn a_route_that_takes_some_requests_only_is_not_asked_for_its_policies() {
    let (case, played) = case("default/guarded=deny");
    let mut request = played.last_request(&case);
    change(&mut request, |domain, route| {
        if domain == "guarded.example.com" {
            let header = Default::default();
            route.r#match.as_mut().unwrap().headers.push(header);
        }
    });
    // So it is those of the listener, where another route has none.
    assert_eq!(found(&ours(&translated(&request, &played.hosted()), "guarded.example.com")), filters(&[]));
}

#[test]
fn a_route_of_ours_stands_in_front_of_expressions_that_take_every_path() {
    let before = |regex: &str| {
        let (case, _) = case("");
        let case = Case::of(
            &case.input.replace("RegularExpression, value: \"/.*\"", &format!("RegularExpression, value: {regex:?}")),
        );
        let played = case.play();
        let response = translated(&played.last_request(&case), &played.hosted());
        let host = hosts(&response.routes).into_iter().find(|host| host.domains == ["none.example.com"]).unwrap();
        is_endpoint_route(&host.routes[0].name)
    };
    for regex in [".*", "/.*", ".+", "/.+", "^/.*$", "^.*$", "(.*)", "/(.*)", "^/(?:.*)$", "(?s).*"] {
        assert!(before(regex), "{regex}");
    }
    for regex in ["/a.*", "/.*b", "/[a-z]*", "(.*", "^$", "/"] {
        assert!(!before(regex), "{regex}");
    }
}
