//! The section `deployment`: where routes come from, and the Admin API that changes them.

use super::super::operators::{
    AdminConfig, AdminKey, AdminRole, EtcdConfig, EtcdTls, OperatorListen, Provider,
};
use super::listen::{ip, port};
use super::{Env, Once, ignore};
use crate::conf::load::Duplicate;
use crate::expr::parse_network;
use crate::schema::{Fault, Object, Reader};
use ipnet::IpNet;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Where APISIX has its Admin API, control API and status.
const ADMIN_PORT: u16 = 9180;
const CONTROL_PORT: u16 = 9090;
const STATUS_PORT: u16 = 7085;

/// Longest time to wait for etcd.
const TIMEOUT_MAX: f64 = 3600.0;

/// The variable that stands for `deployment.etcd.host`, a JSON list (APISIX reference §1).
const HOST_VARIABLE: &str = "APISIX_DEPLOYMENT_ETCD_HOST";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Named {
    Yaml,
    Embedded,
    Etcd,
    Unsupported,
}

const PROVIDERS: [(&str, Named); 5] = [
    ("yaml", Named::Yaml),
    ("embedded", Named::Embedded),
    ("etcd", Named::Etcd),
    ("json", Named::Unsupported),
    ("xds", Named::Unsupported),
];

#[derive(Clone, Copy, PartialEq)]
enum Role {
    DataPlane,
    Traditional,
    ControlPlane,
    Standalone,
}

const ROLES: [(&str, Role); 4] = [
    ("data_plane", Role::DataPlane),
    ("traditional", Role::Traditional),
    ("control_plane", Role::ControlPlane),
    ("standalone", Role::Standalone),
];

const ADMIN_ROLES: [(&str, AdminRole); 2] =
    [("admin", AdminRole::Admin), ("viewer", AdminRole::Viewer)];

/// What the sections `deployment` and `apisix` say together.
pub(super) struct Deployment {
    pub(super) provider: Provider,
    pub(super) admin: Option<AdminConfig>,
    /// No traffic is served here: `role: control_plane`.
    pub(super) is_control_plane: bool,
}

/// `enable_admin` is the key of that name in `apisix`.
pub(super) fn read(
    mut object: Object<'_>,
    enable_admin: Option<bool>,
    env: Env<'_>,
    duplicates: &mut Vec<Duplicate>,
) -> Deployment {
    let role = object.get("role").and_then(|reader| {
        let role = reader.one_of(&ROLES);
        if role == Some(Role::Standalone) {
            let fault = Fault::new("`role: standalone` is not supported");
            reader.error(fault.hint("use `data_plane` with `config_provider: yaml`"));
        }
        role
    });
    let data_plane = provider(&mut object, "role_data_plane");
    let traditional = provider(&mut object, "role_traditional");
    let control_plane = provider(&mut object, "role_control_plane");
    let role = role.or_else(|| unnamed_role(&object, data_plane.or(control_plane)));
    let has_etcd = object.has("etcd");
    let etcd = etcd(object.section("etcd"), env);
    let admin = admin(object.section("admin"), duplicates);
    ignore(&mut object, &["certs"]);
    object.finish();
    let admin_on = match role {
        Some(Role::DataPlane | Role::Standalone) => false,
        Some(Role::ControlPlane) => true,
        Some(Role::Traditional) => enable_admin.unwrap_or(true),
        None => enable_admin.unwrap_or(false),
    };
    let named = match role {
        Some(Role::DataPlane | Role::Standalone) => data_plane,
        Some(Role::Traditional) => traditional,
        Some(Role::ControlPlane) => control_plane,
        None => data_plane.or(traditional),
    };
    let kept = if has_etcd { Named::Etcd } else { Named::Embedded };
    let default = match role {
        Some(Role::Traditional | Role::ControlPlane) => kept,
        None if admin_on => kept,
        _ => Named::Yaml,
    };
    let provider = match named.unwrap_or(default) {
        Named::Yaml if admin_on => Provider::Memory,
        Named::Yaml | Named::Unsupported => Provider::Yaml,
        Named::Embedded => Provider::Embedded,
        Named::Etcd => Provider::Etcd(Box::new(etcd)),
    };
    let is_control_plane = role == Some(Role::ControlPlane);
    Deployment { provider, admin: admin_on.then_some(admin), is_control_plane }
}

