//! Programs that a test compiles for itself.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a C source so that frame pointers lead through it.
pub(crate) fn compile_c(directory: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let (from, to) = (directory.join(format!("{name}.c")), directory.join(name));
    std::fs::write(&from, source).expect("a file");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]);
    gcc.args(flags).arg(&from).arg("-o").arg(&to).arg("-ldl");
    let status = gcc.status().expect("gcc is installed");
    assert!(status.success(), "{gcc:?}: {status}");
    to
}
