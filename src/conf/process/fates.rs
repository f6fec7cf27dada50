//! What becomes of each key of APISIX's `config.yaml` here (APISIX reference §1;
//! `apisix/cli/config.lua`). `docs/MIGRATION.md` is this table, and a test holds both to it.

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It means what it means in APISIX.
    Same,
    /// It has no effect: a warning, with the reason.
    Nothing,
    /// Without its effect something would be open, lost or somewhere else: an error.
    Refused,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) path: &'static str,
    /// A value it has, in YAML.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test tries it"))]
    pub(super) sample: &'static str,
    pub(super) fate: Fate,
    /// Why; or what is to be known.
    pub(super) why: &'static str,
}

const fn key(path: &'static str, sample: &'static str, fate: Fate, why: &'static str) -> Key {
    Key { path, sample, fate, why }
}

use Fate::{Nothing, Refused, Same};

/// Why a key has no effect, if there is a reason to tell.
pub(super) fn reason(path: &str) -> Option<&'static str> {
    KEYS.iter().find(|key| key.path == path && key.fate == Nothing).map(|key| key.why)
}

pub(super) const KEYS: [Key; 86] = [
    key("apisix.node_listen", "[9080]", Same, "a port, ports, or `{ip, port}`"),
    key("apisix.enable_server_tokens", "false", Same, ""),
    key("apisix.delete_uri_tail_slash", "true", Same, ""),
    key(
        "apisix.router.http",
        "radixtree_uri",
        Same,
        "`radixtree_host_uri` too; the one with parameters is refused",
    ),
    key("apisix.router.ssl", "radixtree_sni", Same, "there is no other"),
    key("apisix.proxy_mode", "http", Same, "`stream` is refused"),
    key("apisix.normalize_uri_like_servlet", "true", Refused, "other paths would match"),
    key("apisix.match_uri_encoded_slash", "true", Refused, "other paths would match"),
    key("apisix.lua_module_hook", "my.hook", Refused, "there is no Lua"),
    key(
        "apisix.data_encryption",
        "{enable_encrypt_fields: true}",
        Nothing,
        "the files hold what they hold; keep secrets in the environment, as `${{NAME}}`",
    ),
    key(
        "apisix.disable_sync_configuration_during_start",
        "true",
        Nothing,
        "the first configuration is whole before anything listens",
    ),
    key("apisix.dns_resolver", "[127.0.0.1]", Same, ""),
    key("apisix.dns_resolver_valid", "30", Same, ""),
    key("apisix.enable_debug", "true", Nothing, "`ringgate explain` says what runs for a request"),
    key("apisix.enable_dev_mode", "true", Nothing, "workers are set by `ringgate.workers`"),
    key("apisix.enable_http2", "true", Nothing, "clients are spoken to in HTTP/1.1"),
    key(
        "apisix.enable_ipv6",
        "true",
        Nothing,
        "addresses of both kinds are used where they are written",
    ),
    key(
        "apisix.enable_resolv_search_opt",
        "true",
        Nothing,
        "names are looked up as /etc/resolv.conf says",
    ),
    key(
        "apisix.enable_reuseport",
        "true",
        Nothing,
        "each worker has a listener of its own, always",
    ),
    key(
        "apisix.events",
        "{module: lua-resty-events}",
        Nothing,
        "workers are threads of one process",
    ),
    key("apisix.extra_lua_cpath", "/x/?.so", Nothing, "there is no Lua"),
    key("apisix.extra_lua_path", "/x/?.lua", Nothing, "there is no Lua"),
    key("apisix.id", "one", Nothing, "`ringgate.node.id` names a process"),
    key("apisix.lru", "{secret: {ttl: 300}}", Nothing, "what is compiled once needs no cache"),
    key("apisix.max_post_args_readable_size", "64", Nothing, "`post_arg` variables have no value"),
    key(
        "apisix.proxy_cache",
        "{zones: [{name: a}]}",
        Nothing,
        "nothing is cached; the plugin `proxy-cache` is unknown and refused",
    ),
    key("apisix.resolver_timeout", "5", Same, ""),
    key(
        "apisix.show_upstream_status_in_response_header",
        "true",
        Nothing,
        "the access log has `upstream_status`",
    ),
    key("apisix.tracing", "true", Nothing, "there are no traces yet"),
    key(
        "apisix.trusted_addresses",
        "[127.0.0.1]",
        Nothing,
        "nobody is trusted: X-Forwarded fields are made anew",
    ),
    key("apisix.worker_startup_time_threshold", "60", Nothing, "workers don't restart"),
    key("nginx_config.http.keepalive_timeout", "60s", Same, ""),
    key("nginx_config.http.client_header_timeout", "60s", Same, ""),
    key("nginx_config.http.client_body_timeout", "60s", Same, ""),
    key("nginx_config.http.send_timeout", "10s", Same, ""),
    key("nginx_config.http.client_max_body_size", "0", Same, ""),
    key("nginx_config.http.underscores_in_headers", "\"on\"", Same, ""),
    key("nginx_config.http.enable_access_log", "true", Same, "off unless one of the four is there"),
    key(
        "nginx_config.http.access_log",
        "logs/access.log",
        Same,
        "from the working directory; syslog is refused",
    ),
    key("nginx_config.http.access_log_format", "$status", Same, "lines of JSON without it"),
    key("nginx_config.http.access_log_format_escape", "json", Same, ""),
    key(
        "nginx_config.http.access_log_buffer",
        "16384",
        Nothing,
        "each worker gathers 16 KiB or 50 ms of lines",
    ),
    key(
        "nginx_config.http.real_ip_from",
        "[127.0.0.1, \"unix:\"]",
        Same,
        "only these two, APISIX's default; the plugin `real-ip` does more",
    ),
    key(
        "nginx_config.http.real_ip_header",
        "X-Real-IP",
        Nothing,
        "the plugin `real-ip` takes addresses from fields",
    ),
    key(
        "nginx_config.http.real_ip_recursive",
        "\"off\"",
        Nothing,
        "the plugin `real-ip` takes addresses from fields",
    ),
    key("nginx_config.http.charset", "utf-8", Nothing, "texts of the gateway's own are UTF-8"),
    key("nginx_config.http.custom_lua_shared_dict", "{a: 1m}", Nothing, "there is no Lua"),
    key("nginx_config.http.lua_shared_dict", "{a: 1m}", Nothing, "there is no Lua"),
    key(
        "nginx_config.http.proxy_ssl_server_name",
        "true",
        Nothing,
        "upstreams are spoken to without TLS",
    ),
    key(
        "nginx_config.http.server_tokens",
        "true",
        Nothing,
        "`apisix.enable_server_tokens` says it",
    ),
    key(
        "nginx_config.http.variables_hash_max_size",
        "2048",
        Nothing,
        "nothing here is of a fixed size",
    ),
    key(
        "nginx_config.http.variables_hash_bucket_size",
        "128",
        Nothing,
        "nothing here is of a fixed size",
    ),
    key("nginx_config.http.upstream.keepalive", "320", Same, "per worker, as there"),
    key("nginx_config.http.upstream.keepalive_requests", "1000", Same, ""),
    key("nginx_config.http.upstream.keepalive_timeout", "60s", Same, ""),
    key(
        "nginx_config.enable_cpu_affinity",
        "true",
        Nothing,
        "`ringgate.workers` pins them, by default",
    ),
    key("nginx_config.envs", "[HOME]", Nothing, "the environment is there as it is"),
    key("nginx_config.error_log", "logs/error.log", Nothing, "the log goes to standard error"),
    key("nginx_config.error_log_level", "warn", Nothing, "`ringgate.log.level` sets it"),
    key(
        "nginx_config.event",
        "{worker_connections: 10620}",
        Nothing,
        "as many connections as the process may have descriptors",
    ),
    key("nginx_config.max_pending_timers", "16384", Nothing, "there is no Lua"),
    key("nginx_config.max_running_timers", "4096", Nothing, "there is no Lua"),
    key("nginx_config.meta", "{lua_shared_dict: {a: 1m}}", Nothing, "there is no Lua"),
    key("nginx_config.stream", "{access_log: x}", Nothing, "there are no stream routes"),
    key("nginx_config.user", "root", Nothing, "`ringgate.user` names whom the gateway becomes"),
    key("nginx_config.worker_processes", "auto", Nothing, "`ringgate.workers` sets them"),
    key(
        "nginx_config.worker_rlimit_nofile",
        "20480",
        Nothing,
        "the unit or the shell sets it (`LimitNOFILE=`)",
    ),
    key(
        "nginx_config.worker_shutdown_timeout",
        "240s",
        Nothing,
        "`ringgate.timeouts.drain` sets it",
    ),
    key("nginx_config.main_configuration_snippet", "daemon on;", Refused, "there is no nginx.conf"),
    key("nginx_config.http_configuration_snippet", "gzip on;", Refused, "there is no nginx.conf"),
    key(
        "nginx_config.http_server_configuration_snippet",
        "deny all;",
        Refused,
        "there is no nginx.conf",
    ),
    key(
        "nginx_config.http_server_location_configuration_snippet",
        "deny all;",
        Refused,
        "there is no nginx.conf",
    ),
    key(
        "nginx_config.http_admin_configuration_snippet",
        "deny all;",
        Refused,
        "there is no nginx.conf",
    ),
    key(
        "nginx_config.http_end_configuration_snippet",
        "gzip on;",
        Refused,
        "there is no nginx.conf",
    ),
    key(
        "nginx_config.stream_configuration_snippet",
        "deny all;",
        Refused,
        "there is no nginx.conf",
    ),
    key(
        "plugins",
        "[fault-injection]",
        Same,
        "a name that is not known here is no error in the list, but where it is used",
    ),
    key("wasm.plugins", "[{name: a, priority: 1, file: a.wasm}]", Same, "with more keys: WASM.md"),
    key("ext-plugin.cmd", "[runner]", Same, "with more keys: RUNNERS.md"),
    key("plugin_attr.prometheus.export_addr", "{ip: 127.0.0.1, port: 9091}", Same, ""),
    key("plugin_attr.prometheus.export_uri", "/metrics", Same, ""),
    key("plugin_attr.prometheus.metric_prefix", "apisix_", Same, ""),
    key("plugin_attr.prometheus.enable_export_server", "true", Same, ""),
    key(
        "plugin_attr.prometheus.refresh_interval",
        "15",
        Nothing,
        "metrics are as of the moment they are asked for",
    ),
    key("stream_plugins", "[ip-restriction]", Nothing, "there are no stream routes"),
    key(
        "discovery",
        "{dns: {servers: [a]}}",
        Nothing,
        "upstreams list their nodes; one that names a discovery is refused",
    ),
    key("graphql", "{max_size: 1}", Nothing, "`graphql` variables have no value"),
];

