//! A real etcd, as Debian has it.

use super::certificates::Certificates;
use super::{Folder, Process};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// A running etcd with a folder of its own; it can be killed and started again.
pub(crate) struct Etcd {
    client: SocketAddr,
    peer: SocketAddr,
    process: Option<Process>,
    folder: Folder,
    tls: Option<Certificates>,
    /// Clients must have a certificate too.
    mutual: bool,
}

impl Etcd {
    /// Starts etcd; `None`, with a word why, if there is none.
    pub(crate) fn start() -> Option<Self> {
        Self::start_as(None, false)
    }

    /// The same over TLS. `mutual`: clients must have a certificate.
    pub(crate) fn start_tls(mutual: bool) -> Option<Self> {
        Self::start_as(Some(Certificates::make()?), mutual)
    }

    fn start_as(mut tls: Option<Certificates>, mutual: bool) -> Option<Self> {
        if program("etcd").is_none() || program("etcdctl").is_none() {
            super::skipped("etcd is not installed (apt-get install etcd-server etcd-client)");
            return None;
        }
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok();
        for _ in 0..5 {
            let (client, peer) = (free()?, free()?);
            let (folder, certificates) = (Folder::new(), tls.take());
            let mut etcd = Self { client, peer, process: None, folder, tls: certificates, mutual };
            if etcd.run() {
                return Some(etcd);
            }
            tls = etcd.tls;
        }
        panic!("etcd does not start");
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.client)
    }

    /// The certificates of one over TLS.
    #[track_caller]
    pub(crate) fn certificates(&self) -> &Certificates {
        self.tls.as_ref().expect("it was started over TLS")
    }

    /// `etcdctl` with its settings.
    fn command(&self) -> Command {
        let mut command = Command::new(program("etcdctl").expect("it was there"));
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(self.url());
        // Where many tests share a disk, a write may take a while; and where they share processors,
        // a handshake and the hash of a password.
        command.args(["--command-timeout", "25s", "--dial-timeout", "25s"]);
        if let Some(tls) = &self.tls {
            command.arg("--cacert").arg(tls.path("ca.pem"));
            command.arg("--cert").arg(tls.path("client.pem"));
            command.arg("--key").arg(tls.path("client.key"));
        }
        command
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again with what it had.
    pub(crate) fn restart(&mut self) {
        assert!(self.run(), "etcd starts again");
    }

    /// Runs etcd's own command line.
    #[track_caller]
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = self.command();
        command.args(arguments);
        let output = command.output().expect("etcdctl runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Fills in keys by transactions of many, as a fleet that is there already would have them.
    #[track_caller]
    pub(crate) fn fill(&self, pairs: impl Iterator<Item = (String, String)>) {
        let pairs: Vec<_> = pairs.collect();
        for some in pairs.chunks(100) {
            let puts: String = some
                .iter()
                .map(|(key, value)| format!("put {key} \"{}\"\n", escaped(value)))
                .collect();
            let mut command = self.command();
            command.arg("txn");
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
            let mut child = command.spawn().expect("etcdctl runs");
            let mut input = child.stdin.take().expect("a pipe");
            std::io::Write::write_all(&mut input, format!("\n{puts}\n\n").as_bytes())
                .expect("written");
            drop(input);
            assert!(child.wait().expect("it ends").success());
        }
    }

    fn run(&mut self) -> bool {
        let (client, peer) = (self.url(), format!("http://{}", self.peer));
        let mut command = Command::new(program("etcd").expect("it was there"));
        command
            .args([
                "--name",
                "t",
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("t={peer}")])
            .arg("--data-dir")
            .arg(self.folder.path().join("data"));
        if let Some(tls) = &self.tls {
            command.arg("--cert-file").arg(tls.path("server.pem"));
            command.arg("--key-file").arg(tls.path("server.key"));
            if self.mutual {
                command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(tls.path("ca.pem"));
            }
        }
        let mut process = Process::start(&mut command);
        let start = Instant::now();
        while TcpStream::connect(self.client).is_err() {
            if process.has_ended().is_some() || start.elapsed() > super::DEADLINE {
                return false;
            }
            std::thread::yield_now();
        }
        self.process = Some(process);
        super::eventually("etcd answers", || {
            let mut command = self.command();
            command.args(["get", "x"]);
            command.output().is_ok_and(|output| output.status.success())
        });
        true
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

fn program(name: &str) -> Option<&'static Path> {
    let known: [&str; 2] = match name {
        "etcd" => ["/usr/bin/etcd", "/usr/local/bin/etcd"],
        _ => ["/usr/bin/etcdctl", "/usr/local/bin/etcdctl"],
    };
    known.into_iter().map(Path::new).find(|path| path.is_file())
}
