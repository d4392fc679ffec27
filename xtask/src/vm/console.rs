//! What a virtual machine has said on its serial console.

use std::collections::BTreeMap;

/// The lines of a boot, read by the marks that `init.sh` makes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Console {
    /// `uname -r`; empty if the kernel did not start.
    pub(crate) release: String,
    /// What `offwake check` said.
    pub(crate) check: Vec<String>,
    /// What became of each suite.
    pub(crate) suites: BTreeMap<String, Outcome>,
    /// Whether it came to its end.
    pub(crate) is_done: bool,
}

/// What became of a suite.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How many tests passed.
    pub(crate) passed: usize,
    /// Which failed.
    pub(crate) failed: Vec<String>,
    /// The exit status; `None`: it did not end.
    pub(crate) status: Option<i32>,
}

impl Outcome {
    /// Whether all is well.
    pub(crate) fn is_good(&self) -> bool {
        self.status == Some(0) && self.failed.is_empty()
    }
}

impl Console {
    pub(crate) fn parse(text: &str) -> Self {
        let mut console = Self::default();
        let mut suite = String::new();
        for line in text.lines() {
            let line = line.trim_end();
            // The kernel may have written into the same line.
            let Some((_, mark)) = line.split_once("@offwake ") else {
                if suite == "check" {
                    console.check.push(line.to_owned());
                } else if let Some(outcome) = console.suites.get_mut(&suite) {
                    outcome.read(line);
                }
                continue;
            };
            let words: Vec<&str> = mark.split(' ').collect();
            match words[..] {
                ["kernel", release] => console.release = release.to_owned(),
                ["begin", name] => {
                    suite = name.to_owned();
                    if name != "check" {
                        console.suites.insert(suite.clone(), Outcome::default());
                    }
                }
                ["end", name, status] => {
                    suite.clear();
                    if let Some(outcome) = console.suites.get_mut(name) {
                        outcome.status = status.parse().ok();
                    }
                }
                ["done"] => console.is_done = true,
                _ => {}
            }
        }
        console
    }

    /// The flavours of probes that `offwake check` has found.
    pub(crate) fn probes(&self) -> Vec<&str> {
        self.check.iter().filter_map(|line| capability(line)?.strip_prefix("probe ")).collect()
    }

    /// Whether user stacks are walked by call frame information.
    pub(crate) fn has_cfi(&self) -> bool {
        self.check.iter().any(|line| line.starts_with("ok ") && line.contains("  user stacks  "))
    }

    /// What `offwake check` found missing.
    pub(crate) fn missing(&self) -> Vec<&str> {
        self.check.iter().filter_map(|line| line.strip_prefix("missing")).map(str::trim).collect()
    }
}

/// The name of a capability that is there.
fn capability(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("ok ")?;
    rest.trim_start().split("  ").next()
}

impl Outcome {
    /// Reads a line of a test executable.
    fn read(&mut self, line: &str) {
        let Some(test) = line.strip_prefix("test ") else { return };
        if let Some((name, _)) = test.split_once(" ... ok") {
            if !name.is_empty() {
                self.passed += 1;
            }
        } else if let Some((name, _)) = test.split_once(" ... FAILED") {
            self.failed.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_tests() {
        let text = "noise\r\n@offwake kernel 6.1.0\r\n@offwake begin check\r\n\
            ok        kernel       6.1.0\r\nok        probe btf    used\r\n\
            missing   probe kprobe  no\r\ndegraded  probe tracepoint  no\r\nok        user stacks  by cfi\r\n\
            @offwake end check 1\r\n@offwake begin truth\r\ntest a::b ... ok\r\n\
            test c ... FAILED\r\n[ 1.0] x@offwake end truth 101\r\n@offwake begin cfi\r\n";
        let console = Console::parse(text);
        assert_eq!(console.release, "6.1.0");
        assert_eq!(console.probes(), ["btf"]);
        assert_eq!(console.missing(), ["probe kprobe  no"]);
        assert!(console.has_cfi() && !console.is_done);
        let truth = Outcome { passed: 1, failed: vec!["c".into()], status: Some(101) };
        assert_eq!(console.suites["truth"], truth);
        assert_eq!(console.suites["cfi"], Outcome::default());
        assert!(!console.suites["cfi"].is_good());
    }
}
