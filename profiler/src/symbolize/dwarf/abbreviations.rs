//! Abbreviations: what the entries of a unit are made of. Here only their bounds are found; gimli
//! decodes them.

use std::ops::Range;

use super::{Budget, Stop};

/// A table of abbreviations, from its start to its end.
pub(super) fn table<'a>(
    section: &'a [u8],
    offset: usize,
    budget: &'a Budget,
) -> Result<&'a [u8], Stop> {
    let mut scan = Scan::new(section, offset, budget)?;
    while scan.entry()?.is_some() {}
    Ok(&scan.bytes[..scan.position])
}

/// The bytes of one abbreviation, as a table of its own: that of a unit's root is nearly always the
/// first, and the others are many.
pub(super) fn one(
    section: &[u8],
    offset: usize,
    code: u64,
    budget: &Budget,
) -> Result<Vec<u8>, Stop> {
    let mut scan = Scan::new(section, offset, budget)?;
    while let Some((found, bytes)) = scan.entry()? {
        if found == code {
            let mut table = scan.bytes[bytes].to_vec();
            table.push(0);
            return Ok(table);
        }
    }
    Err(Stop::Malformed)
}

struct Scan<'a> {
    bytes: &'a [u8],
    position: usize,
    budget: &'a Budget,
}

impl<'a> Scan<'a> {
    fn new(section: &'a [u8], offset: usize, budget: &'a Budget) -> Result<Self, Stop> {
        let bytes = section.get(offset..).ok_or(Stop::Malformed)?;
        Ok(Self { bytes, position: 0, budget })
    }

    /// The code and the bytes of the next abbreviation; `None` at the end of the table.
    fn entry(&mut self) -> Result<Option<(u64, Range<usize>)>, Stop> {
        let start = self.position;
        let code = self.number()?;
        if code == 0 {
            return Ok(None);
        }
        self.number()?;
        self.byte()?;
        loop {
            let (name, form) = (self.number()?, self.number()?);
            if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                self.number()?;
            }
            if (name, form) == (0, 0) {
                // Decoding it costs more than this.
                self.budget.take(4 * (self.position - start))?;
                return Ok(Some((code, start..self.position)));
            }
        }
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = self.bytes.get(self.position).ok_or(Stop::Malformed)?;
        self.position += 1;
        Ok(*byte)
    }

    /// An LEB128. Bits beyond the 64th are lost: gimli refuses such a number.
    fn number(&mut self) -> Result<u64, Stop> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift = shift.saturating_add(7);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
    }
}
