//! What a virtual machine has said.

use std::collections::BTreeMap;

/// The lines of a boot, read by the marks that `init.sh` makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Console {
    /// `uname -r`; empty if the kernel did not start.
    pub(crate) release: String,
    /// What `offwake check` said.
    pub(crate) check: Vec<String>,
    /// What became of each suite with each probe.
    pub(crate) suites: BTreeMap<(String, String), Outcome>,
    /// Whether it came to its end.
    pub(crate) is_done: bool,
}

/// What became of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How many tests passed.
    pub(crate) passed: usize,
    /// Which failed.
    pub(crate) failed: Vec<String>,
    /// Which failed the first time, and ran once more.
    pub(crate) again: Vec<String>,
    /// The exit status, the first that is not 0 where there are several; `None`: it did not end.
    pub(crate) status: Option<i32>,
    /// The test that runs.
    pub(crate) running: Option<String>,
}

impl Outcome {
    /// Whether all is well. That no test passed is not: then none has the names that were asked for.
    pub(crate) fn is_good(&self) -> bool {
        self.status == Some(0) && self.failed.is_empty() && self.passed > 0
    }
}

impl Console {
    pub(crate) fn parse(text: &str) -> Self {
        let mut console = Self::default();
        let mut current = None;
        let mut is_check = false;
        for line in text.lines() {
            let line = line.trim_end_matches('\r');
            let Some(mark) = line.strip_prefix("@offwake ") else {
                if is_check {
                    console.check.push(line.to_owned());
                } else if let Some(outcome) =
                    current.as_ref().and_then(|key| console.suites.get_mut(key))
                {
                    outcome.read(line);
                }
                continue;
            };
            let words: Vec<&str> = mark.split(' ').collect();
            match words[..] {
                ["kernel", release] => console.release = release.to_owned(),
                ["begin", "check"] => is_check = true,
                ["end", "check", _] => is_check = false,
                ["begin", name, probe] => {
                    let key = (name.to_owned(), probe.to_owned());
                    // A second part of a suite is not good before it has ended, either.
                    let outcome = console.suites.entry(key.clone()).or_default();
                    outcome.status = outcome.status.filter(|&status| status != 0);
                    current = Some(key);
                }
                ["end", _, _, status] => {
                    if let Some(outcome) = current.take().and_then(|it| console.suites.get_mut(&it))
                    {
                        outcome.status = outcome.status.or(status.parse().ok());
                    }
                }
                ["done"] => console.is_done = true,
                _ => {}
            }
        }
        console
    }

    /// The tests that failed, by probe; `None` if they are not all that is wrong.
    pub(crate) fn failed_tests(&self) -> Option<BTreeMap<String, Vec<String>>> {
        let is_told = |it: &Outcome| it.is_good() || it.status.is_some() && !it.failed.is_empty();
        if !self.is_done || !self.suites.values().all(is_told) {
            return None;
        }
        let failed = self.suites.iter().filter(|(_, outcome)| !outcome.failed.is_empty());
        let failed: BTreeMap<_, _> =
            failed.map(|((_, probe), outcome)| (probe.clone(), outcome.failed.clone())).collect();
        (!failed.is_empty()).then_some(failed)
    }

    /// What became of all, with the second boot in which the [failed tests](Self::failed_tests) ran once more.
    pub(crate) fn and_again(mut self, second: Self) -> Self {
        let Self { release, check: _, suites, is_done } = second;
        for outcome in self.suites.values_mut() {
            outcome.again = std::mem::take(&mut outcome.failed);
        }
        for (key, second) in suites {
            let first = self.suites.entry(key).or_default();
            let Outcome { passed, failed, again: _, status, running } = second;
            first.passed += passed;
            first.failed = failed;
            first.status = status;
            first.running = running;
        }
        (self.release, self.is_done) = (release, is_done);
        self
    }

    /// Whether `offwake check` has found this.
    pub(crate) fn has(&self, capability: &str) -> bool {
        let name = |line: &str| {
            line.strip_prefix("ok ")
                .is_some_and(|rest| rest.trim_start().split("  ").next() == Some(capability))
        };
        self.check.iter().any(|line| name(line))
    }
}

