//! The BPF object: built by a compiler that users do not have, so it is committed with a manifest
//! that says what it was built from and by whom, and checked against both.

mod build;
mod install;
mod manifest;
mod object;
mod rustc;
mod toolchain;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

pub(crate) use self::rustc::wrapper as rustc_wrapper;

use self::manifest::Manifest;
use self::toolchain::Toolchain;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let (mut check_only, mut install_first) = (false, false);
    for arg in args {
        match arg.to_str() {
            Some("--check") => check_only = true,
            Some("--install") => install_first = true,
            _ => bail!("bpf: no option `{}`; there are --check and --install", arg.display()),
        }
    }
    if install_first {
        install::install(workspace)?;
    }
    if check_only { check(workspace) } else { build(workspace) }
}

fn object_path(workspace: &Workspace) -> PathBuf {
    workspace.root.join("profiler/bpf/offwake.bpf.o")
}

fn build(workspace: &Workspace) -> Result<()> {
    // Whoever has several toolchains should not change the committed one by accident.
    let committed = Manifest::read(workspace).ok();
    let mut toolchains = Toolchain::find_all()?;
    let preferred = toolchains
        .iter()
        .position(|one| committed.as_ref().is_some_and(|manifest| manifest.is_by(one)))
        .unwrap_or(0);
    let toolchain = toolchains.swap_remove(preferred);

    let object = build::build(workspace, &toolchain, &workspace.target.join("bpf"), false)?;
    let path = object_path(workspace);
    fs::create_dir_all(path.with_file_name(""))?;
    fs::write(&path, &object).with_context(|| format!("cannot write {}", path.display()))?;
    Manifest::describe(workspace, &toolchain, &object)?.write(workspace)?;
    eprintln!("wrote {} ({} bytes) and its manifest", path.display(), object.len());
    Ok(())
}

/// Compares the committed object with its manifest, the manifest with the source, and the object
/// with what the source gives now.
fn check(workspace: &Workspace) -> Result<()> {
    const AGAIN: &str = "run `cargo xtask bpf` and commit profiler/bpf";
    let committed = Manifest::read(workspace)?;
    let path = object_path(workspace);
    let object = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if !committed.is_of_object(&object) {
        bail!("profiler/bpf/offwake.bpf.o is not the object of its manifest: {AGAIN}");
    }
    let changed = committed.changed_sources(&manifest::hash_sources(workspace)?);
    if !changed.is_empty() {
        bail!("changed since the BPF object was built: {}; {AGAIN}", changed.join(", "));
    }
    let toolchains = Toolchain::find_all()?;
    let Some(toolchain) = toolchains.iter().find(|one| committed.is_by(one)) else {
        let found: Vec<_> = toolchains.iter().map(Toolchain::to_string).collect();
        bail!(
            "cannot rebuild the BPF object: it was built by {}, and here is {}; \
             use that toolchain, or rebuild with this one ({AGAIN})",
            committed.toolchain(),
            found.join(", or ")
        );
    };
    // From nothing: what cargo would reuse is part of what is to be proven.
    let target = workspace.target.join("bpf-check");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    let rebuilt = build::build(workspace, toolchain, &target, true)?;
    fs::remove_dir_all(&target)?;
    if rebuilt != object {
        let kept = workspace.target.join("offwake-rebuilt.bpf.o");
        fs::write(&kept, &rebuilt)?;
        bail!(
            "the source gives another BPF object than the committed one ({} is what it gives): {AGAIN}",
            kept.display()
        );
    }
    let manifest = Manifest::describe(workspace, toolchain, &rebuilt)?;
    if manifest != committed {
        bail!("profiler/bpf/manifest.json is not what `cargo xtask bpf` writes: {AGAIN}");
    }
    eprintln!(
        "profiler/bpf/offwake.bpf.o is what profiler-ebpf gives, byte for byte ({toolchain})"
    );
    Ok(())
}
