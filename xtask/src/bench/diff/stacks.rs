//! Folded stacks at random, the same for the same seed.

use std::fmt::Write;

/// What lines are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Deep stacks that come again and again.
    Long,
    /// Stacks of 10 to 60 frames, nearly all of them distinct.
    Distinct,
    /// Two frames and one of the waker, with the short names of the kernel, nearly all of them distinct.
    Short,
}

impl Shape {
    pub(super) const ALL: [Self; 3] = [Self::Long, Self::Distinct, Self::Short];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Long => "few stacks of 240 frames",
            Self::Distinct => "stacks of 10 to 60 frames",
            Self::Short => "stacks of 3 frames",
        }
    }
}

/// Lines of this shape, until they have so many bytes.
pub(super) fn folded(shape: Shape, seed: u64, bytes: usize) -> String {
    // Both sides have the same functions and the same deep stacks.
    let mut functions = functions();
    if shape == Shape::Short {
        functions.retain(|function| !function.contains(':'));
    }
    let mut random = Random(0);
    let deep: Vec<String> = (0..60).map(|_| random.stack(&functions, 120)).collect();
    let mut random = Random(seed);
    let mut text = String::with_capacity(bytes + (1 << 16));
    while text.len() < bytes {
        let (sleeper, waker) = match shape {
            Shape::Long => {
                (deep[random.below(deep.len())].clone(), deep[random.below(deep.len())].clone())
            }
            Shape::Distinct => {
                let frames = 10 + random.below(51);
                let of_sleeper = 1 + random.below(frames - 1);
                (
                    random.stack(&functions, of_sleeper),
                    random.stack(&functions, frames - of_sleeper),
                )
            }
            Shape::Short => (random.stack(&functions, 2), random.stack(&functions, 1)),
        };
        let (thread, client, us) =
            (random.below(64), random.below(64), 1 + random.below(1_000_000));
        // Writing to a string does not fail.
        let _ = writeln!(text, "wrk:worker_{thread};{sleeper};--;{waker};client_{client} {us}");
    }
    text
}

/// Names as long as those of the kernel and of C++.
fn functions() -> Vec<String> {
    let function = |index: usize| match index % 4 {
        0 => format!("ep_poll_{index}"),
        1 => format!("tcp_v4_rcv_{index}"),
        2 => format!("sock_def_readable_{index}"),
        _ => format!("Envoy::Network::FilterManager::onData{index}(Buffer&)"),
    };
    (0..20_000).map(function).collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn stack(&mut self, functions: &[String], frames: usize) -> String {
        let mut stack = String::new();
        for index in 0..frames {
            if index > 0 {
                stack.push(';');
            }
            stack.push_str(&functions[self.below(functions.len())]);
        }
        stack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_stacks() {
        for shape in Shape::ALL {
            let text = folded(shape, 1, 100_000);
            assert!(text == folded(shape, 1, 100_000) && text != folded(shape, 2, 100_000));
            assert!((100_000..110_000).contains(&text.len()));
            assert!(text.lines().all(|line| line.matches(";--;").count() == 1));
        }
    }
}
