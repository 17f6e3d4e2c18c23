//! Who trusts whom in a cluster, by the Secrets that are there, and what is to be done about a Gateway's own Secret.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tailscale_gateway::{
    identity::{
        Authorities, Authority, Bundle, ClientId, Due, Lifetimes, ServerNames, TrustDomain, accepts_client,
        accepts_server,
        trust::{
            ClientMaterial, ClientSecret, Found, NoTrust, Role, SecretData, ServerSource, Trust, client_secret_data,
            plan_client_secret, trust,
        },
    },
    model::ObjectName,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn lifetimes() -> Lifetimes {
    Lifetimes::new(365 * DAY, 7 * DAY).unwrap()
}

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn later(days: i64) -> Timestamp {
    now() + SignedDuration::from_hours(24 * days)
}

fn web() -> ClientId {
    ClientId { trust_domain: TrustDomain::default(), gateway: ObjectName::new("shop", "web") }
}

fn data<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> SecretData {
    SecretData(parts.into_iter().map(|(key, text)| (key.to_owned(), text.as_bytes().to_vec())).collect())
}

fn stored(parts: &BTreeMap<&'static str, String>) -> SecretData {
    data(parts.iter().map(|(key, text)| (*key, text.as_str())))
}

fn ours() -> (Authorities, SecretData) {
    let authorities = Authorities::create(now(), lifetimes()).unwrap();
    let secret = stored(&authorities.to_data());
    (authorities, secret)
}

fn authority() -> Authority {
    Authority::generate(now(), lifetimes()).unwrap()
}

fn pem(authority: &Authority) -> String {
    authority.credentials().chain.clone()
}

/// A Secret with an authority's certificate, its key, and itself, as cert-manager writes one.
fn authority_secret(authority: &Authority) -> SecretData {
    let credentials = authority.credentials();
    data([("tls.crt", &*credentials.chain), ("tls.key", credentials.key.expose()), ("ca.crt", &*pem(authority))])
}

/// A Secret with a server's certificate and the authority that has signed it.
fn server_secret(authority: &Authority) -> SecretData {
    let names = ServerNames::new(["cp.example"]).unwrap();
    let credentials = authority.issue_server(&names, now(), lifetimes()).unwrap();
    data([("tls.crt", &*credentials.chain), ("tls.key", credentials.key.expose()), ("ca.crt", &*pem(authority))])
}

fn bundle(authority: &Authority) -> Bundle {
    let mut bundle = Bundle::default();
    bundle.add(authority.certificate().clone());
    bundle
}

#[test]
fn without_more_our_own_authority_signs_for_both_sides() {
    let (authorities, own) = ours();
    let found = Found { own: Some(own), ..Found::default() };
    assert!(found.needs_own());
    let trust = trust(&found).unwrap();
    assert_eq!((&trust.clients, &trust.servers), (authorities.trusted(), authorities.trusted()));
    assert_eq!(trust.signs_clients.as_ref(), Some(authorities.current()));
    assert_eq!(trust.server, ServerSource::Signed(authorities.current().clone()));
}

#[test]
fn while_the_next_authority_becomes_known_the_current_one_signs() {
    let (mut authorities, _) = ours();
    authorities.advance(later(250), lifetimes()).unwrap();
    let trust = trust(&Found { own: Some(stored(&authorities.to_data())), ..Found::default() }).unwrap();
    assert_eq!(trust.clients.certificates().len(), 2);
    assert_eq!(trust.signs_clients.as_ref(), Some(authorities.current()));
}

