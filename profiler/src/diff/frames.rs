//! Whether each frame of the tree of all stacks changed: what a graph shows of repeated runs.

use hashbrown::HashMap;

use super::group::{By, Keys};
use super::names::{Interner, Part};
use super::{Divisors, Row, Sums, Table, noise};
use crate::profile::{Metric, Profile};

/// The values of every frame of the tree: those of all waits through it, by the frames that lead to it from the outermost.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    numbers: HashMap<Part, u32>,
    /// By node and number of a part. Node 0 is the root, which has no frame.
    children: HashMap<(u32, u32), u32>,
    /// Of each node.
    rows: Vec<Row>,
}

impl Frames {
    /// Tests each frame, adjusted for the number of frames. Nothing with one run each.
    pub(super) fn new(
        before: &[&Profile],
        after: &[&Profile],
        metric: Metric,
        divisors: &Divisors,
    ) -> Option<Self> {
        let runs = before.len() + after.len();
        let mut parts = Interner::default();
        let mut children = HashMap::new();
        let mut sums = vec![Sums::default(); runs];
        let mut key = Vec::new();
        for (run, profile) in before.iter().chain(after).enumerate() {
            let keys = Keys::new(profile, By::Stack, &mut parts);
            for wait in &profile.waits {
                keys.of(wait, &mut parts, &mut key);
                let mut node = 0;
                sums[run].add(wait, metric);
                for part in &key {
                    let next = (sums.len() / runs) as u32;
                    node = *children.entry((node, *part)).or_insert(next);
                    if node == next {
                        sums.resize(sums.len() + runs, Sums::default());
                    }
                    sums[node as usize * runs + run].add(wait, metric);
                }
            }
        }
        let nodes = sums.len() / runs;
        let table = Table { before: before.len(), runs, sums };
        let tests: Option<Vec<noise::Test>> =
            (0..nodes).map(|node| table.test(node, divisors)).collect();
        let numbers = parts.parts().iter().cloned().zip(0..).collect();
        let significances = noise::adjust(&tests?).into_iter().enumerate();
        let row = |(node, one)| Row { significance: Some(one), ..table.row(node) };
        Some(Self { numbers, children, rows: significances.map(row).collect() })
    }

    /// The values of each frame of a stack, from the outermost; nothing from where no wait came
    /// by.
    pub fn along<'a>(
        &'a self,
        stack: impl Iterator<Item = &'a Part>,
    ) -> impl Iterator<Item = Option<&'a Row>> {
        let mut node = Some(0);
        stack.map(move |part| {
            let child = |node| self.children.get(&(node, *self.numbers.get(part)?)).copied();
            node = node.and_then(child);
            node.map(|node| &self.rows[node as usize])
        })
    }
}