#[cfg(test)]
mod tests {
    use super::super::super::{Severity, Source, process::parse};
    use super::*;
    use std::collections::HashSet;

    /// `a.b` with its value as a document.
    fn document(key: &Key) -> String {
        let steps: Vec<&str> = key.path.split('.').collect();
        let depth = |at: usize| "  ".repeat(at);
        let above = &steps[..steps.len() - 1];
        let above = above.iter().enumerate().map(|(at, step)| format!("{}{step}:\n", depth(at)));
        let last = steps[steps.len() - 1];
        above.collect::<String>() + &format!("{}{last}: {}\n", depth(steps.len() - 1), key.sample)
    }

    #[test]
    fn every_key_has_the_fate_the_table_says() {
        for key in &KEYS {
            let text = document(key);
            let source = Source::new("c.yaml", &*text);
            let (Ok((_, report)) | Err(report)) = parse(&source, &|_| Some("x".to_owned()));
            let found: Vec<_> = report.diagnostics().iter().map(|one| one.severity).collect();
            let wanted: &[Severity] = match key.fate {
                Same => &[],
                Nothing => &[Severity::Warning],
                Refused => &[Severity::Error],
            };
            assert_eq!(found, wanted, "{text}{report}");
            if key.fate == Nothing {
                assert_eq!(report.diagnostics()[0].hint.as_deref(), Some(key.why), "{text}");
            }
        }
        let paths: HashSet<&str> = KEYS.iter().map(|key| key.path).collect();
        assert_eq!(paths.len(), KEYS.len(), "a key stands twice");
    }

    #[test]
    fn the_page_for_those_who_move_over_is_this_table() {
        let page = include_str!("../../../docs/MIGRATION.md");
        let (_, rest) = page.split_once("<!-- keys -->\n").expect("where the table begins");
        let (table, _) = rest.split_once("<!-- /keys -->").expect("where it ends");
        let row = |key: &Key| {
            let fate = match key.fate {
                Same => "as there",
                Nothing => "no effect",
                Refused => "refused",
            };
            format!("| `{}` | {fate} | {} |\n", key.path, key.why.replace('|', "\\|"))
        };
        let rows: String = KEYS.iter().map(row).collect();
        let wanted = format!("| key | here | why, or what to know |\n|---|---|---|\n{rows}");
        assert_eq!(table, wanted, "put this between the marks:\n{wanted}");
    }
}
