//! When an Envoy Gateway is made to translate again: what changes a Gateway's revision, and when that is written where.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde_json::Value;
use tailscale_gateway::{
    api::TailscaleGatewayRevision,
    extension::{
        Found, RevisionFolder, RevisionNews, Revisions, revisions::PEACE, revisions::Step, revisions::run::run,
    },
    metrics::Metrics,
    model::{GatewayRevision, Kind, ObjectKey, ObjectName},
    snapshot::{Hosted, SnapshotCache, TypeUrl},
    source::FileWorld,
    store::Change,
};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    api::accepted,
    support::{
        extension_cases::{Case, Played, cases},
        tls::Authority,
        wait::until,
    },
};

fn gateway(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

fn revision(number: u128) -> GatewayRevision {
    GatewayRevision::new(number << 1, Some("uid".into()))
}

/// The machine and a clock.
struct Play {
    revisions: Revisions,
    began: Instant,
    now: Instant,
    generation: i64,
}

impl Play {
    fn new() -> Self {
        let now = Instant::now();
        Self { revisions: Revisions::default(), began: now, now, generation: 0 }
    }

    fn want(&mut self, number: Option<u128>) {
        self.revisions.want(&gateway("eg"), number.map(revision));
    }

    fn find(&mut self, found: Found) {
        self.generation += 1;
        self.revisions.find(&gateway("eg"), found, self.generation);
    }

    /// What is due now, which is done at once.
    fn done(&mut self) -> Option<Step> {
        let (name, step) = self.revisions.next(self.now)?;
        self.generation += 1;
        self.revisions.done(&name, step.clone(), self.generation);
        Some(step)
    }

    /// Lets time pass until something may be done; answers how long that was since the beginning.
    fn wake(&mut self) -> Option<Duration> {
        self.now = self.now.max(self.revisions.wake_at()?);
        Some(self.now - self.began)
    }
}

#[test]
fn the_first_change_is_written_at_once_and_then_the_latest_once_a_second() {
    let mut play = Play::new();
    play.want(Some(1));
    assert_eq!(play.done(), Some(Step::Write(revision(1))));
    for number in 2..100 {
        play.now += Duration::from_millis(5);
        play.want(Some(number));
        assert_eq!(play.done(), None, "{number}");
    }
    assert_eq!(play.wake(), Some(PEACE));
    assert_eq!(play.done(), Some(Step::Write(revision(99))));
    assert_eq!((play.done(), play.wake()), (None, None), "nothing changes");
    play.now += PEACE;
    play.want(Some(99));
    assert_eq!((play.done(), play.wake()), (None, None), "nothing has changed");
    // Another Gateway has its own peace.
    play.want(Some(100));
    assert!(play.done().is_some());
    play.revisions.want(&gateway("other"), Some(revision(1)));
    assert_eq!(play.revisions.next(play.now), Some((gateway("other"), Step::Write(revision(1)))));
}

#[test]
fn what_stands_there_already_is_not_written_again_by_whoever_begins_to_lead() {
    let mut play = Play::new();
    play.find(Found::Ours(revision(7)));
    play.want(Some(7));
    assert_eq!((play.done(), play.wake()), (None, None));
    // One that follows sees the other replica write what it wants itself.
    play.want(Some(8));
    play.find(Found::Ours(revision(8)));
    assert_eq!((play.done(), play.wake()), (None, None));
}

#[test]
fn a_translation_between_two_changes_that_undo_each_other_is_done_again() {
    let mut play = Play::new();
    play.want(Some(1));
    play.done();
    play.want(Some(2));
    play.want(Some(1));
    play.wake();
    let Some(Step::Write(again)) = play.done() else { panic!("an Envoy Gateway may have been told of 2") };
    assert!(again.says_the_same(&revision(1)) && again != revision(1), "{again:?}");
    assert_eq!((play.done(), play.wake()), (None, None));
    // It is as good as the first for whoever wants that.
    play.want(Some(1));
    assert_eq!((play.done(), play.wake()), (None, None));
}

#[test]
fn an_object_goes_when_nothing_is_put_into_its_gateway_any_more() {
    let mut play = Play::new();
    play.want(Some(1));
    play.done();
    play.want(None);
    assert_eq!(play.done(), None, "in peace");
    play.wake();
    assert_eq!(play.done(), Some(Step::Remove));
    play.want(Some(1));
    assert_eq!((play.done(), play.wake()), (None, Some(PEACE * 2)), "a Gateway that comes and goes has its peace, too");
    assert_eq!(play.done(), Some(Step::Write(revision(1))));
    // One that was left there.
    let mut play = Play::new();
    play.find(Found::Ours(revision(1)));
    assert_eq!(play.done(), Some(Step::Remove));
    assert_eq!((play.done(), play.wake()), (None, None));
}

#[test]
fn what_others_change_is_mended_and_what_is_theirs_is_left_alone() {
    let mut play = Play::new();
    play.want(Some(1));
    play.done();
    for found in [Found::Altered, Found::Nothing, Found::Ours(revision(5))] {
        play.find(found.clone());
        play.wake();
        assert_eq!(play.done(), Some(Step::Write(revision(1))), "{found:?}");
    }
    // Another Gateway of the same name.
    let other = GatewayRevision { owner: Some("new".into()), ..revision(1) };
    play.revisions.want(&gateway("eg"), Some(other.clone()));
    play.wake();
    assert_eq!(play.done(), Some(Step::Write(other)));

    play.find(Found::Theirs);
    play.want(Some(2));
    assert_eq!((play.done(), play.wake()), (None, None));
    play.want(None);
    assert_eq!((play.done(), play.wake()), (None, None));
    play.want(Some(2));
    play.find(Found::Nothing);
    play.wake();
    assert_eq!(play.done(), Some(Step::Write(revision(2))));
}

#[test]
fn news_of_what_stood_there_before_the_last_write_are_none() {
    let mut play = Play::new();
    let name = gateway("eg");
    for number in [1, 2] {
        play.want(Some(number));
        play.wake();
        play.done();
    }
    // The watch is behind: it tells of the first write when the second is done.
    assert!(!play.revisions.find(&name, Found::Ours(revision(1)), play.generation - 1));
    assert!(!play.revisions.find(&name, Found::Ours(revision(2)), play.generation));
    assert_eq!((play.done(), play.wake()), (None, None));
}

#[test]
fn a_write_that_fails_is_tried_again_later_each_time_and_with_what_is_wanted_then() {
    let mut play = Play::new();
    play.want(Some(1));
    let mut rests = Vec::new();
    for _ in 0..8 {
        let (name, _) = play.revisions.next(play.now).unwrap();
        assert_eq!(play.revisions.next(play.now), None, "one write at a time");
        play.revisions.failed(&name, play.now);
        let before = play.now;
        play.wake();
        rests.push((play.now - before).as_secs());
    }
    assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30, 30]);
    play.want(Some(2));
    assert_eq!(play.done(), Some(Step::Write(revision(2))));
    assert_eq!((play.done(), play.wake()), (None, None));
}

