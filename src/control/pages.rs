//! The listeners for operators beside the metrics: Admin API, control API, status.

use super::admin::{self, Guard};
use super::backend;
use super::inspect;
use super::metrics::{self, Observed};
use super::server::{Server, Servers};
use super::store::Store;
use super::upgrade::{Inherited, Role};
use crate::builtin::Builtins;
use crate::conf::{Config, MetricsServer, OperatorListen};
use crate::plugin::Loader;
use crate::runner::Runners;
use axum::Router;
use std::sync::Arc;

/// Listeners that do not answer yet.
pub(super) struct Pages {
    metrics: Option<Server>,
    admin: Option<Server>,
    guard: Option<Guard>,
    control: Option<Server>,
    status: Option<Server>,
}

impl Pages {
    /// Takes the addresses.
    ///
    /// # Errors
    /// One is in use. A default address of the control API, most likely in use by another gateway
    /// on this host, is no reason not to run.
    pub(super) fn bind(config: &Config, inherited: &mut Inherited) -> Result<Self, String> {
        let MetricsServer { listen, is_named, .. } = config.metrics;
        let metrics = listen.map(|address| OperatorListen { address, is_named });
        let admin = match &config.admin {
            Some(admin) => Some(
                Server::bind(inherited, Role::Admin, admin.listen)
                    .map_err(|error| format!("the Admin API on {}: {error}", admin.listen))?,
            ),
            None => None,
        };
        let mut open = |listen: Option<OperatorListen>, role, what, hint| match listen {
            Some(listen) => Server::bind_or_do_without(inherited, role, listen, what, hint),
            None => Ok(None),
        };
        Ok(Self {
            metrics: open(metrics, Role::Metrics, "metrics", METRICS_HINT)?,
            admin,
            guard: None,
            control: open(config.control, Role::Control, "control API", "")?,
            status: open(config.status, Role::Status, "status", "")?,
        })
    }

    /// Makes or reads the key of the Admin API where none is configured.
    ///
    /// # Errors
    /// It can't be kept.
    pub(super) fn prepare(&mut self, config: &Config) -> Result<(), String> {
        let settings = config.admin.as_ref();
        self.guard = settings.map(|it| Guard::new(it, &backend::store_dir(config))).transpose()?;
        Ok(())
    }

    /// Begins to answer.
    ///
    /// # Errors
    /// The runtime can't watch a socket.
    pub(super) fn start(
        self,
        config: &Config,
        store: &Arc<Store>,
        observed: Observed,
    ) -> Result<Servers, String> {
        let mut servers = Servers::new();
        let mut start = |server: Option<Server>, pages: Router, what: &str, path: &str| {
            let Some(server) = server else { return Ok(()) };
            let address = server.address;
            server
                .start(pages, &mut servers)
                .map_err(|error| format!("the {what} on {address}: {error}"))?;
            println!("ringgate: {what} on http://{address}{path}");
            Ok::<_, String>(())
        };
        let uri = &config.metrics.uri;
        start(self.metrics, metrics::pages(observed, uri), "metrics", uri)?;
        if let (Some(settings), Some(guard)) = (&config.admin, self.guard) {
            let pages = admin::pages(Arc::clone(store), guard, settings.cors, plugins(config));
            start(self.admin, pages, "Admin API", "/apisix/admin")?;
        }
        start(self.control, inspect::control(Arc::clone(store)), "control API", "/v1")?;
        start(self.status, inspect::status(Arc::clone(store)), "status", "/status")?;
        Ok(servers)
    }
}

const METRICS_HINT: &str =
    "; change `plugin_attr.prometheus.export_addr` or set `enable_export_server: false`";

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
