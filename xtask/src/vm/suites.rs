//! What runs inside, and what cannot.

use std::fmt::Write as _;

use super::kernels::Kernel;
use crate::architecture::{AARCH64, Architecture};

/// A test, or how the names of several begin; and why it cannot run.
pub(crate) type LeftOut = (&'static str, &'static str);

/// Tests of one kind, which one boot runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    /// Its name on the command line and in the table.
    pub(crate) name: &'static str,
    /// The target of `cargo test`.
    pub(crate) target: &'static str,
    /// What is there beside the tests.
    pub(crate) system: System,
    /// What a kernel must have for it.
    pub(crate) needs: Needs,
    /// The tests; none: all that are not ignored elsewhere.
    tests: &'static [&'static str],
    /// Tests that are ignored elsewhere, and come after all others.
    last: &'static [&'static str],
    /// Tests that are not for a virtual machine, and why.
    left_out: &'static [LeftOut],
    /// Those that are not for one of aarch64, either.
    left_out_of_aarch64: &'static [LeftOut],
    /// The tests of `--quick`: one for each kind of waker, of state and of stack. None: all.
    quick: &'static [&'static str],
}

/// What a suite runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Nothing but busybox: all probes in one boot.
    Busybox,
    /// Debian 11, on a disk: a boot for each probe.
    Debian,
    /// The same with BCC, and the headers of the kernel.
    DebianWithBcc,
}

/// What a suite needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// User stacks by call frame information.
    Cfi,
    /// A kernel of Debian 11, whose BCC it is, and kprobes, which that uses.
    Bcc,
}

/// All of them, the cheapest first.
pub(crate) const ALL: [&Suite; 4] = [&BARE, &TRUTH, &CFI, &BCC];

/// The static executables on nothing but busybox: a thread, an interrupt, a softirq and a process as wakers;
/// preemption; a command; a pid namespace; a kernel without type information; a user who is not root; what
/// ended each wait. Then the kernel loses its compiler of BPF for a while, and at last it is locked down.
pub(crate) const BARE: Suite = Suite {
    name: "bare",
    target: "truth",
    system: System::Busybox,
    needs: Needs::Nothing,
    tests: &[
        "behaviours::a_command_is_recorded_from_its_first_instruction_to_its_end",
        "behaviours::pids_are_those_of_the_own_namespace",
        "privileges::capabilities_of_the_file_suffice",
        "probes::tracepoints_do_without_type_information",
        "sources::a_timeout_in_the_middle_of_a_softirq_is_the_timers",
        "sources::each_wait_names_what_ended_it",
        "sources::the_log_names_the_descriptor_of_each_wake_up",
        "waits::a_condition_is_notified_by_the_producer",
        "waits::preemption_is_its_own_class_without_a_waker",
        "waits::processes_wake_each_other_through_pipes",
        "waits::sleeps_are_ended_by_the_timer_interrupt",
        "waits::workers_are_woken_over_loopback_by_the_client_and_not_by_the_softirq",
    ],
    last: &["privileges::a_kernel_that_"],
    left_out: &[],
    left_out_of_aarch64: &[],
    quick: &[
        // With programs of its own.
        "sources::a_timeout_in_the_middle_of_a_softirq_is_the_timers",
        "sources::each_wait_names_what_ended_it",
        "waits::a_condition_is_notified_by_the_producer",
        "waits::sleeps_are_ended_by_the_timer_interrupt",
        "waits::workers_are_woken_over_loopback_by_the_client_and_not_by_the_softirq",
    ],
};

/// The main job.
pub(crate) const TRUTH: Suite = Suite {
    name: "truth",
    target: "truth",
    system: System::Debian,
    needs: Needs::Nothing,
    tests: &[],
    last: &[],
    left_out: &[],
    left_out_of_aarch64: &[
        ("callbacks::", "a compiler for C++"),
        ("waits::cpp_has_names_as_the_source_has_them", "a compiler for C++"),
    ],
    quick: &[
        "accounts::partners_of_perf_bench",
        "behaviours::pids_are_those_of_the_own_namespace",
        "privileges::",
        "remembered::",
        "storms::a_wake_up_that_races",
        "waits::",
    ],
};

