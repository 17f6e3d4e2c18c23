//! Certificates: who is named in them, who accepts them, and when they have to be made anew.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use tailscale_gateway::{
    identity::{
        Authorities, Authority, AuthorityError, Bundle, ClientId, Credentials, Due, Facts, InvalidLifetimes,
        InvalidPem, Lifetimes, PrivateKey, Refusal, SERVER_NAME, ServerNames, TrustDomain, accepts_client,
        accepts_server, client_certificate_due, renew_at, server_certificate_due,
    },
    model::ObjectName,
};

use crate::support::tools::repository;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn lifetimes() -> Lifetimes {
    Lifetimes::new(365 * DAY, 7 * DAY).unwrap()
}

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn later(days: f64) -> Timestamp {
    now() + jiff::SignedDuration::from_secs_f64(days * 24.0 * 3600.0)
}

fn client(gateway: &str) -> ClientId {
    ClientId { trust_domain: TrustDomain::default(), gateway: ObjectName::parse_namespaced(gateway).unwrap() }
}

fn names(names: &[&str]) -> ServerNames {
    ServerNames::new(names.iter().copied()).unwrap()
}

fn bundle(authorities: &[&Authority]) -> Bundle {
    let mut bundle = Bundle::default();
    authorities.iter().for_each(|authority| bundle.add(authority.certificate().clone()));
    bundle
}

fn authority() -> Authority {
    Authority::generate(now(), lifetimes()).unwrap()
}

