//! Which units there are, and which of them have code at an address.

use super::unit::{Header, Unit};
use super::{Budget, Sections, Stop};

/// The headers of all units, in order. Of a section that makes no sense from somewhere on, those
/// before it.
pub(super) fn list<'a>(sections: &'a Sections, budget: &Budget) -> Result<Vec<Header<'a>>, Stop> {
    let mut units = Vec::new();
    let mut headers = sections.info().units();
    while let Ok(Some(header)) = headers.next() {
        budget.take(16)?;
        units.push(header);
    }
    Ok(units)
}

/// The units, by index, that have code at any of the addresses `wanted`, which are in order; with the
/// indexes of those, in order. First those that tell most for what they cost.
pub(super) fn with_code_at(
    sections: &Sections,
    units: &[Header<'_>],
    wanted: &[u64],
    budget: &Budget,
) -> Result<Vec<(usize, Vec<usize>)>, Stop> {
    let mut found = Vec::new();
    for (index, header) in units.iter().enumerate() {
        let mut here = Vec::new();
        let result = Unit::open_root(sections, header, budget).and_then(|unit| {
            unit.each_range(&unit.root.ranges, |start, end| {
                let first = wanted.partition_point(|&address| address < start);
                let behind = wanted.partition_point(|&address| address < end);
                budget.take(behind - first)?;
                here.extend(first..behind);
                Ok(())
            })
        });
        if result == Err(Stop::Spent) {
            return Err(Stop::Spent);
        }
        here.sort_unstable();
        here.dedup();
        if !here.is_empty() {
            found.push((index, here));
        }
    }
    // Stable: equal ones stay in their order.
    found.sort_by_key(|(index, here)| units[*index].length_including_self() / here.len());
    Ok(found)
}
