//! Frames of SPDY/3.1.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::headers::{HeaderReader, HeaderWriter, Headers};
use crate::{Error, Result};

/// Bytes of one frame's payload; the protocol's own limit is 24 bits.
pub const FRAME_BYTES_MAX: usize = (1 << 24) - 1;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
const SETTINGS_MAX: usize = 64;

/// Ids and values.
pub type Settings = Vec<(u32, u32)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    SynStream { id: u32, fin: bool, headers: Headers },
    SynReply { id: u32, fin: bool, headers: Headers },
    RstStream { id: u32, status: u32 },
    Settings(Settings),
    Ping { id: u32 },
    GoAway { last: u32, status: u32 },
    Headers { id: u32, fin: bool, headers: Headers },
    WindowUpdate { id: u32, delta: u32 },
    Data { id: u32, fin: bool, bytes: Bytes },
}

/// Takes frames out of bytes.
#[derive(Default)]
pub struct Decoder {
    pub(super) buffer: BytesMut,
    headers: HeaderReader,
}

impl Decoder {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. Frames of unknown type are skipped.
    #[allow(clippy::should_implement_trait, reason = "an end of input is no end of the stream")]
    pub fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            let Some(head) = self.buffer.first_chunk::<8>().copied() else { return Ok(None) };
            let flags = head[4];
            let length = usize::try_from(u32::from_be_bytes([0, head[5], head[6], head[7]])).unwrap_or(FRAME_BYTES_MAX);
            if self.buffer.len() < 8 + length {
                return Ok(None);
            }
            self.buffer.advance(8);
            let payload = self.buffer.split_to(length).freeze();
            let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            if word >> 31 == 0 {
                return Ok(Some(Frame::Data { id: word, fin: flags & FLAG_FIN != 0, bytes: payload }));
            }
            let version = u16::from_be_bytes([head[0] & 0x7f, head[1]]);
            if version != VERSION {
                return Err(Error::protocol(format!("SPDY version {version}")));
            }
            let kind = u16::from_be_bytes([head[2], head[3]]);
            if let Some(frame) = self.control(kind, flags, &payload)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<Option<Frame>> {
        let fin = flags & FLAG_FIN != 0;
        let mut rest = payload;
        let frame = match kind {
            1 => {
                let id = stream_id(&mut rest)?;
                take_u32(&mut rest)?;
                let block = rest.get(2..).ok_or_else(short)?;
                Frame::SynStream { id, fin, headers: self.headers.read(block)? }
            }
            2 => Frame::SynReply { id: stream_id(&mut rest)?, fin, headers: self.headers.read(rest)? },
            3 => Frame::RstStream { id: stream_id(&mut rest)?, status: take_u32(&mut rest)? },
            4 => Frame::Settings(settings(rest)?),
            6 => Frame::Ping { id: take_u32(&mut rest)? },
            7 => Frame::GoAway { last: stream_id(&mut rest)?, status: take_u32(&mut rest)? },
            8 => Frame::Headers { id: stream_id(&mut rest)?, fin, headers: self.headers.read(rest)? },
            9 => Frame::WindowUpdate { id: stream_id(&mut rest)?, delta: take_u32(&mut rest)? & 0x7fff_ffff },
            _ => return Ok(None),
        };
        Ok(Some(frame))
    }
}

fn short() -> Error {
    Error::protocol("a frame ends early")
}

fn take_u32(rest: &mut &[u8]) -> Result<u32> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    *rest = tail;
    Ok(u32::from_be_bytes(*head))
}

fn stream_id(rest: &mut &[u8]) -> Result<u32> {
    Ok(take_u32(rest)? & 0x7fff_ffff)
}

fn settings(mut rest: &[u8]) -> Result<Settings> {
    let count = usize::try_from(take_u32(&mut rest)?).unwrap_or(usize::MAX);
    if count > SETTINGS_MAX {
        return Err(Error::protocol("too many settings"));
    }
    (0..count).map(|_| Ok((take_u32(&mut rest)? & 0x00ff_ffff, take_u32(&mut rest)?))).collect()
}

