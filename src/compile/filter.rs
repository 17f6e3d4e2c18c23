//! The filters of a rule or of a backend: each checked, and all of them together. Never decides where a request goes.
//!
//! Whatever is wrong with one filter makes the whole list unusable: a filter must not be skipped, so the requests that
//! would have passed it have to be answered with an error.

use std::collections::BTreeMap;

use tailscale_gateway_proto::{
    envoy::{
        config::{core::v3::RuntimeFractionalPercent, route::v3::route_action::RequestMirrorPolicy},
        r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
    google::protobuf::Any,
};

use super::{
    cors::compile_cors,
    findings::Findings,
    header::HeaderChanges,
    redirect::Redirect,
    route::{Backends, RouteContext},
    url::{PathChange, check_hostname},
};
use crate::{
    api::{HttpRequestMirrorFilter, HttpRouteFilter, HttpRouteFilterType as Type, HttpUrlRewriteFilter},
    model::Reason,
};

/// What a list of filters asks for, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filters {
    /// Changes of the request's headers.
    pub(super) request: HeaderChanges,
    /// Changes of the response's headers.
    pub(super) response: HeaderChanges,
    /// Where the request is redirected to.
    pub(super) redirect: Option<Redirect>,
    /// The hostname that takes the place of the request's.
    pub(super) hostname: Option<String>,
    /// The change of the request's path.
    pub(super) path: Option<PathChange>,
    /// Where copies of the request go.
    pub(super) mirrors: Vec<RequestMirrorPolicy>,
    /// The configuration of Envoy's CORS filter.
    pub(super) cors: Option<Any>,
}

impl Filters {
    /// Checks a list of filters, and all of it even if the first one is wrong. Notes what is wrong and gives nothing then.
    pub(super) fn compile(
        filters: &[HttpRouteFilter],
        field: &str,
        context: &RouteContext,
        backends: &mut dyn Backends,
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let mut compiled = Self::default();
        let mut valid = true;
        let mut first: BTreeMap<Type, usize> = BTreeMap::new();
        for (at, filter) in filters.iter().enumerate() {
            let field = format!("{field}[{at}]");
            if let Some(earlier) = first.get(&filter.type_)
                && !matches!(filter.type_, Type::RequestMirror | Type::ExtensionRef)
            {
                let message =
                    format!("a {} filter stands before it (number {earlier}): keep one", filter.type_.as_str());
                findings.note(&field, Reason::IncompatibleFilters, message);
                valid = false;
                continue;
            }
            first.entry(filter.type_).or_insert(at);
            valid &= compiled.add(filter, &field, context, backends, findings);
        }
        // Envoy's redirects are made before anything is forwarded, and its CORS filter passes them over.
        if first.contains_key(&Type::RequestRedirect) {
            let others = [
                (Type::UrlRewrite, "nothing is forwarded whose URL could be rewritten"),
                (Type::RequestMirror, "nothing is forwarded that could be copied"),
                (Type::Cors, "Envoy adds no CORS headers to redirects"),
            ];
            for (other, why) in others {
                if let Some(at) = first.get(&other) {
                    let message = format!("a {} filter can not stand beside a RequestRedirect: {why}", other.as_str());
                    findings.note(format!("{field}[{at}]"), Reason::IncompatibleFilters, message);
                    valid = false;
                }
            }
        }
        valid.then_some(compiled)
    }

