//! The fields of one protobuf message, one by one: what they take is known before it is used, and
//! where they are.

use anyhow::{Context, Result, bail, ensure};

/// The most bytes of a message within the profile, and of a string.
const MAX_LENGTH: usize = 1 << 20;

/// A field, and where in the message it starts.
pub(super) struct Field<'a> {
    pub(super) offset: usize,
    pub(super) number: u64,
    pub(super) value: Value<'a>,
}

pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed size: nothing here is.
    Other,
}

/// The fields of a message, up to the first error.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { message, at: 0 }
}

pub(super) struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.at;
        if offset == self.message.len() {
            return None;
        }
        let field = self.field(offset).with_context(|| format!("byte {offset}"));
        if field.is_err() {
            self.at = self.message.len();
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self, offset: usize) -> Result<Field<'a>> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let bytes = self.take(length)?;
                ensure!(length <= MAX_LENGTH, "a field of {length} bytes: too long");
                Value::Bytes(bytes)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            kind => bail!("not a field of a protobuf message: its wire type is {kind}"),
        };
        Ok(Field { offset, number: key >> 3, value })
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number of more than 64 bits")
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = &self.message[self.at..];
        ensure!(length <= rest.len(), "it ends within a field: is it truncated?");
        self.at += length;
        Ok(&rest[..length])
    }
}

/// The numbers of a repeated field in one piece.
pub(super) fn packed(bytes: &[u8]) -> impl Iterator<Item = Result<u64>> {
    let mut fields = fields(bytes);
    std::iter::from_fn(move || {
        if fields.at == fields.message.len() {
            return None;
        }
        let number = fields.varint();
        if number.is_err() {
            fields.at = fields.message.len();
        }
        Some(number)
    })
}