/// The role where none is named: APISIX's default if there are sections that say more than that
/// routes are in a file. `other` is the provider that another role's section names.
fn unnamed_role(object: &Object<'_>, other: Option<Named>) -> Option<Role> {
    if !object.has("etcd") && !object.has("admin") {
        return None;
    }
    if other.is_some() {
        let fault = Fault::new("`deployment` has sections of several roles and names none");
        object.error(fault.hint("write `role: traditional`, `data_plane` or `control_plane`"));
        return None;
    }
    Some(Role::Traditional)
}

fn provider(object: &mut Object<'_>, key: &'static str) -> Option<Named> {
    let mut section = object.section(key);
    let provider = section.get("config_provider").and_then(|reader| {
        let named = reader.one_of(&PROVIDERS)?;
        if named == Named::Unsupported {
            let name = reader.value().as_str().unwrap_or_default();
            let fault = Fault::new(format!("the provider `{name}` is not supported"));
            reader.error(fault.hint("use `yaml`, `embedded` or `etcd`"));
        }
        Some(named)
    });
    ignore(&mut section, &["control_plane", "conf_server"]);
    section.finish();
    provider
}

fn admin(mut object: Object<'_>, duplicates: &mut Vec<Duplicate>) -> AdminConfig {
    let listen = listener(&mut object, "admin_listen", ADMIN_PORT);
    let allow = object
        .get("allow_admin")
        .and_then(|reader| reader.list_of(0..=usize::MAX, |element| network(&element)));
    let localhost = || {
        let network = ipnet::Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 24);
        network.map(IpNet::V4).into_iter().collect()
    };
    let admin = AdminConfig {
        listen: listen.address,
        allow: allow.unwrap_or_else(localhost),
        keys: keys(&mut object, duplicates),
        key_required: object.boolean("admin_key_required").unwrap_or(true),
        cors: object.boolean("enable_admin_cors").unwrap_or(true),
    };
    if let Some(reader) = object.get("admin_api_version")
        && reader.one_of(&[("v3", true), ("v2", false)]) == Some(false)
    {
        reader.error(Fault::new("the Admin API has its version 3 here").hint("write `v3`"));
    }
    for key in ["https_admin", "admin_api_mtls"] {
        if let Some(reader) = object.get(key).filter(|reader| !super::is_off(reader.value())) {
            let fault = Fault::new(format!("`{key}` is not supported yet"));
            reader.error_on_key(fault.hint("let the Admin API listen on 127.0.0.1 only"));
        }
    }
    ignore(&mut object, &["enable_admin_ui"]);
    object.finish();
    admin
}

/// `{ip, port}` with defaults for both.
pub(super) fn listener(
    object: &mut Object<'_>,
    key: &'static str,
    default_port: u16,
) -> OperatorListen {
    let is_named = object.has(key);
    let mut section = object.section(key);
    let port = section.get("port").and_then(|reader| port(&reader)).unwrap_or(default_port);
    let ip = section.get("ip").and_then(|reader| ip(&reader));
    ignore(&mut section, &["router"]);
    section.finish();
    let address = SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port);
    OperatorListen { address, is_named }
}

/// `apisix.enable_control` and `apisix.control`; `apisix.status`.
pub(super) fn listeners(
    object: &mut Object<'_>,
) -> (Option<OperatorListen>, Option<OperatorListen>) {
    let control = listener(object, "control", CONTROL_PORT);
    let control = object.boolean("enable_control").unwrap_or(true).then_some(control);
    let status = object.has("status").then(|| listener(object, "status", STATUS_PORT));
    (control, status)
}

/// An address or a network; an address is a network of itself.
pub(super) fn network(reader: &Reader<'_>) -> Option<IpNet> {
    let text = reader.string(1..=usize::MAX)?;
    let network = parse_network(text);
    if network.is_none() {
        let fault = Fault::new(format!("{text:?} is not an address or a network"));
        reader.error(fault.hint("as in `127.0.0.0/24`, `10.1.2.3` or `::1`"));
    }
    network
}

