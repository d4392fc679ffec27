//! Room in a BPF array, given out in ranges.

/// The free ranges of an array, in order, none beside another.
#[derive(Debug)]
pub(super) struct Ranges {
    /// First index, and how many.
    free: Vec<(u32, u32)>,
}

impl Ranges {
    /// An array of this length, all of it free.
    pub(super) fn new(len: u32) -> Self {
        Self { free: if len == 0 { Vec::new() } else { vec![(0, len)] } }
    }

    /// The first index of `len` that were free; `None` where no range is as long.
    pub(super) fn take(&mut self, len: u32) -> Option<u32> {
        if len == 0 {
            return Some(0);
        }
        let at = self.free.iter().position(|&(_, free)| free >= len)?;
        let (first, free) = self.free[at];
        if free == len {
            self.free.remove(at);
        } else {
            self.free[at] = (first + len, free - len);
        }
        Some(first)
    }

    /// Gives a range back.
    pub(super) fn give_back(&mut self, first: u32, len: u32) {
        if len == 0 {
            return;
        }
        let at = self.free.partition_point(|&(other, _)| other < first);
        self.free.insert(at, (first, len));
        if let Some(&(next, next_len)) = self.free.get(at + 1)
            && first + len == next
        {
            self.free[at].1 += next_len;
            self.free.remove(at + 1);
        }
        if at > 0 && self.free[at - 1].0 + self.free[at - 1].1 == first {
            self.free[at - 1].1 += self.free[at].1;
            self.free.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_given_out_again() {
        let mut ranges = Ranges::new(10);
        let [a, b, c] = [4, 3, 3].map(|len| ranges.take(len).unwrap());
        assert_eq!((a, b, c), (0, 4, 7));
        assert_eq!(ranges.take(1), None);
        ranges.give_back(a, 4);
        ranges.give_back(c, 3);
        assert_eq!(ranges.take(5), None, "not in one piece");
        ranges.give_back(b, 3);
        assert_eq!(ranges.free, [(0, 10)], "in one piece again");
        assert_eq!(ranges.take(10), Some(0));
        assert_eq!(ranges.take(0), Some(0), "nothing always fits");
    }
}
