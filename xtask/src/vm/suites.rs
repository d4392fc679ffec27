//! What runs inside, and what cannot.

use std::fmt::Write as _;

/// Tests of one kind.
pub(crate) struct Suite {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// The target of `cargo test`.
    pub(crate) target: &'static str,
    /// Tests that are not for a virtual machine, and why.
    pub(crate) left_out: &'static [(&'static str, &'static str)],
}

/// The main job.
pub(crate) const TRUTH: Suite = Suite { name: "truth", target: "truth", left_out: &[] };

/// User stacks by call frame information.
pub(crate) const CFI: Suite = Suite {
    name: "cfi",
    target: "unwind",
    left_out: &[
        ("envoy::envoy", "a real Envoy under load"),
        ("languages::rust_without_frame_pointers", "a Rust compiler"),
        ("runtimes::go", "a Go compiler"),
        ("runtimes::javascript", "Node.js"),
        ("runtimes::musl", "a compiler for musl"),
    ],
};

/// Lines of shell that run a suite.
pub(crate) fn script(suites: &[&Suite]) -> String {
    let mut lines = String::from("suite bare record\ndebian\n");
    for suite in suites {
        let _ = write!(lines, "suite {} run_tests /offwake/{}", suite.name, suite.target);
        for (test, _) in suite.left_out {
            let _ = write!(lines, " --skip {test}");
        }
        lines.push('\n');
    }
    lines
}