/// Keys that are empty are left out: one is made when there is no other.
fn keys(object: &mut Object<'_>, duplicates: &mut Vec<Duplicate>) -> Vec<AdminKey> {
    let Some(reader) = object.get("admin_key") else { return Vec::new() };
    let mut once = Once::new("the admin key");
    let key = |element: Reader<'_>| {
        let at = element.at().clone();
        let mut object = element.object()?;
        let name = object.need("name").and_then(|reader| reader.string(1..=256)).map(str::to_owned);
        let key = object.string("key", 0..=4096).unwrap_or_default().to_owned();
        let role = object.need("role").and_then(|reader| reader.one_of(&ADMIN_ROLES));
        object.finish();
        let (name, role) = (name?, role?);
        once.see(&name, &at, duplicates);
        Some(AdminKey { name, key, role })
    };
    let keys = reader.list_of(0..=usize::MAX, key).unwrap_or_default();
    keys.into_iter().filter(|key| !key.key.is_empty()).collect()
}

fn etcd(mut object: Object<'_>, env: Env<'_>) -> EtcdConfig {
    let hosts = object.get("host").map(|reader| match reader.value() {
        Value::String(_) => host(&reader).into_iter().collect(),
        _ => reader.list_of(1..=usize::MAX, |element| host(&element)).unwrap_or_default(),
    });
    let named = env(HOST_VARIABLE).and_then(|text| serde_json::from_str(&text).ok());
    let seconds = |object: &mut Object<'_>, key, default: f64| {
        let seconds = object.number(key, 1.0..=TIMEOUT_MAX).unwrap_or(default);
        Duration::from_secs_f64(seconds)
    };
    let prefix = object.get("prefix").and_then(|reader| {
        let text = reader.string(1..=256)?;
        if !text.starts_with('/') {
            reader.error(Fault::new("the prefix begins with a slash").hint("as in `/apisix`"));
        }
        Some(text.trim_end_matches('/').to_owned())
    });
    let user = object.string("user", 1..=256).map(str::to_owned);
    let password = object.string("password", 0..=4096).unwrap_or_default().to_owned();
    let etcd = EtcdConfig {
        hosts: named.or(hosts).unwrap_or_else(|| vec!["http://127.0.0.1:2379".to_owned()]),
        prefix: prefix.unwrap_or_else(|| "/apisix".to_owned()),
        timeout: seconds(&mut object, "timeout", 30.0),
        startup_retry: object
            .integer("startup_retry", 0..=100)
            .map_or(2, |retry| u32::try_from(retry).unwrap_or(2)),
        user: user.map(|user| (user, password)),
        tls: tls(object.section("tls")),
    };
    // The client watches without an end.
    let _ = object.number("watch_timeout", 0.0..=TIMEOUT_MAX);
    ignore(&mut object, &["health_check_timeout", "resync_delay"]);
    object.finish();
    etcd
}

fn host(reader: &Reader<'_>) -> Option<String> {
    let text = reader.string(1..=2048)?;
    if !text.starts_with("http://") && !text.starts_with("https://") {
        let fault = Fault::new(format!("{text:?} is not a URL of etcd"));
        reader.error(fault.hint("as in `http://127.0.0.1:2379`"));
    }
    Some(text.to_owned())
}

fn tls(mut object: Object<'_>) -> EtcdTls {
    let mut file = |key| object.string(key, 1..=4096).map(str::to_owned);
    let (ca, cert, key, sni) = (file("ca"), file("cert"), file("key"), file("sni"));
    if cert.is_some() != key.is_some() {
        object.error("`cert` and `key` belong together");
    }
    if let Some(reader) = object.get("verify")
        && reader.boolean() == Some(false)
    {
        let fault = Fault::new("etcd's certificate is always checked");
        reader.error(fault.hint("name who signed it with `ca`"));
    }
    object.finish();
    EtcdTls { ca, identity: cert.zip(key), sni }
}
