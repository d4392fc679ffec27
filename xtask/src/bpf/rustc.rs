//! The stand-in for rustc while the BPF object is built.
//!
//! Cargo gives each crate a `-C metadata` value, which becomes part of the symbols. It depends on
//! the path of packages outside cargo's workspace, such as `shared/`, and on cargo's version, so
//! the object would differ from checkout to checkout. This replaces the value by the package's
//! name and version.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// Set for the xtask that cargo starts in rustc's place.
pub(crate) const ENABLE: &str = "OFFWAKE_XTASK_IS_RUSTC";

/// Runs rustc, if this was started in its place.
pub(crate) fn wrapper() -> Option<ExitCode> {
    env::var_os(ENABLE)?;
    let mut args = env::args_os().skip(1);
    let rustc = args.next()?;
    let args: Vec<OsString> = args.collect();
    let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    // On success this does not come back.
    let error = Command::new(&rustc).args(replaced(args, &package, &version)).exec();
    eprintln!("error: cannot start {}: {error}", rustc.display());
    Some(ExitCode::FAILURE)
}

/// The arguments with stable metadata, if they compile for BPF. What is compiled for the machine
/// itself (build scripts, macros) may come in several variants, which cargo's value tells apart.
fn replaced(mut args: Vec<OsString>, package: &str, version: &str) -> Vec<OsString> {
    if args.iter().any(|arg| arg == "bpfel-unknown-none") {
        for arg in &mut args {
            if arg.to_str().is_some_and(|arg| arg.starts_with("metadata=")) {
                *arg = format!("metadata={package}-{version}").into();
            }
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn metadata_for_bpf_is_stable() {
        assert_eq!(
            replaced(args("--target bpfel-unknown-none -C metadata=8e1f -C opt-level=3"), "a", "1"),
            args("--target bpfel-unknown-none -C metadata=a-1 -C opt-level=3")
        );
    }

    #[test]
    fn metadata_for_the_machine_stays() {
        assert_eq!(replaced(args("-C metadata=8e1f"), "a", "1"), args("-C metadata=8e1f"));
    }
}