proptest! {
    /// Whatever happens: no two writes for a Gateway within a second, and in the end what is wanted stands there.
    #[test]
    fn writes_are_a_second_apart_and_end_with_what_is_wanted(
        events in prop::collection::vec((0_u8..3, prop::option::of(0_u128..3), 0_u64..1500), 1..60)
    ) {
        let mut play = Play::new();
        let mut stands: BTreeMap<ObjectName, GatewayRevision> = BTreeMap::new();
        let mut written: BTreeMap<ObjectName, Instant> = BTreeMap::new();
        let mut wanted: BTreeMap<ObjectName, Option<GatewayRevision>> = BTreeMap::new();
        let mut act = |play: &mut Play| -> Result<(), TestCaseError> {
            while let Some((name, step)) = play.revisions.next(play.now) {
                if let Some(before) = written.insert(name.clone(), play.now) {
                    prop_assert!(play.now - before >= PEACE);
                }
                play.generation += 1;
                play.revisions.done(&name, step.clone(), play.generation);
                match step {
                    Step::Write(revision) => drop(stands.insert(name, revision)),
                    Step::Remove => drop(stands.remove(&name)),
                }
            }
            Ok(())
        };
        for (which, number, millis) in events {
            let name = gateway(["a", "b", "c"][usize::from(which)]);
            play.revisions.want(&name, number.map(revision));
            wanted.insert(name, number.map(revision));
            act(&mut play)?;
            play.now += Duration::from_millis(millis);
            act(&mut play)?;
        }
        while play.wake().is_some() {
            act(&mut play)?;
        }
        for (name, wanted) in wanted {
            match (wanted, stands.get(&name)) {
                (None, None) => {}
                (Some(wanted), Some(stands)) => prop_assert!(wanted.says_the_same(stands)),
                other => prop_assert!(false, "{name}: {other:?}"),
            }
        }
    }
}

