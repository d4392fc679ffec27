//! Tests that cannot run everywhere: for all test programs of this crate.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;

/// The name of the test that it stands in.
macro_rules! this_test {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        name.strip_suffix("::here").unwrap_or(name)
    }};
}

/// Ends the test that it stands in where it does not run as root.
#[allow(unused_macros, reason = "not all test programs have tests that need root")]
macro_rules! needs_root {
    () => {
        // SAFETY: the call takes no pointers.
        if unsafe { libc::geteuid() } != 0 {
            return $crate::skip::skip(this_test!(), "it needs root");
        }
    };
}

/// Counts a test as skipped, by a line in the file `OFFWAKE_SKIPS`. With `OFFWAKE_PRIVILEGED=require` it fails.
pub(crate) fn skip(test: &str, why: &str) {
    let is_required = env::var_os("OFFWAKE_PRIVILEGED").is_some_and(|value| value == "require");
    assert!(!is_required, "{test} cannot run, and OFFWAKE_PRIVILEGED=require: {why}");
    eprintln!("{test} is skipped: {why}");
    if let Some(path) = env::var_os("OFFWAKE_SKIPS") {
        let mut file =
            OpenOptions::new().append(true).create(true).open(path).expect("OFFWAKE_SKIPS");
        writeln!(file, "{test}").expect("OFFWAKE_SKIPS");
    }
}
