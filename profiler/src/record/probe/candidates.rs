//! Which kind of probe is used: the first that works.

use std::slice;

use anyhow::{Result, anyhow};

use super::Probe;
use crate::record::ProbeChoice;

/// The kinds of probe that the user allows, which are tried one after the other.
pub(in crate::record) struct Candidates {
    all: &'static [Probe],
    left: slice::Iter<'static, Probe>,
    /// Why those before do not work.
    tried: Vec<String>,
}

impl Candidates {
    /// Those of a choice, none of them tried.
    pub(in crate::record) fn of(choice: ProbeChoice) -> Self {
        let all: &[Probe] = match choice {
            ProbeChoice::Auto => &Probe::ALL,
            ProbeChoice::Btf => &[Probe::Btf],
            ProbeChoice::Kprobe => &[Probe::Kprobe],
            ProbeChoice::Tracepoint => &[Probe::Tracepoint],
        };
        Self { all, left: all.iter(), tried: Vec::new() }
    }

    /// The next one to try.
    ///
    /// # Errors
    /// When none is left: what was tried, and why it does not work.
    pub(in crate::record) fn take_next(&mut self) -> Result<Probe> {
        let tried = self.tried.join("; ");
        self.left.next().copied().ok_or_else(|| match self.all {
            [_] => anyhow!("--probe {tried}"),
            _ => anyhow!("no kind of probe works here: {tried}"),
        })
    }

    /// This one, which was the last, does not work.
    pub(in crate::record) fn failed(&mut self, probe: Probe, error: &anyhow::Error) {
        let does_not = if self.all.len() == 1 { " does not work here" } else { "" };
        self.tried.push(format!("{}{does_not}: {error:#}", probe.name()));
    }

    /// Why the last one is used, for people.
    pub(in crate::record) fn why(&self) -> String {
        match (self.all, &self.tried[..]) {
            ([_], _) => "as asked".into(),
            (_, []) => "auto: the cheapest".into(),
            (_, tried) => format!("auto; {}", tried.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_works_is_used_and_why_is_told() {
        let mut all = Candidates::of(ProbeChoice::Auto);
        assert_eq!(all.take_next().unwrap(), Probe::Btf);
        assert_eq!(all.why(), "auto: the cheapest");
        all.failed(Probe::Btf, &anyhow!("cause").context("no types"));
        assert_eq!(all.take_next().unwrap(), Probe::Kprobe);
        assert_eq!(all.why(), "auto; btf: no types: cause");
        all.failed(Probe::Kprobe, &anyhow!("no function"));
        assert_eq!(all.take_next().unwrap(), Probe::Tracepoint);
        all.failed(Probe::Tracepoint, &anyhow!("no tracefs"));
        let none = all.take_next().unwrap_err().to_string();
        assert_eq!(
            none,
            "no kind of probe works here: btf: no types: cause; kprobe: no function; tracepoint: no tracefs"
        );
    }

    #[test]
    fn one_that_was_asked_for_is_the_only_one() {
        let mut one = Candidates::of(ProbeChoice::Kprobe);
        assert_eq!(one.take_next().unwrap(), Probe::Kprobe);
        assert_eq!(one.why(), "as asked");
        one.failed(Probe::Kprobe, &anyhow!("no function"));
        let none = one.take_next().unwrap_err().to_string();
        assert_eq!(none, "--probe kprobe does not work here: no function");
    }
}