#[test]
fn what_others_bring_takes_the_place_of_ours_for_its_side_alone() {
    let (authorities, own) = ours();
    let (server, clients) = (authority(), authority());
    let (given_server, given_clients) = (server_secret(&server), authority_secret(&clients));

    let one = Found { own: Some(own.clone()), server: Some(Some(given_server.clone())), clients: None };
    let one = trust(&one).unwrap();
    assert_eq!((&one.servers, &one.clients), (&bundle(&server), authorities.trusted()));
    assert!(matches!(&one.server, ServerSource::Given(given) if given.chain.contains("CERTIFICATE")));

    let other = Found { own: Some(own), server: None, clients: Some(Some(given_clients.clone())) };
    let other = trust(&other).unwrap();
    assert_eq!((&other.servers, &other.clients), (authorities.trusted(), &bundle(&clients)));
    assert_eq!(other.signs_clients, Some(clients.clone()));

    let both = Found { own: None, server: Some(Some(given_server)), clients: Some(Some(given_clients)) };
    assert!(!both.needs_own());
    let both = trust(&both).unwrap();
    // Both sides fit together.
    let ClientSecret::Write { credentials, due } = plan_client_secret(None, &web(), &both, now(), lifetimes()).unwrap()
    else {
        panic!("it is missing")
    };
    assert_eq!(due, Some(Due::Missing));
    assert_eq!(accepts_client(&both.clients, &credentials.certificates().unwrap(), now()), Ok(()));
    let ServerSource::Given(shown) = &both.server else { panic!("it is given") };
    let secret = stored(&client_secret_data(&credentials, &both));
    let trusted = Bundle::read(secret.part("ca.crt").unwrap()).unwrap();
    assert_eq!(accepts_server(&trusted, &shown.certificates().unwrap(), "cp.example", now()), Ok(()));
}

#[test]
fn a_clients_authority_without_its_key_is_trusted_and_signs_nothing() {
    let (_, own) = ours();
    let clients = authority();
    let leaf = clients.issue_client(&web(), now(), lifetimes()).unwrap();
    let ca = pem(&clients);
    for brought in [
        data([("ca.crt", &*ca)]),
        data([("ca.crt", &*ca), ("tls.crt", &*ca)]),
        // The Secret of any certificate that it has signed.
        data([("ca.crt", &*ca), ("tls.crt", &*leaf.chain), ("tls.key", leaf.key.expose())]),
    ] {
        let found = Found { own: Some(own.clone()), server: None, clients: Some(Some(brought)) };
        let trust = trust(&found).unwrap();
        assert_eq!((&trust.clients, &trust.signs_clients), (&bundle(&clients), &None));
        let plan = |found: Option<&SecretData>, at| plan_client_secret(found, &web(), &trust, at, lifetimes()).unwrap();
        assert_eq!(plan(None, now()), ClientSecret::Awaited(Due::Missing));
        let theirs = data([("tls.crt", &*leaf.chain), ("tls.key", leaf.key.expose())]);
        // Theirs to renew: it is good to its end.
        let end = leaf.facts().unwrap().not_after + SignedDuration::from_secs(1);
        assert_eq!(plan(Some(&theirs), later(6)), ClientSecret::Keep { until: end });
        assert_eq!(plan(Some(&theirs), later(8)), ClientSecret::Awaited(Due::NotValid));
    }
}

#[test]
fn secrets_that_are_missing_or_malformed_are_named_with_the_part() {
    let (_, own) = ours();
    let good = server_secret(&authority());
    let without = |secret: &SecretData, part: &str| {
        let mut secret = secret.clone();
        secret.0.remove(part);
        Some(secret)
    };
    let with = |secret: &SecretData, part: &str, text: &str| {
        let mut secret = secret.clone();
        secret.0.insert(part.to_owned(), text.as_bytes().to_vec());
        Some(secret)
    };
    let of_server = |server| Found { own: Some(own.clone()), server: Some(server), clients: None };
    let of_clients = |clients| Found { own: Some(own.clone()), server: None, clients: Some(clients) };
    let ca = authority_secret(&authority());
    for (found, role, says) in [
        (Found::default(), Role::Own, "it is not there"),
        (Found { own: without(&own, "tls.key"), ..Found::default() }, Role::Own, "tls.key is missing"),
        (of_server(None), Role::Server, "it is not there"),
        (of_server(without(&good, "ca.crt")), Role::Server, "it has no ca.crt"),
        (of_server(with(&good, "tls.crt", "")), Role::Server, "it has no tls.crt"),
        (of_server(with(&good, "tls.key", "x")), Role::Server, "tls.crt: the private key"),
        (of_clients(None), Role::Clients, "it is not there"),
        (of_clients(Some(SecretData::default())), Role::Clients, "it has no ca.crt"),
        (of_clients(with(&ca, "ca.crt", "x")), Role::Clients, "ca.crt: there is no certificate"),
        (of_clients(with(&ca, "tls.key", "x")), Role::Clients, "tls.crt: the private key"),
    ] {
        let error: NoTrust = trust(&found).unwrap_err();
        assert_eq!(error.role(), role, "{says}");
        assert!(error.to_string().starts_with(says), "{says}: {error}");
    }
}

