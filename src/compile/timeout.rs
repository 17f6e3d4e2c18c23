//! How long a request may take. Never decides what happens afterwards: Envoy answers 504.

use std::time::Duration;

use tailscale_gateway_proto::google::protobuf;

use super::findings::Findings;
use crate::api::{self, HttpRouteTimeouts};

/// How long Envoy's connection managers let a stream be silent when nobody says otherwise
/// (`HttpConnectionManager.stream_idle_timeout`).
const DEFAULT_IDLE: Duration = Duration::from_secs(5 * 60);

/// A little more than GEP-2257 can express (four times `99999h`), and far below what Envoy can count.
const LONGEST: Duration = Duration::from_secs(400_000 * 3600);

/// The timeouts of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    /// `timeout`: zero for none. Envoy's own default, 15 seconds, is never left standing.
    pub(super) whole: protobuf::Duration,
    /// `idle_timeout`, where the connection manager's would be in the way.
    pub(super) idle: Option<protobuf::Duration>,
}

/// The timeouts of a rule. Notes what is wrong and gives nothing then.
///
/// There is one attempt at a backend for each request, so the smaller one of `request` and `backendRequest` counts. A
/// stream that may be silent for longer than the connection manager's limit is given its own: a rule with a long timeout
/// waits as long, and one with an explicit `0s` has no limit at all.
pub(super) fn compile_timeouts(
    timeouts: Option<&HttpRouteTimeouts>,
    field: &str,
    findings: &mut Findings<'_>,
) -> Option<Timeouts> {
    let Some(timeouts) = timeouts else {
        return Some(Timeouts { whole: envoy(Duration::ZERO), idle: None });
    };
    let request = check(timeouts.request.as_ref(), &format!("{field}.request"), findings);
    let backend = check(timeouts.backend_request.as_ref(), &format!("{field}.backendRequest"), findings);
    let (request, backend) = (request?, backend?);
    if let (Some(request), Some(backend)) = (request, backend)
        && !request.is_zero()
        && backend > request
    {
        let message =
            "must not be longer than request, which covers the whole of it: make one longer or the other shorter";
        findings.unsupported(format!("{field}.backendRequest"), message);
        return None;
    }
    let limit = [request, backend].into_iter().flatten().filter(|limit| !limit.is_zero()).min();
    let idle = match limit {
        Some(limit) if limit > DEFAULT_IDLE => Some(limit),
        Some(_) => None,
        None => request.or(backend),
    };
    Some(Timeouts { whole: envoy(limit.unwrap_or_default()), idle: idle.map(envoy) })
}

/// What a field says; nothing inside when it is not set, nothing at all when it is wrong.
fn check(duration: Option<&api::Duration>, field: &str, findings: &mut Findings<'_>) -> Option<Option<Duration>> {
    let Some(text) = duration else { return Some(None) };
    let duration = text.as_std();
    if duration > LONGEST || !duration.subsec_nanos().is_multiple_of(1_000_000) {
        findings.unsupported(
            field,
            format!("{text} must be a duration of whole milliseconds, such as 10s or 500ms, and at most 399996h"),
        );
        return None;
    }
    Some(Some(duration))
}

fn envoy(duration: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).expect("bounded by LONGEST"),
        nanos: i32::try_from(duration.subsec_nanos()).expect("less than a second"),
    }
}