// What a revision is made of.

const MANIFESTS: &str = r#"# Xds: 127.0.0.1:18000
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: eg }
spec: { controllerName: gateway.envoyproxy.io/gatewayclass-controller }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { namespace: default, name: eg }
spec:
  gatewayClassName: eg
  listeners: [{ name: http, protocol: HTTP, port: 8080 }]
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleTailnet
metadata: { name: corp }
spec: { tailnet: "-", oauthSecretName: oauth, oauthSecretNamespace: default }
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleGateway
metadata: { namespace: default, name: eg }
spec:
  gatewayRef: { name: eg }
  tailnets: [{ name: corp, tailscaleTailnetRef: { name: corp } }]
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: { namespace: default, name: machines }
spec:
  tailnet: corp
  endpoints:
  - { name: web, port: 80, externalTarget: "127.0.0.1:8090" }
  - { name: docs, port: 81, externalTarget: "127.0.0.1:8091" }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { namespace: default, name: user }
spec:
  parentRefs: [{ name: eg }]
  rules:
  - matches: [{ path: { type: PathPrefix, value: "/first" } }]
    backendRefs: [{ group: gateway.tailscale.com, kind: TailscaleEndpoints, name: machines, port: 80 }]
  - matches: [{ path: { type: PathPrefix, value: "/second" } }]
    backendRefs: [{ group: gateway.tailscale.com, kind: TailscaleEndpoints, name: machines, port: 81 }]
"#;

fn objects(manifests: &str) -> Vec<Change> {
    let mut world = FileWorld::new();
    world.load(Path::new("case.yaml"), manifests.as_bytes());
    assert_eq!(world.problems(), []);
    world.objects().cloned().map(Change::Upsert).collect()
}

fn number(played: &Played) -> Option<u128> {
    played.hosted().revision(&gateway("eg")).map(|revision| revision.number)
}

#[test]
fn a_revision_changes_with_what_hooks_put_in_and_not_with_what_envoys_fetch_from_us() {
    let direct = MANIFESTS.replace("# Xds: 127.0.0.1:18000\n", "");
    let swapped = |from: &str| {
        from.replace("port: 80 }]", "port: 8 }]")
            .replace("port: 81 }]", "port: 80 }]")
            .replace("port: 8 }]", "port: 81 }]")
    };
    let cases: [(&str, &str, String, bool); 9] = [
        ("an address that Envoys fetch", MANIFESTS, MANIFESTS.replace("127.0.0.1:8090", "127.0.0.2:8095"), false),
        ("an address that stands in a cluster", &direct, direct.replace("127.0.0.1:8090", "127.0.0.2:8095"), true),
        ("a name in place of an address", MANIFESTS, MANIFESTS.replace("127.0.0.1:8090", "a.localhost:8090"), true),
        ("the name of an endpoint", MANIFESTS, MANIFESTS.replace("name: web", "name: site"), true),
        ("the port of a listener", MANIFESTS, MANIFESTS.replace("port: 8080", "port: 8081"), true),
        (
            "a rule more",
            MANIFESTS,
            format!(
                "{MANIFESTS}  - backendRefs: [{{ group: gateway.tailscale.com, kind: TailscaleEndpoints, name: machines, port: 81 }}]\n"
            ),
            true,
        ),
        ("two rules that exchange their backends", MANIFESTS, swapped(MANIFESTS), true),
        (
            "a weight",
            MANIFESTS,
            MANIFESTS.replace("port: 80 }]", "port: 80, weight: 3 }, { name: a, port: 80 }]"),
            true,
        ),
        ("a path, which is the Envoy Gateway's alone", MANIFESTS, MANIFESTS.replace("/second", "/2"), false),
    ];
    for (what, from, to, changes) in cases {
        let (before, after) = (Case::of(from).play(), Case::of(&to).play());
        assert!(number(&before).is_some(), "{what}");
        assert_eq!(number(&before) != number(&after), changes, "{what}");
        // The way there makes no difference.
        let mut way = before;
        way.pipeline.apply(objects(&to));
        assert_eq!(number(&way), number(&after), "{what}");
        way.pipeline.apply(objects(from));
        assert_eq!(number(&way), number(&Case::of(from).play()), "and back: {what}");
    }
}

