//! The listeners for operators beside the metrics: Admin API, control API, status.

use super::admin::{self, Guard};
use super::backend;
use super::inspect;
use super::server::Server;
use super::store::Store;
use crate::builtin::Builtins;
use crate::conf::{Config, OperatorListen};
use crate::plugin::Loader;
use crate::runner::Runners;
use axum::Router;
use std::sync::Arc;

/// Listeners that do not answer yet.
pub(super) struct Pages {
    admin: Option<(Server, Guard)>,
    control: Option<Server>,
    status: Option<Server>,
}

impl Pages {
    /// Takes the addresses.
    ///
    /// # Errors
    /// One is in use. A default address of the control API, most likely in use by another gateway
    /// on this host, is no reason not to run.
    pub(super) fn bind(config: &Config) -> Result<Self, String> {
        let admin = match &config.admin {
            Some(admin) => {
                let guard = Guard::new(admin, &backend::store_dir(config))?;
                let server = Server::bind(admin.listen)
                    .map_err(|error| format!("the Admin API on {}: {error}", admin.listen))?;
                Some((server, guard))
            }
            None => None,
        };
        let control = open(config.control, "control API")?;
        let status = open(config.status, "status")?;
        Ok(Self { admin, control, status })
    }

    /// Begins to answer.
    ///
    /// # Errors
    /// The runtime can't watch a socket.
    pub(super) fn start(self, config: &Config, store: &Arc<Store>) -> Result<(), String> {
        if let (Some((server, guard)), Some(settings)) = (self.admin, &config.admin) {
            let pages = admin::pages(Arc::clone(store), guard, settings.cors, plugins(config));
            start(server, pages, "Admin API", "/apisix/admin")?;
        }
        if let Some(server) = self.control {
            start(server, inspect::control(Arc::clone(store)), "control API", "/v1")?;
        }
        if let Some(server) = self.status {
            start(server, inspect::status(Arc::clone(store)), "status", "/status")?;
        }
        Ok(())
    }
}

/// The plugins that routes may have.
fn plugins(config: &Config) -> Vec<String> {
    let (natives, runners) = (Builtins::default(), Runners::new(Vec::new()));
    let own = natives.names().into_iter().chain(runners.names()).map(str::to_owned);
    let is_enabled = |name: &String| {
        config.plugins.as_ref().is_none_or(|all| all.iter().any(|enabled| enabled.name == *name))
    };
    let wasm = config.wasm_plugins.iter().map(|plugin| plugin.name.clone());
    own.filter(is_enabled).chain(wasm).collect()
}

fn open(listen: Option<OperatorListen>, what: &str) -> Result<Option<Server>, String> {
    let Some(OperatorListen { address, is_named }) = listen else { return Ok(None) };
    Server::bind_or_do_without(address, is_named, what, "")
}

fn start(server: Server, pages: Router, what: &str, path: &str) -> Result<(), String> {
    let address = server.address;
    server.start(pages).map_err(|error| format!("the {what} on {address}: {error}"))?;
    println!("ringgate: {what} on http://{address}{path}");
    Ok(())
}
