//! What should exist for each Gateway, from every change to those who make it so.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::{
    kubernetes::StatusNews,
    model::ObjectName,
    operator::{CertificateRequest, Plan, PlanChange, Planner},
    store::Change,
};

/// The certificates that Gateways' Envoys should have, by Gateway.
pub(super) type Certificates = imbl::OrdMap<ObjectName, Arc<CertificateRequest>>;

/// The planner, and who is told.
pub(super) struct Planning {
    pub(super) planner: Planner,
    pub(super) plans: mpsc::UnboundedSender<Vec<PlanChange>>,
    pub(super) certificates: watch::Sender<Certificates>,
}

impl Planning {
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
        self.certificates.send_if_modified(|known| {
            let mut is_new = false;
            for (gateway, plan) in &plans {
                match plan.as_deref() {
                    Some(Plan::Objects { certificate, .. }) => {
                        let certificate = Arc::new(certificate.clone());
                        is_new |= known.insert(gateway.clone(), Arc::clone(&certificate)) != Some(certificate);
                    }
                    // The Envoys that are there go on, and need their certificate.
                    Some(Plan::Keep) => {}
                    None => is_new |= known.remove(gateway).is_some(),
                }
            }
            is_new
        });
        let _nobody_is_left_at_the_end = self.plans.send(plans);
    }
}

/// Tells the status writer what could not be made so.
pub(super) async fn report(
    mut outcomes: mpsc::UnboundedReceiver<(ObjectName, Option<String>)>,
    news: mpsc::UnboundedSender<StatusNews>,
) {
    while let Some((gateway, problem)) = outcomes.recv().await {
        if news.send(StatusNews::Provisioned(gateway, problem)).is_err() {
            return;
        }
    }
}
