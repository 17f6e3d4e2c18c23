//! What is counted and timed, for Prometheus (`xds.md` §7.4). Every name begins with `tailscale_gateway_`, but for the two
//! `process_` gauges that every exporter has.
//!
//! Never carries a label that a client or a manifest can make up: labels are closed lists of ours and Gateways' names, and
//! a Gateway's gauge goes away with its last stream.

mod extension;

use std::{
    fmt,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, MetricEncoder, text,
    },
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

pub use self::extension::ExtensionCall;
use self::extension::ExtensionMetrics;
use crate::{
    model::{Kind, ObjectName, OwnedKind, Reason},
    snapshot::{SnapshotCache, TypeUrl, steps_shared_and_made},
};

/// All metrics of the process. Methods take what happened; none blocks for longer than it takes to add a number.
pub struct Metrics {
    registry: Registry,
    streams: Family<StreamLabels, Gauge>,
    requests: Family<TypeLabel, Counter>,
    responses: Family<ResponseLabels, Counter>,
    response_bytes: Family<TypeLabel, Histogram, fn() -> Histogram>,
    ack_latency: Family<TypeLabel, Histogram, fn() -> Histogram>,
    convergence: Family<GatewayLabel, Histogram, fn() -> Histogram>,
    commit_to_send: Histogram,
    nacks: Family<NackLabels, Counter>,
    parked: Family<TypeLabel, Gauge>,
    stale_nonces: Counter,
    unknown_subscriptions: Counter,
    barrier_wait: Family<BarrierLabels, Histogram, fn() -> Histogram>,
    pending_removals: Gauge,
    slow_streams_closed: Counter,
    handshake_failures: Family<ReasonLabel, Counter>,
    denied: Family<ReasonLabel, Counter>,
    expired_connections: Counter,
    tls_reloads: Family<ResultLabel, Counter>,
    server_certificate_expiry: Gauge,
    certificates_issued: Family<CertificateLabel, Counter>,
    coalesced_commits: Counter,
    irv_matched: Counter,
    irv_resent: Counter,
    event_to_commit: Histogram,
    debounce_wait: Histogram,
    translate_duration: Family<UnitLabel, Histogram, fn() -> Histogram>,
    translate_units: Family<UnitLabel, Counter>,
    problems: Family<ReasonLabel, Gauge>,
    status_writes: Family<WriteLabels, Counter>,
    kinds: Family<KindLabels, Gauge>,
    provision_writes: Family<WriteLabels, Counter>,
    extension: ExtensionMetrics,
    /// Says which Gateways there are.
    cache: Arc<SnapshotCache>,
}

