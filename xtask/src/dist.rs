//! The static build: one `offwake` that needs nothing but a kernel.
//!
//! It links the C library statically and has a target directory of its own, so that it does not throw
//! away what other builds have compiled.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use crate::workspace::Workspace;

/// The only architecture that offwake records on.
const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    if !args.is_empty() {
        bail!("dist takes no arguments");
    }
    println!("{}", offwake(workspace)?.display());
    Ok(())
}

/// Builds the profiler, and says where it is.
pub(crate) fn offwake(workspace: &Workspace) -> Result<PathBuf> {
    command::run(cargo(workspace, "build").args(["-p", "offwake"]))?;
    Ok(directory(workspace).join("offwake"))
}

/// Where static builds of programs are.
pub(crate) fn directory(workspace: &Workspace) -> PathBuf {
    target(workspace).join(TARGET).join("release")
}

/// A directory that tests of a static build may write to, as their compiler was told.
pub(crate) fn test_directory(workspace: &Workspace) -> PathBuf {
    target(workspace).join("tmp")
}

/// A cargo that builds statically.
pub(crate) fn cargo(workspace: &Workspace, task: &str) -> Command {
    let mut cargo = command::cargo(&workspace.root);
    cargo.args([task, "--locked", "--release", "--target", TARGET]);
    cargo.env("CARGO_TARGET_DIR", target(workspace));
    // In the place of the flags in .cargo/config.toml, and with the same meaning.
    cargo.env("RUSTFLAGS", "-Cforce-frame-pointers=yes -Ctarget-feature=+crt-static");
    cargo
}

fn target(workspace: &Workspace) -> PathBuf {
    workspace.target.join("static")
}
