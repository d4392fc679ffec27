//! Building the object so that only its sources and the toolchain matter.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::toolchain::{Toolchain, cargo_home};
use super::{object, rustc};
use crate::command;
use crate::workspace::Workspace;

/// Builds `profiler-ebpf` and gives the object without debug sections.
///
/// The bytes do not depend on where the checkout, cargo's home, the target directory or the
/// compiler are. With `locked`, `Cargo.lock` must be complete.
pub(crate) fn build(
    workspace: &Workspace,
    toolchain: &Toolchain,
    target: &Path,
    locked: bool,
) -> Result<Vec<u8>> {
    let source = workspace.root.join("profiler-ebpf");
    let locked: &[&str] = if locked { &["--locked"] } else { &[] };
    // The flags name the directories of downloaded sources: they must be there by then.
    command::run(toolchain.cargo("fetch").args(["--quiet"]).args(locked).current_dir(&source))?;
    let mut cargo = toolchain.cargo_build();
    cargo
        .args(locked)
        .arg("--target-dir")
        .arg(target)
        .current_dir(&source)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, toolchain)?)
        .env("RUSTC_WRAPPER", std::env::current_exe()?)
        .env(rustc::ENABLE, "1")
        // aya-ebpf asks for the architecture of the machine that runs the programs, not the one
        // that builds them.
        .env("AYA_BPF_TARGET_ARCH", "x86_64");
    eprintln!("building the BPF object with {toolchain}");
    command::run(&mut cargo)?;
    let path = target.join("bpfel-unknown-none/release/offwake");
    let linked = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    object::without_debug_sections(&linked)
}

/// Compiler flags, in cargo's encoding. BTF is made from debug information, and names source
/// files: those names must be the same everywhere.
fn flags(workspace: &Workspace, toolchain: &Toolchain) -> Result<OsString> {
    let mut flags: Vec<OsString> =
        ["-C", "debuginfo=2", "-C", "link-arg=--btf"].map(OsString::from).to_vec();
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
