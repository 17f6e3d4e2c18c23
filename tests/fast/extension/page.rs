//! What people see of the extension server: its admin page and its metrics.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tailscale_gateway::{
    admin::{Admin, Readiness, router},
    extension::{Call, Calls, Hook},
    metrics::{ExtensionCall, Metrics},
    model::ObjectName,
    snapshot::SnapshotCache,
};
use tower::ServiceExt;

use crate::support::extension_cases::cases;

fn call(hook: Hook, error: Option<&str>) -> Call {
    Call {
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600),
        hook,
        peer: "10.0.0.7:4711".to_owned(),
        bytes_in: 1000,
        bytes_out: 1100,
        took: Duration::from_micros(250),
        changed: 3,
        gateways: vec![ObjectName::new("default", "eg")],
        error: error.map(str::to_owned),
    }
}

#[tokio::test]
async fn the_page_shows_what_goes_where_what_is_wrong_and_the_last_calls() {
    let case = cases().into_iter().find(|case| case.name == "passing-routes.yaml").unwrap();
    let played = case.play();
    let calls = Arc::new(Calls::default());
    calls.note(call(Hook::Cluster, Some("the answer took too long")));
    (0..70).for_each(|_| calls.note(call(Hook::Translate, None)));
    let cache = Arc::new(SnapshotCache::new());
    let admin = Admin {
        registry: Arc::default(),
        metrics: Arc::new(Metrics::new(Arc::clone(&cache))),
        readiness: Arc::new(Readiness::waiting("starting")),
        reports: Arc::default(),
        hosted: played.pipeline.published_hosted(),
        calls,
        cache,
        open_debug: true,
    };
    let request = Request::get("/debug/extension").body(Body::empty()).unwrap();
    let body = router(admin).oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let page: Value = serde_json::from_slice(&body).unwrap();

    assert_eq!(page["gateways"][0]["gateway"], "default/eg");
    let problems: Vec<&str> = page["problems"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let told = |route: &str| problems.iter().filter(|problem| problem.starts_with(route)).count();
    let unusable =
        ["with-others", "several-with-tls", "wrong-protocol"].map(|name| format!("TCPRoute default/{name}: "));
    assert_eq!(unusable.map(|route| told(&route)), [1, 1, 1], "{problems:#?}");
    assert_eq!((told("UDPRoute default/not-udp: "), problems.len()), (1, 4), "{problems:#?}");
    // The call that failed is among the last no more, and still told.
    let failure = json!({ "hook": "Cluster", "at": "2026-01-01T00:00:00Z", "error": "the answer took too long" });
    assert_eq!(page["failures"], json!([failure]));
    let calls = page["calls"].as_array().unwrap();
    let last = json!({
        "at": "2026-01-01T00:00:00Z", "hook": "Translation", "peer": "10.0.0.7:4711", "bytesIn": 1000, "bytesOut": 1100,
        "micros": 250, "changed": 3, "gateways": ["default/eg"], "error": null,
    });
    assert_eq!((calls.len(), calls.iter().filter(|call| **call == last).count()), (64, 64), "{:#?}", calls[0]);
}

#[test]
fn each_hook_has_its_own_counts_times_sizes_and_last_failure() {
    let metrics = Metrics::new(Arc::new(SnapshotCache::new()));
    let call = |hook: Hook, result| ExtensionCall {
        hook: hook.label(),
        result,
        bytes_in: 1000,
        bytes_out: 1100,
        changed: 3,
        took: Duration::from_millis(4),
    };
    for hook in Hook::ALL {
        metrics.extension_call(&call(hook, "changed"));
    }
    metrics.extension_call(&call(Hook::Endpoints, "refused"));
    let page = metrics.render();
    let value = |series: &str, hook: Hook, more: &str| -> Option<f64> {
        let series = format!("tailscale_gateway_extension_{series}{{hook=\"{}\"{more}}} ", hook.label());
        page.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    };
    for hook in Hook::ALL {
        let calls = if hook == Hook::Endpoints { 2.0 } else { 1.0 };
        assert_eq!(value("calls_total", hook, ",result=\"changed\""), Some(1.0), "{hook:?}");
        for (series, each) in [
            ("call_duration_seconds_count", 1.0),
            ("request_bytes_sum", 1000.0),
            ("response_bytes_sum", 1100.0),
            ("changed_resources_total", 3.0),
        ] {
            assert_eq!(value(series, hook, ""), Some(calls * each), "{series} of {hook:?}");
        }
        let failed = value("last_failure_time_seconds", hook, "").is_some_and(|time| time > 1e9);
        assert_eq!(failed, hook == Hook::Endpoints, "{hook:?}");
    }
}
