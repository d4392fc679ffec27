//! What runs inside, and what cannot.

use std::fmt::Write as _;

use crate::architecture::{AARCH64, Architecture};

/// A test, or how the names of several begin; and why it cannot run.
pub(crate) type LeftOut = (&'static str, &'static str);

/// Tests of one kind.
pub(crate) struct Suite {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// The target of `cargo test`.
    pub(crate) target: &'static str,
    /// Tests that are not for a virtual machine, and why.
    left_out: &'static [LeftOut],
    /// Those that are not for one of aarch64, either.
    left_out_of_aarch64: &'static [LeftOut],
    /// The tests of `--quick`: one for each kind of waker, of state and of stack.
    quick: &'static [&'static str],
}

/// The main job.
pub(crate) const TRUTH: Suite = Suite {
    name: "truth",
    target: "truth",
    left_out: &[],
    left_out_of_aarch64: &[("waits::cpp_has_names_as_the_source_has_them", "a compiler for C++")],
    quick: &[
        "accounts::partners_of_perf_bench",
        "behaviours::pids_are_those_of_the_own_namespace",
        "remembered::",
        "storms::a_wake_up_that_races",
        "waits::",
    ],
};

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
    left_out_of_aarch64: &[
        ("shapes::", "assembly of x86-64"),
        ("oracles::an_event_loop_of_libevent", "a compiler for C++"),
    ],
    quick: &["oracles::examples", "shapes::frames_of_all_kinds", "wakers::creators"],
};

impl Suite {
    /// The tests that are not for a virtual machine, and why.
    pub(crate) fn left_out(&self, architecture: &Architecture) -> Vec<LeftOut> {
        let more = if *architecture == AARCH64 { self.left_out_of_aarch64 } else { &[] };
        [self.left_out, more].concat()
    }
}

/// Lines of shell that run a suite.
pub(crate) fn script(suites: &[&Suite], architecture: &Architecture, is_quick: bool) -> String {
    let mut lines = String::from("suite bare record\ndebian\n");
    for suite in suites {
        let _ = write!(lines, "suite {} run_tests /offwake/{}", suite.name, suite.target);
        for (test, _) in suite.left_out(architecture) {
            let _ = write!(lines, " --skip {test}");
        }
        if is_quick {
            let _ = write!(lines, " {}", suite.quick.join(" "));
        }
        lines.push('\n');
    }
    lines
}
