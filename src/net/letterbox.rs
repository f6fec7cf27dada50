//! Messages with descriptors between two processes: a pair of sockets that keeps messages whole.

use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair, sockopt,
};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Descriptors of one message; the kernel takes 253.
pub const MESSAGE_FDS_MAX: usize = 64;

/// Bytes of one message; sockets have room for more.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Two ends that talk with each other; neither is inherited by programs that are started.
///
/// # Errors
/// No descriptors are left.
pub fn letterboxes() -> io::Result<(OwnedFd, OwnedFd)> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    Ok(socketpair(AddressFamily::UNIX, kind, flags, None)?)
}

/// Whether a descriptor is such an end.
#[must_use]
pub fn is_letterbox(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_type(fd).is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

/// Sends a message with copies of descriptors.
///
/// # Errors
/// The other end is gone, has no room at the moment, or takes nothing so large.
pub fn send_message(end: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(end, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message with its descriptors, which programs that are started do not inherit; `None`:
/// the other end is gone.
///
/// # Errors
/// None has come (at the moment, or in the time the socket waits), or it is larger than messages
/// are.
pub fn receive_message(end: impl AsFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(end, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    bytes.truncate(received.bytes);
    Ok((received.bytes > 0).then_some((bytes, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn descriptors_go_along_with_messages() {
        let (here, there) = letterboxes().expect("two ends");
        assert!(is_letterbox(here.as_fd()));
        let null = File::open("/dev/null").expect("a file");
        assert!(!is_letterbox(null.as_fd()));
        let many = [null.as_fd(); MESSAGE_FDS_MAX];
        send_message(&here, b"one", &[]).expect("sent");
        send_message(&here, b"two", &many).expect("sent");
        assert!(send_message(&here, b"too many", &[null.as_fd(); MESSAGE_FDS_MAX + 8]).is_err());
        let large = vec![b'x'; MESSAGE_BYTES_MAX];
        send_message(&here, &large, &[]).expect("sent");
        send_message(&here, &[&large[..], b"y"].concat(), &[]).expect("sent");
        drop((here, null));
        let receive = || receive_message(&there);
        let plain = |bytes: &[u8]| Some(bytes.to_vec());
        let first = receive().expect("a message").map(|(bytes, fds)| (bytes, fds.len()));
        assert_eq!(first, plain(b"one").map(|bytes| (bytes, 0)));
        let (bytes, mut fds) = receive().expect("a message").expect("one more");
        assert_eq!((&bytes[..], fds.len()), (&b"two"[..], MESSAGE_FDS_MAX));
        let mut copy = File::from(fds.remove(0));
        assert_eq!(copy.read(&mut [0]).expect("it is /dev/null"), 0);
        assert_eq!(receive().expect("a message").map(|(bytes, _)| bytes), plain(&large));
        assert_eq!(receive().map_err(|e| e.kind()).err(), Some(io::ErrorKind::InvalidData));
        assert!(receive().expect("the end").is_none());
    }
}