    /// Adds one filter; says whether it is usable.
    fn add(
        &mut self,
        filter: &HttpRouteFilter,
        field: &str,
        context: &RouteContext,
        backends: &mut dyn Backends,
        findings: &mut Findings<'_>,
    ) -> bool {
        if let Some(stranger) = strangers(filter).next() {
            let message = format!("must not be set on a filter of type {}", filter.type_.as_str());
            findings.unsupported(format!("{field}.{stranger}"), message);
            return false;
        }
        let known = match filter.type_ {
            Type::RequestHeaderModifier => filter.request_header_modifier.as_ref().map(|modifier| {
                let changes = HeaderChanges::compile(modifier, &format!("{field}.requestHeaderModifier"), findings);
                changes.map(|changes| self.request = changes).is_some()
            }),
            Type::ResponseHeaderModifier => filter.response_header_modifier.as_ref().map(|modifier| {
                let changes = HeaderChanges::compile(modifier, &format!("{field}.responseHeaderModifier"), findings);
                changes.map(|changes| self.response = changes).is_some()
            }),
            Type::RequestRedirect => filter.request_redirect.as_ref().map(|redirect| {
                self.redirect = Redirect::compile(redirect, context, &format!("{field}.requestRedirect"), findings);
                self.redirect.is_some()
            }),
            Type::UrlRewrite => filter
                .url_rewrite
                .as_ref()
                .map(|rewrite| self.add_rewrite(rewrite, &format!("{field}.urlRewrite"), findings)),
            Type::RequestMirror => filter
                .request_mirror
                .as_ref()
                .map(|mirror| self.add_mirror(mirror, &format!("{field}.requestMirror"), backends, findings)),
            Type::Cors => filter.cors.as_ref().map(|cors| {
                self.cors = compile_cors(cors, &format!("{field}.cors"), findings);
                self.cors.is_some()
            }),
            Type::ExternalAuth => {
                let message = "external authorization is not supported; requests of this rule are answered with 500";
                findings.unsupported(field, message);
                return false;
            }
            Type::ExtensionRef => {
                let message =
                    "there are no filters of this controller's own to refer to; requests are answered with 500";
                findings.unsupported(field, message);
                return false;
            }
        };
        if known.is_none() {
            let message = format!("a filter of type {} needs the field of that name", filter.type_.as_str());
            findings.unsupported(field, message);
        }
        known.unwrap_or(false)
    }

    fn add_rewrite(&mut self, rewrite: &HttpUrlRewriteFilter, field: &str, findings: &mut Findings<'_>) -> bool {
        let mut valid = true;
        if let Some(hostname) = &rewrite.hostname {
            if let Err(problem) = check_hostname(hostname) {
                findings.unsupported(format!("{field}.hostname"), format!("{hostname:?} {problem}"));
                valid = false;
            }
            self.hostname = Some(hostname.clone());
        }
        if let Some(path) = &rewrite.path {
            self.path = PathChange::compile(path, &format!("{field}.path"), findings);
            valid &= self.path.is_some();
        }
        valid
    }

    /// An unresolved backend is no reason to stop the rule: "this BackendRef is invalid and must be dropped"
    /// (HTTPRequestMirrorFilter.backendRef).
    fn add_mirror(
        &mut self,
        mirror: &HttpRequestMirrorFilter,
        field: &str,
        backends: &mut dyn Backends,
        findings: &mut Findings<'_>,
    ) -> bool {
        let target = match backends.resolve(&mirror.backend_ref, &format!("{field}.backendRef")) {
            // "must be sent only to a single destination endpoint": of several clusters, the first one.
            Ok(backend) => backend.targets.into_iter().find(|target| target.weight > 0),
            Err(problem) => {
                findings.add(problem);
                None
            }
        };
        let Some(fraction) = mirrored(mirror, field, findings) else { return false };
        if let (Some(target), Some(fraction)) = (target, fraction) {
            self.mirrors.push(RequestMirrorPolicy {
                cluster: target.cluster.to_string(),
                runtime_fraction: Some(RuntimeFractionalPercent {
                    default_value: Some(fraction),
                    ..Default::default()
                }),
                // The copy asks for what the original asks for; Envoy would put -shadow behind its host.
                disable_shadow_host_suffix_append: true,
                host_rewrite_literal: target.host_rewrite.unwrap_or_default(),
                ..Default::default()
            });
        }
        true
    }

    /// Whether some path is changed by its matched prefix.
    pub(super) fn replaces_prefix(&self) -> bool {
        matches!(self.path, Some(PathChange::Prefix(_)))
            || self.redirect.as_ref().is_some_and(Redirect::replaces_prefix)
    }

