//! Watches the Secrets in the operator's namespace that say who trusts whom. Never writes one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream::SelectAll};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{IdentityConfig, Known, Seen, data_of};
use crate::identity::trust::{Found, Role};

/// Tells what stands in the Secrets whenever it changes, first when all have been looked for.
pub(super) async fn watch(
    client: Client,
    config: Arc<IdentityConfig>,
    tell: watch::Sender<Known>,
    shutdown: CancellationToken,
) {
    let api: Api<Secret> = Api::namespaced(client, &config.namespace);
    let mut events = SelectAll::new();
    let mut seen: BTreeMap<Role, Option<Secret>> = BTreeMap::new();
    let roles = [Role::Own, Role::Server, Role::Clients];
    let roles: Vec<Role> = roles.into_iter().filter(|role| config.secret(*role).is_some()).collect();
    for role in &roles {
        let name = config.secret(*role).expect("only those that have a name are left");
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let role = *role;
        events.push(watcher(api.clone(), only).default_backoff().map(move |event| (role, event)).boxed());
    }
    // What a list that has begun has shown so far.
    let mut listed: BTreeMap<Role, Secret> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        let Some((role, event)) = event else { return };
        match event {
            Ok(Event::Init) => drop(listed.remove(&role)),
            Ok(Event::InitApply(secret)) => drop(listed.insert(role, secret)),
            Ok(Event::InitDone) => drop(seen.insert(role, listed.remove(&role))),
            Ok(Event::Apply(secret)) => drop(seen.insert(role, Some(secret))),
            Ok(Event::Delete(_)) => drop(seen.insert(role, None)),
            Err(error) => {
                tracing::warn!(
                    namespace = config.namespace, secret = config.secret(role), %error,
                    "a Secret with certificates can not be watched; what was there before stays in use"
                );
                // Beside the watcher's own backoff, so that a fault that it does not know of does no harm.
                time::sleep(Duration::from_millis(100)).await;
            }
        }
        if seen.len() == roles.len() {
            let now = Arc::new(gather(&config, &seen));
            tell.send_if_modified(|known| {
                let is_new = known.as_ref() != Some(&now);
                *known = Some(now);
                is_new
            });
        }
    }
}

fn gather(config: &IdentityConfig, seen: &BTreeMap<Role, Option<Secret>>) -> Seen {
    let of = |role| seen.get(&role).cloned().flatten();
    let brought = |role| config.secret(role).map(|_| of(role).map(data_of));
    let own = of(Role::Own);
    Seen {
        own_version: own.as_ref().and_then(|own| own.metadata.resource_version.clone()),
        found: Found { own: own.map(data_of), server: brought(Role::Server), clients: brought(Role::Clients) },
    }
}
