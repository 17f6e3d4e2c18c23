//! Routes of requests: HTTPRoutes, and GRPCRoutes as such.

use tailscale_gateway::{
    api::{GrpcRouteRule, HttpPathMatch, HttpRouteMatch, HttpRouteRule, Object, ParentReference, PathMatchType},
    model::ObjectKey,
};

/// An HTTPRoute or a GRPCRoute.
pub(super) struct RequestRoute {
    pub(super) key: ObjectKey,
    pub(super) parents: Vec<ParentReference>,
    pub(super) hostnames: Vec<String>,
    pub(super) rules: Vec<HttpRouteRule>,
}

impl RequestRoute {
    pub(super) fn of(object: &Object) -> Option<Self> {
        let key = object.key();
        Some(match object {
            Object::HttpRoute(route) => Self {
                key,
                parents: route.spec.parent_refs.clone(),
                hostnames: route.spec.hostnames.clone(),
                rules: route.spec.rules.clone(),
            },
            Object::GrpcRoute(route) => Self {
                key,
                parents: route.spec.parent_refs.clone(),
                hostnames: route.spec.hostnames.clone(),
                rules: route.spec.rules.iter().map(grpc_rule).collect(),
            },
            _ => return None,
        })
    }
}

/// A rule of a GRPCRoute as one of an HTTPRoute: methods are paths.
fn grpc_rule(rule: &GrpcRouteRule) -> HttpRouteRule {
    let path = |service: Option<&str>, method: Option<&str>| match (service, method) {
        (Some(service), Some(method)) => {
            HttpPathMatch { type_: PathMatchType::Exact, value: format!("/{service}/{method}") }
        }
        (Some(service), None) => HttpPathMatch { type_: PathMatchType::PathPrefix, value: format!("/{service}") },
        _ => HttpPathMatch::default(),
    };
    let matches = rule.matches.iter().map(|wanted| {
        let method = wanted.method.as_ref();
        let path = method.map(|method| path(method.service.as_deref(), method.method.as_deref())).unwrap_or_default();
        HttpRouteMatch { path, ..Default::default() }
    });
    HttpRouteRule {
        matches: matches.collect(),
        filters: rule.filters.clone(),
        backend_refs: rule.backend_refs.clone(),
        ..Default::default()
    }
}
