//! Unix sockets that keep message boundaries and carry descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::{Context, Error, Result};

/// Most bytes of one message: what the default send buffer of a socket takes.
pub const MESSAGE_BYTES_MAX: usize = 128 << 10;
/// Most descriptors of one message.
pub const DESCRIPTORS_MAX: usize = 4;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// One message as it arrived.
#[derive(Debug, Default)]
pub struct Message {
    pub bytes: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

fn socket(flags: SocketFlags) -> Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .context(|| "create a socket".to_owned())
}

/// The address of `path` by way of its folder, as addresses hold 108 bytes only. The folder stays open meanwhile.
fn address(path: &Path) -> Result<(OwnedFd, SocketAddrUnix)> {
    let what = || format!("socket {}", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(what(), libc::EINVAL));
    };
    let folder = crate::fs::open_dir(parent)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let address = SocketAddrUnix::new(short).context(what)?;
    Ok((folder, address))
}

/// A listening socket at `path`, non-blocking. A socket that was left there is replaced.
pub fn listen(path: &Path) -> Result<OwnedFd> {
    let what = || format!("listen on {}", path.display());
    crate::fs::remove_all(path)?;
    let socket = socket(SocketFlags::NONBLOCK)?;
    let (_folder, address) = address(path)?;
    rustix::net::bind(&socket, &address).context(what)?;
    rustix::net::listen(&socket, BACKLOG).context(what)?;
    Ok(socket)
}

/// Connects to a listening socket; the connection is non-blocking.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let socket = socket(SocketFlags::NONBLOCK)?;
    let (_folder, address) = address(path)?;
    rustix::net::connect(&socket, &address).context(|| format!("connect to {}", path.display()))?;
    Ok(socket)
}

/// The next waiting connection, non-blocking; `None` when there is none.
pub fn accept(listener: impl AsFd) -> Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(connection) => Ok(Some(connection)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error).context(|| "accept a connection".to_owned()),
    }
}

/// Two connected sockets, blocking.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context(|| "create a pair of sockets".to_owned())
}

/// Sends one message whole. On a non-blocking socket that is full: EAGAIN.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Error::new("send descriptors", libc::EMSGSIZE));
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).context(|| "send a message".to_owned()),
        }
    }
}

/// Receives one message; `None` when the other side has closed. On a non-blocking socket that is empty: EAGAIN.
pub fn receive(socket: impl AsFd) -> Result<Option<Message>> {
    // Exactly as much memory as the message needs: a shim receives few, and its memory counts once for each pod.
    let mut bytes = vec![0; next_length(&socket)?.clamp(1, MESSAGE_BYTES_MAX)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other.context(|| "receive a message".to_owned())?,
        }
    };
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        })
        .flatten()
        .collect();
    bytes.truncate(received.bytes);
    Ok((received.bytes > 0).then_some(Message { bytes, descriptors }))
}

/// Bytes of the message that comes next; 0 at the end of all.
fn next_length(socket: impl AsFd) -> Result<usize> {
    loop {
        let mut nothing = [0; 1];
        match rustix::net::recv(&socket, &mut nothing, RecvFlags::PEEK | RecvFlags::TRUNC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(0),
            other => return other.map(|(_, length)| length).context(|| "receive a message".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn messages_carry_bytes_and_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let path = long.join("socket");
        let listener = listen(&path).unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let client = connect(&path).unwrap();
        let server = accept(&listener).unwrap().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(&client, b"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut message = receive(&server).unwrap().unwrap();
        assert_eq!(message.bytes, b"hello");
        std::fs::File::from(message.descriptors.remove(0)).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(client);
        assert!(receive(&server).unwrap().is_none());
    }
}
