//! Which file gives which object, and what happens when files change.

use std::path::Path;

use tailscale_gateway::{
    model::{Kind, ObjectKey, ObjectName, Problem, Reason, Severity},
    source::FileWorld,
    store::Change,
};

/// A Namespace with a label, which is what tells two versions of it apart.
pub(crate) fn namespace(name: &str, label: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{is: '{label}'}}}}\n")
}

/// What changes say, such as `+a=1` and `-b`.
pub(crate) fn told(changes: &[Change]) -> Vec<String> {
    let mut all: Vec<String> = changes
        .iter()
        .map(|change| match change {
            Change::Upsert(object) => {
                let labels = object.metadata().labels.as_ref();
                let label = labels.and_then(|labels| labels.get("is")).map_or("", String::as_str);
                format!("+{}={label}", object.key().name)
            }
            Change::Remove(key) => format!("-{}", key.name),
        })
        .collect();
    all.sort();
    all
}

fn problems(world: &FileWorld) -> Vec<String> {
    world.problems().iter().map(ToString::to_string).collect()
}

fn load(world: &mut FileWorld, path: &str, content: impl AsRef<[u8]>) -> Vec<String> {
    told(&world.load(Path::new(path), content.as_ref()))
}

fn remove(world: &mut FileWorld, path: &str) -> Vec<String> {
    told(&world.remove(Path::new(path)))
}

#[test]
fn only_what_differs_is_told() {
    let mut world = FileWorld::new();
    let both = |label: &str| format!("{}---\n{}", namespace("a", "1"), namespace("b", label));
    assert_eq!(load(&mut world, "x.yaml", both("1")), ["+a=1", "+b=1"]);
    assert_eq!(load(&mut world, "x.yaml", both("1")), [""; 0]);
    assert_eq!(load(&mut world, "x.yaml", both("2")), ["+b=2"]);
    // The same objects, written and placed differently.
    let moved = format!("# comment\n---\n{}---\n# another\n{}", namespace("b", "2"), namespace("\"a\"", "1"));
    assert_eq!(load(&mut world, "x.yaml", moved), [""; 0]);
    assert_eq!(load(&mut world, "x.yaml", namespace("b", "2")), ["-a"]);
    assert_eq!(remove(&mut world, "x.yaml"), ["-b"]);
    assert_eq!(remove(&mut world, "x.yaml"), [""; 0]);
}

#[test]
fn of_an_object_in_two_files_the_first_by_path_counts_whichever_was_read_first() {
    let contents = [("a.yaml", "1"), ("b.yaml", "2"), ("c.yaml", "3")];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = FileWorld::new();
        let mut counts = String::new();
        for file in order {
            let (path, label) = contents[file];
            if let [told] = load(&mut world, path, namespace("x", label)).as_slice() {
                counts.clone_from(told);
            }
        }
        assert_eq!(counts, "+x=1", "{order:?}");
        assert_eq!(
            problems(&world),
            [
                "b.yaml: Namespace x: a.yaml, line 1 has the same object, and that one counts; delete one",
                "c.yaml: Namespace x: a.yaml, line 1 has the same object, and that one counts; delete one",
            ],
            "{order:?}"
        );
        assert_eq!(world.problems()[0].reason, Reason::DuplicateObject);
    }
}

#[test]
fn when_the_object_that_counts_goes_the_next_takes_over() {
    let mut world = FileWorld::new();
    load(&mut world, "a.yaml", namespace("x", "1"));
    load(&mut world, "b.yaml", namespace("x", "2"));
    assert_eq!(load(&mut world, "b.yaml", namespace("x", "3")), [""; 0], "it does not count");
    assert_eq!(remove(&mut world, "a.yaml"), ["+x=3"]);
    assert_eq!(problems(&world), [""; 0]);
    assert_eq!(load(&mut world, "a.yaml", namespace("x", "1")), ["+x=1"]);
    assert_eq!(load(&mut world, "a.yaml", "# moved to b.yaml\n"), ["+x=3"]);
    assert_eq!(problems(&world), [""; 0]);
}

