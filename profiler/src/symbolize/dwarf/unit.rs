//! One unit: the DWARF of one source file, as a rule.

use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAddrBase, DebugLineOffset, DebugRngListsBase,
    DebugStrOffsetsBase, DwAt, DwarfFileType, EntriesRaw, RangeListsOffset, UnitHeader, UnitOffset,
};

use super::{Budget, Sections, Slice, Stop, abbreviations};

/// The longest string that is read, in bytes. Names of templates have tens of thousands.
const MAX_STRING: usize = 64 << 10;

pub(super) type Value<'a> = AttributeValue<Slice<'a>>;
pub(super) type Header<'a> = UnitHeader<Slice<'a>>;

/// A unit whose entries can be read.
pub(super) struct Unit<'a> {
    pub(super) sections: &'a Sections,
    pub(super) budget: &'a Budget,
    pub(super) header: Header<'a>,
    pub(super) root: Root<'a>,
    abbreviations: Abbreviations,
}

/// What the first entry of a unit says about the others.
#[derive(Default)]
pub(super) struct Root<'a> {
    pub(super) ranges: Ranges<'a>,
    /// Where its lines are.
    pub(super) lines: Option<DebugLineOffset>,
    /// Where the compiler ran.
    pub(super) folder: Option<&'a [u8]>,
    bases: Bases,
    base_address: u64,
}

/// Where the unit's parts of indexed sections begin.
struct Bases {
    addresses: DebugAddrBase,
    strings: DebugStrOffsetsBase,
    ranges: DebugRngListsBase,
}

impl Default for Bases {
    fn default() -> Self {
        Self {
            addresses: DebugAddrBase(0),
            strings: DebugStrOffsetsBase(0),
            ranges: DebugRngListsBase(0),
        }
    }
}

/// The attributes of an entry that say which code it stands for.
#[derive(Clone, Copy, Default)]
pub(super) struct Ranges<'a> {
    low: Option<Value<'a>>,
    high: Option<Value<'a>>,
    list: Option<Value<'a>>,
}

impl<'a> Ranges<'a> {
    /// Keeps what is one of them.
    pub(super) fn note(&mut self, name: DwAt, value: Value<'a>) {
        match name {
            gimli::DW_AT_low_pc => self.low = Some(value),
            gimli::DW_AT_high_pc => self.high = Some(value),
            gimli::DW_AT_ranges => self.list = Some(value),
            _ => {}
        }
    }
}

impl<'a> Unit<'a> {
    /// Reads the first entry and all abbreviations.
    pub(super) fn open(
        sections: &'a Sections,
        header: &Header<'a>,
        budget: &'a Budget,
    ) -> Result<Self, Stop> {
        let offset = header.debug_abbrev_offset().0;
        let table = abbreviations::table(sections.abbreviations(), offset, budget)?;
        Self::with_table(sections, header, table, budget)
    }

    /// Reads the first entry only.
    pub(super) fn open_root(
        sections: &'a Sections,
        header: &Header<'a>,
        budget: &'a Budget,
    ) -> Result<Self, Stop> {
        let offset = header.debug_abbrev_offset().0;
        let code = header.range_from(header.root_offset()..)?.read_code()?;
        let table = abbreviations::one(sections.abbreviations(), offset, code, budget)?;
        Self::with_table(sections, header, &table, budget)
    }

    fn with_table(
        sections: &'a Sections,
        header: &Header<'a>,
        table: &[u8],
        budget: &'a Budget,
    ) -> Result<Self, Stop> {
        let abbreviations = DebugAbbrev::new(table, gimli::LittleEndian)
            .abbreviations(gimli::DebugAbbrevOffset(0))?;
        let root = Root::default();
        let mut unit = Self { sections, budget, header: *header, root, abbreviations };
        unit.root = unit.read_root()?;
        Ok(unit)
    }