    /// The names of filters that Envoy can not apply to one of several backends.
    pub(super) fn only_for_whole_rules(&self) -> impl Iterator<Item = &'static str> {
        let present = [
            (self.redirect.is_some(), "RequestRedirect"),
            (self.path.is_some(), "URLRewrite with path"),
            (!self.mirrors.is_empty(), "RequestMirror"),
        ];
        present.into_iter().filter_map(|(present, name)| present.then_some(name))
    }

    /// These filters and, after them, those of the only backend.
    ///
    /// # Errors
    /// The name of what both of them do, or what can not follow.
    pub(super) fn then(&self, inner: &Self) -> Result<Self, &'static str> {
        if inner.path.is_some() && self.path.is_some() {
            return Err("the rule itself rewrites the path");
        }
        if inner.redirect.is_some() && (self.path.is_some() || self.hostname.is_some()) {
            return Err("the rule itself rewrites the URL");
        }
        if inner.redirect.is_some() && (!self.mirrors.is_empty() || self.cors.is_some()) {
            return Err("the rule itself has a RequestMirror or a CORS filter, which need a request that is forwarded");
        }
        Ok(Self {
            request: self.request.then(&inner.request),
            response: self.response.then(&inner.response),
            redirect: inner.redirect.clone(),
            hostname: inner.hostname.clone().or_else(|| self.hostname.clone()),
            path: inner.path.clone().or_else(|| self.path.clone()),
            mirrors: self.mirrors.iter().chain(&inner.mirrors).cloned().collect(),
            cors: inner.cors.clone().or_else(|| self.cors.clone()),
        })
    }
}

/// The fields that are set although they belong to another type.
fn strangers(filter: &HttpRouteFilter) -> impl Iterator<Item = &'static str> {
    let present = [
        (filter.request_header_modifier.is_some(), Type::RequestHeaderModifier, "requestHeaderModifier"),
        (filter.response_header_modifier.is_some(), Type::ResponseHeaderModifier, "responseHeaderModifier"),
        (filter.request_mirror.is_some(), Type::RequestMirror, "requestMirror"),
        (filter.request_redirect.is_some(), Type::RequestRedirect, "requestRedirect"),
        (filter.url_rewrite.is_some(), Type::UrlRewrite, "urlRewrite"),
        (filter.cors.is_some(), Type::Cors, "cors"),
        (filter.external_auth.is_some(), Type::ExternalAuth, "externalAuth"),
        (filter.extension_ref.is_some(), Type::ExtensionRef, "extensionRef"),
    ];
    let type_ = filter.type_;
    present.into_iter().filter(move |(present, owner, _)| *present && *owner != type_).map(|(_, _, name)| name)
}

/// Which part of the requests is copied: nothing inside for none of them, nothing at all when it is wrong.
///
/// Envoy counts in hundreds, ten thousands or millions; what fits none of them is rounded to millionths, and never to
/// nothing.
fn mirrored(
    mirror: &HttpRequestMirrorFilter,
    field: &str,
    findings: &mut Findings<'_>,
) -> Option<Option<FractionalPercent>> {
    let (numerator, denominator) = match (mirror.percent, mirror.fraction) {
        (None, None) => (100, 100),
        (Some(percent), None) if percent <= 100 => (percent, 100),
        (Some(_), None) => {
            findings.unsupported(format!("{field}.percent"), "must be from 0 to 100");
            return None;
        }
        (None, Some(part)) if part.denominator > 0 && part.numerator <= part.denominator => {
            (part.numerator, part.denominator)
        }
        (None, Some(_)) => {
            findings.unsupported(
                format!("{field}.fraction"),
                "the numerator must not be above the denominator, nor that 0",
            );
            return None;
        }
        (Some(_), Some(_)) => {
            findings.unsupported(format!("{field}.fraction"), "must not be set beside percent: keep one of them");
            return None;
        }
    };
    if numerator == 0 {
        return Some(None);
    }
    let (numerator, denominator) = (u64::from(numerator), u64::from(denominator));
    let scales = [
        (100, DenominatorType::Hundred),
        (10_000, DenominatorType::TenThousand),
        (1_000_000, DenominatorType::Million),
    ];
    let exact = scales.into_iter().find(|(scale, _)| (numerator * scale).is_multiple_of(denominator));
    let (scale, type_) = exact.unwrap_or((1_000_000, DenominatorType::Million));
    let numerator = (numerator * scale / denominator).max(1);
    let numerator = u32::try_from(numerator).expect("a part of at most a million");
    Some(Some(FractionalPercent { numerator, denominator: type_ as i32 }))
}
