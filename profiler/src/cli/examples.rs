//! The examples of `--help` and of the man page.

use clap::builder::{StyledStr, Styles};

/// One command, and what it is for.
pub(crate) struct Example {
    pub(crate) purpose: &'static str,
    pub(crate) command: &'static str,
}

pub(crate) const EXAMPLES: [Example; 10] = [
    Example {
        purpose: "Record an Envoy for 30 seconds; open the flame graph in a browser:",
        command: "offwake -p $(pgrep -xo envoy) -d 30 > out.svg",
    },
    Example {
        purpose: "Only its first worker, as text, longest waits first:",
        command: "offwake -p $(pgrep -xo envoy) --comm wrk:worker_0 -d 10",
    },
    Example {
        purpose: "A command from its first instruction to its end, with its children:",
        command: "offwake --follow -o build.svg -- make -j4",
    },
    Example {
        purpose: "A flame graph for people and JSON for scripts, from one recording:",
        command: "offwake -p 4182 -d 60 -o out.svg -o out.json",
    },
    Example {
        purpose: "Save a profile, and look later at what one worker waited for, in any format:",
        command: "offwake -p 4182 -d 60 -o w.pb.gz; offwake report w.pb.gz --sleeper wrk:worker_0",
    },
    Example {
        purpose: "What waits longer since a change, by who ends the waits:",
        command: "offwake diff before.pb.gz after.pb.gz --by waker",
    },
    Example {
        purpose: "Who keeps a service waiting on its disk:",
        command: "offwake --cgroup /sys/fs/cgroup/pods/db --state uninterruptible,killable -d 30 -o disk.svg",
    },
    Example {
        purpose: "Which threads of the machine wait for a CPU for long, by thread:",
        command: "offwake -a -d 10 --metric runqueue -m 1000 --per-thread -o cpu.svg",
    },
    Example {
        purpose: "Which sockets wake the threads of an Envoy, and which wake-ups are for nothing:",
        command: "offwake epoll -p $(pgrep -xo envoy) -d 10 --summary",
    },
    Example {
        purpose: "Folded stacks for other tools:",
        command: "offwake -p 4182 -d 30 -f | flamegraph.pl --countname us > out.svg",
    },
];

/// The end of `--help`.
pub(crate) fn help() -> StyledStr {
    let style = *Styles::styled().get_header();
    let mut text = format!("{style}Examples:{style:#}");
    for Example { purpose, command } in EXAMPLES {
        text += &format!("\n  {purpose}\n      {command}\n");
    }
    text.truncate(text.trim_end().len());
    text.into()
}