/// User stacks by call frame information.
pub(crate) const CFI: Suite = Suite {
    name: "cfi",
    target: "unwind",
    system: System::Debian,
    needs: Needs::Cfi,
    tests: &[],
    last: &[],
    left_out: &[
        ("envoy::envoy", "a real Envoy under load"),
        ("languages::rust_without_frame_pointers", "a Rust compiler"),
        ("runtimes::go", "a Go compiler"),
        ("runtimes::javascript", "Node.js"),
        ("runtimes::musl", "a compiler for musl"),
    ],
    left_out_of_aarch64: &[("shapes::what_unwind_is_told", "a C library without frame pointers")],
    quick: &["oracles::examples", "shapes::frames_of_all_kinds", "wakers::creators"],
};

/// The same waits by BCC's `offwaketime`.
pub(crate) const BCC: Suite = Suite {
    name: "bcc",
    target: "truth",
    system: System::DebianWithBcc,
    needs: Needs::Bcc,
    tests: &[],
    last: &["bcc::"],
    left_out: &[],
    left_out_of_aarch64: &[],
    quick: &[],
};

impl Suite {
    /// The suite of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|suite| suite.name == name)
    }

    /// Why the kernel cannot run it; `None` if it can.
    pub(crate) fn why_not(&self, kernel: &Kernel) -> Option<&'static str> {
        match self.needs {
            Needs::Cfi if !kernel.has_cfi => Some("needs Linux 5.17"),
            Needs::Bcc if kernel.headers.is_none() => Some("BCC is tested on 5.10"),
            _ => None,
        }
    }

    /// The tests that are not for a virtual machine, and why.
    pub(crate) fn left_out(&self, architecture: &Architecture) -> Vec<LeftOut> {
        let more = if *architecture == AARCH64 { self.left_out_of_aarch64 } else { &[] };
        [self.left_out, more].concat()
    }

    /// A line of shell that runs it with a probe, if it has tests that are not ignored elsewhere. `chosen`:
    /// only tests whose names have one of these in them.
    pub(crate) fn script(
        &self,
        probe: &str,
        architecture: &Architecture,
        is_quick: bool,
        chosen: &[String],
    ) -> String {
        if self.tests.is_empty() && !self.last.is_empty() {
            return String::new();
        }
        let mut line = self.begin(probe);
        for (test, _) in self.left_out(architecture) {
            let _ = write!(line, " --skip {test}");
        }
        let names = if is_quick && !self.quick.is_empty() { self.quick } else { self.tests };
        if chosen.is_empty() {
            for name in names {
                let _ = write!(line, " {name}");
            }
        } else {
            let _ = write!(line, " {}", chosen.join(" "));
        }
        line + "\n"
    }

    /// A line of shell that runs the tests that come last, if there are any. They are not quick.
    pub(crate) fn last_script(&self, probe: &str, is_quick: bool) -> String {
        match self.last {
            [] => String::new(),
            _ if is_quick && !self.quick.is_empty() => String::new(),
            names => format!("{} --ignored {}\n", self.begin(probe), names.join(" ")),
        }
    }

    /// A line of shell that runs these tests, wherever they come.
    pub(crate) fn script_again(&self, probe: &str, tests: &[String]) -> String {
        format!("{} --include-ignored --exact {}\n", self.begin(probe), tests.join(" "))
    }

    fn begin(&self, probe: &str) -> String {
        let place = if self.system == System::Busybox { "on_busybox" } else { "on_debian" };
        format!("suite {} {probe} {place} {probe} /offwake/{}", self.name, self.target)
    }
}
