//! The scheduler's functions in the kernel stacks of threads that were found asleep.
//!
//! Of a thread that does not run, the kernel leaves them out (`stack_trace_consume_entry_nosched` in
//! kernel/stacktrace.c, 5.2+), but not of one that is being switched out. The graph would show one place as two.

use hashbrown::{HashMap, HashSet};
use offwake_shared::StackContext;

use crate::recording::{RawStack, StackId, Waits};

/// Completes the kernel stacks that were `found` by those of `waits` that were recorded: the same call site calls
/// the same function. Where calls from one site were seen to come to the scheduler in two ways, nothing tells which it was.
pub(super) fn complete(
    found: &mut HashMap<StackId, RawStack>,
    waits: &Waits,
    recorded: &HashMap<StackId, RawStack>,
) {
    let kernel = found.iter_mut().filter(|(_, stack)| stack.context == StackContext::Kernel);
    let mut by_site: HashMap<u64, Vec<Incomplete<'_>>> = HashMap::new();
    for (_, stack) in kernel {
        let Some(&site) = stack.frames.first() else { continue };
        by_site.entry(site).or_default().push(Incomplete { stack, whole: Whole::Unknown });
    }
    if by_site.is_empty() {
        return;
    }
    let ids: HashSet<StackId> = waits.iter().map(|(key, _)| key.sleeper_kernel).collect();
    for whole in ids.iter().filter_map(|id| recorded.get(id)) {
        for (at, site) in whole.frames.iter().enumerate().skip(1) {
            for incomplete in by_site.get_mut(site).into_iter().flatten() {
                if whole.frames[at..] == *incomplete.stack.frames {
                    incomplete.whole.see(&whole.frames);
                }
            }
        }
    }
    for Incomplete { stack, whole } in by_site.into_values().flatten() {
        if let Whole::Known(frames) = whole {
            stack.frames = frames.into();
        }
    }
}

struct Incomplete<'a> {
    stack: &'a mut RawStack,
    whole: Whole<'a>,
}

/// What is known of a whole stack.
enum Whole<'a> {
    Unknown,
    Known(&'a [u64]),
    Ambiguous,
}

impl<'a> Whole<'a> {
    fn see(&mut self, frames: &'a [u64]) {
        *self = match self {
            Self::Unknown => Self::Known(frames),
            Self::Known(known) if *known == frames => return,
            Self::Known(_) | Self::Ambiguous => Self::Ambiguous,
        };
    }
}

#[cfg(test)]
mod tests {
    use offwake_shared::{StackEnd, WaitKey, WaitStats};

    use super::*;

    fn kernel(frames: &[u64]) -> RawStack {
        let context = StackContext::Kernel;
        RawStack { context, image: None, frames: frames.into(), end: StackEnd::Complete }
    }

    /// What becomes of a stack that was found when sleepers were recorded with these.
    fn completed(found: &[u64], recorded: &[&[u64]]) -> Vec<u64> {
        let mut found = HashMap::from([(100, kernel(found))]);
        let stacks = recorded.iter().map(|frames| kernel(frames));
        let recorded: HashMap<StackId, RawStack> = (1..).zip(stacks).collect();
        let key = |&id: &StackId| WaitKey { sleeper_kernel: id, ..WaitKey::default() };
        let waits = recorded.keys().map(|id| (key(id), WaitStats::default())).collect();
        complete(&mut found, &waits, &recorded);
        found[&100].frames.to_vec()
    }

    #[test]
    fn the_same_call_site_calls_the_same_functions() {
        const FOUND: [u64; 2] = [20, 10];
        assert_eq!(completed(&FOUND, &[&[1, 2, 20, 10], &[1, 2, 21, 10]]), [1, 2, 20, 10]);
        let others: [&[&[u64]]; _] = [
            &[],
            &[&[20, 10]],
            &[&[1, 21, 10]],
            &[&[1, 20, 11]],
            &[&[1, 20, 10, 5]],
            &[&[1, 20]],
            // Two ways.
            &[&[1, 2, 20, 10], &[1, 3, 20, 10]],
        ];
        for others in others {
            assert_eq!(completed(&FOUND, others), FOUND, "{others:?}");
        }
    }

    #[test]
    fn a_function_that_calls_itself_is_there_as_often_as_it_was() {
        assert_eq!(completed(&[20, 20, 10], &[&[1, 20, 20, 10], &[1, 20, 10]]), [1, 20, 20, 10]);
    }
}
