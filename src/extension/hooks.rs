//! The six hooks: the request of each, changed into its response. What is not changed leaves as it came, byte for byte.
//!
//! Never decodes a message: xDS fields travel as bytes, since an Envoy Gateway newer than our copy of Envoy's API sends fields
//! that we do not know (`envoy-gateway.md` §1.10). Equal requests and equal [`Hosted`] give equal responses, on every replica.

use bytes::Bytes;

use super::{
    cluster,
    likely::Likely,
    route::edit_route,
    splice::{Edits, Field, Malformed, fields},
    translate, virtual_host,
};
use crate::{
    model::{GatewayRevision, ObjectName},
    snapshot::{Hosted, HostedGateway, HostedRule},
};

/// What an Envoy Gateway asks at one moment of its translation (`envoy-gateway.md` §1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// A route of an HTTPRoute or GRPCRoute that refers to resources of ours.
    Route,
    /// A virtual host.
    VirtualHost,
    /// A listener.
    HttpListener,
    /// A cluster of a rule with backends of ours.
    Cluster,
    /// The endpoints of a cluster.
    Endpoints,
    /// All resources of a Gateway, at the end.
    Translate,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Hook; 6] =
        [Hook::Route, Hook::VirtualHost, Hook::HttpListener, Hook::Cluster, Hook::Endpoints, Hook::Translate];

    /// The name of the gRPC method.
    pub fn method(self) -> &'static str {
        match self {
            Hook::Route => "PostRouteModify",
            Hook::VirtualHost => "PostVirtualHostModify",
            Hook::HttpListener => "PostHTTPListenerModify",
            Hook::Cluster => "PostClusterModify",
            Hook::Endpoints => "PostEndpointsModify",
            Hook::Translate => "PostTranslateModify",
        }
    }

    /// The word for it in the configuration of an Envoy Gateway, in metrics and on the admin page.
    pub fn label(self) -> &'static str {
        match self {
            Hook::Route => "Route",
            Hook::VirtualHost => "VirtualHost",
            Hook::HttpListener => "HTTPListener",
            Hook::Cluster => "Cluster",
            Hook::Endpoints => "Endpoints",
            Hook::Translate => "Translation",
        }
    }
}

/// The gRPC service with all hooks.
pub const SERVICE: &str = "envoygateway.extension.EnvoyGatewayExtension";

/// The answer to a call.
#[derive(Debug)]
pub struct Answer {
    /// What makes the response out of the request.
    pub edits: Edits,
    /// What became of the request.
    pub outcome: Outcome,
    /// The hosted Gateways that the request is about, by name; none when that did not matter.
    pub gateways: Vec<ObjectName>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many resources were changed, added or replaced; none is an echo.
    Done {
        /// How many.
        changed: usize,
    },
    /// The caller's patience ended; the input goes back as it came.
    OutOfTime,
    /// A resource in it is malformed; the input goes back as it came.
    Unreadable(Malformed),
}

/// Answers a call. `stop` is asked now and then; once it says yes, the answer is an echo.
///
/// # Errors
/// The request itself is not a protobuf message, so that there is nothing to send back.
pub fn answer(hook: Hook, request: &[u8], hosted: &Hosted, stop: &dyn Fn() -> bool) -> Result<Answer, Malformed> {
    if hosted.is_empty() || matches!(hook, Hook::HttpListener | Hook::Endpoints) {
        let edits = reply(hook, request)?;
        return Ok(Answer { edits, outcome: Outcome::Done { changed: 0 }, gateways: Vec::new() });
    }
    // A translation is large: it is gone through once for both, and most of it is none of ours.
    let (edits, rules) = match hook {
        Hook::Translate => (Edits::default(), Likely::of(&hosted.rule_clusters().collect::<Vec<_>>())),
        _ => (reply(hook, request)?, Likely::any()),
    };
    let mut editor = Editor { bytes: request, hosted, rules, stop, edits, changed: 0, gateways: Vec::new() };
    let done = match hook {
        Hook::Translate => translate::translate(&mut editor),
        _ => single(hook, &mut editor),
    };
    let Editor { edits, changed, gateways, .. } = editor;
    let (edits, outcome) = match done {
        Ok(()) => (edits, Outcome::Done { changed }),
        // Nothing of what was noted so far is done.
        Err(Stopped::OutOfTime) => (reply(hook, request)?, Outcome::OutOfTime),
        Err(Stopped::Malformed(at)) => (reply(hook, request)?, Outcome::Unreadable(at)),
    };
    Ok(Answer { edits, outcome, gateways })
}

