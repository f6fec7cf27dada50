//! The part of `config.yaml` that is for operators: where resources come from, and who may look at
//! them and change them.
//!
//! Sources: APISIX reference §1, §2.3, §10.

use ipnet::IpNet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Where routes come from: `deployment.role` and its `config_provider`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// `apisix.yaml` beside `config.yaml`, with `#END` on its last line.
    Yaml,
    /// The API-driven standalone mode: nothing at first, then what `PUT /apisix/admin/configs`
    /// brings; kept nowhere.
    Memory,
    /// A database of this process's own, changed by the Admin API.
    Embedded,
    /// etcd, in APISIX's layout.
    Etcd(Box<EtcdConfig>),
}

/// `deployment.etcd`.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `host`: one URL or several.
    pub hosts: Vec<String>,
    /// `prefix` of all keys, without a slash at its end. Default `/apisix`.
    pub prefix: String,
    /// `timeout` of a request. Default 30 s.
    pub timeout: Duration,
    /// `startup_retry`: further tries at start before the local snapshot is used. Default 2.
    pub startup_retry: u32,
    /// `user` and `password`.
    pub user: Option<(String, String)>,
    /// `tls`, where a host is `https`.
    pub tls: EtcdTls,
}

impl fmt::Debug for EtcdConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(user, _)| user);
        let Self { hosts, prefix, .. } = self;
        let mut shown = f.debug_struct("EtcdConfig");
        shown.field("hosts", hosts).field("prefix", prefix).field("user", &user);
        shown.finish_non_exhaustive()
    }
}

/// `deployment.etcd.tls`: files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// `ca`: who signed etcd's certificate; the system's certificates if it is not there. A key of
    /// ringgate's own.
    pub ca: Option<String>,
    /// `cert` and `key`: who we are.
    pub identity: Option<(String, String)>,
    /// `sni`: the name etcd's certificate has, if it is not the host's.
    pub sni: Option<String>,
}

/// `deployment.admin`: the Admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// `admin_listen`. Default `127.0.0.1:9180`.
    pub listen: SocketAddr,
    /// `allow_admin`: who may ask at all; empty is everyone. Default `127.0.0.0/24`.
    pub allow: Vec<IpNet>,
    /// `admin_key`; empty: one is made and kept beside the store.
    pub keys: Vec<AdminKey>,
    /// `admin_key_required`. Default true.
    pub key_required: bool,
    /// `enable_admin_cors`: pages of other origins may ask. Default true.
    pub cors: bool,
}

/// One entry of `admin_key`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminKey {
    /// `name`.
    pub name: String,
    /// `key`.
    pub key: String,
    /// `role`.
    pub role: AdminRole,
}

impl fmt::Debug for AdminKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, role, .. } = self;
        f.debug_struct("AdminKey").field("name", name).field("role", role).finish_non_exhaustive()
    }
}

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminRole {
    /// Everything.
    Admin,
    /// To look.
    Viewer,
}

/// A listener for operators without keys: the control API, the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorListen {
    /// Where.
    pub address: SocketAddr,
    /// The file says so: then it must work. The default address may be in use.
    pub is_named: bool,
}
