//! Names of functions. An entry has one itself, or names another entry that has.

use std::rc::Rc;

use gimli::{DebugInfoOffset, DwAt};
use hashbrown::HashMap;

use super::unit::{Header, Unit, Value};
use super::{Budget, Sections, Stop};
use crate::symbolize::demangle::demangle;

/// From an inlined call to the function is one step, to its declaration another one.
const MAX_STEPS: usize = 8;

/// As many units with functions that other units inline are kept open.
const MAX_OPEN: usize = 64;

/// What an entry says about its name.
#[derive(Clone, Copy, Default)]
pub(super) struct NameOf<'a> {
    /// As the linker knows it.
    mangled: Option<&'a [u8]>,
    plain: Option<&'a [u8]>,
    /// The entry that says more, by its place in the section.
    origin: Option<usize>,
}

impl<'a> NameOf<'a> {
    /// Keeps what an attribute says about the name.
    pub(super) fn note(&mut self, unit: &Unit<'a>, name: DwAt, value: Value<'a>) {
        match name {
            gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                self.mangled = unit.string(value);
            }
            gimli::DW_AT_name => self.plain = unit.string(value),
            gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => {
                self.origin = match value {
                    Value::UnitRef(offset) => unit.absolute(offset),
                    Value::DebugInfoRef(DebugInfoOffset(offset)) => Some(offset),
                    _ => None,
                };
            }
            _ => {}
        }
    }
}

/// Finds names, each once.
pub(super) struct Names<'a> {
    sections: &'a Sections,
    units: &'a [Header<'a>],
    budget: &'a Budget,
    /// By index in `units`.
    open: HashMap<usize, Rc<Unit<'a>>>,
    /// By the place of the entry.
    known: HashMap<usize, Option<Rc<str>>>,
    demangled: HashMap<&'a [u8], Rc<str>>,
}

impl<'a> Names<'a> {
    pub(super) fn new(sections: &'a Sections, units: &'a [Header<'a>], budget: &'a Budget) -> Self {
        let (open, known, demangled) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { sections, units, budget, open, known, demangled }
    }

    /// The demangled name. `None` where there is none to be found.
    pub(super) fn of(&mut self, name: &NameOf<'a>) -> Result<Option<Rc<str>>, Stop> {
        if let Some(mangled) = name.mangled {
            return Ok(Some(self.readable(mangled)?));
        }
        if let Some(origin) = name.origin {
            if let Some(known) = self.known.get(&origin) {
                return Ok(known.clone());
            }
            let bytes = match self.look_up(origin) {
                Err(Stop::Spent) => return Err(Stop::Spent),
                found => found.unwrap_or(None).or(name.plain),
            };
            let found = bytes.map(|bytes| self.readable(bytes)).transpose()?;
            self.known.insert(origin, found.clone());
            return Ok(found);
        }
        name.plain.map(|plain| self.readable(plain)).transpose()
    }

    /// The name of the entry at this place in the section.
    fn look_up(&mut self, mut place: usize) -> Result<Option<&'a [u8]>, Stop> {
        let mut plain = None;
        for _ in 0..MAX_STEPS {
            let index = self.units.partition_point(|unit| {
                unit.debug_info_offset().is_some_and(|start| start.0 <= place)
            });
            let unit = self.unit(index.checked_sub(1).ok_or(Stop::Malformed)?)?;
            let offset = DebugInfoOffset(place).to_unit_offset(&unit.header);
            let mut entries = unit.entries(offset.ok_or(Stop::Malformed)?)?;
            let abbreviation = entries.read_abbreviation()?.ok_or(Stop::Malformed)?;
            self.budget.take(8 + abbreviation.attributes().len())?;
            let mut name = NameOf::default();
            for specification in abbreviation.attributes() {
                let attribute = entries.read_attribute(*specification)?;
                name.note(&unit, attribute.name(), attribute.value());
            }
            if name.mangled.is_some() {
                return Ok(name.mangled);
            }
            plain = plain.or(name.plain);
            match name.origin {
                Some(origin) => place = origin,
                None => break,
            }
        }
        Ok(plain)
    }

    fn unit(&mut self, index: usize) -> Result<Rc<Unit<'a>>, Stop> {
        if let Some(unit) = self.open.get(&index) {
            return Ok(Rc::clone(unit));
        }
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        let unit = Rc::new(Unit::open(self.sections, &self.units[index], self.budget)?);
        self.open.insert(index, Rc::clone(&unit));
        Ok(unit)
    }

    fn readable(&mut self, name: &'a [u8]) -> Result<Rc<str>, Stop> {
        if let Some(known) = self.demangled.get(name) {
            return Ok(Rc::clone(known));
        }
        let readable: Rc<str> = demangle(&String::from_utf8_lossy(name)).into();
        self.budget.take(64 + readable.len())?;
        self.budget.keep(64 + readable.len())?;
        self.demangled.insert(name, Rc::clone(&readable));
        Ok(readable)
    }
}
