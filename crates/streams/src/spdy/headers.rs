//! Header blocks: names and values, compressed in one zlib stream for each direction of a connection.

use bytes::BufMut;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;
use crate::{Error, Result};

/// Bytes of one block, not compressed.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
const PAIRS_MAX: usize = 256;

/// Names (lower case) and values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    #[must_use]
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect())
    }

    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = |value: usize| u32::try_from(value).unwrap_or(0);
        bytes.put_u32(length(self.0.len()));
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            bytes.put_u32(length(text.len()));
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let count = take_u32(&mut rest)?;
        if count > PAIRS_MAX {
            return Err(Error::protocol("too many headers"));
        }
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            pairs.push((take_text(&mut rest)?, take_text(&mut rest)?));
        }
        Ok(Self(pairs))
    }
}

fn take_u32(rest: &mut &[u8]) -> Result<usize> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(|| Error::protocol("a header block ends early"))?;
    *rest = tail;
    usize::try_from(u32::from_be_bytes(*head)).map_err(|_| Error::protocol("a header is too long"))
}

fn take_text(rest: &mut &[u8]) -> Result<String> {
    let length = take_u32(rest)?;
    let text = rest.get(..length).ok_or_else(|| Error::protocol("a header block ends early"))?;
    *rest = &rest[length..];
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Compresses the blocks of one direction.
pub struct HeaderWriter(Compress);

impl HeaderWriter {
    pub fn new() -> Result<Self> {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&DICTIONARY).map_err(|error| Error::protocol(error.to_string()))?;
        Ok(Self(compress))
    }

    pub fn write(&mut self, headers: &Headers) -> Result<Vec<u8>> {
        let block = headers.to_bytes();
        let mut out = Vec::with_capacity(block.len() + 64);
        let mut done = 0;
        loop {
            out.reserve(256);
            let before = self.0.total_in();
            let input = block.get(done..).unwrap_or_default();
            self.0
                .compress_vec(input, &mut out, FlushCompress::Sync)
                .map_err(|error| Error::protocol(error.to_string()))?;
            done += usize::try_from(self.0.total_in() - before).unwrap_or(0);
            // Room that is left over means that the flush is complete.
            if done >= block.len() && out.len() < out.capacity() {
                return Ok(out);
            }
        }
    }
}

/// Expands the blocks of one direction.
pub struct HeaderReader {
    inflate: Decompress,
    ready: bool,
}

impl Default for HeaderReader {
    fn default() -> Self {
        Self { inflate: Decompress::new(true), ready: false }
    }
}

impl HeaderReader {
    pub fn read(&mut self, compressed: &[u8]) -> Result<Headers> {
        let mut block = Vec::with_capacity(1024);
        let mut done = 0;
        loop {
            block.reserve(1024);
            let (room, before) = (block.capacity(), self.inflate.total_in());
            let input = compressed.get(done..).unwrap_or_default();
            let result = self.inflate.decompress_vec(input, &mut block, FlushDecompress::Sync);
            done += usize::try_from(self.inflate.total_in() - before).unwrap_or(0);
            match result {
                Err(error) if error.needs_dictionary().is_some() && !self.ready => {
                    self.inflate.set_dictionary(&DICTIONARY).map_err(|error| Error::protocol(error.to_string()))?;
                    self.ready = true;
                    continue;
                }
                Err(error) => return Err(Error::protocol(format!("a header block cannot be expanded: {error}"))),
                Ok(Status::StreamEnd) => return Err(Error::protocol("the header stream has ended")),
                Ok(Status::Ok | Status::BufError) => {}
            }
            if block.len() > HEADER_BYTES_MAX {
                return Err(Error::protocol("a header block is too long"));
            }
            if done >= compressed.len() && block.len() < room {
                return Headers::from_bytes(&block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_survive_the_way() {
        let mut writer = HeaderWriter::new().expect("writer");
        let mut reader = HeaderReader::default();
        for round in 0..50 {
            let value = "v".repeat(round * 100);
            let headers = Headers::of(&[("streamType", "error"), ("port", &round.to_string()), ("x", &value)]);
            let read = reader.read(&writer.write(&headers).expect("write")).expect("read");
            assert_eq!((read.get("streamtype"), read.get("X")), ("error", value.as_str()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = HeaderReader::default().read(&bytes);
            let _ = Headers::from_bytes(&bytes);
        }
    }
}
