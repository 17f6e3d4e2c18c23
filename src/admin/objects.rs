//! The page with every object's conditions: what `kubectl` shows in a cluster, for those who have none.

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use crate::{
    model::{Kind, ObjectKey},
    snapshot::TypeUrl,
    status::{Programmed, status},
};

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
    let objects = chosen.map(|report| {
        let status = status(report, &programmed(&admin, report.object()));
        json!({"object": status.object.to_string(), "status": status.to_json()})
    });
    Json(objects.collect())
}

/// What the connected Envoys of a Gateway say. One that is still fetching counts as one that has not acknowledged yet.
fn programmed(admin: &Admin, object: &ObjectKey) -> Programmed {
    if object.kind != Kind::Gateway {
        return Programmed::Pending;
    }
    let mut settled = false;
    for client in admin.registry.clients().iter().filter(|client| client.node.gateway == object.name) {
        for of in client.status() {
            if let (false, Some(nack)) = (of.parked.is_empty(), &of.last_nack) {
                return Programmed::Refused(format!("{}: {}", client.node.id, nack.message));
            }
            if of.in_flight > 0 || of.sent != of.acked {
                return Programmed::Pending;
            }
            settled |= of.type_url == TypeUrl::Listener && of.acked.is_some();
        }
    }
    if settled { Programmed::Acknowledged } else { Programmed::Pending }
}
