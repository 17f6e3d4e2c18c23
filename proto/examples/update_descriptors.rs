//! Makes `descriptors.bin` anew: `cargo run -p tailscale-gateway-proto --example update_descriptors -- TYPES_BIN`.
//!
//! `TYPES_BIN` is the complete descriptor set that the crate `envoy-types` carries (`src/generated/types.bin`,
//! Apache-2.0). What `roots.txt` names, and what that imports, is kept; source positions are dropped.

use std::{collections::BTreeSet, env, fs};

use prost::Message as _;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = env::args().nth(1).ok_or("usage: update_descriptors TYPES_BIN")?;
    let here = env!("CARGO_MANIFEST_DIR");
    let all = FileDescriptorSet::decode(fs::read(source)?.as_slice())?;
    let roots = fs::read_to_string(format!("{here}/roots.txt"))?;
    let mut wanted: Vec<&str> = roots.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut kept = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if kept.insert(name) {
            let file =
                all.file.iter().find(|file| file.name() == name).ok_or_else(|| format!("{name} is not in the set"))?;
            wanted.extend(file.dependency.iter().map(String::as_str));
        }
    }
    let mut set =
        FileDescriptorSet { file: all.file.iter().filter(|file| kept.contains(file.name())).cloned().collect() };
    for file in &mut set.file {
        file.source_code_info = None;
    }
    fs::write(format!("{here}/descriptors.bin"), set.encode_to_vec())?;
    Ok(())
}