#[test]
fn an_identity_is_written_and_read_as_a_spiffe_id_and_in_one_way_only() {
    let id = client("shop/web.example-1");
    assert_eq!(id.to_string(), "spiffe://gateway.tailscale.com/ns/shop/gateway/web.example-1");
    for good in [
        "spiffe://gateway.tailscale.com/ns/shop/gateway/web",
        "spiffe://a/ns/b/gateway/c.d",
        "spiffe://my-domain_1.example/ns/0/gateway/9",
    ] {
        let id: ClientId = good.parse().unwrap_or_else(|error| panic!("{good}: {error}"));
        assert_eq!(id.to_string(), good);
    }
    assert_eq!("SPIFFE://Gateway.Tailscale.Com/ns/shop/gateway/web".parse(), Ok(client("shop/web")));
    for bad in [
        "",
        "gateway.tailscale.com/ns/shop/gateway/web",
        "https://gateway.tailscale.com/ns/shop/gateway/web",
        "spiffe:///ns/shop/gateway/web",
        "spiffe://a:1/ns/shop/gateway/web",
        "spiffe://u@a/ns/shop/gateway/web",
        "spiffe://a/shop/web",
        "spiffe://a/ns/shop/sa/web",
        "spiffe://a/ns/shop/gateway",
        "spiffe://a/ns/shop/gateway/",
        "spiffe://a/ns//gateway/web",
        "spiffe://a/ns/shop/gateway/web/",
        "spiffe://a/ns/shop/gateway/web/x",
        "spiffe://a//ns/shop/gateway/web",
        "spiffe://a/NS/shop/gateway/web",
        "spiffe://a/ns/Shop/gateway/web",
        "spiffe://a/ns/shop/gateway/we%62",
        "spiffe://a/ns/shop/gateway/..",
        "spiffe://a/ns/sh.op/gateway/web",
        "spiffe://a/ns/shop/gateway/web?x",
        "spiffe://a/ns/shop/gateway/web#x",
        " spiffe://a/ns/shop/gateway/web",
    ] {
        assert!(bad.parse::<ClientId>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_trust_domain_has_the_characters_that_spiffe_allows() {
    for good in ["a", "gateway.tailscale.com", "x-1_y.z", &"a".repeat(255)] {
        assert_eq!(good.parse::<TrustDomain>().unwrap().as_str(), good);
    }
    for bad in ["", "A", "a/b", "a:1", "a b", "ä", "%61", &"a".repeat(256)] {
        assert!(bad.parse::<TrustDomain>().is_err(), "{bad:?}");
    }
}

#[test]
fn names_of_servers_are_addresses_or_dns_names() {
    let sorted = names(&["B.example", "127.0.0.1", "a.example", "::1", "*.c.example", "a.example"]);
    assert_eq!(sorted.dns_names().collect::<Vec<_>>(), ["*.c.example", "a.example", "b.example"]);
    assert_eq!(sorted.addresses().len(), 2);
    for bad in ["", "a b", "a..b", "-a", "a_b", "a.*", "*", "[::1]", "a:1", "1.2.3.4:5", &"a".repeat(64)] {
        assert_eq!(ServerNames::new([bad]), Err(bad.to_owned()));
    }
    assert_eq!(ServerNames::new([]), Err(String::new()));
}

#[test]
fn lifetimes_leave_room_for_a_rotation() {
    for (authority, certificate, outcome) in [
        (4 * DAY, DAY, None),
        (365 * DAY, 7 * DAY, None),
        (Duration::from_secs(12), Duration::from_secs(3), None),
        (3 * DAY, DAY, Some(InvalidLifetimes::Ratio)),
        (DAY, Duration::from_secs(2), Some(InvalidLifetimes::TooShort)),
        (40_000 * DAY, DAY, Some(InvalidLifetimes::TooLong)),
    ] {
        assert_eq!(Lifetimes::new(authority, certificate).err(), outcome, "{authority:?} {certificate:?}");
    }
}

#[test]
fn what_is_issued_is_valid_for_its_purpose_its_name_and_its_time_alone() {
    let (ours, theirs) = (authority(), authority());
    let trusted = bundle(&[&ours]);
    let envoy = ours.issue_client(&client("shop/web"), now(), lifetimes()).unwrap();
    let server = ours.issue_server(&names(&["cp.example", "127.0.0.1", "::1"]), now(), lifetimes()).unwrap();
    let (envoy_chain, server_chain) = (envoy.certificates().unwrap(), server.certificates().unwrap());

    assert_eq!(accepts_client(&trusted, &envoy_chain, now()), Ok(()));
    for name in ["cp.example", "CP.example", "127.0.0.1", "::1"] {
        assert_eq!(accepts_server(&trusted, &server_chain, name, now()), Ok(()), "{name}");
    }
    for name in ["other.example", "127.0.0.2", "::2"] {
        assert_eq!(accepts_server(&trusted, &server_chain, name, now()), Err(Refusal::OtherName), "{name}");
    }
    // An Envoy's certificate is none of a server, and the other way round.
    assert!(matches!(accepts_client(&trusted, &server_chain, now()), Err(Refusal::Other(_))));
    assert!(accepts_server(&trusted, &envoy_chain, "cp.example", now()).is_err());
    // Nor is it one of an authority.
    assert_eq!(
        Authority::read(envoy.chain.as_bytes(), envoy.key.expose().as_bytes()),
        Err(AuthorityError::NoAuthority)
    );

    for (at, outcome) in [
        (later(-0.01), Err(Refusal::NotYetValid)),
        // The clocks of others may be behind by five minutes.
        (later(-0.003), Ok(())),
        (later(6.99), Ok(())),
        (later(7.01), Err(Refusal::Expired)),
    ] {
        assert_eq!(accepts_client(&trusted, &envoy_chain, at), outcome, "{at}");
        assert_eq!(accepts_server(&trusted, &server_chain, "cp.example", at), outcome, "{at}");
    }
    assert_eq!(accepts_client(&bundle(&[&theirs]), &envoy_chain, now()), Err(Refusal::UnknownAuthority));
    assert_eq!(accepts_server(&bundle(&[&theirs]), &server_chain, "cp.example", now()), Err(Refusal::UnknownAuthority));
    assert_eq!(accepts_client(&bundle(&[&theirs, &ours]), &envoy_chain, now()), Ok(()));

    let facts = envoy.facts().unwrap();
    assert_eq!(facts.client_id(), Some(client("shop/web")));
    assert!(facts.dns_names.is_empty() && facts.addresses.is_empty() && !facts.is_authority);
    assert!(ours.facts().is_authority);
    let facts = server.facts().unwrap();
    assert_eq!(facts.dns_names, BTreeSet::from(["cp.example".to_owned()]));
    assert_eq!((facts.addresses.len(), facts.client_id()), (2, None));
}

#[test]
fn an_authority_signs_nothing_that_outlives_it() {
    let authority = authority();
    let late = later(363.0);
    let certificate = authority.issue_client(&client("shop/web"), late, lifetimes()).unwrap().facts().unwrap();
    assert_eq!(certificate.not_after, authority.facts().not_after);
    let early = authority.issue_client(&client("shop/web"), now(), lifetimes()).unwrap().facts().unwrap();
    assert_eq!(early.not_before, authority.facts().not_before);
}

#[test]
fn a_certificate_with_several_uris_names_nobody() {
    let facts = Facts {
        not_before: now(),
        not_after: now(),
        dns_names: BTreeSet::new(),
        addresses: BTreeSet::new(),
        uris: vec![client("shop/web").to_string()],
        is_authority: false,
    };
    assert_eq!(facts.client_id(), Some(client("shop/web")));
    let more = |uri: &str| Facts { uris: vec![uri.to_owned(), facts.uris[0].clone()], ..facts.clone() };
    assert_eq!(more("https://example.com").client_id(), None);
    assert_eq!(more(&facts.uris[0]).client_id(), None);
    assert_eq!(Facts { uris: Vec::new(), ..facts.clone() }.client_id(), None);
}

#[test]
fn authorities_of_others_sign_with_keys_of_every_usual_form() {
    let folder = repository().join("tests/golden/authorities");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    for form in ["rsa-pkcs1", "ec-sec1"] {
        let certificate = read(&format!("{form}.crt"));
        let authority = Authority::read(&certificate, &read(&format!("{form}.key"))).unwrap();
        let envoy = authority.issue_client(&client("shop/web"), at, lifetimes()).unwrap();
        let trusted = Bundle::read(&certificate).unwrap();
        assert_eq!(accepts_client(&trusted, &envoy.certificates().unwrap(), at), Ok(()), "{form}");
        assert_eq!(client_certificate_due(Some(&envoy), &client("shop/web"), &trusted, at), None, "{form}");
    }
    let mixed = Authority::read(&read("rsa-pkcs1.crt"), &read("ec-sec1.key"));
    assert_eq!(mixed, Err(AuthorityError::Pem(InvalidPem::OtherKey)));
}

#[test]
fn the_time_to_renew_is_after_two_thirds_of_a_life() {
    let at = |second| Timestamp::from_second(second).unwrap();
    for (from, until, due) in [(0, 300, 200), (100, 103, 102), (0, 10, 6), (0, 1, 0), (5, 5, 5), (9, 3, 9)] {
        assert_eq!(renew_at(at(from), at(until)), at(due), "{from}..{until}");
    }
}

#[test]
fn what_is_wrong_with_a_client_certificate_is_said() {
    let (ours, theirs) = (authority(), authority());
    let (old, trusted) = (authority(), bundle(&[&ours]));
    let wanted = client("shop/web");
    let issue =
        |authority: &Authority, gateway: &str| authority.issue_client(&client(gateway), now(), lifetimes()).unwrap();
    let good = issue(&ours, "shop/web");
    let due = |found: &Credentials, at| client_certificate_due(Some(found), &wanted, &trusted, at);

    assert_eq!(due(&good, now()), None);
    assert_eq!(client_certificate_due(None, &wanted, &trusted, now()), Some(Due::Missing));
    assert_eq!(due(&good, later(4.5)), None);
    assert_eq!(due(&good, later(4.8)), Some(Due::Soon));
    assert_eq!(due(&good, later(7.1)), Some(Due::NotValid));
    assert_eq!(due(&good, later(-1.0)), Some(Due::NotValid));
    assert_eq!(due(&issue(&theirs, "shop/web"), now()), Some(Due::OtherAuthority));
    assert_eq!(due(&issue(&ours, "shop/api"), now()), Some(Due::OtherNames));
    let foreign = ClientId { trust_domain: "example.org".parse().unwrap(), ..wanted.clone() };
    let foreign = ours.issue_client(&foreign, now(), lifetimes()).unwrap();
    assert_eq!(due(&foreign, now()), Some(Due::OtherNames));
    let server = ours.issue_server(&names(&["cp.example"]), now(), lifetimes()).unwrap();
    assert_eq!(due(&server, now()), Some(Due::OtherNames));
    // An authority that no longer signs, but is trusted, is no reason.
    let both = bundle(&[&old, &ours]);
    assert_eq!(client_certificate_due(Some(&issue(&old, "shop/web")), &wanted, &both, now()), None);

    let malformed = |found: &Credentials| match due(found, now()) {
        Some(Due::Malformed(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let other_key = issue(&ours, "shop/web").key;
    assert!(malformed(&Credentials { key: other_key, ..good.clone() }).contains("not the one of the certificate"));
    assert!(malformed(&Credentials { key: PrivateKey::new("x"), ..good.clone() }).contains("private key"));
    assert!(malformed(&Credentials { chain: String::new(), ..good.clone() }).contains("no certificate"));
    let cut = good.chain.replacen("MII", "MIA", 1);
    malformed(&Credentials { chain: cut, ..good });
}

#[test]
fn what_is_wrong_with_a_server_certificate_is_said() {
    let (ours, theirs) = (authority(), authority());
    let trusted = bundle(&[&ours]);
    let wanted = names(&["cp.example", "127.0.0.1"]);
    let issue =
        |authority: &Authority, wanted: &ServerNames| authority.issue_server(wanted, now(), lifetimes()).unwrap();
    let good = issue(&ours, &wanted);
    let due = |found: &Credentials, at| server_certificate_due(Some(found), &wanted, &trusted, at);

    assert_eq!(due(&good, now()), None);
    assert_eq!(server_certificate_due(None, &wanted, &trusted, now()), Some(Due::Missing));
    assert_eq!(due(&good, later(4.8)), Some(Due::Soon));
    assert_eq!(due(&good, later(8.0)), Some(Due::NotValid));
    assert_eq!(due(&issue(&theirs, &wanted), now()), Some(Due::OtherAuthority));
    for other in [&["cp.example"][..], &["127.0.0.1"], &["cp.example", "127.0.0.1", "more.example"], &["x.example"]] {
        assert_eq!(due(&issue(&ours, &names(other)), now()), Some(Due::OtherNames), "{other:?}");
    }
    // Names with a wildcard, and names that are addresses alone, are checked as a client would ask for them.
    for wanted in [names(&["*.cp.example"]), names(&["::1"])] {
        assert_eq!(server_certificate_due(Some(&issue(&ours, &wanted)), &wanted, &trusted, now()), None);
    }
    let envoy = ours.issue_client(&client("shop/web"), now(), lifetimes()).unwrap();
    assert_eq!(due(&envoy, now()), Some(Due::OtherNames));
}

#[test]
fn no_private_key_is_shown_by_debug() {
    let authorities = Authorities::create(now(), lifetimes()).unwrap();
    let credentials = authorities.current().issue_client(&client("shop/web"), now(), lifetimes()).unwrap();
    let shown = format!("{authorities:?} {credentials:?} {:?}", credentials.key);
    for key in [authorities.current().credentials().key.expose(), credentials.key.expose()] {
        let secret = key.lines().nth(1).expect("a PEM text has several lines");
        assert!(!shown.contains(secret) && !shown.contains("PRIVATE"), "{shown}");
    }
    assert!(shown.contains("PrivateKey(…)"));
}

#[test]
fn no_private_key_is_shown_by_what_is_said_about_a_mangled_one() {
    let good = authority().issue_server(&names(&["a.example"]), now(), lifetimes()).unwrap();
    let key = good.key.expose();
    let body = key.lines().nth(1).unwrap();
    for (mangled, says) in [
        (key.trim().replace('\n', " "), "broken lines"),
        (key.trim().replace('\n', "\\n"), "broken lines"),
        (key.replace(body, &format!("!{body}")), "base64"),
        (key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "encrypted"),
    ] {
        // Some put the key where the certificate belongs.
        for (chain, key) in [(good.chain.as_bytes(), mangled.as_bytes()), (mangled.as_bytes(), key.as_bytes())] {
            let error = Credentials::read(chain, key).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(said.contains(says) || error == InvalidPem::NoCertificate, "{mangled}: {said}");
            let bytes = format!("{:?}", &body.as_bytes()[..8]);
            assert!(!said.contains(&body[..12]) && !said.contains(bytes.trim_matches(['[', ']'])), "{said}");
        }
    }
}

#[test]
fn the_name_that_every_server_in_a_cluster_has_is_a_dns_name() {
    assert_eq!(names(&[SERVER_NAME]).dns_names().collect::<Vec<_>>(), [SERVER_NAME]);
}
