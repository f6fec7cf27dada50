//! A real nginx: as an upstream that nobody here wrote, and to compare answers with.

use super::{Certificates, Folder, Process, Wire};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// A running nginx, stopped by its process id.
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    _process: Process,
    folder: Folder,
}

impl Nginx {
    /// Starts nginx with the body of one `server` block; `None`, with a word why, if there is none.
    pub(crate) fn start(server: &str) -> Option<Self> {
        Self::start_with("", server)
    }

    /// The same with something beside that block.
    pub(crate) fn start_with(http: &str, server: &str) -> Option<Self> {
        Self::listening("", http, server)
    }

    /// One whose connections must begin with a header of the PROXY protocol.
    pub(crate) fn proxied(server: &str) -> Option<Self> {
        Self::listening("proxy_protocol", "", server)
    }

    /// One that speaks TLS, as `server` of these certificates.
    pub(crate) fn tls(certificates: &Certificates, server: &str) -> Option<Self> {
        Self::listening("ssl", "", &with_identity(certificates, server))
    }

    /// The same behind headers of the PROXY protocol.
    pub(crate) fn tls_proxied(certificates: &Certificates, server: &str) -> Option<Self> {
        Self::listening("ssl proxy_protocol", "", &with_identity(certificates, server))
    }

    fn listening(how: &str, http: &str, server: &str) -> Option<Self> {
        let Some(program) = program() else {
            super::skipped("nginx is not installed (apt-get install nginx-core)");
            return None;
        };
        for _ in 0..5 {
            if let Some(nginx) = Self::try_start(program, how, http, server) {
                return Some(nginx);
            }
        }
        panic!("nginx does not start");
    }

    fn try_start(program: &Path, how: &str, http: &str, server: &str) -> Option<Self> {
        // Someone may take the port before nginx does: then there is another try.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?;
        let folder = Folder::new();
        let root = folder.path().display();
        for name in ["body", "html"] {
            std::fs::create_dir_all(folder.path().join(name)).ok()?;
        }
        let text = format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\npid {root}/pid;\n\
             error_log stderr warn;\nevents {{ worker_connections 2048; }}\nhttp {{\n\
             access_log off;\ndefault_type text/plain;\nclient_body_temp_path {root}/body;\n\
             proxy_temp_path {root}/proxy;\nfastcgi_temp_path {root}/fastcgi;\n\
             uwsgi_temp_path {root}/uwsgi;\nscgi_temp_path {root}/scgi;\n\
             {http}\nserver {{\nlisten {address} {how};\nroot {root}/html;\n{server}\n}}\n}}\n"
        );
        let config = folder.write("nginx.conf", text);
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(config).arg("-e").arg("stderr");
        let mut process = Process::start(&mut command);
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if process.has_ended().is_some() || start.elapsed() > super::DEADLINE {
                eprintln!("nginx: {}", process.stderr());
                return None;
            }
            std::thread::yield_now();
        }
        Some(Self { address, _process: process, folder })
    }

    /// Puts a file where nginx serves it.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        self.folder.write(&format!("html/{name}"), content);
    }

    pub(crate) fn node(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }
}

fn with_identity(certificates: &Certificates, server: &str) -> String {
    let [certificate, key] = ["server.pem", "server.key"].map(|name| certificates.text(name));
    format!("ssl_certificate {certificate};\nssl_certificate_key {key};\n{server}")
}

fn program() -> Option<&'static Path> {
    let known = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
    known.into_iter().map(Path::new).find(|path| path.is_file())
}
