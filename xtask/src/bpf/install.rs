//! Installs the toolchain for BPF on Debian.

use std::process::Command;

use anyhow::{Context, Result};

use super::toolchain::{self, Toolchain};
use crate::command;
use crate::packages::{self, Need};
use crate::workspace::Workspace;

pub(crate) const LINKER_VERSION: &str = "0.13.0";

/// Installs Debian's Rust for BPF, and builds bpf-linker with the same LLVM.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    packages::ensure("building the BPF object", packages::FOR_BPF)?;
    let wanted = format!("bpf-linker {LINKER_VERSION}");
    if Toolchain::find_all().is_ok_and(|found| found.iter().any(|one| one.linker_version == wanted))
    {
        return Ok(());
    }
    let llvm = llvm_major()?;
    let (config, package) =
        (format!("/usr/lib/llvm-{llvm}/bin/llvm-config"), format!("llvm-{llvm}-dev"));
    let needs = [Need::new("g++", "g++"), Need::new(&config, &package)];
    packages::ensure("building bpf-linker", &needs)?;
    eprintln!("building {wanted} with LLVM {llvm}: about a minute");
    command::run(
        command::cargo(&workspace.root)
            .args(["install", "bpf-linker", "--locked", "--version", LINKER_VERSION])
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}")),
    )
}

/// The LLVM of Debian's Rust: bitcode of a newer one than its own is nothing to a linker.
fn llvm_major() -> Result<u32> {
    let verbose = command::capture(Command::new("/usr/bin/rustc").arg("-vV"))?;
    let version = toolchain::llvm_version(&verbose)?;
    let major = version.split('.').next().and_then(|major| major.parse().ok());
    major
        .with_context(|| format!("/usr/bin/rustc has an LLVM version that is no number: {version}"))
}
