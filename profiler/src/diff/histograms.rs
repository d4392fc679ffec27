//! How long the waits of each group were.

use super::group::Keys;
use super::names::Interner;
use super::{By, Diff, NameId};
use crate::profile::{Histogram, Profile};

/// The lengths of the waits of each group before and after, as far as they are known.
pub struct Histograms<'a> {
    diff: &'a Diff,
    groups: Interner,
    /// Before and after, by index of a name in `groups`.
    histograms: Vec<[Histogram; 2]>,
    /// Of all waits.
    pub total: [Histogram; 2],
}

impl<'a> Histograms<'a> {
    /// Of all runs of each side as one. Groups are those of the diff.
    pub fn new(diff: &'a Diff, before: &Profile, after: &Profile) -> Self {
        let by: By = diff.options.by;
        let mut groups = Interner::default();
        let mut histograms: Vec<[Histogram; 2]> = Vec::new();
        let mut total: [Histogram; 2] = Default::default();
        let mut key = Vec::new();
        for (side, profile) in [before, after].into_iter().enumerate() {
            let mut waits =
                profile.waits.iter().filter(|wait| wait.histogram.total() > 0).peekable();
            if waits.peek().is_none() {
                continue;
            }
            let keys = Keys::new(profile, by, &mut groups);
            for wait in waits {
                keys.of(wait, &mut groups, &mut key);
                let group = groups.name(&key);
                if group == histograms.len() {
                    histograms.push(Default::default());
                }
                histograms[group][side].add(&wait.histogram);
                total[side].add(&wait.histogram);
            }
        }
        Self { diff, groups, histograms, total }
    }

    /// Those of a group of the diff, before and after; empty where nothing is known.
    ///
    /// # Panics
    /// When the name is from elsewhere.
    pub fn of(&mut self, name: NameId) -> [Histogram; 2] {
        let numbers = self.diff.names.numbers(name);
        let parts = self.diff.names.parts();
        let key: Vec<u32> = numbers
            .iter()
            .map(|number| self.groups.part(parts[*number as usize].borrow()))
            .collect();
        let group = self.groups.name(&key);
        self.histograms.get(group).cloned().unwrap_or_default()
    }
}
