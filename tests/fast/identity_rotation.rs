//! Authorities over time: nobody who keeps its own certificate fresh is ever refused, whatever is rotated meanwhile.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tailscale_gateway::{
    identity::{
        Authorities, Bundle, ClientId, Credentials, Lifetimes, MalformedAuthorities, SERVER_NAME, ServerNames, Step,
        TrustDomain, accepts_client, accepts_server, client_certificate_due, server_certificate_due,
    },
    model::ObjectName,
};

use crate::oracle::rng::Rng;

const HOUR: Duration = Duration::from_secs(3600);

fn lifetimes() -> Lifetimes {
    Lifetimes::new(120 * HOUR, 10 * HOUR).unwrap()
}

fn begin() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

fn at(hours: u32) -> Timestamp {
    begin() + hours * HOUR
}

fn read(data: &BTreeMap<&'static str, String>) -> Result<Authorities, MalformedAuthorities> {
    Authorities::read(|part| data.get(part).map(|text| text.as_bytes()))
}

fn client() -> ClientId {
    ClientId { trust_domain: TrustDomain::default(), gateway: ObjectName::new("shop", "web") }
}

#[test]
fn a_new_authority_is_known_for_a_certificates_lifetime_before_it_signs() {
    let mut authorities = Authorities::create(begin(), lifetimes()).unwrap();
    let mut signer = authorities.current().clone();
    assert_eq!((authorities.trusted().certificates().len(), authorities.next()), (1, None));
    let mut timeline = Vec::new();
    for hour in 0..=201 {
        for step in authorities.advance(at(hour), lifetimes()).unwrap() {
            timeline.push((hour, step));
            if step == Step::Promoted {
                signer = authorities.current().clone();
            }
        }
        assert_eq!(*authorities.current(), signer, "hour {hour}: the next one does not sign before it is promoted");
    }
    // A life of 120 hours: the next after two thirds of it, signing ten hours later, alone when the first expires.
    assert_eq!(
        timeline,
        [
            (80, Step::Introduced),
            (90, Step::Promoted),
            (121, Step::Forgotten),
            (160, Step::Introduced),
            (170, Step::Promoted),
            (201, Step::Forgotten)
        ]
    );
}

#[test]
fn the_time_of_the_next_step_is_known_and_nothing_is_done_before() {
    let mut authorities = Authorities::create(begin(), lifetimes()).unwrap();
    let mut steps = Vec::new();
    for _ in 0..6 {
        let due = authorities.step_at(lifetimes());
        let before = authorities.clone();
        assert_eq!(authorities.advance(due - Duration::from_secs(1), lifetimes()).unwrap(), []);
        assert_eq!(authorities, before);
        let done = authorities.advance(due, lifetimes()).unwrap();
        assert_eq!(done.len(), 1, "{done:?} at {due}");
        steps.extend(done);
    }
    use Step::{Forgotten, Introduced, Promoted};
    assert_eq!(steps, [Introduced, Promoted, Forgotten, Introduced, Promoted, Forgotten]);
}

#[test]
fn when_nobody_was_there_for_long_rotation_goes_on_where_it_can() {
    let created = Authorities::create(begin(), lifetimes()).unwrap();
    // Back when there is little time left: introduced, and promoted as late as is possible.
    let mut late = created.clone();
    assert_eq!(late.advance(at(114), lifetimes()).unwrap(), [Step::Introduced]);
    let promotion = late.step_at(lifetimes());
    assert!(promotion > at(116) && promotion < at(117), "{promotion}");
    assert_eq!(late.advance(at(117), lifetimes()).unwrap(), [Step::Promoted]);
    assert_eq!(late.trusted().certificates().len(), 2);
    // Back when everything has expired.
    let mut gone = created.clone();
    assert_eq!(gone.advance(at(500), lifetimes()).unwrap(), [Step::Created, Step::Forgotten]);
    assert_eq!(gone.trusted().certificates(), [gone.current().certificate().clone()]);
    // Back when the current one has expired, but not the next.
    let mut next = created;
    next.advance(at(100), lifetimes()).unwrap();
    let introduced = next.next().cloned();
    assert_eq!(next.advance(at(130), lifetimes()).unwrap(), [Step::Promoted, Step::Forgotten]);
    assert_eq!(Some(next.current()), introduced.as_ref());
}

#[test]
fn longer_lives_of_certificates_than_before_bring_the_next_authority_forward() {
    let mut authorities = Authorities::create(begin(), lifetimes()).unwrap();
    let longer = Lifetimes::new(200 * HOUR, 50 * HOUR).unwrap();
    assert_eq!(authorities.advance(at(5), longer).unwrap(), [Step::Introduced]);
}

#[test]
fn authorities_are_stored_and_read_again() {
    let mut authorities = Authorities::create(begin(), lifetimes()).unwrap();
    assert_eq!(authorities.to_data().keys().copied().collect::<Vec<_>>(), ["ca.crt", "tls.crt", "tls.key"]);
    assert_eq!(read(&authorities.to_data()).unwrap(), authorities);
    authorities.advance(at(80), lifetimes()).unwrap();
    let data = authorities.to_data();
    assert!(data.keys().all(|key| Authorities::PARTS.contains(key)) && data.len() == Authorities::PARTS.len());
    assert_eq!(read(&data).unwrap(), authorities);
    authorities.advance(at(90), lifetimes()).unwrap();
    let data = authorities.to_data();
    assert_eq!(data["ca.crt"].matches("BEGIN CERTIFICATE").count(), 2);
    // The key of the one that no longer signs is nowhere.
    assert_eq!(data.values().map(|text| text.matches("PRIVATE KEY-----\n").count()).sum::<usize>(), 2);
    assert_eq!(read(&data).unwrap(), authorities);
}