impl Outcome {
    /// Reads a line of a test executable: `test NAME ... ok`. What else is written to its output comes
    /// before the last word.
    fn read(&mut self, line: &str) {
        let started = line.strip_prefix("test ").and_then(|test| test.split_once(" ... "));
        let result = match started {
            Some((name, result)) => {
                self.running = Some(name.to_owned());
                result
            }
            None => line,
        };
        let is =
            |word| result.strip_suffix(word).is_some_and(|it| started.is_some() || it.is_empty());
        if is("ok") && self.running.take().is_some() {
            self.passed += 1;
        } else if is("FAILED") {
            self.failed.extend(self.running.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(suite: &str, probe: &str) -> (String, String) {
        (suite.into(), probe.into())
    }

    #[test]
    fn marks_and_tests() {
        let text = "noise\r\n@offwake kernel 6.1.0\r\n@offwake begin check\r\n\
            ok        kernel       6.1.0\r\nok        probe btf    used\r\n\
            missing   probe kprobe  no\r\ndegraded  probe tracepoint  no\r\n\
            @offwake end check 1\r\n@offwake begin truth btf\r\ntest a::b ... ok\r\n\
            test c ... FAILED\r\ntest d ... said\r\nok\r\nfailures:\r\n    c\r\n\
            @offwake end truth btf 101\r\n@offwake begin cfi btf\r\ntest e ... ";
        let console = Console::parse(text);
        assert_eq!(console.release, "6.1.0");
        assert!(console.has("probe btf") && !console.has("probe kprobe"));
        assert!(!console.is_done);
        let truth = &console.suites[&key("truth", "btf")];
        assert_eq!((truth.passed, &*truth.failed, truth.status), (2, &["c".into()][..], Some(101)));
        let cfi = &console.suites[&key("cfi", "btf")];
        assert_eq!(cfi.running.as_deref(), Some("e"));
        assert!(!cfi.is_good());
    }

    #[test]
    fn failed_tests_run_once_more() {
        let boot =
            |body: &str| Console::parse(&format!("@offwake kernel 6.1\n{body}@offwake done\n"));
        let both = "@offwake begin bare btf\ntest a ... ok\ntest b ... FAILED\n@offwake end bare btf 101\n\
            @offwake begin bare kprobe\ntest a ... ok\n@offwake end bare kprobe 0\n";
        let failed = BTreeMap::from([("btf".to_owned(), vec!["b".to_owned()])]);
        assert_eq!(boot(both).failed_tests(), Some(failed));
        let again = |result: &str, status| {
            let second = format!(
                "@offwake begin bare btf\ntest b ... {result}\n@offwake end bare btf {status}\n"
            );
            boot(both).and_again(boot(&second)).suites.remove(&key("bare", "btf")).unwrap()
        };
        let good = again("ok", 0);
        assert_eq!((good.passed, &*good.again, good.is_good()), (2, &["b".to_owned()][..], true));
        let bad = again("FAILED", 101);
        assert_eq!((bad.passed, &*bad.failed, bad.is_good()), (1, &["b".to_owned()][..], false));
        // It did not begin the second time.
        let none = boot(both).and_again(boot("")).suites.remove(&key("bare", "btf")).unwrap();
        assert!(!none.is_good());
        // More is wrong than tests.
        let killed = both.replace("test b ... FAILED\n", "test b ... ");
        assert_eq!(boot(&killed).failed_tests(), None);
        assert_eq!(Console::parse(both).failed_tests(), None, "it did not come to its end");
        assert_eq!(boot(&both.replace("FAILED", "ok").replace("101", "0")).failed_tests(), None);
    }

    #[test]
    fn a_suite_of_two_parts() {
        let first = "@offwake begin bare btf\ntest a ... ok\n@offwake end bare btf 0\n";
        let second = "@offwake begin bare btf\ntest b ... ok\n";
        let outcome = |text: &str| Console::parse(text).suites.remove(&key("bare", "btf")).unwrap();
        assert!(outcome(first).is_good());
        let half = outcome(&format!("{first}{second}"));
        assert_eq!((half.passed, half.is_good()), (2, false));
        assert!(outcome(&format!("{first}{second}@offwake end bare btf 0\n")).is_good());
        let failed = first.replace("btf 0", "btf 101");
        assert!(!outcome(&format!("{failed}{second}@offwake end bare btf 0\n")).is_good());
        let nothing = "@offwake begin bare btf\n@offwake end bare btf 0\n";
        assert!(!outcome(nothing).is_good());
    }
}