/// The golden file whose Gateway has a certificate for our xDS.
fn with_a_certificate() -> Case {
    cases().into_iter().find(|case| case.name == "pointer-with-a-certificate.yaml").unwrap()
}

#[test]
fn another_certificate_for_our_xds_is_another_revision_and_none_is_no_way_there() {
    let case = with_a_certificate();
    let mut played = case.play();
    let at_first = number(&played);
    let certificate = |part: &str, text: &str| -> Change {
        let mut world = FileWorld::new();
        world.load(Path::new("case.yaml"), case.input.as_bytes());
        let secret = world.objects().find(|object| object.kind() == Kind::Secret).unwrap();
        let mut json = secret.to_json();
        json["stringData"] = serde_json::json!({ part: text });
        Change::Upsert(accepted(Kind::Secret, json))
    };
    let authority = Authority::new();
    let names = |played: &Played| {
        let gateway = Arc::clone(played.hosted().gateway(&gateway("eg")).unwrap());
        let secrets = gateway.pointer.iter().flat_map(|pointer| &pointer.secrets);
        secrets.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&played), ["tailscale-xds/default/eg", "tailscale-xds/default/eg/authorities"]);
    assert!(!format!("{:?}", played.hosted()).contains("PRIVATE KEY"));

    // Other authorities, as when these are rotated.
    let touched = played.pipeline.apply([certificate("ca.crt", &authority.pem())]).hosted;
    assert_eq!(touched.into_iter().collect::<Vec<_>>(), [gateway("eg")]);
    let rotated = number(&played);
    assert_ne!(rotated, at_first);
    // What can not be used is as good as none: no cluster asks us, and what it needs comes with it.
    played.pipeline.apply([certificate("tls.crt", &authority.pem())]);
    assert_eq!(names(&played), [""; 0]);
    let hosted = played.hosted();
    let clusters = &hosted.gateway(&gateway("eg")).unwrap().clusters;
    assert!(!clusters.is_empty());
    for name in &**clusters {
        assert!(!hosted.cluster(&gateway("eg"), name).unwrap().points, "{name}");
    }
    played.pipeline.apply([Change::Remove(ObjectKey::new(Kind::Secret, ObjectName::new("system", "xds.default.eg")))]);
    let without = number(&played);
    assert!(without.is_some() && without != at_first && without != rotated);
    assert_eq!(played.cache.current(&gateway("eg")).view(TypeUrl::Endpoints).iter().count(), 0, "nobody asks for them");
    played.pipeline.apply(objects(&case.input));
    assert_eq!(number(&played), at_first);
}

