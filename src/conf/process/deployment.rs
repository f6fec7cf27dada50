//! The section `deployment`: where routes come from.

use super::super::settings::Provider;
use super::ignore;
use crate::schema::{Fault, Object, Reader};

const PROVIDERS: [(&str, Option<Provider>); 6] = [
    ("yaml", Some(Provider::Yaml)),
    ("etcd", None),
    ("json", None),
    ("xds", None),
    ("embedded", None),
    ("control_plane", None),
];

#[derive(Clone, Copy, PartialEq)]
enum Role {
    DataPlane,
    Traditional,
    Other,
}

const ROLES: [(&str, Role); 4] = [
    ("data_plane", Role::DataPlane),
    ("traditional", Role::Traditional),
    ("control_plane", Role::Other),
    ("standalone", Role::Other),
];

const HINT: &str = "use `role: data_plane` and `role_data_plane: {config_provider: yaml}`";

pub(super) fn read(mut object: Object<'_>) -> Provider {
    let role = object.get("role");
    let data_plane = provider(&mut object, "role_data_plane");
    let traditional = provider(&mut object, "role_traditional");
    if let Some(reader) = &role {
        match reader.one_of(&ROLES) {
            Some(Role::DataPlane) => check(data_plane),
            Some(Role::Traditional) if traditional.is_some() => check(traditional),
            Some(Role::Traditional) => reader.error(
                Fault::new("`role: traditional` without a provider means etcd, not supported yet")
                    .hint(HINT),
            ),
            Some(Role::Other) => {
                let name = reader.value().as_str().unwrap_or_default();
                reader.error(Fault::new(format!("`role: {name}` is not supported yet")).hint(HINT));
            }
            None => {}
        }
    } else {
        check(data_plane);
        check(traditional);
    }
    ignore(&mut object, &["admin", "certs", "etcd", "role_control_plane"]);
    object.finish();
    Provider::Yaml
}

fn provider<'a>(object: &mut Object<'a>, key: &'static str) -> Option<Reader<'a>> {
    let mut section = object.section(key);
    let provider = section.get("config_provider");
    ignore(&mut section, &["control_plane", "conf_server"]);
    section.finish();
    provider
}

fn check(reader: Option<Reader<'_>>) {
    let Some(reader) = reader else { return };
    if reader.one_of(&PROVIDERS) == Some(None) {
        let name = reader.value().as_str().unwrap_or_default();
        let fault = Fault::new(format!("the provider `{name}` is not supported yet"));
        reader.error(fault.hint("use `config_provider: yaml`"));
    }
}