    fn read_root(&mut self) -> Result<Root<'a>, Stop> {
        let encoding = self.header.encoding();
        let mut root = Root::default();
        root.bases.strings =
            DebugStrOffsetsBase::default_for_encoding_and_file(encoding, DwarfFileType::Main);
        root.bases.ranges =
            DebugRngListsBase::default_for_encoding_and_file(encoding, DwarfFileType::Main);
        let mut folder = None;
        let mut entries = self.entries(self.header.root_offset())?;
        let abbreviation = entries.read_abbreviation()?.ok_or(Stop::Malformed)?;
        self.budget.take(1 + abbreviation.attributes().len())?;
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            root.ranges.note(attribute.name(), attribute.value());
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_stmt_list, Value::DebugLineRef(offset)) => root.lines = Some(offset),
                (gimli::DW_AT_comp_dir, value) => folder = Some(value),
                (
                    gimli::DW_AT_addr_base | gimli::DW_AT_GNU_addr_base,
                    Value::DebugAddrBase(base),
                ) => {
                    root.bases.addresses = base;
                }
                (gimli::DW_AT_str_offsets_base, Value::DebugStrOffsetsBase(base)) => {
                    root.bases.strings = base;
                }
                (gimli::DW_AT_rnglists_base, Value::DebugRngListsBase(base)) => {
                    root.bases.ranges = base;
                }
                _ => {}
            }
        }
        // What follows needs the bases, which may come last.
        let (ranges, lines) = (root.ranges, root.lines);
        self.root = root;
        let folder = folder.and_then(|value| self.string(value));
        let base_address = ranges.low.and_then(|low| self.address(low)).unwrap_or(0);
        let bases = std::mem::take(&mut self.root.bases);
        Ok(Root { ranges, lines, folder, bases, base_address })
    }

    /// The entries from this place on.
    pub(super) fn entries(&self, from: UnitOffset) -> Result<EntriesRaw<'_, Slice<'a>>, Stop> {
        Ok(self.header.entries_raw(&self.abbreviations, Some(from))?)
    }

    /// The place of an entry of this unit in the section.
    pub(super) fn absolute(&self, offset: UnitOffset) -> Option<usize> {
        self.header.debug_info_offset()?.0.checked_add(offset.0)
    }

    fn address(&self, value: Value<'a>) -> Option<u64> {
        match value {
            Value::Addr(address) => Some(address),
            Value::DebugAddrIndex(index) => {
                let size = self.header.encoding().address_size;
                let addresses = self.sections.addresses();
                addresses.get_address(size, self.root.bases.addresses, index).ok()
            }
            _ => None,
        }
    }

    /// A string, wherever it is kept.
    pub(super) fn string(&self, value: Value<'a>) -> Option<&'a [u8]> {
        let (section, offset) = match value {
            Value::String(string) => return Some(&string.slice()[..string.len().min(MAX_STRING)]),
            Value::DebugStrRef(offset) => (self.sections.strings(), offset.0),
            Value::DebugLineStrRef(offset) => (self.sections.line_strings(), offset.0),
            Value::DebugStrOffsetsIndex(index) => {
                let format = self.header.format();
                let offsets = self.sections.string_offsets();
                let offset = offsets.get_str_offset(format, self.root.bases.strings, index);
                (self.sections.strings(), offset.ok()?.0)
            }
            _ => return None,
        };
        let bytes = section.get(offset..)?;
        let bytes = &bytes[..bytes.len().min(MAX_STRING)];
        let end = bytes.iter().position(|&byte| byte == 0)?;
        Some(&bytes[..end])
    }

    /// Calls `add` with each range of addresses, `start..end`. What a linker has thrown away is at 0.
    pub(super) fn each_range(
        &self,
        ranges: &Ranges<'a>,
        mut add: impl FnMut(u64, u64) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut add = |start: u64, end: u64| {
            if start == 0 || start >= end { Ok(()) } else { add(start, end) }
        };
        let Some(list) = ranges.list else {
            let Some(start) = ranges.low.and_then(|low| self.address(low)) else { return Ok(()) };
            let end = match ranges.high {
                Some(Value::Udata(size)) => start.checked_add(size),
                Some(value) => self.address(value),
                None => None,
            };
            return end.map_or(Ok(()), |end| add(start, end));
        };
        let encoding = self.header.encoding();
        let lists = self.sections.ranges();
        let offset = match list {
            Value::RangeListsRef(offset) => RangeListsOffset(offset.0),
            Value::DebugRngListsIndex(index) => {
                lists.get_offset(encoding, self.root.bases.ranges, index)?
            }
            _ => return Err(Stop::Malformed),
        };
        let addresses = self.sections.addresses();
        let Root { bases, base_address, .. } = &self.root;
        let mut list =
            lists.ranges(offset, encoding, *base_address, &addresses, bases.addresses)?;
        // One by one, also those that are no ranges: each costs.
        while let Some(entry) = list.next_raw()? {
            self.budget.take(4)?;
            if let Some(range) = list.convert_raw(entry)? {
                add(range.begin, range.end)?;
            }
        }
        Ok(())
    }
}

/// The code of an abbreviation at the start of an entry.
trait ReadCode {
    fn read_code(self) -> Result<u64, Stop>;
}

impl ReadCode for Slice<'_> {
    fn read_code(mut self) -> Result<u64, Stop> {
        Ok(gimli::Reader::read_uleb128(&mut self)?)
    }
}
