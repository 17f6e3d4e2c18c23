//! Follows what the Envoys of each Gateway say, here and at other replicas, for the condition `Programmed`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{self, Instant},
};

use crate::{
    kubernetes::{Sayings, StatusNews},
    model::{Edition, Kind, ObjectKey, ObjectName, Programmed, Report, Said},
    pipeline::Reports,
    xds::Registry,
};

/// Acknowledgements are looked at together: many come at once, and a status is for people.
const GATHER: Duration = Duration::from_millis(50);
/// For how long what was said before still counts while something is under way, or while Envoys connect again: a change that is
/// taken in a few milliseconds is no news.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is asked, and who is told.
pub(super) struct Follower {
    pub(super) registry: Arc<Registry>,
    pub(super) reports: Arc<ArcSwap<Reports>>,
    /// Something was published.
    pub(super) published: Arc<Notify>,
    /// What the Envoys at other replicas say.
    pub(super) others: watch::Receiver<Arc<Vec<Sayings>>>,
    /// Where other replicas learn what the Envoys here say.
    pub(super) own: watch::Sender<Arc<Sayings>>,
    pub(super) news: mpsc::UnboundedSender<StatusNews>,
}

impl Follower {
    /// Tells the status writer whenever what the Envoys of a Gateway say changes, until it is gone.
    pub(super) async fn run(mut self) {
        let mut voices = Voices::default();
        loop {
            // Before the streams: what they have is published before it is reported.
            let editions = editions(&self.reports.load());
            let here = self.here(&editions);
            let others = self.others.borrow_and_update().clone();
            let (news, next) = voices.hear(Instant::now(), &editions, others.iter().chain([&here]));
            for (gateway, said) in news {
                if self.news.send(StatusNews::Programmed(gateway, said)).is_err() {
                    return;
                }
            }
            self.own.send_if_modified(|known| {
                let is_new = **known != here;
                if is_new {
                    *known = Arc::new(here);
                }
                is_new
            });
            tokio::select! {
                () = self.registry.changed() => time::sleep(GATHER).await,
                () = self.published.notified() => time::sleep(GATHER).await,
                changed = self.others.changed() => if changed.is_err() {
                    return;
                },
                () = time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                () = self.news.closed() => return,
            }
        }
    }

    /// What the Envoys that are connected here say of these Gateways.
    fn here(&self, editions: &BTreeMap<ObjectName, Edition>) -> Sayings {
        let said = self.registry.programmed().into_iter();
        let of = said.filter_map(|(gateway, programmed)| {
            let edition = *editions.get(&gateway)?;
            Some((gateway, Said { edition, programmed }))
        });
        Sayings { of: of.collect(), is_partial: false }
    }
}

/// What there is to be said of: each Gateway of ours as it is reported.
fn editions(reports: &Reports) -> BTreeMap<ObjectName, Edition> {
    let from = ObjectKey::new(Kind::Gateway, ObjectName::new("", ""));
    let gateways = reports.range(from..).take_while(|(key, _)| key.kind == Kind::Gateway);
    let reported = gateways.filter_map(|(key, report)| match &**report {
        Report::Gateway(report) => Some((key.name.clone(), report.edition())),
        _ => None,
    });
    reported.collect()
}

/// What was told of each Gateway. Pure: the time is an argument.
#[derive(Default)]
struct Voices(BTreeMap<ObjectName, Told>);

/// What was told of a Gateway, and since when that is in doubt.
#[derive(Default)]
struct Told {
    said: Option<Said>,
    doubted_since: Option<Instant>,
}

impl Voices {
    /// What is to be told now, and when to look again. That nobody has acknowledged a Gateway yet is told when it has been so
    /// for a while, whether or not anybody speaks for it.
    fn hear<'a>(
        &mut self,
        now: Instant,
        editions: &BTreeMap<ObjectName, Edition>,
        sayings: impl Iterator<Item = &'a Sayings> + Clone,
    ) -> (Vec<(ObjectName, Said)>, Option<Instant>) {
        self.0.retain(|gateway, _| editions.contains_key(gateway));
        let (mut news, mut next) = (Vec::new(), None::<Instant>);
        for (gateway, &edition) in editions {
            let programmed = together(sayings.clone().filter_map(|sayings| sayings.about(gateway, edition)));
            let said = Said { edition, programmed };
            let told = self.0.entry(gateway.clone()).or_default();
            if told.said.as_ref() == Some(&said) {
                told.doubted_since = None;
                continue;
            }
            if said.programmed == Programmed::Pending {
                let until = *told.doubted_since.get_or_insert(now) + PATIENCE;
                if now < until {
                    next = Some(next.map_or(until, |next| next.min(until)));
                    continue;
                }
            }
            *told = Told { said: Some(said.clone()), doubted_since: None };
            news.push((gateway.clone(), said));
        }
        (news, next)
    }
}

