//! Which Gateways of other controllers need a certificate with which their Envoys reach our xDS.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    compile::HostingIdentity,
    kubernetes::{ClientSecret, ClientSecrets},
    model::{
        COMPONENT_LABEL, GATEWAY_NAME_LABEL, HOSTED_COMPONENT, MANAGED_BY, MANAGED_BY_LABEL, ObjectName, gateway_label,
        hosted_certificate_name,
    },
    snapshot::PublishedHosted,
};

/// Those that something is put into.
pub(super) struct HostedCertificates {
    /// Nothing when their Envoys need none.
    identity: Option<HostingIdentity>,
    hosted: Arc<PublishedHosted>,
    secrets: Arc<watch::Sender<ClientSecrets>>,
}

impl HostedCertificates {
    pub(super) fn new(
        identity: Option<HostingIdentity>,
        hosted: Arc<PublishedHosted>,
        secrets: Arc<watch::Sender<ClientSecrets>>,
    ) -> Self {
        Self { identity, hosted, secrets }
    }

    /// Looks again at these Gateways.
    pub(super) fn tell(&self, touched: &BTreeSet<ObjectName>) {
        let Some(identity) = self.identity.as_ref().filter(|_| !touched.is_empty()) else { return };
        let hosted = self.hosted.load();
        self.secrets.send_if_modified(|known| {
            let mut is_new = false;
            for gateway in touched {
                let secret = ObjectName::new(Arc::clone(&identity.namespace), hosted_certificate_name(gateway));
                match (hosted.revision(gateway).is_some(), known.contains_key(&secret)) {
                    (true, false) => {
                        let wanted = ClientSecret {
                            secret: secret.clone(),
                            gateway: gateway.clone(),
                            metadata: metadata(gateway),
                            if_there: false,
                        };
                        known.insert(secret, Arc::new(wanted));
                        is_new = true;
                    }
                    (false, true) => {
                        known.remove(&secret);
                        is_new = true;
                    }
                    (true, true) | (false, false) => {}
                }
            }
            is_new
        });
    }
}

/// Without an owner, which would have to be in the same namespace: the Secret is deleted by whoever made it.
fn metadata(gateway: &ObjectName) -> Value {
    json!({
        "labels": {
            MANAGED_BY_LABEL: MANAGED_BY,
            COMPONENT_LABEL: HOSTED_COMPONENT,
            GATEWAY_NAME_LABEL: gateway_label(&gateway.name),
        },
    })
}
