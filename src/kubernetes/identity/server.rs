//! This replica's server certificate: made from the Secrets as they are, made anew in time, kept in memory alone.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{IdentityConfig, Known, at};
use crate::{
    identity::{
        Credentials, ServerIdentity, server_certificate_due,
        trust::{Found, ServerSource, renewal, trust},
    },
    metrics::Metrics,
};

/// Tells what the server shows and whom it lets in, whenever that changes.
pub(super) async fn run(
    config: Arc<IdentityConfig>,
    mut found: watch::Receiver<Known>,
    serve: watch::Sender<Option<Arc<ServerIdentity>>>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let mut own: Option<Credentials> = None;
    let mut said: Option<String> = None;
    loop {
        let known = found.borrow_and_update().clone();
        let mut next = Timestamp::MAX;
        if let Some(seen) = known {
            match renew(&config, &seen.found, own.as_ref()) {
                Ok((identity, renews_at, made)) => {
                    if made {
                        metrics.certificate_issued("server");
                    }
                    said = None;
                    next = renews_at;
                    own = Some(identity.credentials.clone());
                    serve.send_if_modified(|known| {
                        let is_new = known.as_deref() != Some(&identity);
                        if is_new {
                            *known = Some(Arc::new(identity));
                        }
                        is_new
                    });
                }
                Err(reason) if said.as_ref() != Some(&reason) => {
                    // The replica that leads makes our authorities: that is soon mended.
                    match seen.found.needs_own() && seen.found.own.is_none() {
                        true => tracing::info!("no certificate for the xDS port yet: {reason}"),
                        false => tracing::warn!("the certificate of the xDS port: {reason}"),
                    }
                    said = Some(reason);
                }
                Err(_) => {}
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = found.changed() => if changed.is_err() { return },
            () = time::sleep_until(at(next)) => {}
        }
    }
}

/// The identity of the server now, when it has to be made anew, and whether it was.
fn renew(
    config: &IdentityConfig,
    found: &Found,
    own: Option<&Credentials>,
) -> Result<(ServerIdentity, Timestamp, bool), String> {
    let now = Timestamp::now();
    let trust = trust(found).map_err(|error| config.blame(&error))?;
    let (credentials, renews_at, made) = match trust.server {
        ServerSource::Given(credentials) => (credentials, Timestamp::MAX, false),
        ServerSource::Signed(authority) => {
            match (own, server_certificate_due(own, &config.names, &trust.servers, now)) {
                (Some(own), None) => (own.clone(), renewal(own), false),
                _ => {
                    let made = authority.issue_server(&config.names, now, config.lifetimes);
                    let made = made.map_err(|error| error.to_string())?;
                    let renews_at = renewal(&made);
                    (made, renews_at, true)
                }
            }
        }
    };
    Ok((ServerIdentity { credentials, clients: trust.clients }, renews_at, made))
}
