//! What holds for every HTTPRoute, however ugly: nothing panics, nothing that Envoy would refuse comes out, what was left out
//! is named.

use proptest::prelude::*;
use tailscale_gateway::{
    compile::{
        regex,
        route::{RouteContext, compile_route},
    },
    model::{ClusterName, Reason, Severity},
};
use tailscale_gateway_proto::envoy::{
    config::{
        core::v3::HeaderValueOption,
        route::v3::{
            Route,
            header_matcher::HeaderMatchSpecifier,
            query_parameter_matcher::QueryParameterMatchSpecifier,
            redirect_action::PathRewriteSpecifier,
            route::Action,
            route_action::{ClusterSpecifier, HostRewriteSpecifier},
            route_match::PathSpecifier,
            weighted_cluster::cluster_weight,
        },
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};

use super::{Namespace, envoy_routes, key};
use crate::support::ugly_routes::{http_route, pattern};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_route_makes_an_entry_that_envoy_would_refuse(
        route in http_route(),
        context in (any::<bool>(), 1..=u16::MAX).prop_map(|(scheme_https, port)| RouteContext { scheme_https, port }),
    ) {
        let compiled = compile_route(&route, &key(), &context, &mut Namespace::default());
        let routes = envoy_routes(&compiled);
        prop_assert_eq!(routes.len(), compiled.entries.len());
        for (route, entry) in routes.iter().zip(&compiled.entries) {
            let named = check_route(route);
            let listed: Vec<&str> = entry.clusters.iter().map(|cluster| &**cluster).collect();
            prop_assert_eq!(named, listed);
        }
        prop_assert!(compiled.entries.is_sorted_by_key(|entry| entry.precedence));

        let errors = compiled.problems.iter().filter(|problem| problem.severity() == Severity::Error).count();
        let answers_500 = |route: &Route| matches!(&route.action, Some(Action::DirectResponse(answer)) if answer.status == 500);
        let rules = &route.spec.rules;
        let matches: usize = rules.iter().map(|rule| rule.matches.len().max(1)).sum::<usize>().max(1);
        if routes.len() < matches {
            prop_assert!(errors > 0, "a match was left out in silence");
        }
        let can_forward = |rule: &tailscale_gateway::api::HttpRouteRule| {
            rule.backend_refs.iter().any(|backend| backend.weight > 0 && backend.object.name != "none")
        };
        if errors == 0 && rules.iter().all(can_forward) && !rules.is_empty() {
            prop_assert!(!routes.iter().any(answers_500), "a rule answers 500 and nobody is told why");
        }
        for problem in &compiled.problems {
            prop_assert!(problem.field.starts_with("spec.rules["), "{}", problem.field);
            prop_assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{}", problem.message);
            prop_assert_eq!(&problem.object, &key());
        }
        let broken = compiled.problems.iter().any(|problem| {
            !matches!(problem.reason, Reason::BackendNotFound | Reason::RefNotPermitted | Reason::NotActedOn)
        });
        prop_assert!(compiled.any_rule_valid || broken);
    }

    #[test]
    fn every_pattern_is_taken_or_refused_with_words(pattern in pattern()) {
        if let Err(message) = regex::check(&pattern) {
            prop_assert!(!message.is_empty() && !message.contains('\n'), "{}", message);
        }
    }
}