/// Appends one frame.
pub fn encode(frame: &Frame, headers: &mut HeaderWriter, out: &mut BytesMut) -> Result<()> {
    let flag = |fin: bool| if fin { FLAG_FIN } else { 0 };
    match frame {
        Frame::Data { id, fin, bytes } => {
            out.put_u32(id & 0x7fff_ffff);
            put_length(flag(*fin), bytes.len(), out)?;
            out.extend_from_slice(bytes);
        }
        Frame::SynStream { id, fin, headers: block } => {
            let block = headers.write(block)?;
            put_control(1, flag(*fin), 10 + block.len(), out)?;
            out.put_u32(*id);
            out.put_u32(0);
            out.put_u16(0);
            out.extend_from_slice(&block);
        }
        Frame::SynReply { id, fin, headers: block } => put_block(2, *id, flag(*fin), &headers.write(block)?, out)?,
        Frame::Headers { id, fin, headers: block } => put_block(8, *id, flag(*fin), &headers.write(block)?, out)?,
        Frame::RstStream { id, status } => put_words(3, &[*id, *status], out)?,
        Frame::GoAway { last, status } => put_words(7, &[*last, *status], out)?,
        Frame::WindowUpdate { id, delta } => put_words(9, &[*id, *delta], out)?,
        Frame::Ping { id } => put_words(6, &[*id], out)?,
        Frame::Settings(list) => {
            put_control(4, 0, 4 + list.len() * 8, out)?;
            out.put_u32(u32::try_from(list.len()).unwrap_or(0));
            for (id, value) in list {
                out.put_u32(*id);
                out.put_u32(*value);
            }
        }
    }
    Ok(())
}

fn put_words(kind: u16, words: &[u32], out: &mut BytesMut) -> Result<()> {
    put_control(kind, 0, words.len() * 4, out)?;
    words.iter().for_each(|word| out.put_u32(*word));
    Ok(())
}

fn put_block(kind: u16, id: u32, flags: u8, block: &[u8], out: &mut BytesMut) -> Result<()> {
    put_control(kind, flags, 4 + block.len(), out)?;
    out.put_u32(id);
    out.extend_from_slice(block);
    Ok(())
}

fn put_control(kind: u16, flags: u8, length: usize, out: &mut BytesMut) -> Result<()> {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_length(flags, length, out)
}

fn put_length(flags: u8, length: usize, out: &mut BytesMut) -> Result<()> {
    if length > FRAME_BYTES_MAX {
        return Err(Error::protocol("a frame is too long"));
    }
    let length = u32::try_from(length).unwrap_or(0);
    out.put_u32(u32::from(flags) << 24 | length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_survive_the_way() {
        let headers = Headers::of(&[("streamtype", "data"), ("port", "80")]);
        let frames = [
            Frame::SynStream { id: 1, fin: false, headers: headers.clone() },
            Frame::SynReply { id: 1, fin: true, headers: Headers::default() },
            Frame::Headers { id: 3, fin: false, headers },
            Frame::Data { id: 1, fin: true, bytes: Bytes::from_static(b"hello") },
            Frame::RstStream { id: 5, status: 8 },
            Frame::Settings(vec![(4, 100), (7, 65_536)]),
            Frame::Ping { id: 2 },
            Frame::GoAway { last: 9, status: 0 },
            Frame::WindowUpdate { id: 1, delta: 1000 },
        ];
        let mut writer = HeaderWriter::new().expect("writer");
        let mut bytes = BytesMut::new();
        for frame in &frames {
            encode(frame, &mut writer, &mut bytes).expect("encode");
        }
        let mut decoder = Decoder::default();
        let mut read = Vec::new();
        for piece in bytes.chunks(3) {
            decoder.feed(piece);
            while let Some(frame) = decoder.next().expect("frame") {
                read.push(frame);
            }
        }
        assert_eq!(read, frames);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            for _ in 0..100 {
                if !matches!(decoder.next(), Ok(Some(_))) {
                    break;
                }
            }
        }
    }
}
