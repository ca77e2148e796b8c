//! The binary form of a WebAssembly module, as far as the build looks into it.

use crate::{Failure, Result};

pub(crate) const CUSTOM: u8 = 0;
pub(crate) const IMPORTS: u8 = 2;
pub(crate) const EXPORTS: u8 = 7;
pub(crate) const CODE: u8 = 10;
/// Bytes before the first section.
pub(crate) const HEADER: usize = 8;

/// Reads a module from its beginning.
pub(crate) struct Input<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let part = self.bytes.get(self.at..self.at.saturating_add(len)).ok_or_else(|| broken("it ends too early"))?;
        self.at += len;
        Ok(part)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned LEB128 number.
    pub(crate) fn number(&mut self) -> Result<usize> {
        let (mut value, mut shift) = (0_usize, 0_u32);
        loop {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f).checked_shl(shift).ok_or_else(|| broken("a number is too large"))?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    pub(crate) fn name(&mut self) -> Result<&'a str> {
        let len = self.number()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| broken("a name is not UTF-8"))
    }
}

pub(crate) fn write_number(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value == 0 { byte } else { byte | 0x80 });
        if value == 0 {
            return;
        }
    }
}

pub(crate) fn write_name(out: &mut Vec<u8>, name: &str) {
    write_number(out, name.len());
    out.extend(name.as_bytes());
}

/// Writes a section.
pub(crate) fn write_section(out: &mut Vec<u8>, id: u8, body: &[u8]) {
    out.push(id);
    write_number(out, body.len());
    out.extend(body);
}

pub(crate) fn broken(why: &str) -> Failure {
    Failure::new(format!("cannot read the module: {why}"))
}
