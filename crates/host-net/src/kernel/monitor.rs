//! Follows the kernel's notices about transactions on nftables. Source: `net/netfilter/nf_tables_api.c`.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};

use coracle_nft::Family;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, socket};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

use crate::error::Context;
use crate::meddling::Touched;
use crate::{Error, Result};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP_NFTABLES: u32 = 1 << 6;
const SUBSYSTEM_NFTABLES: u8 = 10;
/// `NFT_MSG_NEWGEN`: the last notice of a transaction.
const MESSAGE_NEW_GENERATION: u8 = 15;
/// The name of the table is the first attribute of every object in it.
const ATTRIBUTE_TABLE: u16 = 1;
const HEADER_BYTES: usize = 16;
const GENERIC_BYTES: usize = 4;
/// More than the kernel puts into one notice.
const NOTICE_BYTES_MAX: usize = 128 << 10;

/// Opens the socket, in the network namespace of this thread.
pub(super) fn open() -> Result<OwnedFd> {
    let opened = (|| {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP_NFTABLES))?;
        Ok(socket)
    })();
    opened.map_err(|errno: Errno| io(errno, "follow the changes of nftables"))
}

/// By which number the kernel's notices know a netlink socket.
pub(super) fn number_of(socket: &impl AsRawFd) -> Result<u32> {
    let address = getsockname::<NetlinkAddr>(socket.as_raw_fd());
    address.map(|address| address.pid()).map_err(|errno| io(errno, "read the number of a netlink socket"))
}

fn io(errno: Errno, what: &str) -> Error {
    Error::Io { what: what.to_owned(), source: errno.into() }
}

/// Tells of what others than the socket `own` do, as long as somebody listens.
pub(super) async fn follow(socket: OwnedFd, own: u32, tell: mpsc::Sender<Touched>) -> Result<()> {
    // A datagram socket is one to receive from, whatever its family: this is the safe way to wait for it.
    let socket = UnixDatagram::from_std(socket.into()).context(|| "follow the changes of nftables".to_owned())?;
    let mut buffer = vec![0; NOTICE_BYTES_MAX];
    let mut tables = BTreeSet::new();
    loop {
        let received = tokio::select! {
            received = socket.recv(&mut buffer) => received,
            () = tell.closed() => return Ok(()),
        };
        let report = match received {
            Ok(length) => read(buffer.get(..length).unwrap_or_default(), own, &mut tables),
            // The kernel had to leave notices out.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Some(Touched::Unknown),
            Err(error) => return Err(error).context(|| "read the changes of nftables".to_owned()),
        };
        if let Some(report) = report {
            // Full: what waits there makes the listener look again.
            let _ = tell.try_send(report);
        }
    }
}

/// Reads a datagram of notices. Answers at the end of somebody else's transaction.
fn read(mut notices: &[u8], own: u32, tables: &mut BTreeSet<(Family, String)>) -> Option<Touched> {
    let mut report = None;
    while let Some((message, rest)) = next_message(notices) {
        notices = rest;
        if message.sender == own || message.subsystem != SUBSYSTEM_NFTABLES {
            continue;
        }
        if message.kind == MESSAGE_NEW_GENERATION {
            report = Some(Touched::Tables(std::mem::take(tables)));
        } else if let Some(family) = family(message.family)
            && let Some(table) = text_attribute(message.attributes, ATTRIBUTE_TABLE)
        {
            tables.insert((family, table));
        }
    }
    report
}

struct Message<'a> {
    subsystem: u8,
    kind: u8,
    sender: u32,
    family: u8,
    attributes: &'a [u8],
}

fn next_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let whole = bytes.get(..length)?;
    let [kind, subsystem] = whole.get(4..6)?.try_into().map(u16::from_ne_bytes).ok()?.to_le_bytes();
    let message = Message {
        subsystem,
        kind,
        sender: u32_at(whole, 12)?,
        family: *whole.get(HEADER_BYTES)?,
        attributes: whole.get(HEADER_BYTES + GENERIC_BYTES..)?,
    };
    Some((message, bytes.get(aligned(length)..).unwrap_or_default()))
}

fn text_attribute(mut attributes: &[u8], wanted: u16) -> Option<String> {
    while let Some(head) = attributes.get(..4) {
        let length = usize::from(u16::from_ne_bytes(head.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(head.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return String::from_utf8(value.split(|byte| *byte == 0).next()?.to_vec()).ok();
        }
        attributes = attributes.get(aligned(length)..)?;
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().map(u32::from_ne_bytes).ok()
}

/// Netlink pads everything to four bytes.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Source: `NFPROTO_IPV4`, `NFPROTO_IPV6`.
fn family(number: u8) -> Option<Family> {
    match number {
        2 => Some(Family::Ip),
        10 => Some(Family::Ip6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, sender: u32, table: &str) -> Vec<u8> {
        let mut attributes = Vec::new();
        if !table.is_empty() {
            attributes.extend(u16::try_from(4 + table.len() + 1).expect("short").to_ne_bytes());
            attributes.extend(ATTRIBUTE_TABLE.to_ne_bytes());
            attributes.extend(table.bytes().chain([0]));
            attributes.resize(aligned(attributes.len()), 0);
        }
        let length = u32::try_from(HEADER_BYTES + GENERIC_BYTES + attributes.len()).expect("short");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(u16::from_le_bytes([kind, SUBSYSTEM_NFTABLES]).to_ne_bytes());
        bytes.extend([0; 6]);
        bytes.extend(sender.to_ne_bytes());
        bytes.extend([2, 0, 0, 0]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn only_what_others_do_is_told() {
        let mut tables = BTreeSet::new();
        let ours = [message(2, 7, "a"), message(MESSAGE_NEW_GENERATION, 7, "")].concat();
        assert_eq!(read(&ours, 7, &mut tables), None);
        let theirs = [message(2, 8, "a"), message(8, 8, "b"), message(MESSAGE_NEW_GENERATION, 8, "")].concat();
        let told = read(&theirs, 7, &mut tables).expect("a report");
        assert!(told.names(Family::Ip, "a") && told.names(Family::Ip, "b") && !told.names(Family::Ip6, "a"));
        assert!(tables.is_empty());
        for end in 0..theirs.len() {
            let _ = read(&theirs[..end], 7, &mut BTreeSet::new());
        }
    }
}