#[test]
fn an_object_that_stands_twice_in_one_file_counts_where_it_stands_first() {
    let mut world = FileWorld::new();
    let twice = format!("{}---\n{}", namespace("x", "1"), namespace("x", "2"));
    assert_eq!(load(&mut world, "a.yaml", &twice), ["+x=1"]);
    let same = format!("{}---\n{}", namespace("why", "1"), namespace("why", "1"));
    load(&mut world, "b.yaml", &same);
    assert_eq!(
        problems(&world),
        [
            "a.yaml: Namespace x: a.yaml, line 1 has the same object, and that one counts; delete one",
            "b.yaml: Namespace why: b.yaml, line 1 has the same object, and that one counts; delete one",
        ]
    );
    assert_eq!(world.problems()[0].line, 5);
}

#[test]
fn every_version_of_a_kind_is_the_same_object() {
    let mut world = FileWorld::new();
    let class = |version: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/{version}\nkind: GatewayClass\nmetadata: {{name: c}}\n\
             spec: {{controllerName: example.com/c}}\n"
        )
    };
    assert_eq!(load(&mut world, "a.yaml", class("v1")).len(), 1);
    assert_eq!(load(&mut world, "a.yaml", class("v1beta1")).len(), 0);
}

#[test]
fn a_file_that_becomes_unreadable_keeps_what_it_gave() {
    let mut world = FileWorld::new();
    load(&mut world, "a.yaml", namespace("x", "1"));
    for (content, says) in [
        (&b"\xff\xfe"[..], "a.yaml: line 1: a byte here is not UTF-8"),
        (b"kind: [", "a.yaml: line 1, column 7: this is not YAML"),
        (b"apiVersion: v1\nkind:", "a.yaml: line 1: kind: is missing"),
        (b"", "a.yaml: the file has become empty"),
        (b"- 1\n", "a.yaml: line 1: this is no object"),
    ] {
        assert_eq!(load(&mut world, "a.yaml", content), [""; 0], "{says}");
        let [problem] = problems(&world).try_into().expect("one problem");
        assert!(problem.starts_with(says) && problem.ends_with("(what was there before stays in force)"), "{problem}");
    }
    assert_eq!(told(&world.unreadable(Path::new("a.yaml"), "permission denied")), [""; 0]);
    assert_eq!(problems(&world), ["a.yaml: permission denied (what was there before stays in force)"]);
    assert_eq!(load(&mut world, "a.yaml", namespace("x", "2")), ["+x=2"]);
    assert_eq!(problems(&world), [""; 0]);
}

#[test]
fn a_half_written_file_takes_nothing_away_but_what_is_readable_counts() {
    let mut world = FileWorld::new();
    load(&mut world, "a.yaml", format!("{}---\n{}", namespace("x", "1"), namespace("why", "1")));
    let half = format!("{}---\n{}---\napiVersion: v1\nkind: \"Names", namespace("x", "2"), namespace("z", "1"));
    assert_eq!(load(&mut world, "a.yaml", half), ["+x=2", "+z=1"], "why stays");
    let whole = format!("{}---\n{}", namespace("x", "2"), namespace("z", "1"));
    assert_eq!(load(&mut world, "a.yaml", whole), ["-why"]);
}

#[test]
fn an_unreadable_file_that_never_gave_anything_says_only_that() {
    let mut world = FileWorld::new();
    assert_eq!(load(&mut world, "a.yaml", b"\0"), [""; 0]);
    let [problem] = world.problems().try_into().expect("one problem");
    assert_eq!((problem.reason, problem.severity()), (Reason::Unreadable, Severity::Error));
    assert!(!problem.message.contains("in force"), "{problem}");
    assert_eq!(load(&mut world, "a.yaml", b""), [""; 0], "and an empty file is no problem");
    assert_eq!(problems(&world), [""; 0]);
}

