//! One file's text and what is read from it.

use std::{fs, panic::catch_unwind, path::PathBuf};

use proptest::{
    prelude::*,
    sample::{self, Index},
};
use serde_json::json;
use tailscale_gateway::source::manifest::{Format, MAX_FILE_BYTES, Manifest, decode, read};

use crate::support::{manifest_fuzz::fuzz_manifest, tools::repository};

fn yaml(text: &str) -> Manifest {
    read(Format::Yaml, text.as_bytes())
}

fn names(manifest: &Manifest) -> Vec<&str> {
    manifest.documents.iter().map(|document| document.value["name"].as_str().expect("each has a name")).collect()
}

fn only_problem(manifest: &Manifest) -> String {
    let [problem] = manifest.problems.as_slice() else { panic!("one problem is expected: {manifest:#?}") };
    problem.to_string()
}

#[test]
fn every_document_has_its_number_and_the_line_on_which_it_begins() {
    let read = yaml("# A comment.\n---\nname: a\n---\n# Another.\n\nname: b\n--- {name: c}\n");
    let places: Vec<_> = read.documents.iter().map(|document| (document.index, document.line)).collect();
    assert_eq!(places, [(0, 3), (1, 7), (2, 8)]);
    assert_eq!(names(&read), ["a", "b", "c"]);
}

#[test]
fn documents_without_content_are_skipped_and_not_counted() {
    let read = yaml("---\n---\n# only a comment\n---\n~\n---\nnull\n...\n---\n\nname: a\n---\n");
    assert_eq!(names(&read), ["a"]);
    assert_eq!(read.problems, []);
    assert_eq!(yaml("").documents, []);
    assert_eq!(yaml("# nothing\n").documents, []);
}

#[test]
fn a_broken_document_loses_no_other_and_is_named_with_its_line_and_column_in_the_file() {
    let read = yaml("name: a\n---\nname: b\nspec: [1, 2\n---\nname: c\n");
    assert_eq!(names(&read), ["a", "c"]);
    let problem = only_problem(&read);
    assert!(problem.starts_with("line 4, column 7: this is not YAML: "), "{problem}");
    assert_eq!(problem.matches("line").count(), 1, "the position is said once: {problem}");
}

#[test]
fn a_key_that_stands_twice_is_an_error_in_both_languages() {
    let problem = only_problem(&yaml("name: a\nspec:\n  port: 1\n  port: 2\n"));
    assert!(problem.starts_with("line 4, column 3: ") && problem.contains("port"), "{problem}");
    let problem = only_problem(&read(Format::Json, b"{\"name\": \"a\",\n \"name\": \"b\"}"));
    assert!(problem.starts_with("line 2, column 7: ") && problem.contains("name"), "{problem}");
    // JSON inside a YAML file takes another way.
    let problem = only_problem(&yaml("{\"name\": \"a\", \"name\": \"b\"}"));
    assert!(problem.contains("name"), "{problem}");
}

#[test]
fn json_values_stand_one_after_the_other_and_a_broken_one_loses_no_other() {
    let read = read(Format::Json, b"{\"name\": \"a}{\\\"\"}\n\n{\"name\": }\n{\"name\": \"c\"}{\"name\": \"d\"}");
    assert_eq!(names(&read), ["a}{\"", "c", "d"]);
    assert_eq!(read.documents.iter().map(|document| document.line).collect::<Vec<_>>(), [1, 4, 4]);
    assert_eq!(only_problem(&read), "line 3, column 10: this is not JSON: expected value");
}

#[test]
fn lists_are_replaced_by_their_items_whose_kind_may_be_the_lists() {
    let read = yaml(
        "apiVersion: v1\nkind: List\nitems:\n- {kind: A, name: a}\n- kind: List\n  items: [{kind: B, name: b}]\n---\n\
         apiVersion: x/v1\nkind: HTTPRouteList\nmetadata: {resourceVersion: '1'}\nitems:\n- {name: c}\n\
         - {kind: Own, apiVersion: own/v1, name: d}\n",
    );
    let all: Vec<_> = read.documents.iter().map(|document| (document.path.as_str(), document.value.clone())).collect();
    assert_eq!(
        all,
        [
            ("items[0]", json!({"kind": "A", "name": "a"})),
            ("items[1].items[0]", json!({"kind": "B", "name": "b"})),
            ("items[0]", json!({"kind": "HTTPRoute", "apiVersion": "x/v1", "name": "c"})),
            ("items[1]", json!({"kind": "Own", "apiVersion": "own/v1", "name": "d"})),
        ]
    );
}

#[test]
fn an_empty_list_is_nothing_and_a_list_of_something_else_is_a_problem() {
    assert_eq!(yaml("{kind: List, items: []}"), Manifest::default());
    assert_eq!(yaml("{kind: List}"), Manifest::default());
    assert_eq!(yaml("{kind: PodList, items: null}"), Manifest::default());
    assert_eq!(only_problem(&yaml("kind: List\nitems: {a: 1}")), "line 1: items is no array");
    let nested = format!("{}{{}}{}", "{kind: List, items: [".repeat(6), "]}".repeat(6));
    assert!(only_problem(&yaml(&nested)).contains("too deep"));
}

