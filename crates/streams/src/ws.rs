//! WebSocket messages (RFC 6455) over any byte stream.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{Error, Result};

/// Bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 32 << 10;

/// Which end we are: clients mask what they send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close,
}

/// One frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    last: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    length: usize,
    /// Bytes of the head itself.
    size: usize,
}

/// `None` when more bytes are needed.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Error::protocol("reserved bits are set"));
    }
    let (length, extra) = match second & 0x7f {
        126 => match rest {
            [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            _ => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
    let length = length.ok_or_else(|| Error::protocol("the message is too long"))?;
    let masked = second & 0x80 != 0;
    let mask = match (masked, rest.get(extra..).and_then(|rest| rest.first_chunk::<4>())) {
        (false, _) => None,
        (true, Some(mask)) => Some(*mask),
        (true, None) => return Ok(None),
    };
    let opcode = first & 0x0f;
    if opcode >= 8 && (length > 125 || first & 0x80 == 0) {
        return Err(Error::protocol("a control frame is too long or in parts"));
    }
    let size = 2 + extra + if masked { 4 } else { 0 };
    Ok(Some(Head { last: first & 0x80 != 0, opcode, mask, length, size }))
}

fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    for (byte, key) in bytes.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Takes frames out of bytes and puts messages together.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    partial: Option<(u8, BytesMut)>,
}

impl Decoder {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    #[allow(clippy::should_implement_trait, reason = "an end of input is no end of the stream")]
    pub fn next(&mut self) -> Result<Option<Message>> {
        loop {
            let Some(head) = parse_head(&self.buffer)? else { return Ok(None) };
            if self.buffer.len() < head.size + head.length {
                return Ok(None);
            }
            self.buffer.advance(head.size);
            let mut payload = self.buffer.split_to(head.length);
            if let Some(mask) = head.mask {
                apply_mask(&mut payload, mask);
            }
            if let Some(message) = self.assemble(head, payload)? {
                return Ok(Some(message));
            }
        }
    }

    fn assemble(&mut self, head: Head, payload: BytesMut) -> Result<Option<Message>> {
        match (head.opcode, self.partial.take()) {
            (8, _) => return Ok(Some(Message::Close)),
            (9, partial) => {
                self.partial = partial;
                return Ok(Some(Message::Ping(payload.freeze())));
            }
            (10, partial) => {
                self.partial = partial;
                return Ok(Some(Message::Pong(payload.freeze())));
            }
            (0, Some((opcode, mut whole))) => {
                if whole.len() + payload.len() > MESSAGE_BYTES_MAX {
                    return Err(Error::protocol("the message is too long"));
                }
                whole.extend_from_slice(&payload);
                self.partial = Some((opcode, whole));
            }
            (opcode @ (1 | 2), None) => self.partial = Some((opcode, payload)),
            _ => return Err(Error::protocol("unexpected frame")),
        }
        if !head.last {
            return Ok(None);
        }
        let whole = self.partial.take().map(|(opcode, whole)| (opcode, whole.freeze()));
        Ok(whole.map(|(opcode, whole)| if opcode == 1 { Message::Text(whole) } else { Message::Binary(whole) }))
    }
}

/// Writes one message as one frame. `parts` are joined.
pub fn encode(role: Role, opcode_of: &Message, parts: &[&[u8]], out: &mut BytesMut) {
    let opcode = match opcode_of {
        Message::Text(_) => 1,
        Message::Binary(_) => 2,
        Message::Close => 8,
        Message::Ping(_) => 9,
        Message::Pong(_) => 10,
    };
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mask_bit = if role == Role::Client { 0x80 } else { 0 };
    out.put_u8(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => out.put_u8(mask_bit | short),
        (_, Ok(middle)) => {
            out.put_u8(mask_bit | 126);
            out.put_u16(middle);
        }
        _ => {
            out.put_u8(mask_bit | 127);
            out.put_u64(length as u64);
        }
    }
    let mask = (role == Role::Client).then(random_mask);
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    if let Some(mask) = mask {
        apply_mask(&mut out[start..], mask);
    }
}

/// The standard library's hasher keys are random for each one.
fn random_mask() -> [u8; 4] {
    use std::hash::{BuildHasher, Hasher};
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let bytes = number.to_be_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

/// Reads messages.
pub struct Reader<R> {
    inner: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, decoder: Decoder::default() }
    }

    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(Some(message));
            }
            self.decoder.buffer.reserve(READ_BYTES);
            if self.inner.read_buf(&mut self.decoder.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Writes messages.
pub struct Writer<W> {
    inner: W,
    role: Role,
    buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub fn new(inner: W, role: Role) -> Self {
        Self { inner, role, buffer: BytesMut::new() }
    }

    pub async fn binary(&mut self, parts: &[&[u8]]) -> Result<()> {
        self.write(&Message::Binary(Bytes::new()), parts).await
    }

    pub async fn text(&mut self, parts: &[&[u8]]) -> Result<()> {
        self.write(&Message::Text(Bytes::new()), parts).await
    }

    pub async fn pong(&mut self, payload: &[u8]) -> Result<()> {
        self.write(&Message::Pong(Bytes::new()), &[payload]).await
    }

    /// Says farewell with status 1000.
    pub async fn close(&mut self) -> Result<()> {
        self.write(&Message::Close, &[&1000_u16.to_be_bytes()]).await?;
        self.inner.shutdown().await?;
        Ok(())
    }

    async fn write(&mut self, kind: &Message, parts: &[&[u8]]) -> Result<()> {
        self.buffer.clear();
        encode(self.role, kind, parts, &mut self.buffer);
        self.inner.write_all(&self.buffer).await?;
        self.inner.flush().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_survive_the_way() {
        for role in [Role::Client, Role::Server] {
            for length in [0_usize, 1, 125, 126, 65_535, 65_536] {
                let payload = vec![7; length];
                let mut bytes = BytesMut::new();
                encode(role, &Message::Binary(Bytes::new()), &[&payload], &mut bytes);
                let mut decoder = Decoder::default();
                for piece in bytes.chunks(1000) {
                    decoder.feed(piece);
                }
                assert_eq!(decoder.next().expect("message"), Some(Message::Binary(payload.into())));
            }
        }
    }

    #[test]
    fn parts_are_joined_around_control_frames() {
        let mut decoder = Decoder::default();
        decoder.feed(&[0x01, 1, b'a', 0x89, 0, 0x80, 1, b'b']);
        assert_eq!(decoder.next().expect("ping"), Some(Message::Ping(Bytes::new())));
        assert_eq!(decoder.next().expect("text"), Some(Message::Text(Bytes::from_static(b"ab"))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            for _ in 0..500 {
                if !matches!(decoder.next(), Ok(Some(_))) {
                    break;
                }
            }
        }
    }
}
