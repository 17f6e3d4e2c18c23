//! What should exist for each Gateway, from every change to those who make it so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::{mpsc, watch};

use crate::{
    kubernetes::{ClientSecret, ClientSecrets, StatusNews, identity::CertificateProblems},
    model::ObjectName,
    operator::{Plan, PlanChange, Planner},
    store::Change,
};

/// The planner, and who is told.
pub(super) struct Planning {
    planner: Planner,
    plans: mpsc::UnboundedSender<Vec<PlanChange>>,
    secrets: Arc<watch::Sender<ClientSecrets>>,
    /// The Secret of each Gateway's Envoys.
    secret_of: BTreeMap<ObjectName, ObjectName>,
}

impl Planning {
    /// Tells plans and, of those, the Secrets with certificates.
    pub(super) fn new(
        planner: Planner,
        plans: mpsc::UnboundedSender<Vec<PlanChange>>,
        secrets: Arc<watch::Sender<ClientSecrets>>,
    ) -> Self {
        Self { planner, plans, secrets, secret_of: BTreeMap::new() }
    }

    /// Takes in what of some changes plans depend on.
    pub(super) fn take(&mut self, changes: &[Change]) {
        let plans = self.planner.apply(changes);
        if !plans.is_empty() {
            self.tell(plans);
        }
    }

    /// Takes in the first changes: whoever makes it so waits for these, even if nothing is planned.
    pub(super) fn begin(&mut self, changes: &[Change]) {
        let plans = self.planner.apply(changes);
        self.tell(plans);
    }

    fn tell(&mut self, plans: Vec<PlanChange>) {
        let secret_of = &mut self.secret_of;
        self.secrets.send_if_modified(|known| {
            let before = known.clone();
            for (gateway, plan) in &plans {
                let wanted = match plan.as_deref() {
                    Some(Plan::Objects { certificate, .. }) => Some((certificate, false)),
                    // The Envoys that are there go on, and need their certificate.
                    Some(Plan::Keep { certificate }) => certificate.as_ref().map(|certificate| (certificate, true)),
                    None => None,
                };
                if let Some(former) = secret_of.remove(gateway) {
                    known.remove(&former);
                }
                if let Some((wanted, if_there)) = wanted {
                    let secret = ClientSecret {
                        secret: wanted.secret.clone(),
                        gateway: wanted.gateway.clone(),
                        metadata: wanted.metadata.clone(),
                        if_there,
                    };
                    known.insert(wanted.secret.clone(), Arc::new(secret));
                    secret_of.insert(gateway.clone(), wanted.secret.clone());
                }
            }
            *known != before
        });
        let _nobody_is_left_at_the_end = self.plans.send(plans);
    }
}

/// Tells the status writer what could not be made so: objects, or certificates.
pub(super) async fn report(
    mut outcomes: mpsc::UnboundedReceiver<(ObjectName, Option<String>)>,
    mut certificates: watch::Receiver<Arc<CertificateProblems>>,
    news: mpsc::UnboundedSender<StatusNews>,
) {
    let mut objects: BTreeMap<ObjectName, String> = BTreeMap::new();
    let mut before = Arc::<CertificateProblems>::default();
    let mut ended = false;
    loop {
        let changed: BTreeSet<ObjectName> = tokio::select! {
            outcome = outcomes.recv() => match outcome {
                Some((gateway, Some(words))) => {
                    objects.insert(gateway.clone(), words);
                    [gateway].into()
                }
                Some((gateway, None)) => {
                    objects.remove(&gateway);
                    [gateway].into()
                }
                None => return,
            },
            changed = certificates.changed(), if !ended => {
                ended = changed.is_err();
                let now = certificates.borrow_and_update().clone();
                let gateways = before.keys().chain(now.keys()).cloned().collect();
                before = now;
                gateways
            }
        };
        for gateway in changed {
            let words: Vec<&str> =
                [objects.get(&gateway), before.get(&gateway)].into_iter().flatten().map(String::as_str).collect();
            let problem = (!words.is_empty()).then(|| words.join("; "));
            if news.send(StatusNews::Provisioned(gateway, problem)).is_err() {
                return;
            }
        }
    }
}
