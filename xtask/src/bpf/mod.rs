//! The BPF objects, one for each variant: built by a compiler that users do not have, so they are
//! committed with a manifest that says what they were built from and by whom, and checked against both.

mod build;
mod install;
mod manifest;
mod object;
mod rustc;
mod toolchain;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

pub(crate) use self::rustc::wrapper as rustc_wrapper;

use self::manifest::Manifest;
use self::toolchain::Toolchain;
use crate::workspace::Workspace;

#[derive(Args)]
pub(crate) struct Options {
    /// Instead, prove that the committed objects are what the source gives
    #[arg(long)]
    check: bool,
    /// First install the toolchain for it (Debian, root)
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.install {
        install::install(workspace)?;
    }
    if options.check { check(workspace) } else { build(workspace) }
}

/// The bytes of each object, by what it is built for.
pub(crate) type Objects = BTreeMap<&'static str, Vec<u8>>;

fn object_path(workspace: &Workspace, variant: &str) -> PathBuf {
    workspace.root.join(format!("profiler/bpf/offwake-{variant}.bpf.o"))
}

/// The committed objects.
fn read_objects(workspace: &Workspace) -> Result<Objects> {
    let read = |variant| {
        let path = object_path(workspace, variant);
        let object = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((variant, object))
    };
    build::VARIANTS.into_iter().map(read).collect()
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

    let objects = build::build(workspace, &toolchain, &workspace.target.join("bpf"), false)?;
    for (variant, object) in &objects {
        let path = object_path(workspace, variant);
        fs::create_dir_all(path.with_file_name(""))?;
        fs::write(&path, object).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("wrote {} ({} bytes)", path.display(), object.len());
    }
    Manifest::describe(workspace, &toolchain, &objects)?.write(workspace)
}

/// Compares the committed objects with their manifest, the manifest with the source, and the objects
/// with what the source gives now.
fn check(workspace: &Workspace) -> Result<()> {
    const AGAIN: &str = "run `cargo xtask bpf` and commit profiler/bpf";
    let committed = Manifest::read(workspace)?;
    let objects = read_objects(workspace)?;
    if !committed.is_of(&objects) {
        bail!("an object in profiler/bpf is not that of the manifest: {AGAIN}");
    }
    let changed = committed.changed_sources(&manifest::hash_sources(workspace)?);
    if !changed.is_empty() {
        bail!("changed since the BPF objects were built: {}; {AGAIN}", changed.join(", "));
    }
    let toolchains = Toolchain::find_all()?;
    let Some(toolchain) = toolchains.iter().find(|one| committed.is_by(one)) else {
        let found: Vec<_> = toolchains.iter().map(Toolchain::to_string).collect();
        bail!(
            "cannot rebuild the BPF objects: they were built by {}, and here is {}; \
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
    for (variant, object) in &rebuilt {
        if objects[variant] != *object {
            let kept = workspace.target.join(format!("offwake-{variant}-rebuilt.bpf.o"));
            fs::write(&kept, object)?;
            bail!(
                "the source gives another BPF object {variant} than the committed one ({} is \
                 what it gives): {AGAIN}",
                kept.display()
            );
        }
    }
    let manifest = Manifest::describe(workspace, toolchain, &rebuilt)?;
    if manifest != committed {
        bail!("profiler/bpf/manifest.json is not what `cargo xtask bpf` writes: {AGAIN}");
    }
    eprintln!(
        "the objects in profiler/bpf are what profiler-ebpf gives, byte for byte ({toolchain})"
    );
    Ok(())
}
