//! Compilers that can build Rust for BPF.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

const INSTALL: &str = "\
no Rust compiler for BPF here. One of these brings it:
  Debian, as root:  cargo xtask bpf --install
  with rustup:      rustup toolchain install nightly --component rust-src
                    cargo install bpf-linker --version 0.13.0 --locked";

/// A Rust compiler with what it needs to build for BPF, and the linker.
pub(crate) struct Toolchain {
    kind: Kind,
    linker: PathBuf,
    /// What `rustc -V` says, and its LLVM: Debian updates the two independently.
    pub(crate) rustc_version: String,
    /// What `bpf-linker --version` says.
    pub(crate) linker_version: String,
    /// The compiler's own directory.
    pub(crate) sysroot: PathBuf,
}

enum Kind {
    /// Debian's Rust has `core` for BPF.
    Debian,
    /// A nightly has the source of `core`.
    Nightly,
}

impl Toolchain {
    /// All that are here; at least one.
    pub(crate) fn find_all() -> Result<Vec<Self>> {
        let Some(linker) = find_linker() else { bail!(INSTALL) };
        let linker_version = command::capture(Command::new(&linker).arg("--version"))?;
        let found: Vec<Self> = [
            (Kind::Debian, "lib/rustlib/bpfel-unknown-none"),
            (Kind::Nightly, "lib/rustlib/src/rust/library/core"),
        ]
        .into_iter()
        .filter_map(|(kind, core)| {
            // A program that is missing or that fails is a toolchain that is not here.
            let sysroot =
                command::capture(kind.program("rustc").args(["--print", "sysroot"])).ok()?;
            let sysroot = PathBuf::from(sysroot.trim());
            let verbose = command::capture(kind.program("rustc").arg("-vV")).ok()?;
            let (version, llvm) = (verbose.lines().next()?, llvm_version(&verbose).ok()?);
            sysroot.join(core).exists().then(|| Self {
                kind,
                linker: linker.clone(),
                rustc_version: format!("{version}, LLVM {llvm}"),
                linker_version: linker_version.trim().to_owned(),
                sysroot,
            })
        })
        .collect();
        if found.is_empty() {
            bail!(INSTALL);
        }
        Ok(found)
    }

    /// Its cargo with its compiler.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = self.kind.program("cargo");
        cargo.arg(subcommand);
        match self.kind {
            // aya-ebpf turns on nightly features.
            Kind::Debian => cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1"),
            Kind::Nightly => cargo.env_remove("RUSTC"),
        };
        cargo
    }

    /// `cargo build` for BPF, without sources and flags.
    pub(crate) fn cargo_build(&self) -> Command {
        let mut cargo = self.cargo("build");
        cargo.args(["--release", "--target", "bpfel-unknown-none"]);
        if let Kind::Nightly = self.kind {
            cargo.arg("-Zbuild-std=core");
        }
        cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        cargo
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.rustc_version, self.linker_version)
    }
}

impl Kind {
    fn program(&self, name: &str) -> Command {
        match self {
            Self::Debian => Command::new(Path::new("/usr/bin").join(name)),
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", name]);
                command
            }
        }
    }
}

/// The version of LLVM, from what `rustc -vV` says.
pub(crate) fn llvm_version(verbose: &str) -> Result<&str> {
    let version = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    version.context("rustc does not say its LLVM version")
}

fn find_linker() -> Option<PathBuf> {
    command::find_program("bpf-linker").or_else(|| {
        let installed = cargo_home().ok()?.join("bin/bpf-linker");
        installed.is_file().then_some(installed)
    })
}

/// Where cargo keeps the sources of dependencies, and installed programs.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    env::home_dir().map(|home| home.join(".cargo")).context("no home directory: set CARGO_HOME")
}
