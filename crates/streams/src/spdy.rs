//! SPDY/3.1, as far as Kubernetes uses it: many streams in one connection.
//!
//! Windows are not enforced, and updates of them are ignored: the peers of Kubernetes never send any, so a sender that
//! waited would wait for ever. What holds a fast sender back is the connection itself: a stream whose reader is slow
//! stops the reading of the connection once its buffer is full.

mod dictionary;
mod frame;
mod headers;
mod session;

pub use frame::{Decoder, FRAME_BYTES_MAX, Frame, Settings, encode};
pub use headers::{HEADER_BYTES_MAX, HeaderReader, HeaderWriter, Headers};
pub use session::{Role, STREAM_PIECES_MAX, STREAMS_MAX, Session, Stream, StreamReader, StreamWriter};