/// What several replicas' Envoys say together: a refusal weighs most, and all must have acknowledged.
fn together(says: impl Iterator<Item = Programmed>) -> Programmed {
    let mut together = None;
    for said in says {
        match (said, &together) {
            (Programmed::Refused(words), _) => return Programmed::Refused(words),
            (Programmed::Pending | Programmed::NotProvisioned(_), _) => together = Some(Programmed::Pending),
            (Programmed::Acknowledged, None) => together = Some(Programmed::Acknowledged),
            (Programmed::Acknowledged, Some(_)) => {}
        }
    }
    together.unwrap_or(Programmed::Pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> ObjectName {
        ObjectName::new("default", "web")
    }

    fn edition(generation: i64) -> Edition {
        Edition { generation, listeners: 7 }
    }

    fn says(edition: Edition, programmed: Programmed) -> Sayings {
        Sayings { of: [(web(), Said { edition, programmed })].into(), is_partial: false }
    }

    /// A Gateway of this generation, about which these are heard at this second: what is told, and when to look again.
    fn hear(voices: &mut Voices, begin: Instant, second: u64, generation: i64, heard: &[Sayings]) -> Heard {
        let editions = [(web(), edition(generation))].into();
        let now = begin + Duration::from_secs(second);
        let (news, next) = voices.hear(now, &editions, heard.iter());
        let news = news.into_iter().map(|(_, said)| (said.edition.generation, said.programmed)).collect();
        (news, next.map(|next| (next - begin).as_secs()))
    }

    type Heard = (Vec<(i64, Programmed)>, Option<u64>);

    fn told(generation: i64, programmed: Programmed) -> Heard {
        (vec![(generation, programmed)], None)
    }

    const NOTHING: Heard = (Vec::new(), None);

    #[test]
    fn of_a_gateway_that_nobody_speaks_for_it_is_said_after_a_while_that_it_is_pending() {
        let (mut voices, begin) = (Voices::default(), Instant::now());
        assert_eq!(hear(&mut voices, begin, 0, 2, &[]), (Vec::new(), Some(10)));
        assert_eq!(hear(&mut voices, begin, 9, 2, &[]), (Vec::new(), Some(10)));
        assert_eq!(hear(&mut voices, begin, 10, 2, &[]), told(2, Programmed::Pending));
        assert_eq!(hear(&mut voices, begin, 99, 2, &[]), NOTHING);
    }

    #[test]
    fn what_was_acknowledged_counts_for_a_while_and_only_of_the_same_generation() {
        let (mut voices, begin) = (Voices::default(), Instant::now());
        let acknowledged = [says(edition(1), Programmed::Acknowledged)];
        let pending = [says(edition(1), Programmed::Pending)];
        assert_eq!(hear(&mut voices, begin, 0, 1, &acknowledged), told(1, Programmed::Acknowledged));
        assert_eq!(hear(&mut voices, begin, 1, 1, &pending), (Vec::new(), Some(11)));
        assert_eq!(hear(&mut voices, begin, 2, 1, &acknowledged), NOTHING);
        // The Envoys at another replica have taken the former generation, which says nothing of this one.
        assert_eq!(hear(&mut voices, begin, 20, 2, &acknowledged), (Vec::new(), Some(30)));
        assert_eq!(hear(&mut voices, begin, 30, 2, &acknowledged), told(2, Programmed::Pending));
        let taken = [says(edition(2), Programmed::Acknowledged)];
        assert_eq!(hear(&mut voices, begin, 31, 2, &taken), told(2, Programmed::Acknowledged));
    }

    #[test]
    fn a_refusal_is_told_at_once_and_so_is_its_end() {
        let (mut voices, begin) = (Voices::default(), Instant::now());
        let (here, there) =
            (says(edition(1), Programmed::Acknowledged), says(edition(1), Programmed::Refused("no".into())));
        assert_eq!(hear(&mut voices, begin, 0, 1, &[here.clone(), there]), told(1, Programmed::Refused("no".into())));
        let there = says(edition(1), Programmed::Acknowledged);
        assert_eq!(hear(&mut voices, begin, 1, 1, &[here.clone(), there]), told(1, Programmed::Acknowledged));
        // A replica that could not tell all may have Envoys that have not acknowledged.
        let partial = Sayings { of: BTreeMap::new(), is_partial: true };
        assert_eq!(hear(&mut voices, begin, 2, 1, &[here, partial]), (Vec::new(), Some(12)));
    }
}
