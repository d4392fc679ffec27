//! Which function an address is in, and which functions are inlined there.

use gimli::{Abbreviation, EntriesRaw, UnitOffset};

use super::names::NameOf;
use super::unit::{Ranges, Unit, Value};
use super::{Slice, Stop};

/// Deeper than any compiler inlines. What is deeper is left out.
const MAX_INLINED: usize = 64;

/// The functions around an address.
#[derive(Clone, Default)]
pub(super) struct Scopes<'a> {
    pub(super) function: Option<Scope<'a>>,
    /// Those that are inlined into it, outermost first.
    pub(super) inlined: Vec<Scope<'a>>,
}

/// A function, or a call of one that was inlined.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    pub(super) name: NameOf<'a>,
    /// Where it is called: the number of the file, and the line.
    pub(super) line: Option<(u64, u32)>,
    /// How deep its entry is in the tree of entries.
    depth: isize,
}

/// The attributes of an entry that matter here.
#[derive(Default)]
struct Attributes<'a> {
    ranges: Ranges<'a>,
    name: NameOf<'a>,
    file: Option<u64>,
    line: Option<u32>,
    sibling: Option<UnitOffset>,
}

/// Finds the functions around some addresses, which are in order. `scopes` has a place for each.
pub(super) fn walk<'a>(
    unit: &Unit<'a>,
    wanted: &[u64],
    scopes: &mut [Scopes<'a>],
) -> Result<(), Stop> {
    let mut entries = unit.entries(unit.header.root_offset())?;
    // After a jump, gimli counts from 0 again.
    let mut base_depth = 0;
    // The depth of the function that is being read, if it has any of the addresses.
    let mut within: Option<isize> = None;
    while !entries.is_empty() {
        let depth = base_depth + entries.next_depth();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            unit.budget.take(1)?;
            continue;
        };
        unit.budget.take(1 + abbreviation.attributes().len())?;
        if within.is_some_and(|function| depth <= function) {
            within = None;
        }
        let is_function = abbreviation.tag() == gimli::DW_TAG_subprogram;
        let is_inlined = abbreviation.tag() == gimli::DW_TAG_inlined_subroutine;
        if !(is_function || is_inlined && within.is_some()) {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let attributes = read(unit, &mut entries, abbreviation)?;
        let line = attributes.file.zip(attributes.line);
        let scope = Scope { name: attributes.name, line, depth };
        let mut has_any = false;
        unit.each_range(&attributes.ranges, |start, end| {
            let first = wanted.partition_point(|&address| address < start);
            let behind = wanted.partition_point(|&address| address < end);
            // A scope takes memory.
            unit.budget.take(50 * (behind - first))?;
            has_any |= first < behind;
            scopes[first..behind].iter_mut().for_each(|scopes| scopes.enter(&scope, is_function));
            Ok(())
        })?;
        if has_any {
            if is_function {
                within = Some(depth);
            }
        } else if abbreviation.has_children()
            && let Some(sibling) = attributes.sibling
            // Only forward: there is an end.
            && sibling.0 > entries.next_offset().0
        {
            entries = unit.entries(sibling)?;
            base_depth = depth;
        }
    }
    Ok(())
}

impl<'a> Scopes<'a> {
    /// Notes an entry that has the address.
    fn enter(&mut self, scope: &Scope<'a>, is_function: bool) {
        let outer = self.inlined.last().or(self.function.as_ref());
        // Ranges that overlap, beside each other, are no scopes within each other.
        if outer.is_some_and(|outer| outer.depth >= scope.depth) {
            return;
        }
        if is_function {
            self.inlined.clear();
            self.function = Some(scope.clone());
        } else if self.inlined.len() < MAX_INLINED {
            self.inlined.push(scope.clone());
        }
    }
}

fn read<'a>(
    unit: &Unit<'a>,
    entries: &mut EntriesRaw<'_, Slice<'a>>,
    abbreviation: &Abbreviation,
) -> Result<Attributes<'a>, Stop> {
    let mut found = Attributes::default();
    for specification in abbreviation.attributes() {
        let attribute = entries.read_attribute(*specification)?;
        let value = attribute.value();
        found.ranges.note(attribute.name(), value);
        found.name.note(unit, attribute.name(), value);
        match (attribute.name(), value) {
            (gimli::DW_AT_call_file, Value::FileIndex(file)) => found.file = Some(file),
            (gimli::DW_AT_call_line, _) => {
                found.line = attribute.udata_value().and_then(|line| u32::try_from(line).ok());
            }
            (gimli::DW_AT_sibling, Value::UnitRef(offset)) => found.sibling = Some(offset),
            _ => {}
        }
    }
    Ok(found)
}