impl Metrics {
    /// The metrics of this process, at zero. The sizes of the views in `cache` are read when the page is.
    pub fn new(cache: Arc<SnapshotCache>) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process { started: started.as_secs_f64() }));
        let ours = registry.sub_registry_with_prefix("tailscale_gateway");
        ours.register("build", "The program that runs", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        ours.register_collector(Box::new(Views(Arc::clone(&cache))));
        let mut register = Register(ours);
        let mut metrics = Self {
            streams: register.plain("xds_streams", "Streams that are open"),
            requests: register.plain("xds_requests", "Requests that were read"),
            responses: register.plain("xds_responses", "Responses that were sent, by what made them necessary"),
            response_bytes: register.with(
                "xds_response",
                "The size of responses",
                Unit::Bytes,
                Family::new_with_constructor(sizes as fn() -> _),
            ),
            ack_latency: register.with(
                "xds_ack_latency",
                "From sending a response to its acknowledgement: what Envoy takes to digest it",
                Unit::Seconds,
                Family::new_with_constructor(durations as fn() -> _),
            ),
            convergence: register.with(
                "xds_convergence",
                "From a new snapshot to the moment at which an Envoy has acknowledged all it needs of it",
                Unit::Seconds,
                Family::new_with_constructor(durations as fn() -> _),
            ),
            commit_to_send: register.with(
                "xds_commit_to_send",
                "From a stream's news of a snapshot to the first response made from it",
                Unit::Seconds,
                durations(),
            ),
            nacks: register.plain("xds_nacks", "Responses that an Envoy refused"),
            parked: register.plain("xds_parked_resources", "Resources held back from a stream that refused them"),
            stale_nonces: register.plain("xds_stale_nonce", "Requests with a nonce that is not the newest"),
            unknown_subscriptions: register
                .plain("xds_unknown_subscription", "Subscriptions to types that are not served"),
            barrier_wait: register.with(
                "xds_barrier_wait",
                "How long a resource waited for an acknowledgement of what it depends on",
                Unit::Seconds,
                Family::new_with_constructor(durations as fn() -> _),
            ),
            pending_removals: register.plain(
                "xds_pending_removals",
                "Resources that are withdrawn once nothing at the client refers to them",
            ),
            slow_streams_closed: register
                .plain("xds_slow_stream_closed", "Connections closed because a stream did not take what was sent"),
            handshake_failures: register.plain("xds_tls_handshake_failures", "TLS handshakes that failed, by reason"),
            denied: register
                .plain("xds_denied", "Requests of clients whose certificate does not allow them, by reason"),
            expired_connections: register.plain(
                "xds_expired_connections",
                "Connections ended because the client's certificate had expired meanwhile",
            ),
            tls_reloads: register.plain(
                "xds_tls_reloads",
                "Replacements of the files with the xDS port's certificate, by whether they could be used",
            ),
            server_certificate_expiry: register.plain(
                "xds_server_certificate_expiry_timestamp_seconds",
                "When the certificate expires that the xDS port shows, in seconds since 1970; 0 when it shows none",
            ),
            certificates_issued: register
                .plain("xds_certificates_issued", "Certificates that this replica has made, by whose they are"),
            coalesced_commits: register
                .plain("xds_coalesced_commits", "Snapshots that a stream skipped because a newer one was there"),
            irv_matched: register.plain(
                "xds_irv_matched",
                "Resources that a reconnecting client held already, in their current version",
            ),
            irv_resent: register
                .plain("xds_irv_resent", "Resources that a reconnecting client held in another version"),
            event_to_commit: register.with(
                "xds_event_to_commit",
                "From the first event of a batch to its snapshot",
                Unit::Seconds,
                durations(),
            ),
            debounce_wait: register.with(
                "debounce_wait",
                "How long events were gathered before they were compiled",
                Unit::Seconds,
                durations(),
            ),
            translate_duration: register.with(
                "translate_duration",
                "How long it took to compile a batch, by kind of output",
                Unit::Seconds,
                Family::new_with_constructor(durations as fn() -> _),
            ),
            translate_units: register.plain("translate_units", "Outputs that were made, by kind"),
            problems: register.plain("problems", "Problems in the objects that are read, by reason"),
            status_writes: register.plain("status_writes", "Writes of statuses to the API server"),
            kinds: register.plain("source_kinds", "1 for the state in which the watch of a kind is"),
            provision_writes: register.plain("provision_writes", "Writes of objects that are created for Gateways"),
            extension: ExtensionMetrics::new(&mut register),
            cache,
            registry: Registry::default(),
        };
        metrics.registry = registry;
        metrics
    }

    /// The page that Prometheus reads, in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("writing to a String does not fail");
        page
    }

    /// The media type of [`Metrics::render`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// A stream was opened; `protocol` is `sotw` or `delta`.
    pub fn stream_opened(&self, protocol: &'static str, gateway: &ObjectName) {
        self.streams.get_or_create(&StreamLabels::new(protocol, gateway)).inc();
    }

    /// A stream ended.
    pub fn stream_closed(&self, protocol: &'static str, gateway: &ObjectName) {
        let labels = StreamLabels::new(protocol, gateway);
        let left = self.streams.get_or_create(&labels).dec() - 1;
        if left == 0 {
            // A stream that opens between these two lines is not counted until the next one does: the price of not
            // keeping a label for every name that a client has ever claimed.
            self.streams.remove(&labels);
        }
    }

    /// A request was read.
    pub fn request(&self, of: TypeUrl) {
        self.requests.get_or_create(&TypeLabel::new(of)).inc();
    }

    /// A response was handed to the transport; `kind` says what made it necessary.
    pub fn response(&self, of: TypeUrl, kind: &'static str, bytes: usize) {
        self.responses.get_or_create(&ResponseLabels { r#type: of.label(), kind }).inc();
        self.response_bytes.get_or_create(&TypeLabel::new(of)).observe(bytes as f64);
    }

    /// A response was acknowledged so long after it was sent.
    pub fn acked(&self, of: TypeUrl, after: Duration) {
        self.ack_latency.get_or_create(&TypeLabel::new(of)).observe(after.as_secs_f64());
    }

    /// A response was refused.
    pub fn nacked(&self, of: TypeUrl, gateway: &ObjectName) {
        self.nacks.get_or_create(&NackLabels { r#type: of.label(), gateway: self.label(gateway) }).inc();
    }

    /// An Envoy has acknowledged all it needs of a snapshot, so long after the snapshot was published.
    pub fn converged(&self, gateway: &ObjectName, after: Duration) {
        self.convergence.get_or_create(&GatewayLabel { gateway: self.label(gateway) }).observe(after.as_secs_f64());
    }

    /// The label for a Gateway that a client has named: one for all that do not exist, lest there be one for every name that a
    /// client comes up with.
    fn label(&self, gateway: &ObjectName) -> Gateway {
        Gateway(if self.cache.is_served(gateway) { gateway.clone() } else { ObjectName::new("", "unknown") })
    }

    /// The first response made from a snapshot left, so long after the stream learnt of the snapshot.
    pub fn sent_after_commit(&self, after: Duration) {
        self.commit_to_send.observe(after.as_secs_f64());
    }

    /// How many resources of a type are held back from streams that refused them now.
    pub fn parked(&self, of: TypeUrl, count: usize) {
        self.parked.get_or_create(&TypeLabel::new(of)).set(whole(count));
    }

    /// A request came with a nonce that is not the newest of its type.
    pub fn stale_nonce(&self) {
        self.stale_nonces.inc();
    }

    /// A client subscribed to a type that is not served.
    pub fn unknown_subscription(&self) {
        self.unknown_subscriptions.inc();
    }

    /// Something waited for an acknowledgement of what it depends on: `kind` is `cds_ack` or `rds_ack`, `result` is `ok` or
    /// `timeout`.
    pub fn barrier_passed(&self, kind: &'static str, result: &'static str, after: Duration) {
        self.barrier_wait.get_or_create(&BarrierLabels { kind, result }).observe(after.as_secs_f64());
    }

    /// How many resources wait to be withdrawn now.
    pub fn pending_removals(&self, count: usize) {
        self.pending_removals.set(whole(count));
    }

    /// A connection was closed because a stream on it made no progress.
    pub fn slow_stream_closed(&self) {
        self.slow_streams_closed.inc();
    }

    /// A TLS handshake failed; `reason` is one of a closed list.
    pub fn tls_handshake_failed(&self, reason: &'static str) {
        self.handshake_failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A client asked for what its certificate does not allow; `reason` is one of a closed list.
    pub fn denied(&self, reason: &'static str) {
        self.denied.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A connection was ended because the client's certificate had expired meanwhile.
    pub fn connection_expired(&self) {
        self.expired_connections.inc();
    }

    /// The files with the xDS port's certificate were replaced, by what can be used or by what can not.
    pub fn tls_reloaded(&self, usable: bool) {
        self.tls_reloads.get_or_create(&ResultLabel { result: if usable { "ok" } else { "error" } }).inc();
    }

    /// The xDS port shows a certificate that expires then, in seconds since 1970.
    pub fn server_certificate_expires(&self, at: i64) {
        self.server_certificate_expiry.set(at);
    }

    /// A certificate was made: for a `server`, a `client`, or an `authority`.
    pub fn certificate_issued(&self, of: &'static str) {
        self.certificates_issued.get_or_create(&CertificateLabel { of }).inc();
    }

    /// A stream skipped so many snapshots, because newer ones were there when it could be told.
    pub fn coalesced_commits(&self, skipped: u64) {
        self.coalesced_commits.inc_by(skipped);
    }

    /// A client reconnected: so many of the resources it named are current, and so many are not.
    pub fn reconnected(&self, matched: u64, resent: u64) {
        self.irv_matched.inc_by(matched);
        self.irv_resent.inc_by(resent);
    }

    /// A batch of events became a snapshot, so long after its first event.
    pub fn committed(&self, after_first_event: Duration) {
        self.event_to_commit.observe(after_first_event.as_secs_f64());
    }

    /// Events were gathered for so long before they were compiled.
    pub fn debounced(&self, waited: Duration) {
        self.debounce_wait.observe(waited.as_secs_f64());
    }

    /// Compiling made so many outputs of a kind in so long; `unit` names the kind from a closed list of the compiler's.
    pub fn translated(&self, unit: &'static str, outputs: u64, took: Duration) {
        self.translate_units.get_or_create(&UnitLabel { unit }).inc_by(outputs);
        self.translate_duration.get_or_create(&UnitLabel { unit }).observe(took.as_secs_f64());
    }

    /// The object by which an Envoy Gateway notices that it has to translate again was `written` or `removed`, or that `failed`.
    pub fn revision(&self, result: &'static str) {
        self.extension.revision(result);
    }

    /// A call to the extension server was answered.
    pub fn extension_call(&self, call: &ExtensionCall) {
        self.extension.call(call);
    }

    /// How many problems there are with a reason now.
    pub fn problems(&self, reason: Reason, count: usize) {
        self.problems.get_or_create(&ReasonLabel { reason: reason.as_str() }).set(whole(count));
    }

    /// The watch of a kind is in this state, one of a closed list.
    pub fn kind_state(&self, kind: Kind, state: &'static str) {
        let labels = KindLabels { kind: kind.as_str(), state };
        if self.kinds.get(&labels).is_some_and(|gauge| gauge.get() == 1) {
            return;
        }
        for other in ["waiting", "watching", "not_installed", "forbidden", "failing"] {
            self.kinds.remove(&KindLabels { kind: kind.as_str(), state: other });
        }
        self.kinds.get_or_create(&labels).set(1);
    }

    /// An object of this kind that is created for Gateways was written or (`false`) could not be.
    pub fn provisioned(&self, kind: OwnedKind, done: bool) {
        let labels = WriteLabels { kind: kind.as_str(), result: if done { "ok" } else { "failed" } };
        self.provision_writes.get_or_create(&labels).inc();
    }

    /// A status of an object of this kind was written, or (`false`) could not be.
    pub fn status_written(&self, kind: Kind, done: bool) {
        let labels = WriteLabels { kind: kind.as_str(), result: if done { "ok" } else { "failed" } };
        self.status_writes.get_or_create(&labels).inc();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// 50 µs to about 100 s, by a factor of 2.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.00005, 2.0, 22))
}

/// 64 B to 64 MiB, by a factor of 4.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(64.0, 4.0, 11))
}

/// Registers a metric and gives it back.
struct Register<'a>(&'a mut Registry);

impl Register<'_> {
    fn plain<M>(&mut self, name: &str, help: &str) -> M
    where
        M: prometheus_client::registry::Metric + Clone + Default,
    {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn with<M>(&mut self, name: &str, help: &str, unit: Unit, metric: M) -> M
    where
        M: prometheus_client::registry::Metric + Clone,
    {
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    protocol: &'static str,
    gateway: Gateway,
}

impl StreamLabels {
    fn new(protocol: &'static str, gateway: &ObjectName) -> Self {
        Self { protocol, gateway: Gateway(gateway.clone()) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

impl TypeLabel {
    fn new(of: TypeUrl) -> Self {
        Self { r#type: of.label() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    r#type: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NackLabels {
    r#type: &'static str,
    gateway: Gateway,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GatewayLabel {
    gateway: Gateway,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BarrierLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnitLabel {
    unit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabel {
    of: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ViewLabels {
    gateway: Gateway,
    r#type: &'static str,
}

/// A Gateway's name as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Gateway(ObjectName);

impl EncodeLabelValue for Gateway {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        write!(encoder, "{}", self.0)
    }
}

/// The sizes of all views, read from the cache when the page is.
struct Views(Arc<SnapshotCache>);

impl Views {
    fn encode_as(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        measure: fn(&crate::snapshot::TypeView) -> usize,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for gateway in self.0.gateways() {
            let snapshot = self.0.current(&gateway);
            for of in TypeUrl::ALL {
                let view = snapshot.view(of);
                if !view.is_empty() {
                    let labels = ViewLabels { gateway: Gateway(gateway.clone()), r#type: of.label() };
                    gauge(metric.encode_family(&labels)?, measure(view) as f64)?;
                }
            }
        }
        Ok(())
    }
}

impl Collector for Views {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_as(&mut encoder, "xds_view_entries", "Resources that are served", None, |view| view.len())?;
        self.encode_as(
            &mut encoder,
            "xds_view",
            "The encoded size of the resources that are served",
            Some(&Unit::Bytes),
            |view| view.iter().map(|resource| resource.delta_len()).sum(),
        )?;
        let (shared, made) = steps_shared_and_made();
        for (name, help, count) in [
            ("xds_diff_cache_hits", "Differences between snapshots that were there already", shared),
            ("xds_diff_cache_misses", "Differences between snapshots that had to be made", made),
        ] {
            ConstCounter::new(count).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Views")
    }
}

/// The process itself.
#[derive(Debug)]
struct Process {
    /// Seconds since 1970.
    started: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let started = encoder.encode_descriptor(
            "process_start_time",
            "When the process started, in seconds since 1970",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        gauge(started, self.started)?;
        let Some(resident) = resident_bytes() else { return Ok(()) };
        let memory = encoder.encode_descriptor(
            "process_resident_memory",
            "The memory that the process occupies",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        gauge(memory, resident as f64)
    }
}

fn gauge(encoder: MetricEncoder<'_>, value: f64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder)
}

/// The resident set, in bytes; nothing where `/proc` is not as on Linux.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
