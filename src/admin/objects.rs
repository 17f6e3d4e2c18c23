//! The page with every object's conditions: what `kubectl` shows in a cluster, for those who have none.

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use crate::{model::Programmed, status::status};

/// Which objects.
#[derive(Deserialize)]
pub(super) struct Wanted {
    kind: Option<String>,
    name: Option<String>,
}

/// The objects and their conditions.
pub(super) async fn page(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Json<Value> {
    let reports = admin.reports.load();
    let chosen = reports.values().filter(|report| {
        let object = report.object();
        wanted.kind.as_deref().is_none_or(|kind| kind == object.kind.as_str())
            && wanted.name.as_deref().is_none_or(|name| name == object.name.to_string())
    });
    let programmed = admin.registry.programmed();
    let objects = chosen.map(|report| {
        let programmed = programmed.get(&report.object().name).unwrap_or(&Programmed::Pending);
        let status = status(report, programmed);
        json!({"object": status.object.to_string(), "status": status.to_json()})
    });
    Json(objects.collect())
}
