//! The command `certificates`: a folder of certificates that is kept fresh by running it again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::Parser as _;
use jiff::{SignedDuration, Timestamp};
use tailscale_gateway::{
    cli::certificates::renew,
    config::{CertificatesConfig, Command, Config},
    identity::{Bundle, Credentials, ServerIdentity, accepts_client, accepts_server},
};
use tempfile::TempDir;

fn config(out: &Path, arguments: &str) -> CertificatesConfig {
    let words = ["tailscale-gateway", "certificates", "--out", out.to_str().unwrap()];
    let parsed = Config::try_parse_from(words.into_iter().chain(arguments.split_whitespace())).unwrap();
    let Command::Certificates(config) = parsed.command else { panic!("it is certificates") };
    config
}

fn day(day: i64) -> Timestamp {
    "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * day)
}

/// Runs it, and returns what it says of each certificate, without the folder's name.
fn run(out: &Path, arguments: &str, now: Timestamp) -> Vec<String> {
    let lines = renew(&config(out, arguments), now).unwrap_or_else(|error| panic!("{error}"));
    lines.into_iter().map(|line| line.replace(&format!("{}/", out.display()), "")).collect()
}

fn credentials(path: &Path) -> Credentials {
    let read = |name| fs::read(path.join(name)).unwrap();
    Credentials::read(&read("tls.crt"), &read("tls.key")).unwrap()
}

/// All files under a folder, with what they hold.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Whether server and Envoys accept each other, each with what is in its own folder.
fn assert_accepted(out: &Path, gateway: &str, now: Timestamp) {
    let read = |path: &str| fs::read(out.join(path)).unwrap();
    let server =
        ServerIdentity::read(&read("server/tls.crt"), &read("server/tls.key"), &read("server/ca.crt")).unwrap();
    let envoy = credentials(&out.join("gateway").join(gateway));
    let trusted = Bundle::read(&read(&format!("gateway/{gateway}/ca.crt"))).unwrap();
    assert_eq!(accepts_client(&server.clients, &envoy.certificates().unwrap(), now), Ok(()), "{now}");
    let chain = server.credentials.certificates().unwrap();
    assert_eq!(accepts_server(&trusted, &chain, "localhost", now), Ok(()), "{now}");
    let id = envoy.facts().unwrap().client_id().unwrap();
    assert_eq!(id.to_string(), format!("spiffe://gateway.tailscale.com/ns/{}", gateway.replace('/', "/gateway/")));
}

#[test]
fn a_first_run_makes_all_that_mutual_tls_needs_and_keys_are_their_owners_alone() {
    let folder = TempDir::with_prefix("certificates-").unwrap();
    let out = folder.path().join("certificates");
    assert_eq!(
        run(&out, "--gateway default/web --gateway shop/api", day(0)),
        [
            "authority: made, expires 2036-02-27T00:00:00Z",
            "server: made for localhost 127.0.0.1 ::1, expires 2026-05-30T00:00:00Z",
            "gateway/default/web: made, expires 2026-05-30T00:00:00Z",
            "gateway/shop/api: made, expires 2026-05-30T00:00:00Z",
        ]
    );
    assert_accepted(&out, "default/web", day(1));
    assert_accepted(&out, "shop/api", day(1));
    let found = files(&out);
    assert_eq!(found.len(), 4 * 3, "{:?}", found.keys());
    for path in found.keys() {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(fs::metadata(out.join("authority")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_second_run_keeps_what_is_good_and_makes_anew_what_is_due() {
    let folder = TempDir::with_prefix("certificates-").unwrap();
    let out = folder.path();
    run(out, "--gateway default/web --server-name cp.example --server-name localhost", day(0));
    let before = files(out);
    let kept = run(out, "", day(30));
    assert_eq!(files(out), before);
    assert!(kept.iter().all(|line| line.contains(": kept")), "{kept:#?}");
    assert!(kept[1].starts_with("server: kept for cp.example localhost, expires"), "{kept:#?}");

    // Two thirds of a life later, without naming the Gateway again.
    let renewed = run(out, "", day(61));
    assert_eq!(renewed[0], kept[0]);
    assert!(renewed[1].starts_with("server: made anew (it expires soon) for cp.example localhost"), "{renewed:#?}");
    assert!(renewed[2].starts_with("gateway/default/web: made anew (it expires soon)"), "{renewed:#?}");
    assert_accepted(out, "default/web", day(61));

    // Other names, and files that are not what they were.
    let renamed = run(out, "--server-name localhost", day(62));
    assert!(renamed[1].starts_with("server: made anew (it is for other names) for localhost,"), "{renamed:#?}");
    fs::write(out.join("gateway/default/web/tls.key"), "nonsense").unwrap();
    fs::remove_file(out.join("server/tls.crt")).unwrap();
    fs::write(out.join("server/ca.crt"), "nonsense").unwrap();
    let mended = run(out, "", day(62));
    assert!(mended[1].starts_with("server: made for localhost 127.0.0.1 ::1,"), "{mended:#?}");
    assert!(mended[2].starts_with("gateway/default/web: made,"), "{mended:#?}");
    assert_accepted(out, "default/web", day(62));
}

#[test]
fn run_daily_it_rotates_the_authority_and_nobody_is_ever_refused() {
    let folder = TempDir::with_prefix("certificates-").unwrap();
    let out = folder.path();
    let lives = "--gateway default/web --lifetime 10d --authority-lifetime 60d";
    let mut said = Vec::new();
    for today in 0..=190 {
        let lines = run(out, lives, day(today));
        let (done, _) = lines[0].split_once(", expires").unwrap();
        said.extend((!done.ends_with("kept")).then(|| done.replace("authority: ", &format!("{today} "))));
        assert_accepted(out, "default/web", day(today));
        let left = files(&out.join("authority"));
        assert_eq!(left.contains_key(&out.join("authority/next.key")), left.len() == 5);
    }
    let beginning = ["0 made", "30 introduced", "40 promoted", "60 introduced", "61 forgotten", "70 promoted"];
    assert_eq!(said[..6], beginning);
    assert!(said.iter().filter(|line| line.contains("promoted")).count() >= 4, "{said:?}");
}

#[test]
fn an_authority_that_can_not_be_read_is_not_replaced_unasked() {
    let folder = TempDir::with_prefix("certificates-").unwrap();
    let out = folder.path();
    run(out, "--gateway default/web", day(0));
    fs::remove_file(out.join("authority/tls.key")).unwrap();
    let before = files(out);
    let error = renew(&config(out, ""), day(0)).unwrap_err().to_string();
    assert!(error.contains("tls.key is missing") && error.contains("authority"), "{error}");
    assert_eq!(files(out), before);
}

#[test]
fn lifetimes_that_leave_no_room_for_a_rotation_are_refused() {
    let folder = TempDir::with_prefix("certificates-").unwrap();
    for (arguments, says) in [
        ("--lifetime 100d --authority-lifetime 399d", "at least 4 times"),
        ("--lifetime 1s", "at least 3 seconds"),
        ("--authority-lifetime 40000d", "100 years"),
    ] {
        let error = renew(&config(folder.path(), arguments), day(0)).unwrap_err().to_string();
        assert!(error.contains(says), "{arguments}: {error}");
    }
    assert_eq!(files(folder.path()).len(), 0);
}
