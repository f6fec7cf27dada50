//! A real HAProxy: as an upstream that nobody here wrote, and to compare answers with.

use super::{Folder, Process, eventually, skipped};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

/// A running HAProxy, stopped by its process id.
pub(crate) struct HaProxy {
    pub(crate) address: SocketAddr,
    _process: Process,
    _folder: Folder,
}

impl HaProxy {
    /// Starts HAProxy with one `listen` section: `how` stands behind its address, `lines` below.
    /// `None`, with a word why, if there is none.
    pub(crate) fn start(how: &str, lines: &str) -> Option<Self> {
        if Command::new("haproxy").arg("-v").output().is_err() {
            skipped("haproxy is not installed (apt-get install haproxy)");
            return None;
        }
        let folder = Folder::new();
        // Someone may take the port before HAProxy does: then it does not start.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?;
        let config = folder.write(
            "haproxy.cfg",
            format!(
                "global\n  maxconn 100\ndefaults\n  mode http\n  timeout client 20s\n  \
                 timeout server 20s\n  timeout connect 5s\nlisten l\n  bind {address} {how}\n  \
                 {lines}\n"
            ),
        );
        let process = Process::start(Command::new("haproxy").arg("-db").arg("-f").arg(config));
        eventually("HAProxy listens", || TcpStream::connect(address).is_ok());
        Some(Self { address, _process: process, _folder: folder })
    }
}
