//! Building the object so that only its sources and the toolchain matter.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::toolchain::{Toolchain, cargo_home};
use super::{Objects, object, rustc};
use crate::command;
use crate::workspace::Workspace;

/// What the programs are built for: an architecture, without and with what tells wake-up sources, and each of these
/// for kernels without `bpf_loop` (before 5.17) and for others.
pub(crate) const VARIANTS: [&str; 8] = [
    "aarch64",
    "aarch64-no-loop",
    "aarch64-source",
    "aarch64-source-no-loop",
    "x86_64",
    "x86_64-no-loop",
    "x86_64-source",
    "x86_64-source-no-loop",
];

/// Ends the name of a variant without `bpf_loop`.
const NO_LOOP: &str = "-no-loop";
/// In the name of a variant that tells wake-up sources.
const SOURCE: &str = "-source";

/// Builds `profiler-ebpf` for each variant and gives the objects without debug sections.
///
/// The bytes do not depend on where the checkout, cargo's home, the target directory or the
/// compiler are. With `locked`, `Cargo.lock` must be complete.
pub(crate) fn build(
    workspace: &Workspace,
    toolchain: &Toolchain,
    target: &Path,
    locked: bool,
) -> Result<Objects> {
    let source = workspace.root.join("profiler-ebpf");
    let locked: &[&str] = if locked { &["--locked"] } else { &[] };
    // The flags name the directories of downloaded sources: they must be there by then.
    command::run(toolchain.cargo("fetch").args(["--quiet"]).args(locked).current_dir(&source))?;
    let mut objects = Objects::new();
    for variant in VARIANTS {
        let mut cargo = toolchain.cargo_build();
        cargo
            .args(locked)
            .arg("--target-dir")
            .arg(target)
            .current_dir(&source)
            .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, toolchain, variant)?)
            .env("RUSTC_WRAPPER", std::env::current_exe()?)
            .env(rustc::ENABLE, "1");
        eprintln!("building the BPF object {variant} with {toolchain}");
        command::run(&mut cargo)?;
        let path = target.join("bpfel-unknown-none/release/offwake");
        let linked = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        objects.insert(variant, object::without_debug_sections(&linked)?);
    }
    Ok(objects)
}

/// Compiler flags, in cargo's encoding. BTF is made from debug information, and names source
/// files: those names must be the same everywhere.
fn flags(workspace: &Workspace, toolchain: &Toolchain, variant: &str) -> Result<OsString> {
    // Of the machine that runs the programs, not the one that builds them: aya-ebpf looks for it, too.
    let architecture = variant.trim_end_matches(NO_LOOP).trim_end_matches(SOURCE);
    let architecture = format!("bpf_target_arch=\"{architecture}\"");
    // Else what is set to zero, or copied where it may overlap, is so byte by byte, in a function.
    let in_words = "link-arg=--disable-expand-memcpy-in-order";
    let mut flags: Vec<OsString> =
        ["-C", "debuginfo=2", "-C", "link-arg=--btf", "-C", in_words, "--cfg", &architecture]
            .map(OsString::from)
            .to_vec();
    if variant.ends_with(NO_LOOP) {
        flags.extend(["--cfg", "no_loop"].map(OsString::from));
    }
    if variant.contains(SOURCE) {
        flags.extend(["--cfg", "wake_source"].map(OsString::from));
    }
    let mut remap = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    };
    remap(&workspace.root, "/offwake");
    remap(&toolchain.sysroot.join("lib/rustlib/src/rust"), "/rust");
    for registry in registries()? {
        remap(&registry, "/crates");
    }
    Ok(flags.join("\u{1f}".as_ref()))
}

/// Where sources of dependencies are: a directory for each registry, named after its address.
fn registries() -> Result<Vec<PathBuf>> {
    let sources = cargo_home()?.join("registry/src");
    let mut registries = Vec::new();
    for entry in fs::read_dir(&sources).into_iter().flatten() {
        registries.push(entry?.path());
    }
    registries.sort();
    Ok(registries)
}
