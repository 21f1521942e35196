//! The wire format of protobuf: tags, varints and length-delimited fields.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("unexpected EOF")]
    Truncated,
    #[error("integer overflow")]
    Overflow,
    #[error("wiretype {0} is not known")]
    Kind(u8),
    #[error("illegal tag 0")]
    Tag,
    #[error("messages are nested too deeply")]
    Depth,
}

pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

/// The fields of a message, in the order of the wire. Ends after the first error.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
            self.rest = rest;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Overflow)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Payload<'a>), WireError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::Overflow)?;
        if number == 0 {
            return Err(WireError::Tag);
        }
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(self.take(8)?.try_into().map_err(|_| WireError::Truncated)?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Overflow)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Fixed32(self.take(4)?.try_into().map_err(|_| WireError::Truncated)?),
            #[allow(clippy::cast_possible_truncation)]
            kind => return Err(WireError::Kind(kind as u8)),
        };
        Ok((number, payload))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Payload<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Go does not check that strings are UTF-8; JSON has to be.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn varint(number: u32, value: u64, out: &mut Vec<u8>) {
    raw_varint(u64::from(number) << 3, out);
    raw_varint(value, out);
}

pub(crate) fn fixed64(number: u32, value: [u8; 8], out: &mut Vec<u8>) {
    raw_varint(u64::from(number) << 3 | 1, out);
    out.extend_from_slice(&value);
}

/// The head of a field of so many bytes.
pub(crate) fn length(number: u32, bytes: usize, out: &mut Vec<u8>) {
    raw_varint(u64::from(number) << 3 | 2, out);
    raw_varint(bytes as u64, out);
}

pub(crate) fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    length(number, value.len(), out);
    out.extend_from_slice(value);
}

fn raw_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        #[allow(clippy::cast_possible_truncation)]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)]
    out.push(value as u8);
}
