//! Certificates of an authority of the test's own, made with openssl.

use super::Folder;
use std::path::PathBuf;
use std::process::Command;

/// An authority, a server at 127.0.0.1 or `server.test` and a client whose certificates it signed,
/// and another authority that signed nothing.
pub(crate) struct Certificates {
    folder: Folder,
}

impl Certificates {
    /// Makes them; `None`, with a word why, if there is no openssl.
    pub(crate) fn make() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            super::skipped("openssl is not installed (apt-get install openssl)");
            return None;
        }
        let made = Self { folder: Folder::new() };
        for name in ["ca", "other"] {
            let subject = format!("/CN=the {name} of a test");
            made.openssl(&["req", "-x509", "-subj", &subject, "-days", "2"], name, name);
        }
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            let usage = format!("extendedKeyUsage={usage}");
            let (ca, key) = (made.text("ca.pem"), made.text("ca.key"));
            let signed = ["-CA", &ca, "-CAkey", &key, "-days", "2"];
            let names =
                ["-addext", "subjectAltName=IP:127.0.0.1,DNS:server.test", "-addext", &usage];
            // Not one that could sign others itself.
            let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
            let all = [&["req", "-x509", "-subj", "/CN=root"][..], &signed, &names, &leaf].concat();
            made.openssl(&all, name, name);
        }
        Some(made)
    }

    /// The path of `ca.pem`, `ca.key`, and so for `other`, `server` and `client`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn openssl(&self, args: &[&str], key: &str, certificate: &str) {
        let mut command = Command::new("openssl");
        command.args(args).args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.arg("-keyout").arg(self.path(&format!("{key}.key")));
        command.arg("-out").arg(self.path(&format!("{certificate}.pem")));
        let output = command.output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
