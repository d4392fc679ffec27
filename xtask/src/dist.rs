//! The static build: one `offwake` that needs nothing but a kernel.
//!
//! It links the C library statically and has a target directory of its own, so that it does not throw
//! away what other builds have compiled.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use crate::architecture::{AARCH64, Architecture, X86_64};
use crate::command;
use crate::workspace::Workspace;

#[derive(Args)]
pub(crate) struct Options {
    /// For what to build it
    #[arg(
        default_value = X86_64.name,
        value_parser = PossibleValuesParser::new([X86_64.name, AARCH64.name])
            .map(|name| Architecture::named(&name).expect("it is one of them"))
    )]
    architecture: &'static Architecture,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let architecture = options.architecture;
    architecture.ensure(workspace)?;
    command::run(cargo(workspace, architecture, "build").args(["-p", "offwake"]))?;
    let built = target(workspace).join(architecture.target).join("release/offwake");
    println!("{}", built.display());
    Ok(())
}

/// A directory that tests of a static build may write to, as their compiler was told.
pub(crate) fn test_directory(workspace: &Workspace, architecture: &Architecture) -> PathBuf {
    target(workspace).join(architecture.target).join("tmp")
}

/// A cargo that builds statically.
pub(crate) fn cargo(workspace: &Workspace, architecture: &Architecture, task: &str) -> Command {
    let mut cargo = command::cargo(&workspace.root);
    cargo.args([task, "--locked", "--release", "--target", architecture.target]);
    // Of both, whichever is built for: build scripts, which are this machine's, are built anew for another linker, and all
    // that depends on them.
    for Architecture { target, linker, .. } in [X86_64, AARCH64] {
        let name = target.to_uppercase().replace('-', "_");
        cargo.env(format!("CARGO_TARGET_{name}_LINKER"), linker);
    }
    cargo.env("CARGO_TARGET_DIR", target(workspace));
    // In the place of the flags in .cargo/config.toml, and with the same meaning.
    cargo.env("RUSTFLAGS", "-Cforce-frame-pointers=yes -Ctarget-feature=+crt-static");
    cargo
}

fn target(workspace: &Workspace) -> PathBuf {
    workspace.target.join("static")
}