#[test]
fn a_gateways_secret_is_written_when_its_certificate_or_the_authorities_beside_it_are_not_what_they_should_be() {
    let (mut authorities, own) = ours();
    let of = |own: SecretData| trust(&Found { own: Some(own), ..Found::default() }).unwrap();
    let first = of(own);
    let plan = |found: Option<&SecretData>, trust: &Trust, at| {
        plan_client_secret(found, &web(), trust, at, lifetimes()).unwrap()
    };
    let written = |plan: ClientSecret, trust: &Trust| match plan {
        ClientSecret::Write { credentials, due } => (stored(&client_secret_data(&credentials, trust)), due),
        other => panic!("{other:?}"),
    };
    let (secret, due) = written(plan(None, &first, now()), &first);
    assert_eq!(due, Some(Due::Missing));
    assert_eq!(secret.0.keys().collect::<Vec<_>>(), ["ca.crt", "tls.crt", "tls.key"]);
    assert!(
        matches!(plan(Some(&secret), &first, now()), ClientSecret::Keep { until } if until > later(4) && until < later(5))
    );
    let (_, due) = written(plan(Some(&secret), &first, later(5)), &first);
    assert_eq!(due, Some(Due::Soon));

    // Another authority is known from now on: the certificate stays.
    authorities.advance(later(250), lifetimes()).unwrap();
    let second = of(stored(&authorities.to_data()));
    let (more, due) = written(plan(Some(&secret), &second, now()), &second);
    assert_eq!((due, more.part("tls.crt")), (None, secret.part("tls.crt")));
    assert_ne!(more.part("ca.crt"), secret.part("ca.crt"));

    for (part, text) in [("tls.crt", "x"), ("tls.key", ""), ("tls.key", "x")] {
        let mut broken = secret.clone();
        broken.0.insert(part.to_owned(), text.as_bytes().to_vec());
        let (mended, due) = written(plan(Some(&broken), &first, now()), &first);
        assert_eq!(due, Some(Due::Missing), "{part} {text:?}");
        assert_ne!(mended.part("tls.crt"), secret.part("tls.crt"));
    }
    let (_, due) = written(plan(Some(&secret), &of(ours().1), now()), &first);
    assert_eq!(due, Some(Due::OtherAuthority));
}

#[test]
fn what_an_envoy_needs_is_read_from_its_gateways_secret_and_no_other() {
    let (_, own) = ours();
    let trust = trust(&Found { own: Some(own), ..Found::default() }).unwrap();
    let ClientSecret::Write { credentials, .. } = plan_client_secret(None, &web(), &trust, now(), lifetimes()).unwrap()
    else {
        panic!("it is missing")
    };
    let secret = stored(&client_secret_data(&credentials, &trust));
    let material = ClientMaterial::read(&secret, &web().gateway).unwrap();
    let names: Vec<_> = material.files().map(|(name, content)| (name, content.contains("PRIVATE KEY"))).into();
    assert_eq!(names, [("ca.crt", false), ("tls.crt", false), ("tls.key", true)]);
    assert_eq!(ClientMaterial::read(&secret, &ObjectName::new("shop", "api")), None);
    let mut cut = secret.clone();
    cut.0.remove("ca.crt");
    assert_eq!(ClientMaterial::read(&cut, &web().gateway), None);
    // Neither shows what is secret.
    let shown = format!("{secret:?} {material:?}");
    assert!(!shown.contains("BEGIN") && shown.contains("tls.key"), "{shown}");
}
