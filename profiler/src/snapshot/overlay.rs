//! What is mapped where, as more becomes known.

use crate::recording::Mapping;

/// Lays newer mappings over older ones: where both have an address the newer one counts, elsewhere
/// the older one stays, so that the code of a library that was unloaded keeps its names.
///
/// Both are in order of address and without overlap (as the kernel lists them), and so is the
/// result.
pub(super) fn overlay(older: Vec<Mapping>, newer: Vec<Mapping>) -> Vec<Mapping> {
    let mut result = Vec::with_capacity(older.len() + newer.len());
    for mut old in older {
        let first = newer.partition_point(|new| new.end <= old.start);
        for new in newer[first..].iter().take_while(|new| new.start < old.end) {
            if old.start < new.start {
                result.push(Mapping { end: new.start, ..old.clone() });
            }
            // What is left of the old one is behind the new one.
            let cut = new.end.min(old.end) - old.start;
            old.start += cut;
            old.file_offset = old.file_offset.wrapping_add(cut);
        }
        if old.start < old.end {
            result.push(old);
        }
    }
    result.extend(newer);
    result.sort_by_key(|mapping| mapping.start);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::MappingContent::File;

    fn mappings(ranges: &[(u64, u64, u64, usize)]) -> Vec<Mapping> {
        let mapping = |&(start, end, file_offset, file)| Mapping {
            start,
            end,
            file_offset,
            content: File(file),
        };
        ranges.iter().map(mapping).collect()
    }

    fn check(
        older: &[(u64, u64, u64, usize)],
        newer: &[(u64, u64, u64, usize)],
        result: &[(u64, u64, u64, usize)],
    ) {
        assert_eq!(overlay(mappings(older), mappings(newer)), mappings(result));
    }

    #[test]
    fn newer_wins_and_older_stays_elsewhere() {
        check(&[(10, 20, 0, 1)], &[(30, 40, 0, 2)], &[(10, 20, 0, 1), (30, 40, 0, 2)]);
        check(&[(10, 20, 0, 1)], &[(10, 20, 0, 1)], &[(10, 20, 0, 1)]);
        check(&[(10, 20, 0, 1)], &[(5, 25, 0, 2)], &[(5, 25, 0, 2)]);
        check(
            &[(10, 50, 100, 1)],
            &[(5, 12, 0, 2), (20, 30, 0, 3), (45, 60, 0, 4)],
            &[(5, 12, 0, 2), (12, 20, 102, 1), (20, 30, 0, 3), (30, 45, 120, 1), (45, 60, 0, 4)],
        );
        check(
            &[(10, 20, 0, 1), (20, 30, 7, 2)],
            &[(15, 25, 0, 3)],
            &[(10, 15, 0, 1), (15, 25, 0, 3), (25, 30, 12, 2)],
        );
        check(&[(10, 20, 0, 1)], &[], &[(10, 20, 0, 1)]);
        check(&[], &[(10, 20, 0, 1)], &[(10, 20, 0, 1)]);
    }

    #[test]
    fn ends_of_the_address_space() {
        check(
            &[(0, u64::MAX, 5, 1)],
            &[(u64::MAX - 1, u64::MAX, 0, 2)],
            &[(0, u64::MAX - 1, 5, 1), (u64::MAX - 1, u64::MAX, 0, 2)],
        );
    }
}