#[test]
fn what_a_broken_file_only_keeps_counts_less_than_what_a_whole_file_says() {
    let mut world = FileWorld::new();
    load(&mut world, "a.yaml", namespace("x", "1"));
    load(&mut world, "a.yaml", b"a: [");
    assert_eq!(load(&mut world, "b.yaml", namespace("x", "2")), ["+x=2"]);
    assert_eq!(problems(&world).len(), 1, "and that is no duplicate: {:?}", problems(&world));
    assert_eq!(remove(&mut world, "b.yaml"), ["+x=1"]);
    load(&mut world, "b.yaml", namespace("x", "2"));
    assert_eq!(load(&mut world, "b.yaml", b"\xff"), ["+x=1"]);
}

#[test]
fn an_object_that_its_schema_refuses_is_named_with_the_field_and_stays_as_it_was() {
    let service = |port: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: ns}}\nspec:\n  ports:\n  - port: {port}\n"
        )
    };
    let mut world = FileWorld::new();
    assert_eq!(load(&mut world, "a.yaml", service("many")), [""; 0]);
    let [problem] = problems(&world).try_into().expect("one problem");
    assert!(problem.starts_with("a.yaml: Service ns/s: spec.ports[0].port: "), "{problem}");
    assert_eq!(load(&mut world, "a.yaml", service("80")), ["+ns/s="]);
    assert_eq!(load(&mut world, "a.yaml", service("many")), [""; 0]);
    assert!(problems(&world)[0].ends_with("(what was there before stays in force)"), "{:?}", problems(&world));
    assert_eq!(load(&mut world, "a.yaml", service("81")), ["+ns/s="]);
    assert_eq!(problems(&world), [""; 0]);
}

#[test]
fn an_object_without_a_namespace_is_in_default_also_when_it_is_refused() {
    let mut world = FileWorld::new();
    assert_eq!(
        load(&mut world, "a.yaml", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: []}}"),
        ["+default/s="]
    );
    load(&mut world, "b.yaml", "{apiVersion: v1, kind: Service, metadata: {name: t}, spec: 1}");
    assert!(problems(&world)[0].starts_with("b.yaml: Service default/t: spec: "), "{:?}", problems(&world));
}

#[test]
fn the_generation_is_the_one_that_is_written_or_none() {
    let mut world = FileWorld::new();
    for (written, read) in [("", 0), (", generation: 7", 7)] {
        for label in ["1", "2"] {
            load(
                &mut world,
                "a.yaml",
                format!(
                    "{{apiVersion: v1, kind: Namespace, metadata: {{name: x, labels: {{is: l{label}}}{written}}}}}"
                ),
            );
            assert_eq!(world.objects().map(|object| object.generation()).collect::<Vec<_>>(), [read]);
        }
    }
}

