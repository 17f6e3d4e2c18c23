//! The page of the extension server: the last calls, what went wrong last, and what is put into whose configuration.

use std::time::SystemTime;

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Admin;
use crate::extension::Call;

/// The page.
pub(super) async fn page(State(admin): State<Admin>) -> Json<Value> {
    let hosted = admin.hosted.load();
    let gateways = hosted.gateways().map(|gateway| {
        let listeners = gateway.listeners.iter().map(|listener| {
            json!({
                "name": &*listener.name,
                "port": listener.port,
                "routes": listener.routes.iter().map(|route| &*route.prefix).collect::<Vec<_>>(),
                "hosts": listener.hosts.iter().map(|(host, _)| &**host).collect::<Vec<_>>(),
            })
        });
        json!({
            "gateway": gateway.name.to_string(),
            "revision": hosted.revision(&gateway.name).map(|revision| format!("{:032x}", revision.number)),
            "listeners": listeners.collect::<Vec<_>>(),
            "clusters": gateway.clusters.iter().map(|name| &**name).collect::<Vec<_>>(),
        })
    });
    let failures = admin
        .calls
        .errors()
        .into_iter()
        .map(|(hook, failure)| json!({ "hook": hook.label(), "at": time(failure.at), "error": failure.error }));
    Json(json!({
        "gateways": gateways.collect::<Vec<_>>(),
        "problems": hosted.problems().map(ToString::to_string).collect::<Vec<_>>(),
        "failures": failures.collect::<Vec<_>>(),
        "calls": admin.calls.last().iter().map(call).collect::<Vec<_>>(),
    }))
}

fn call(call: &Call) -> Value {
    json!({
        "at": time(call.at),
        "hook": call.hook.label(),
        "peer": call.peer,
        "bytesIn": call.bytes_in,
        "bytesOut": call.bytes_out,
        "micros": u64::try_from(call.took.as_micros()).unwrap_or(u64::MAX),
        "changed": call.changed,
        "gateways": call.gateways.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "error": call.error,
    })
}

fn time(at: SystemTime) -> Option<String> {
    Timestamp::try_from(at).ok().map(|at| at.to_string())
}
