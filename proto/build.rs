//! Generates the Rust types from `descriptors.bin`.
//!
//! Two settings differ from the usual ones, and they are why this crate exists: map fields are `BTreeMap`, so equal
//! messages have equal bytes (a resource's version is the hash of its bytes), and `Any.value` is `Bytes`, so an encoded
//! resource is shared and never copied.

use std::{env, fs, path::PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=descriptors.bin");
    let set = FileDescriptorSet::decode(fs::read("descriptors.bin")?.as_slice())?;
    let mut config = prost_build::Config::new();
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .btree_map(".")
        .bytes(".google.protobuf.Any.value")
        .disable_comments(["."])
        .emit_rerun_if_changed(false)
        .include_file("mod.rs")
        .out_dir(PathBuf::from(env::var("OUT_DIR")?))
        .compile_fds_with_config(set, config)?;
    Ok(())
}
