//! The section of the man page about a profile as JSON.

use super::Entry;

/// The members of the object that `-F json` writes.
pub(super) const MEMBERS: [Entry; 11] = [
    (
        "recording",
        "started: seconds since 1970; seconds: for how long; kernel; probe: its kind and why that; wake_source: how \
         finely sources are told and by what means, or null; targets.",
    ),
    (
        "wake_sources",
        "With --wake-source: of how many waits the source is named, and how many were woken at all.",
    ),
    ("losses", "Each cause that LOSSES names, zeros too."),
    (
        "sampling",
        "With --overhead, where the sums of waits are estimates: ceiling_percent and spent_percent of the machine's \
         CPU time; samples: the intervals that were recorded; count_error and off_error_ns: the standard errors of \
         the number of all intervals and of their time off-CPU; count_confidence and off_confidence_ns: 1.96 of them, \
         or as far as the exact sums are away, where that is more; threads: all intervals of each, exact, with pid, \
         tid, comm, count, blocked_ns and runqueue_ns.",
    ),
    ("modules", "The programs and libraries of user frames: name, path, and build_id or null."),
    (
        "waits",
        "Each distinct wait, on a line of its own, that with the longest time off-CPU first; its members follow.",
    ),
    (
        "sleeper, waker",
        "pid, tid and comm of the thread; kind of the waker: task, irq, softirq (and its name), preempted, \
         not_woken or unknown. wake_source: what the sleeper waited for, or null.",
    ),
    (
        "state, count, blocked_ns, runqueue_ns",
        "Why it was off-CPU, by the names of --state; how many intervals; and the sums of their times from \
         switch-out to wake-up, and from wake-up or preemption to switch-in.",
    ),
    (
        "max_ns, histogram",
        "The longest interval; and pairs of a length in ns and how many intervals were at least that long but less \
         than twice as long (0: less than 1024).",
    ),
    (
        "samples, count_error, off_error_ns",
        "With --overhead: how many intervals were recorded, and the standard errors of count and of the time off-CPU.",
    ),
    (
        "sleeper_stack, waker_stack",
        "Frames, innermost first: name, or null where it is not known for certain; module: of a program, else null; \
         offset: the address in the module's file, or in the kernel the bytes from the function's start; kernel: \
         true or false; file and line with --lines; inlined: true where the function is inlined into the next frame's.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::man::tests::assert_explained;

    #[test]
    fn each_member_of_the_golden_file_is_explained() {
        let golden = include_str!("../../../tests/golden/sample.json");
        assert_explained(&MEMBERS, &serde_json::from_str(golden).unwrap());
    }

    /// The golden file is of a recording without options.
    #[test]
    fn each_member_that_options_add_is_explained() {
        let names = "wake_sources named woken samples count_error off_error_ns sampling ceiling_percent \
            spent_percent count_confidence off_confidence_ns threads file line inlined softirq";
        let object: serde_json::Map<_, _> =
            names.split_whitespace().map(|name| (name.to_owned(), 0.into())).collect();
        assert_explained(&MEMBERS, &object.into());
    }
}
