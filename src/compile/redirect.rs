//! The RequestRedirect filter. Never decides which requests are redirected.

use tailscale_gateway_proto::envoy::{
    config::route::v3::{
        RedirectAction,
        redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
    },
    r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher},
};

use super::{
    findings::Findings,
    route::RouteContext,
    url::{EnvoyPathChange, PathChange, check_hostname},
};
use crate::api::{HttpRequestRedirectFilter, RedirectScheme};

/// A redirect, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Redirect {
    action: RedirectAction,
    path: Option<PathChange>,
}

impl Redirect {
    /// Checks a filter. Notes what is wrong and gives nothing then.
    pub(super) fn compile(
        filter: &HttpRequestRedirectFilter,
        context: &RouteContext,
        field: &str,
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let mut valid = true;
        if let Some(hostname) = &filter.hostname
            && let Err(problem) = check_hostname(hostname)
        {
            findings.unsupported(format!("{field}.hostname"), format!("{hostname:?} {problem}"));
            valid = false;
        }
        if filter.port == Some(0) {
            findings.unsupported(format!("{field}.port"), "must be a port from 1 to 65535");
            valid = false;
        }
        let code = match filter.status_code {
            301 => RedirectResponseCode::MovedPermanently,
            302 => RedirectResponseCode::Found,
            303 => RedirectResponseCode::SeeOther,
            307 => RedirectResponseCode::TemporaryRedirect,
            308 => RedirectResponseCode::PermanentRedirect,
            other => {
                let message = format!("{other} is no code for a redirect: use 301, 302, 303, 307 or 308");
                findings.unsupported(format!("{field}.statusCode"), message);
                return None;
            }
        };
        let path = match &filter.path {
            Some(modifier) => Some(PathChange::compile(modifier, &format!("{field}.path"), findings)?),
            None => None,
        };
        let action = RedirectAction {
            host_redirect: filter.hostname.clone().unwrap_or_default(),
            port_redirect: u32::from(port_redirect(filter, context)),
            response_code: code as i32,
            scheme_rewrite_specifier: filter
                .scheme
                .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.as_str().into())),
            ..Default::default()
        };
        valid.then_some(Self { action, path })
    }

    /// Whether it replaces the prefix that was matched.
    pub(super) fn replaces_prefix(&self) -> bool {
        matches!(self.path, Some(PathChange::Prefix(_)))
    }

    /// The action for requests that were matched by `prefix`, if it is one.
    pub(super) fn for_match(&self, prefix: Option<&str>) -> RedirectAction {
        let path = match self.path.as_ref().map(|path| path.for_match(prefix)) {
            None | Some(EnvoyPathChange::None) => None,
            Some(EnvoyPathChange::Full(path)) => Some(PathRewriteSpecifier::PathRedirect(path)),
            Some(EnvoyPathChange::Prefix(new)) => Some(PathRewriteSpecifier::PrefixRewrite(new)),
            Some(EnvoyPathChange::Regex { pattern, substitution }) => {
                Some(PathRewriteSpecifier::RegexRewrite(RegexMatchAndSubstitute {
                    pattern: Some(RegexMatcher { regex: pattern, engine_type: None }),
                    substitution,
                }))
            }
        };
        RedirectAction { path_rewrite_specifier: path, ..self.action.clone() }
    }
}

/// The port that Envoy has to write into the `Location`; 0 for none beyond what the request's `Host` has.
///
/// HTTPRequestRedirectFilter.port: without a port, a given scheme implies its well-known port, and no scheme the listener's
/// port; and a well-known port should not be written. Envoy writes every port it is told, and without one it keeps the port
/// in the `Host` header, which clients leave out exactly if the listener has the well-known port of its scheme.
fn port_redirect(filter: &HttpRequestRedirectFilter, context: &RouteContext) -> u16 {
    let own_scheme = if context.scheme_https { RedirectScheme::Https } else { RedirectScheme::Http };
    let port = filter.port.unwrap_or_else(|| filter.scheme.map_or(context.port, well_known));
    let host_has_no_port = filter.hostname.is_some() || context.port == well_known(own_scheme);
    if port == well_known(filter.scheme.unwrap_or(own_scheme)) && host_has_no_port { 0 } else { port }
}

fn well_known(scheme: RedirectScheme) -> u16 {
    match scheme {
        RedirectScheme::Http => 80,
        RedirectScheme::Https => 443,
    }
}