#[test]
fn binary_files_other_encodings_and_files_that_are_too_large_are_named() {
    let problem = only_problem(&read(Format::Yaml, b"\x7fELF\x02\x00\x00"));
    assert!(problem.starts_with("this is a binary file"), "{problem}");
    let utf16: Vec<u8> = "name: a".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(only_problem(&read(Format::Yaml, &utf16)).contains("UTF-8"));
    let problem = only_problem(&read(Format::Yaml, b"name: a\nname: \xff\n"));
    assert!(problem.starts_with("line 2: ") && problem.contains("UTF-8"), "{problem}");
    let large = vec![b' '; usize::try_from(MAX_FILE_BYTES).expect("64 MiB fit") + 1];
    assert!(decode(&large).expect_err("it is too large").message.contains("split it"));
}

#[test]
fn a_byte_order_mark_and_line_ends_of_windows_do_no_harm() {
    let read = yaml("\u{feff}name: a\r\n---\r\nname: b\r\n...\r\n");
    assert_eq!(names(&read), ["a", "b"]);
    assert_eq!(read.problems, []);
    assert_eq!(names(&super::manifest::read(Format::Json, "\u{feff}{\"name\":\r\n\"a\"}".as_bytes())), ["a"]);
}

#[test]
fn a_directive_belongs_to_the_document_after_it() {
    let read = yaml("%YAML 1.2\n---\nname: a\n...\n%TAG !e! tag:example.com,2000:\n# comment\n---\nname: !e!text b\n");
    assert_eq!(names(&read), ["a", "b"]);
    assert_eq!(read.problems, []);
}

#[test]
fn markers_inside_of_scalars_do_not_cut() {
    let read = yaml("name: a\ntext: |\n  one\n  ---\n  two\nother: \" ---\n  x\"\n---more: 1\n");
    assert_eq!(read.documents[0].value["text"], "one\n---\ntwo\n");
    assert_eq!(read.documents[0].value["---more"], 1);
}

#[test]
fn anchors_and_merge_keys_are_followed_but_not_without_limit() {
    let read = yaml("name: a\nx: &x {p: 1}\ny:\n  <<: *x\n  q: 2\n");
    assert_eq!(read.documents[0].value["y"], json!({"p": 1, "q": 2}));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", below.trim_end_matches(", ")));
    }
    let problem = only_problem(&yaml(&bomb));
    assert!(problem.contains("this is not YAML"), "{problem}");
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "- ".repeat(100_000)] {
        for format in [Format::Yaml, Format::Json] {
            assert_eq!(read(format, text.as_bytes()).problems.len(), 1);
        }
    }
}

#[test]
fn ten_megabytes_of_documents_are_read_and_so_is_one_of_three_hundred_thousand_values() {
    let mut text = String::new();
    let mut count = 0;
    while text.len() < 10 << 20 {
        let filler = "x".repeat(2000);
        text.push_str(&format!("---\nname: n{count}\ntext: {filler}\nmore: [1, 2, 3]\n"));
        count += 1;
    }
    text.push_str(&format!("---\nname: last\nvalues: [{}]\n", "1,".repeat(300_000)));
    let read = yaml(&text);
    assert_eq!(read.problems, []);
    assert_eq!(read.documents.len(), count + 1);
}

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = repository().join("fuzz/corpus/manifest");
    let entries = fs::read_dir(&folder).expect("there is a corpus");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("listed").path()).collect();
    files.sort();
    assert!(files.len() > 10, "the corpus is in {}", folder.display());
    files.into_iter().map(|file| (file.clone(), fs::read(file).expect("it can be read"))).collect()
}

#[test]
fn what_the_fuzzer_found_worth_keeping_still_holds() {
    for (file, data) in corpus() {
        catch_unwind(|| fuzz_manifest(&data)).unwrap_or_else(|_| panic!("{} does not hold", file.display()));
    }
}

/// How a file is spoilt: two of the corpus are joined at some places, and one byte is replaced.
#[derive(Clone, Debug)]
struct Spoilt {
    files: (Index, Index),
    cuts: (Index, Index),
    place: Index,
    byte: u8,
}

impl Spoilt {
    fn of(&self, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
        let (head, tail) = (&self.files.0.get(corpus).1, &self.files.1.get(corpus).1);
        let mut data = head[..self.cuts.0.index(head.len() + 1)].to_vec();
        data.extend_from_slice(&tail[self.cuts.1.index(tail.len() + 1)..]);
        if !data.is_empty() {
            let place = self.place.index(data.len());
            data[place] = self.byte;
        }
        data
    }
}

proptest! {
    #[test]
    fn what_holds_for_the_corpus_holds_for_files_spliced_from_it(
        files in any::<(Index, Index)>(), cuts in any::<(Index, Index)>(), place in any::<Index>(),
        byte in sample::select(b"\n\t -:{}[]\"'#%&*!|>~,.0aA\\\xc3\0".to_vec()),
    ) {
        fuzz_manifest(&Spoilt { files, cuts, place, byte }.of(&corpus()));
    }
}
