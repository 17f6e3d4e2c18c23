//! `/debug/xds/clients`: who is connected, and per type what they asked for, were sent and accepted.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Admin, Asked, Format, bad_request};
use crate::xds::{Scope, TypeStatus, registry::Client};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    gateway: Option<String>,
    format: Option<Format>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClientRow {
    id: u64,
    node: String,
    gateway: String,
    locality: String,
    client: String,
    protocol: &'static str,
    /// `ads`, or the type of a per-type service.
    scope: &'static str,
    peer: String,
    connected_since: String,
    /// Milliseconds for which the client has not read what it was sent; absent when it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck_ms: Option<u128>,
    /// What is odd about the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
    types: Vec<TypeRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_types: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypeRow {
    r#type: &'static str,
    /// `SYNCED`, `STALE` (sent, not accepted yet), `NOT SENT` or `ERROR` (the last answer was a refusal).
    state: &'static str,
    wildcard: bool,
    /// How many names are subscribed one by one.
    subscribed: usize,
    /// How many resources the client has.
    resources: usize,
    sent: Option<String>,
    acked: Option<String>,
    nonce: Option<String>,
    in_flight: usize,
    /// Milliseconds for which the oldest response has waited for its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nack: Option<NackRow>,
    /// Refused resources that are not sent again before they change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parked: Vec<String>,
    /// Resources of a refused response that are sent again in parts, to find out which of them is to blame.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suspects: Vec<String>,
    /// Resources that wait for clusters they name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<String>,
    /// Resources that are gone, but that routes at the client may still name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    retained: Vec<String>,
}

#[derive(Serialize)]
struct NackRow {
    at: String,
    code: i32,
    message: String,
}

pub(super) async fn page(State(admin): State<Admin>, asked: Asked<Parameters>, headers: HeaderMap) -> Response {
    let parameters = match asked {
        Ok(query) => query.0,
        Err(error) => return bad_request(error.body_text()),
    };
    let format = Format::choose(parameters.format, &headers);
    // A stream that subscribes to ten thousand names is counted through: not on a thread that serves streams.
    let shown = tokio::task::spawn_blocking(move || show(&admin, &parameters, format));
    shown.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn show(admin: &Admin, parameters: &Parameters, format: Format) -> Response {
    let wanted =
        |client: &Client| parameters.gateway.as_ref().is_none_or(|gateway| *gateway == client.node.gateway.to_string());
    let clients = admin.registry.clients();
    let rows: Vec<ClientRow> =
        clients.iter().filter(|client| wanted(client)).map(|client| row(admin, client)).collect();
    match format {
        Format::Json => Json(serde_json::json!({ "clients": rows })).into_response(),
        Format::Text => table(&rows).into_response(),
    }
}

/// Said of a client that asks for a Gateway of which there is nothing.
const NOT_SERVED: &str = "nothing is served for this Gateway";

fn row(admin: &Admin, client: &Client) -> ClientRow {
    let node = &client.node;
    ClientRow {
        id: client.id,
        node: node.id.to_string(),
        gateway: node.gateway.to_string(),
        locality: node.locality.to_string(),
        client: node.user_agent.to_string(),
        protocol: client.protocol.label(),
        scope: match client.scope {
            Scope::Aggregated => "ads",
            Scope::Only(type_url) => type_url.label(),
        },
        peer: client.peer.to_string(),
        connected_since: time(client.since),
        stuck_ms: client.stuck_for().map(|waited| waited.as_millis()),
        note: (!admin.cache.is_served(&node.gateway)).then_some(NOT_SERVED),
        types: client.status().into_iter().map(type_row).collect(),
        unknown_types: client.unknown_types(),
    }
}

fn type_row(of: TypeStatus) -> TypeRow {
    let state = match &of {
        of if !of.parked.is_empty() || !of.suspects.is_empty() => "ERROR",
        of if of.in_flight == 0 && of.last_nack.is_some() && of.sent != of.acked => "ERROR",
        TypeStatus { in_flight: 1.., .. } => "STALE",
        TypeStatus { sent: None, .. } => "NOT SENT",
        _ => "SYNCED",
    };
    TypeRow {
        r#type: of.type_url.label(),
        state,
        wildcard: of.wildcard,
        subscribed: of.subscribed,
        resources: of.resources,
        sent: of.sent.map(|version| version.to_string()),
        acked: of.acked.map(|version| version.to_string()),
        nonce: of.nonce.map(|nonce| nonce.to_string()),
        in_flight: of.in_flight,
        waiting_ms: of.waiting_since.map(|since| since.elapsed().as_millis()),
        nack: of.last_nack.map(|nack| NackRow { at: moment(nack.at), code: nack.code, message: nack.message }),
        parked: of.parked.keys().map(ToString::to_string).collect(),
        suspects: texts(&of.suspects),
        held: texts(&of.held),
        retained: texts(&of.retained),
    }
}

fn texts(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// RFC 3339, in seconds.
fn time(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(at) => at.strftime("%FT%TZ").to_string(),
        Err(_) => String::new(), // A clock before the year -9999.
    }
}

fn moment(at: Instant) -> String {
    time(SystemTime::now() - at.elapsed())
}

fn table(clients: &[ClientRow]) -> String {
    let mut lines = vec![
        ["CLIENT", "GATEWAY", "PROTOCOL", "SINCE", "TYPE", "STATE", "ASKED", "HAS", "FLIGHT", "NOTES"]
            .map(str::to_owned),
    ];
    for client in clients {
        let name = format!("#{} {} ({})", client.id, client.node, client.client);
        let protocol = format!("{}/{}", client.protocol, client.scope);
        let mut first = [name, client.gateway.clone(), protocol, client.connected_since.clone()];
        let mut note = client.note;
        if client.types.is_empty() {
            let [a, b, c, d] = first.clone();
            let text = note.unwrap_or_default().to_owned();
            lines.push([a, b, c, d, "-".into(), "-".into(), "-".into(), "-".into(), "-".into(), text]);
        }
        for of in &client.types {
            let asked = match (of.wildcard, of.subscribed) {
                (true, 0) => "*".to_owned(),
                (true, more) => format!("*+{more}"),
                (false, names) => names.to_string(),
            };
            let mut notes: Vec<String> = note.take().map(str::to_owned).into_iter().collect();
            if let Some(nack) = &of.nack {
                notes.push(format!("refused at {}: {}", nack.at, nack.message.replace('\n', " ")));
            }
            let lists =
                [("parked", &of.parked), ("suspects", &of.suspects), ("held", &of.held), ("retained", &of.retained)];
            for (what, names) in lists {
                if !names.is_empty() {
                    notes.push(format!("{what}: {}", names.join(", ")));
                }
            }
            let [a, b, c, d] = std::mem::take(&mut first);
            let (has, flight) = (of.resources.to_string(), of.in_flight.to_string());
            lines.push([a, b, c, d, of.r#type.into(), of.state.into(), asked, has, flight, notes.join("; ")]);
        }
    }
    let mut widths = [0; 10];
    for line in &lines {
        widths.iter_mut().zip(line).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    let mut text = String::new();
    for line in lines {
        let mut out = String::new();
        for (cell, width) in line.iter().zip(widths) {
            write!(out, "{cell:width$}  ").expect("writing to a String does not fail");
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}
