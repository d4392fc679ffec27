//! What of merged stacks a graph draws.
//!
//! Of 50,000 stacks nearly all frames are too narrow to be seen. inferno finds that out of each frame by
//! itself; here it is found of the first one that is too narrow, for all above it too. What is not drawn
//! keeps its width, in lines that end in a frame that is too narrow, and neighbours that are too narrow
//! even together are one line. So nothing moves; but inferno sorts lines as text, where names that begin with
//! another are not always its neighbours, and what is beside them may move by less than a drawn frame's width.

use super::stacks::{MergedFrame, MergedStack, MergedStacks};

/// Folded lines, in order, for inferno: a frame is drawn that is at least 1 / `NARROWEST` of the graph.
pub(super) const NARROWEST: u64 = 10_000;

/// The lines of which inferno makes the same graph as of all stacks. `push` appends a frame to a line.
pub(super) fn drawn(
    merged: &MergedStacks<'_>,
    push: impl FnMut(&mut String, MergedFrame),
) -> Vec<String> {
    let total = sum(merged.stacks());
    let mut lines =
        Lines { merged, push, total, lines: Vec::new(), line: String::new(), narrow: None };
    lines.add(merged.stacks(), 0);
    lines.flush();
    lines.lines
}

struct Lines<'a, F> {
    merged: &'a MergedStacks<'a>,
    push: F,
    total: u64,
    lines: Vec<String>,
    /// The frames that the stacks at hand have in common.
    line: String,
    /// A line that is too narrow, and its value.
    narrow: Option<(String, u64)>,
}

impl<F: FnMut(&mut String, MergedFrame)> Lines<'_, F> {
    /// Adds stacks that have so many frames in common.
    fn add(&mut self, stacks: &[MergedStack], depth: usize) {
        let mut rest = stacks;
        while let Some((first, others)) = rest.split_first() {
            // Those of one frame, or all that are at their end.
            let Some(frame) = self.merged.frames(first).nth(depth) else {
                self.flush();
                self.lines.push(format!("{} {}", self.line, first.value));
                rest = others;
                continue;
            };
            let same = rest.partition_point(|stack| self.merged.common(first, stack) > depth);
            let (stacks, behind) = rest.split_at(same);
            rest = behind;
            let value = sum(stacks);
            let kept = self.line.len();
            if self.is_narrow(value) {
                if self.narrow.as_ref().is_some_and(|(_, sum)| !self.is_narrow(sum + value)) {
                    self.flush();
                }
                match &mut self.narrow {
                    Some((_, sum)) => *sum += value,
                    None => {
                        self.push(frame);
                        self.narrow = Some((self.line.clone(), value));
                        self.line.truncate(kept);
                    }
                }
                continue;
            }
            self.flush();
            // As far as they do not part: they may be many, and deep.
            let last = &stacks[stacks.len() - 1];
            let common = self.merged.common(first, last);
            let frames: Vec<MergedFrame> =
                self.merged.frames(first).take(common).skip(depth).collect();
            frames.into_iter().for_each(|frame| self.push(frame));
            self.add(stacks, common);
            self.flush();
            self.line.truncate(kept);
        }
    }

    fn push(&mut self, frame: MergedFrame) {
        if !self.line.is_empty() {
            self.line.push(';');
        }
        (self.push)(&mut self.line, frame);
    }

    fn flush(&mut self) {
        self.lines.extend(self.narrow.take().map(|(line, value)| format!("{line} {value}")));
    }

    /// Whether a frame is certainly not drawn.
    const fn is_narrow(&self, value: u64) -> bool {
        (value as u128) * (NARROWEST as u128) < self.total as u128
    }
}

fn sum(stacks: &[MergedStack]) -> u64 {
    stacks.iter().map(|stack| stack.value).sum()
}

#[cfg(test)]
mod tests {
    use inferno::flamegraph::{Options, from_lines};

    use super::super::RenderOptions;
    use super::super::stacks::Identity;
    use super::*;
    use crate::saved;
    use crate::saved::random::Random;

    /// Stacks of all widths, most of them too narrow. No name is the beginning of another.
    fn folded(random: &mut Random) -> String {
        let mut text = String::new();
        for _ in 0..3_000 {
            text += "thread";
            for _ in 0..random.below(12) {
                text += [";a", ";b c", ";a;d", ";e", ";-x"][random.below(5)];
            }
            let width = random.below(16);
            let value = 1 + random.below(1 << width);
            text += &format!(";--;w{} {value}\n", 10 + random.below(30));
        }
        text
    }

    fn graph(lines: &[String]) -> String {
        let mut options = Options::default();
        options.deterministic = true;
        let mut svg = Vec::new();
        from_lines(&mut options, lines.iter().map(String::as_str), &mut svg).unwrap();
        String::from_utf8(svg).unwrap()
    }

    #[test]
    fn graphs_are_the_same_without_what_is_not_drawn() {
        for seed in 0..5 {
            let text = folded(&mut Random(seed));
            let profile = saved::read("random", text.as_bytes()).unwrap().profile;
            let merged =
                MergedStacks::new(&profile, &RenderOptions::default(), Identity::NameAndRole);
            let push = |line: &mut String, frame| {
                line.push_str(merged.name(frame));
            };
            let all: Vec<String> = merged
                .stacks()
                .iter()
                .map(|stack| {
                    let mut line = String::new();
                    for frame in merged.frames(stack) {
                        push(&mut line, frame);
                        line.push(';');
                    }
                    format!("{} {}", line.trim_end_matches(';'), stack.value)
                })
                .collect();
            let drawn = drawn(&merged, push);
            assert!(drawn.len() < all.len(), "{} of {}", drawn.len(), all.len());
            let drawn = graph(&drawn);
            assert!(drawn.contains("rect"));
            // Without both of them in the message.
            assert!(drawn == graph(&all), "seed {seed}");
        }
    }
}
