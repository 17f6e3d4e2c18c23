//! What must hold for every file, whatever is in it. The fuzzer looks for bytes for which it does not; the fast tests
//! replay the ones that were worth keeping (`fuzz/corpus/manifest/`).

use std::path::Path;

use tailscale_gateway::source::{
    FileWorld,
    manifest::{self, Format},
};

/// Reads bytes as a file in both languages.
///
/// # Panics
/// When something does not hold.
pub fn fuzz_manifest(data: &[u8]) {
    for (format, path) in [(Format::Yaml, "a/data.yaml"), (Format::Json, "a/data.json")] {
        parts_are_pieces_of_the_file_in_order(format, data);
        positions_are_in_the_file_and_messages_are_lines(format, data);
        the_world_takes_it_in_and_lets_it_go(Path::new(path), data);
    }
}

fn parts_are_pieces_of_the_file_in_order(format: Format, data: &[u8]) {
    let Ok(text) = manifest::decode(data) else { return };
    let mut rest = text;
    let mut line = 1;
    for part in manifest::split(format, text) {
        let offset = part.text.as_ptr() as usize - rest.as_ptr() as usize;
        line += newlines(&rest[..offset]);
        assert_eq!(part.first_line, line, "the part begins on another line: {part:?}");
        assert!(part.content_line >= part.first_line && part.content_line <= line + newlines(part.text), "{part:?}");
        line += newlines(part.text);
        rest = &rest[offset + part.text.len()..];
    }
}

fn positions_are_in_the_file_and_messages_are_lines(format: Format, data: &[u8]) {
    // A carriage return alone ends a line in YAML, too (YAML 1.2.2, §5.4).
    let lines = 1 + data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let read = manifest::read(format, data);
    assert!(read.documents.is_sorted_by_key(|document| (document.index, document.line)));
    for document in &read.documents {
        assert!(document.line >= 1 && document.line as usize <= lines, "{document:?} of {lines} lines");
    }
    for problem in &read.problems {
        // A text that ends too early is wrong on the line after its last.
        assert!(problem.line as usize <= lines + 1, "{problem:?} of {lines} lines");
        assert!(!problem.message.contains('\n') && !problem.message.is_empty(), "{problem:?}");
    }
}

fn the_world_takes_it_in_and_lets_it_go(path: &Path, data: &[u8]) {
    let mut world = FileWorld::new();
    let first = world.load(path, data);
    let mut keys: Vec<_> = world.objects().map(|object| object.key()).collect();
    assert_eq!(first.len(), keys.len(), "each object is told once: {first:?}");
    let problems = world.problems();
    for problem in &problems {
        assert_eq!(problem.to_string().lines().count(), 1, "{problem}");
    }
    assert!(world.load(path, data).is_empty(), "the same content changes something");
    assert_eq!(world.problems(), problems, "the same content has other problems");
    assert!(world.load(path, b"\xff").is_empty(), "an unreadable file takes objects away");
    let gone = world.remove(path).len();
    keys.sort();
    assert_eq!(gone, keys.len(), "not everything goes with its file: {keys:?}");
    assert_eq!(world.objects().count(), 0);
    assert!(world.problems().is_empty(), "a file that is gone has problems");
}

fn newlines(text: &str) -> u32 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u32
}
