//! What is counted of the extension server, by hook.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Unit,
};

use super::{Register, ResultLabel, durations, sizes};

/// The counters and times.
pub(super) struct ExtensionMetrics {
    calls: Family<CallLabels, Counter>,
    duration: Family<HookLabel, Histogram, fn() -> Histogram>,
    request: Family<HookLabel, Histogram, fn() -> Histogram>,
    response: Family<HookLabel, Histogram, fn() -> Histogram>,
    changed: Family<HookLabel, Counter>,
    failed: Family<HookLabel, Gauge>,
    revisions: Family<ResultLabel, Counter>,
}

/// A call to the extension server.
#[derive(Clone, Copy, Debug)]
pub struct ExtensionCall {
    /// The hook, from the closed list of an Envoy Gateway's.
    pub hook: &'static str,
    /// `changed`, `echo`, or why it is an echo out of need or an error: `out_of_time`, `unreadable`, `panic`, `refused`.
    pub result: &'static str,
    /// The size of the request.
    pub bytes_in: usize,
    /// The size of the response.
    pub bytes_out: usize,
    /// How many resources were changed or added.
    pub changed: usize,
    /// From the whole request to the whole response.
    pub took: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    hook: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HookLabel {
    hook: &'static str,
}

impl ExtensionMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Self {
        Self {
            calls: register.plain("extension_calls", "Calls of Envoy Gateways, by what became of them"),
            duration: register.with(
                "extension_call_duration",
                "From the whole request of a call to the whole response",
                Unit::Seconds,
                Family::new_with_constructor(durations as fn() -> _),
            ),
            request: register.with(
                "extension_request",
                "The size of requests of Envoy Gateways",
                Unit::Bytes,
                Family::new_with_constructor(sizes as fn() -> _),
            ),
            response: register.with(
                "extension_response",
                "The size of responses to Envoy Gateways",
                Unit::Bytes,
                Family::new_with_constructor(sizes as fn() -> _),
            ),
            changed: register.plain("extension_changed_resources", "Resources that hooks changed or added"),
            failed: register.with(
                "extension_last_failure_time",
                "When a call was last not answered as it should be, since 1970",
                Unit::Seconds,
                Family::default(),
            ),
            revisions: register.plain(
                "extension_revisions",
                "Objects that were changed so that an Envoy Gateway translates again, and attempts that failed",
            ),
        }
    }

    pub(super) fn revision(&self, result: &'static str) {
        self.revisions.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn call(&self, call: &ExtensionCall) {
        let ExtensionCall { hook, result, bytes_in, bytes_out, changed, took } = *call;
        let label = HookLabel { hook };
        self.calls.get_or_create(&CallLabels { hook, result }).inc();
        self.duration.get_or_create(&label).observe(took.as_secs_f64());
        self.request.get_or_create(&label).observe(bytes_in as f64);
        self.response.get_or_create(&label).observe(bytes_out as f64);
        self.changed.get_or_create(&label).inc_by(changed as u64);
        if !matches!(result, "echo" | "changed") {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.failed.get_or_create(&label).set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        }
    }
}
