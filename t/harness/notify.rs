//! A service manager as systemd is one: a socket that hears datagrams (sd_notify(3)).

use super::{DEADLINE, Folder, Setup};
use std::os::unix::net::UnixDatagram;

pub(crate) struct Manager {
    socket: UnixDatagram,
    folder: Folder,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        Self { socket, folder }
    }

    /// A gateway that is told of this manager.
    pub(crate) fn of(&self, setup: Setup) -> Setup {
        let path = self.folder.path().join("notify");
        setup.environment("NOTIFY_SOCKET", path.to_str().expect("a path of text"))
    }

    /// The next thing it is told.
    #[track_caller]
    pub(crate) fn hear(&self) -> String {
        let mut bytes = [0; 64];
        let len = self.socket.recv(&mut bytes).expect("a datagram in time");
        String::from_utf8_lossy(&bytes[..len]).trim().to_owned()
    }
}