#[test]
fn a_gateway_that_nothing_is_put_into_has_no_revision() {
    let mut played = Case::of(MANIFESTS).play();
    let everything: Vec<Change> = objects(MANIFESTS);
    let without = |kind: &str, played: &mut Played| {
        let gone = everything.iter().filter_map(|change| match change {
            Change::Upsert(object) if object.kind().as_str() == kind => Some(Change::Remove(object.key())),
            _ => None,
        });
        played.pipeline.apply(gone.collect::<Vec<_>>()).hosted
    };
    let touched = without("HTTPRoute", &mut played);
    assert_eq!(touched.into_iter().collect::<Vec<_>>(), [gateway("eg")]);
    assert!(number(&played).is_some(), "its own routes are left");
    without("TailscaleGateway", &mut played);
    assert_eq!(number(&played), None);
    played.pipeline.apply(objects(MANIFESTS));
    assert_eq!(number(&played), number(&Case::of(MANIFESTS).play()));
    without("Gateway", &mut played);
    assert_eq!(number(&played), None);
    // Nothing is left of what was added up.
    for kind in ["TailscaleEndpoints", "TailscaleTailnet", "GatewayClass"] {
        without(kind, &mut played);
    }
    assert_eq!(format!("{:?}", played.hosted()), format!("{:?}", Hosted::default()));
}

#[test]
fn a_change_touches_the_gateways_that_it_concerns_and_no_others() {
    // Another Gateway and its TailscaleGateway.
    let documents: Vec<&str> = MANIFESTS.split("---\n").collect();
    let other = [documents[1], documents[3]].join("---\n");
    let other = other
        .replace("name: eg }\nspec", "name: other }\nspec")
        .replace("gatewayRef: { name: eg }", "gatewayRef: { name: other }");
    let mut played = Case::of(&format!("{MANIFESTS}---\n{other}")).play();
    assert!(played.hosted().revision(&gateway("other")).is_some());
    let address = MANIFESTS.replace("127.0.0.1:8090", "127.0.0.2:8095");
    let touched = played.pipeline.apply(objects(&address)).hosted;
    assert_eq!(touched.into_iter().collect::<Vec<_>>(), [], "that goes by EDS");
    let weight = address.replace("port: 80 }]", "port: 80, weight: 3 }, { name: a, port: 80 }]");
    let touched = played.pipeline.apply(objects(&weight)).hosted;
    assert_eq!(touched.into_iter().collect::<Vec<_>>(), [gateway("eg")]);
}

#[test]
fn every_golden_configuration_has_a_revision_exactly_if_something_is_put_into_it() {
    for case in cases() {
        let played = case.play();
        let (with, without) = (played.hosted(), Hosted::default());
        let untouched = played.configuration(&case, &with) == played.configuration(&case, &without);
        let told = case.gateways.iter().any(|gateway| with.revision(gateway).is_some());
        assert_eq!(told, !untouched, "{}", case.name);
    }
}

// Objects, and files of them.

#[test]
fn an_object_says_what_was_written_and_nothing_when_somebody_has_changed_it() {
    let object = TailscaleGatewayRevision::of(&gateway("eg"), &revision(5));
    assert_eq!((object.is_ours(), object.revision()), (true, Some(revision(5))));
    assert_eq!(object.spec.revision, format!("{:032x}", 10));
    let json = serde_json::to_value(&object).unwrap();
    assert_eq!(json.get("status"), None, "it is an Envoy Gateway's");
    let changed = |pointer: &str, value: Value| {
        let mut json = json.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        let object: TailscaleGatewayRevision = serde_json::from_value(json).unwrap();
        (object.is_ours(), object.revision())
    };
    assert_eq!(changed("/spec/targetRefs/0/name", "other".into()), (true, None));
    assert_eq!(changed("/metadata/ownerReferences/0/name", "other".into()), (true, None));
    assert_eq!(changed("/metadata/labels/gateway.networking.k8s.io~1gateway-name", "other".into()), (true, None));
    assert!(!changed("/metadata/labels/app.kubernetes.io~1managed-by", "other".into()).0);
    assert_eq!(changed("/spec/revision", "aa".into()), (true, None), "written in another way");
}