#[test]
fn kinds_that_are_none_of_our_business_are_passed_over_and_mistakes_are_warned_of() {
    let say = |api_version: &str, kind: &str| {
        let mut world = FileWorld::new();
        load(
            &mut world,
            "a.yaml",
            format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x, namespace: ns}}\n"),
        );
        assert!(world.problems().iter().all(|problem| problem.severity() == Severity::Warning));
        problems(&world).pop().unwrap_or_default()
    };
    for (api_version, kind) in [
        ("apps/v1", "Deployment"),
        ("v1", "ServiceAccount"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("kustomize.config.k8s.io/v1beta1", "Kustomization"),
    ] {
        assert_eq!(say(api_version, kind), "", "{api_version} {kind}");
    }
    for (api_version, kind, says) in [
        (
            "gateway.networking.k8s.io/v1",
            "HttpRout",
            "a.yaml: HttpRout ns/x: kind: gateway.networking.k8s.io/v1 has no kind \"HttpRout\"; did you mean HTTPRoute?",
        ),
        (
            "gateway.networking.k8s.io/v1",
            "BackendTLSPolicy",
            "a.yaml: BackendTLSPolicy ns/x: kind: objects of kind BackendTLSPolicy are not acted on; this one is left out",
        ),
        (
            "gateway.tailscale.com/v1alpha1",
            "TailscaleEndpoint",
            "a.yaml: TailscaleEndpoint ns/x: kind: gateway.tailscale.com/v1alpha1 has no kind \"TailscaleEndpoint\"; did you mean TailscaleEndpoints?",
        ),
        (
            "gateway.networking.k8s.io/v1alpha2",
            "HTTPRoute",
            "a.yaml: HTTPRoute ns/x: apiVersion: HTTPRoute is read as gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1, not as \"gateway.networking.k8s.io/v1alpha2\"",
        ),
        (
            "gateway.networking.k8s.io/v1beta1",
            "TLSRoute",
            "a.yaml: TLSRoute ns/x: apiVersion: TLSRoute is read as gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1alpha3 or gateway.networking.k8s.io/v1alpha2, not as \"gateway.networking.k8s.io/v1beta1\"",
        ),
        (
            "gateway.network.k8s.io/v1",
            "HTTPRoute",
            "a.yaml: HTTPRoute ns/x: apiVersion: HTTPRoute is read as gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1, not as \"gateway.network.k8s.io/v1\"; did you mean that?",
        ),
        ("v1", "Servic", "a.yaml: Servic ns/x: kind: v1 has no kind \"Servic\"; did you mean Service?"),
        ("apps/v1", "Servicee", ""),
        (
            "example.com/v1",
            "Widget",
            "a.yaml: Widget ns/x: kind: Widget of example.com/v1 is no kind that this program reads; it is left out",
        ),
        (
            "networking.istio.io/v1",
            "Gateway",
            "a.yaml: Gateway ns/x: kind: Gateway of networking.istio.io/v1 is no kind that this program reads; it is left out",
        ),
    ] {
        assert_eq!(say(api_version, kind), says, "{api_version} {kind}");
    }
}

#[test]
fn what_is_no_object_at_all_is_named_with_its_line() {
    let mut world = FileWorld::new();
    load(
        &mut world,
        "values.yaml",
        "replicas: 2\n---\n\n- 1\n---\napiVersion: v1\nkind: 3\n---\nkind: List\nitems: [{kind: A}]\n",
    );
    assert_eq!(
        problems(&world),
        [
            "values.yaml: line 1: apiVersion: is missing; every object says what it is",
            "values.yaml: line 4: this is no object; a manifest has apiVersion, kind and metadata",
            "values.yaml: line 6: kind: is not a text that says what the object is",
            "values.yaml: line 9: items[0].apiVersion: is missing; every object says what it is",
        ]
    );
}

#[test]
fn no_text_of_a_file_can_forge_another_line() {
    let mut world = FileWorld::new();
    load(
        &mut world,
        "a\nb.yaml",
        "apiVersion: v1\nkind: \"X\\ny.yaml: Gateway ns/x\"\nmetadata: {name: \"a\\r\\nb\"}\n",
    );
    let [problem] = problems(&world).try_into().expect("one problem");
    assert!(!problem.contains(['\n', '\r']), "{problem:?}");
}

#[test]
fn a_problem_found_by_others_gets_the_place_of_its_object() {
    let mut world = FileWorld::new();
    load(&mut world, "b.yaml", format!("{}---\n{}", namespace("x", "1"), namespace("why", "1")));
    load(&mut world, "c.yaml", namespace("why", "2"));
    let key = |name: &str| ObjectKey::new(Kind::Namespace, ObjectName::new("", name));
    let located = world.locate(&Problem::new(key("why"), "spec.a", Reason::TargetNotFound, "no such thing"));
    assert_eq!((located.to_string().as_str(), located.line), ("b.yaml: Namespace why: spec.a: no such thing", 5));
    assert_eq!(world.locate(&Problem::new(key("z"), "", Reason::TargetNotFound, "?")).file, Path::new("").into());
}

#[test]
fn a_file_full_of_mistakes_does_not_fill_the_memory_with_them() {
    let mut world = FileWorld::new();
    load(&mut world, "a.yaml", format!("{}{}", "a: 1\n---\n".repeat(3000), namespace("x", "1")));
    let problems = problems(&world);
    assert_eq!(problems.len(), 1001);
    assert_eq!(problems[0], "a.yaml: 2000 more problems of this file are not listed");
    assert_eq!(world.objects().count(), 1, "and the good part counts");
}