/// Asserts what Envoy's validation asks of a route, by its API's rules and its source's; gives the clusters it names.
fn check_route(route: &Route) -> Vec<String> {
    let wanted = route.r#match.as_ref().expect("a match");
    match wanted.path_specifier.as_ref().expect("a path") {
        PathSpecifier::Prefix(prefix) => assert_eq!(prefix, "/"),
        PathSpecifier::Path(path) => assert!(path.starts_with('/') && !path.contains(['?', '#']), "{path}"),
        PathSpecifier::PathSeparatedPrefix(prefix) => {
            assert!(prefix.len() > 1 && prefix.starts_with('/') && !prefix.ends_with('/'), "{prefix}");
            assert!(!prefix.contains(['?', '#']), "{prefix}");
        }
        PathSpecifier::SafeRegex(pattern) => assert_eq!(regex::check(&pattern.regex), Ok(())),
        other => panic!("{other:?}"),
    }
    for header in &wanted.headers {
        check_header_name(header.name.strip_prefix(":method").map_or(&*header.name, |_| "method"));
        match header.header_match_specifier.as_ref().expect("a matcher") {
            HeaderMatchSpecifier::StringMatch(matcher) => check_string(matcher),
            HeaderMatchSpecifier::PresentMatch(present) => assert!(present),
            other => panic!("{other:?}"),
        }
    }
    for parameter in &wanted.query_parameters {
        assert!((1..=1024).contains(&parameter.name.len()));
        match parameter.query_parameter_match_specifier.as_ref().expect("a matcher") {
            QueryParameterMatchSpecifier::StringMatch(matcher) => check_string(matcher),
            other => panic!("{other:?}"),
        }
    }
    check_headers(&route.request_headers_to_add, &route.request_headers_to_remove);
    check_headers(&route.response_headers_to_add, &route.response_headers_to_remove);
    match route.action.as_ref().expect("an action") {
        Action::DirectResponse(answer) => {
            assert_eq!(answer.status, 500);
            Vec::new()
        }
        Action::Redirect(redirect) => {
            check_host(&redirect.host_redirect);
            assert!(redirect.port_redirect <= 65535);
            match &redirect.path_rewrite_specifier {
                None => {}
                Some(PathRewriteSpecifier::PathRedirect(path) | PathRewriteSpecifier::PrefixRewrite(path)) => {
                    check_new_path(path);
                }
                Some(PathRewriteSpecifier::PathRewrite(other)) => panic!("{other:?}"),
                Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
                    check_new_path(&rewrite.substitution);
                    assert_eq!(regex::check(&rewrite.pattern.as_ref().expect("a pattern").regex), Ok(()));
                }
            }
            Vec::new()
        }
        Action::Route(action) => {
            if let Some(rewrite) = &action.regex_rewrite {
                assert_eq!(action.prefix_rewrite, "");
                check_new_path(&rewrite.substitution);
                assert_eq!(regex::check(&rewrite.pattern.as_ref().expect("a pattern").regex), Ok(()));
            }
            if !action.prefix_rewrite.is_empty() {
                check_new_path(&action.prefix_rewrite);
            }
            if let Some(HostRewriteSpecifier::HostRewriteLiteral(host)) = &action.host_rewrite_specifier {
                check_host(host);
            }
            assert!(action.timeout.is_some(), "Envoy's default of 15 seconds is left standing");
            let mut named = Vec::new();
            match action.cluster_specifier.as_ref().expect("a cluster") {
                ClusterSpecifier::Cluster(cluster) => named.push(cluster.clone()),
                ClusterSpecifier::WeightedClusters(all) => {
                    let total: u64 = all.clusters.iter().map(|cluster| u64::from(weight(cluster))).sum();
                    assert!((1..=u64::from(u32::MAX)).contains(&total));
                    for cluster in &all.clusters {
                        assert!(weight(cluster) > 0);
                        check_headers(&cluster.request_headers_to_add, &cluster.request_headers_to_remove);
                        check_headers(&cluster.response_headers_to_add, &cluster.response_headers_to_remove);
                        if let Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)) =
                            &cluster.host_rewrite_specifier
                        {
                            check_host(host);
                        }
                        named.push(cluster.name.clone());
                    }
                }
                other => panic!("{other:?}"),
            }
            named.extend(action.request_mirror_policies.iter().map(|policy| policy.cluster.clone()));
            named.retain(|cluster| cluster != ClusterName::UNRESOLVED);
            named.sort();
            named.dedup();
            assert!(!named.is_empty(), "a route that can only answer 500 says so");
            named
        }
        other => panic!("{other:?}"),
    }
}

fn weight(cluster: &tailscale_gateway_proto::envoy::config::route::v3::weighted_cluster::ClusterWeight) -> u32 {
    cluster.weight.as_ref().expect("a weight").value
}

fn check_string(matcher: &StringMatcher) {
    match matcher.match_pattern.as_ref().expect("a pattern") {
        MatchPattern::Exact(_) => {}
        MatchPattern::SafeRegex(pattern) => assert_eq!(regex::check(&pattern.regex), Ok(())),
        other => panic!("{other:?}"),
    }
}

fn check_header_name(name: &str) {
    assert!((1..=256).contains(&name.len()), "{name:?}");
    assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte)), "{name:?}");
}

fn check_headers(put: &[HeaderValueOption], remove: &[String]) {
    for header in put.iter().map(|option| option.header.as_ref().expect("a header")) {
        check_header_name(&header.key);
        assert_ne!(header.key, "host");
        assert!(header.value.len() <= 16384);
        assert!(!header.value.contains(['\0', '\r', '\n']), "{:?}", header.value);
        assert!(!header.value.replace("%%", "").contains('%'), "a command would be substituted: {:?}", header.value);
    }
    for name in remove {
        check_header_name(name);
        assert_ne!(name, "host");
    }
}

fn check_host(host: &str) {
    assert!(host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)), "{host:?}");
}

fn check_new_path(path: &str) {
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains(['\\', '?', '#', '\n', '\0']), "{path:?}");
}