/// Whoever writes into a folder.
struct Writer {
    news: mpsc::UnboundedSender<RevisionNews>,
    metrics: Arc<Metrics>,
    _may_write: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(folder: &Path) -> (Self, Vec<(ObjectName, Found)>) {
        let (place, found) = RevisionFolder::open(folder).unwrap();
        let (news, heard) = mpsc::unbounded_channel();
        let (may_write, writes) = watch::channel(true);
        let metrics = Arc::new(Metrics::new(Arc::new(SnapshotCache::new())));
        for (gateway, found) in &found {
            news.send(RevisionNews::Found(gateway.clone(), found.clone(), 0)).unwrap();
        }
        let task = tokio::spawn(run(place, heard, writes, Arc::clone(&metrics)));
        (Self { news, metrics, _may_write: may_write, task }, found)
    }

    fn want(&self, gateway: &ObjectName, revision: Option<GatewayRevision>) {
        self.news.send(RevisionNews::Wanted(vec![(gateway.clone(), revision)])).unwrap();
    }

    fn counted(&self, result: &str) -> u64 {
        let page = self.metrics.render();
        let series = format!("tailscale_gateway_extension_revisions_total{{result=\"{result}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
    }

    async fn stop(self) {
        drop(self.news);
        self.task.await.unwrap();
    }
}

fn listed(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_folder_has_a_file_for_each_gateway_that_something_is_put_into() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("revisions");
    let plain = |number| GatewayRevision { owner: None, ..revision(number) };
    let (writer, found) = Writer::start(&path);
    assert_eq!(found, []);
    // A name may have dots; a namespace has none.
    let dotted = ObjectName::new("prod", "a.b");
    writer.want(&gateway("eg"), Some(plain(1)));
    writer.want(&dotted, Some(plain(2)));
    until("two files", async || {
        let names = listed(&path);
        if names == ["default.eg.yaml", "prod.a.b.yaml"] { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    let file = fs::read_to_string(path.join("prod.a.b.yaml")).unwrap();
    let object: Value = serde_saphyr::from_str(&file).unwrap();
    assert_eq!(object["apiVersion"], "gateway.tailscale.com/v1alpha1");
    assert_eq!(object["spec"]["targetRefs"][0]["name"], "a.b");
    assert_eq!(object["metadata"]["namespace"], "prod");
    assert_eq!((object["metadata"].get("ownerReferences"), object.get("status")), (None, None));
    writer.stop().await;

    // Somebody else's file, and one of ours that somebody has edited.
    fs::write(path.join("default.other.yaml"), "kind: Gateway\n").unwrap();
    fs::write(path.join("prod.a.b.yaml"), file.replace("name: a.b", "name: c")).unwrap();
    fs::write(path.join("README.yaml"), "").unwrap();
    let (writer, mut found) = Writer::start(&path);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<_> = found.iter().map(|(name, found)| (name.to_string(), found.clone())).collect();
    let expected =
        [("default/eg", Found::Ours(plain(1))), ("default/other", Found::Theirs), ("prod/a.b", Found::Altered)];
    assert_eq!(names, expected.map(|(name, found)| (name.to_owned(), found)));
    writer.want(&gateway("eg"), Some(plain(1)));
    writer.want(&gateway("other"), Some(plain(1)));
    until("what is left to go", async || {
        let names = listed(&path);
        if names == ["README.yaml", "default.eg.yaml", "default.other.yaml"] {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;
    writer.stop().await;
    assert_eq!(fs::read_to_string(path.join("default.other.yaml")).unwrap(), "kind: Gateway\n");
}

#[tokio::test]
async fn writes_and_failures_are_counted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("revisions");
    let (writer, _) = Writer::start(&path);
    writer.want(&gateway("eg"), Some(revision(1)));
    until("a write", async || if writer.counted("written") == 1 { Ok(()) } else { Err(listed(&path).join(" ")) }).await;
    fs::remove_dir_all(&path).unwrap();
    writer.want(&gateway("other"), Some(revision(1)));
    until("a failure", async || if writer.counted("failed") >= 1 { Ok(()) } else { Err(String::new()) }).await;
    fs::create_dir(&path).unwrap();
    until("another attempt", async || if writer.counted("written") == 2 { Ok(()) } else { Err(String::new()) }).await;
    assert_eq!(listed(&path), ["default.other.yaml"]);
    writer.stop().await;
}