/// The Gateways of which whoever asks has seen a revision that is not known here: another replica has compiled what this one
/// has not, and made an Envoy Gateway ask for it. It would not ask again for what it is told now.
pub fn behind(hook: Hook, request: &[u8], hosted: &Hosted) -> Vec<(ObjectName, GatewayRevision)> {
    if hook != Hook::Translate {
        return Vec::new();
    }
    let seen = translate::revisions(request).into_iter();
    seen.filter(|(gateway, revision)| hosted.is_behind(gateway, revision)).collect()
}

/// The answer that changes nothing.
///
/// # Errors
/// The request is not a protobuf message.
pub fn echo(hook: Hook, request: &[u8]) -> Result<Edits, Malformed> {
    reply(hook, request)
}

/// The request's resources as fields of the response: contexts are left out, and numbers of `PostTranslateModify` are one less.
fn reply(hook: Hook, request: &[u8]) -> Result<Edits, Malformed> {
    let mut edits = Edits::default();
    for field in fields(request, 0..request.len()) {
        take_over(hook, &field?, &mut edits);
    }
    Ok(edits)
}

/// Makes a field of the response out of one of the request, or leaves it out.
#[inline]
pub(super) fn take_over(hook: Hook, field: &Field, edits: &mut Edits) {
    match (hook, field.number) {
        (Hook::Translate, number @ 2..=5) if field.is(number) => edits.renumber(field, number as u8 - 1),
        (Hook::Translate, _) => edits.remove(field),
        (_, 1) => {}
        _ => edits.remove(field),
    }
}

/// A hook for one object, which is field 1 of both messages. One that comes in several parts, as protobuf allows, is left alone.
fn single(hook: Hook, editor: &mut Editor<'_>) -> Result<(), Stopped> {
    let mut object = None;
    for field in fields(editor.bytes, 0..editor.bytes.len()) {
        let field = field?;
        if field.is(1) && object.replace(field).is_some() {
            return Ok(());
        }
    }
    let Some(object) = object else { return Ok(()) };
    match hook {
        Hook::Route => edit_route(editor, &object),
        Hook::VirtualHost => virtual_host::edit_single(editor, &object),
        _ => cluster::edit_single(editor, &object),
    }
}

/// A call that is being answered.
pub(super) struct Editor<'a> {
    /// The request.
    pub(super) bytes: &'a [u8],
    pub(super) hosted: &'a Hosted,
    /// What the clusters of rules are called.
    pub(super) rules: Likely,
    stop: &'a dyn Fn() -> bool,
    pub(super) edits: Edits,
    /// How many resources were changed or added.
    pub(super) changed: usize,
    /// The Gateways that the call turned out to be about.
    pub(super) gateways: Vec<ObjectName>,
}

/// Why an answer is an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    OutOfTime,
    Malformed(Malformed),
}

impl From<Malformed> for Stopped {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl<'a> Editor<'a> {
    /// Ends the work when the caller's patience has.
    pub(super) fn go_on(&self) -> Result<(), Stopped> {
        if (self.stop)() { Err(Stopped::OutOfTime) } else { Ok(()) }
    }

    /// Notes changes inside a field.
    pub(super) fn within(
        &mut self,
        field: &Field,
        inner: impl FnOnce(&mut Self) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let mark = self.edits.open();
        inner(self)?;
        self.edits.close(mark, field);
        Ok(())
    }

    /// The Gateway whose cluster a rule gets: one that the call is about, else one of the route's.
    pub(super) fn gateway_for(&self, rule: &HostedRule, of_call: &Gateways<'a>) -> Option<&'a HostedGateway> {
        let hosted = self.hosted;
        let here = rule.gateways.iter().find(|name| of_call.contains_key(name)).or_else(|| rule.gateways.first())?;
        hosted.gateway(here).map(|gateway| &**gateway)
    }
}

/// The Gateways that a call is about.
pub(super) type Gateways<'a> = std::collections::BTreeMap<&'a ObjectName, &'a HostedGateway>;

/// Field `auto_host_rewrite` of `envoy.config.route.v3.RouteAction`, set.
pub(super) const AUTO_HOST_REWRITE: Bytes = Bytes::from_static(&[7 << 3 | 2, 2, 1 << 3, 1]);