#[test]
fn stored_authorities_that_are_damaged_say_where_and_are_mended_with_what_is_left() {
    let mut authorities = Authorities::create(begin(), lifetimes()).unwrap();
    authorities.advance(at(80), lifetimes()).unwrap();
    let whole = authorities.to_data();
    let (current, next) = (authorities.current(), authorities.next().unwrap());
    let certificates = |data: &BTreeMap<_, String>| {
        let mended = Authorities::mend(|part| data.get(part).map(|text| text.as_bytes()), at(81), lifetimes());
        let mended = mended.unwrap();
        assert!(mended.current() != current && mended.next().is_none());
        let trusted = mended.trusted().certificates();
        assert!(trusted.contains(mended.current().certificate()));
        [current, next].map(|authority| trusted.contains(authority.certificate()))
    };
    for (damage, part, left) in [
        (None, "tls.crt", [true, true]),
        (None, "tls.key", [true, true]),
        (None, "next.crt", [true, true]),
        (None, "next.key", [true, true]),
        (None, "ca.crt", [true, true]),
        (Some("nonsense"), "tls.crt", [true, true]),
        (Some("nonsense"), "tls.key", [true, true]),
        (Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "next.crt", [true, true]),
        (Some(""), "ca.crt", [true, true]),
    ] {
        let mut data = whole.clone();
        match damage {
            Some(text) => drop(data.insert(part, text.to_owned())),
            None => drop(data.remove(part)),
        }
        let said = read(&data).unwrap_err().to_string();
        assert!(said.starts_with(part) || said.starts_with(&part.replace(".key", ".crt")), "{part}: {said}");
        assert_eq!(certificates(&data), left, "{part}");
    }
    assert_eq!(certificates(&BTreeMap::new()), [false, false]);
}

/// An Envoy and what it holds.
struct Envoy {
    credentials: Credentials,
    trusted: Bundle,
    /// Whether it is given what is new within a short while; else it looks only when its own certificate asks for it.
    mounted: bool,
}

/// A replica of the control plane: what it has seen of the stored authorities, and its own certificate.
struct Replica {
    seen: Authorities,
    credentials: Credentials,
}

/// Plays several generations of authorities in steps of chance, everybody being late now and then.
fn play(seed: u64) {
    let mut rng = Rng::new(seed);
    let certificate = Duration::from_secs(900 + 60 * rng.below(100) as u64);
    let lifetimes = Lifetimes::new(certificate * (4 + rng.below(5) as u32), certificate).unwrap();
    let names = ServerNames::new([SERVER_NAME, "127.0.0.1"]).unwrap();
    let mut now = begin();
    let mut stored = Authorities::create(now, lifetimes).unwrap();
    let issue_client = |stored: &Authorities, now| stored.current().issue_client(&client(), now, lifetimes).unwrap();
    let issue_server = |seen: &Authorities, now| seen.current().issue_server(&names, now, lifetimes).unwrap();
    // The Secret of the Gateway.
    let mut secret = (issue_client(&stored, now), stored.trusted().clone());
    let mut envoys: Vec<Envoy> = [true, false, false]
        .map(|mounted| Envoy { credentials: secret.0.clone(), trusted: secret.1.clone(), mounted })
        .into();
    let mut replicas: Vec<Replica> =
        (0..2).map(|_| Replica { seen: stored.clone(), credentials: issue_server(&stored, now) }).collect();

    let end = now + lifetimes.authority() * 4;
    let mut promotions = 0;
    while now < end {
        now += certificate.mul_f64(0.04 + 0.001 * rng.below(50) as f64);
        // Everybody is there every time but one in four; nobody is gone for long.
        if !rng.one_in(4) {
            let steps = stored.advance(now, lifetimes).unwrap();
            assert!(!steps.contains(&Step::Created), "seed {seed}");
            promotions += steps.iter().filter(|step| **step == Step::Promoted).count();
            if client_certificate_due(Some(&secret.0), &client(), stored.trusted(), now).is_some() {
                secret.0 = issue_client(&stored, now);
            }
            secret.1 = stored.trusted().clone();
        }
        for replica in &mut replicas {
            if !rng.one_in(4) {
                replica.seen = stored.clone();
            }
            let Replica { seen, credentials } = replica;
            if server_certificate_due(Some(credentials), &names, seen.trusted(), now).is_some() {
                *credentials = issue_server(seen, now);
            }
        }
        for envoy in &mut envoys {
            let asks = client_certificate_due(Some(&envoy.credentials), &client(), &envoy.trusted, now).is_some();
            if (envoy.mounted || asks) && !rng.one_in(4) {
                (envoy.credentials, envoy.trusted) = secret.clone();
            }
        }
        for (who, envoy) in envoys.iter().enumerate() {
            for (whom, replica) in replicas.iter().enumerate() {
                let context = format!("seed {seed}: Envoy {who}, replica {whom}, {now}, {lifetimes:?}");
                let chain = envoy.credentials.certificates().unwrap();
                assert_eq!(accepts_client(replica.seen.trusted(), &chain, now), Ok(()), "{context}");
                let chain = replica.credentials.certificates().unwrap();
                assert_eq!(accepts_server(&envoy.trusted, &chain, SERVER_NAME, now), Ok(()), "{context}");
            }
        }
    }
    assert!(promotions >= 4, "seed {seed}: {promotions} rotations are too few to show anything");
}

#[test]
fn whoever_keeps_its_certificate_fresh_is_accepted_by_everybody_through_all_rotations() {
    (1..=2).for_each(play);
}
