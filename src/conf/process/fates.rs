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

pub(super) const KEYS: [Key; 138] = [
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
    key("apisix.max_post_args_readable_size", "64", Nothing, "`post_arg` variables are refused"),
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
        Same,
        "whose Forwarded and X-Forwarded-Proto, -Host and -Port are believed; of others plugins see \
         none of these (`vars`, which choose the route, do), so behind a balancer that ends TLS \
         `redirect: http_to_https` needs it; X-Forwarded-For is always continued",
    ),
    key("apisix.worker_startup_time_threshold", "60", Nothing, "workers don't restart"),
    key("apisix.enable_admin", "true", Same, ""),
    key("apisix.enable_control", "true", Same, ""),
    key("apisix.control", "{ip: 127.0.0.1, port: 9090}", Same, ""),
    key(
        "apisix.control.router",
        "radixtree_uri_with_parameter",
        Nothing,
        "there is one way to find a page",
    ),
    key("apisix.status", "{ip: 127.0.0.1, port: 7085}", Same, ""),
    key(
        "apisix.disable_upstream_healthcheck",
        "true",
        Nothing,
        "upstreams with `checks` are checked; remove those",
    ),
    key(
        "apisix.proxy_protocol.listen_http_port",
        "9181",
        Same,
        "every connection there must begin with it",
    ),
    key(
        "apisix.stream_proxy",
        "{tcp: [9100]}",
        Nothing,
        "there are no stream routes: nothing listens there",
    ),
    key("apisix.ssl.enable", "true", Nothing, "nothing listens for TLS"),
    key("apisix.ssl.listen", "[{port: 9443}]", Refused, "clients would find nobody there"),
    key("apisix.ssl.ssl_protocols", "TLSv1.3", Nothing, "nothing listens for TLS"),
    key("apisix.ssl.ssl_ciphers", "A:B", Nothing, "nothing listens for TLS"),
    key("apisix.ssl.ssl_session_tickets", "true", Nothing, "nothing listens for TLS"),
    key(
        "apisix.ssl.ssl_trusted_certificate",
        "system",
        Same,
        "for probes of `type: https`; upstreams are spoken to without TLS",
    ),
    key("apisix.ssl.fallback_sni", "a.example", Nothing, "nothing listens for TLS"),
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
    key("ext-plugin.path_for_test", "/tmp/runner.sock", Same, ""),
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
    key(
        "plugin_attr.prometheus.metrics",
        "{http_status: {expire: 5}}",
        Nothing,
        "labels are bounded by the routes there are",
    ),
    key(
        "plugin_attr.prometheus.default_buckets",
        "[10]",
        Nothing,
        "buckets are fixed, from 1 ms to 60 s",
    ),
    key("plugin_attr.redirect.https_port", "8443", Refused, "redirects would go to another port"),
    key(
        "plugin_attr.log-rotate",
        "{interval: 3600}",
        Nothing,
        "move the file away and send SIGUSR1",
    ),
    key("plugin_attr.skywalking", "{service_name: a}", Nothing, "there are no traces yet"),
    key("plugin_attr.opentelemetry", "{set_ngx_var: false}", Nothing, "there are no traces yet"),
    key("plugin_attr.zipkin", "{set_ngx_var: true}", Nothing, "there are no traces yet"),
    key("plugin_attr.server-info", "{report_ttl: 60}", Nothing, "`/status` and the metrics say it"),
    key(
        "plugin_attr.dubbo-proxy",
        "{upstream_multiplex_count: 32}",
        Nothing,
        "the plugin is unknown and refused",
    ),
    key(
        "plugin_attr.proxy-mirror",
        "{timeout: {read: 60s}}",
        Nothing,
        "the plugin is unknown and refused",
    ),
    key("plugin_attr.inspect", "{delay: 3}", Nothing, "there is no Lua"),
    key("xrpc", "{protocols: [{name: a}]}", Nothing, "there are no stream routes"),
    key(
        "deployment.role",
        "traditional",
        Same,
        "without it `traditional` if there is `deployment.etcd` or `.admin`, else `data_plane`; \
         `standalone` is refused",
    ),
    key(
        "deployment.role_traditional.config_provider",
        "yaml",
        Same,
        "`embedded` too; `json` and `xds` are refused",
    ),
    key("deployment.role_data_plane.config_provider", "yaml", Same, "`json` and `xds` are refused"),
    key("deployment.role_control_plane.config_provider", "etcd", Same, "`embedded` too"),
    key(
        "deployment.admin.admin_listen",
        "{ip: 127.0.0.1, port: 9180}",
        Same,
        "127.0.0.1 if it does not say",
    ),
    key("deployment.admin.admin_key_required", "true", Same, ""),
    key(
        "deployment.admin.admin_key",
        "[{name: admin, key: secret, role: admin}]",
        Same,
        "an empty one is made and kept beside the store",
    ),
    key("deployment.admin.allow_admin", "[127.0.0.0/24]", Same, ""),
    key("deployment.admin.enable_admin_cors", "true", Same, ""),
    key("deployment.admin.admin_api_version", "v3", Same, "`v2` is refused"),
    key("deployment.admin.enable_admin_ui", "true", Nothing, "there is no dashboard yet"),
    key("deployment.admin.https_admin", "true", Refused, "keys would travel without TLS"),
    key(
        "deployment.admin.admin_api_mtls",
        "{admin_ssl_cert: a}",
        Refused,
        "keys would travel without TLS",
    ),
    key(
        "deployment.etcd.host",
        "[\"http://127.0.0.1:2379\"]",
        Same,
        "APISIX_DEPLOYMENT_ETCD_HOST wins",
    ),
    key("deployment.etcd.prefix", "/apisix", Same, ""),
    key("deployment.etcd.timeout", "30", Same, ""),
    key("deployment.etcd.watch_timeout", "50", Same, "a watch has no end here"),
    key("deployment.etcd.startup_retry", "2", Same, ""),
    key("deployment.etcd.user", "root", Same, ""),
    key("deployment.etcd.password", "secret", Same, ""),
    key(
        "deployment.etcd.tls",
        "{verify: true, sni: a.example}",
        Same,
        "`ca` too; `verify: false` is refused",
    ),
    key(
        "deployment.etcd.health_check_timeout",
        "10",
        Nothing,
        "the connection is tried every five seconds",
    ),
    key("deployment.etcd.resync_delay", "5", Nothing, "pauses grow from 0.1 s to 3 s"),
    key("deployment.certs", "{cert: a}", Nothing, "no connection here is made with it"),
    key("stream_plugins", "[ip-restriction]", Nothing, "there are no stream routes"),
    key(
        "discovery",
        "{dns: {servers: [a]}}",
        Nothing,
        "upstreams list their nodes; one that names a discovery is refused",
    ),
    key("graphql", "{max_size: 1}", Nothing, "`graphql` variables are refused"),
];

#[cfg(test)]
mod tests {
    use super::super::super::{Severity, Source, process::parse};
    use super::*;
    use std::collections::HashSet;

    /// The keys of APISIX's default configuration (`apisix/cli/config.lua`) and those that its
    /// example names beside them (reference §1). What lies below an entry of the table shares its
    /// fate.
    const REFERENCE: &str = "\
        apisix.node_listen apisix.enable_admin apisix.enable_dev_mode apisix.enable_reuseport \
        apisix.show_upstream_status_in_response_header apisix.enable_ipv6 apisix.enable_http2 \
        apisix.enable_server_tokens apisix.extra_lua_path apisix.extra_lua_cpath \
        apisix.lua_module_hook apisix.proxy_cache.cache_ttl apisix.proxy_cache.zones \
        apisix.proxy_protocol.listen_http_port apisix.delete_uri_tail_slash \
        apisix.normalize_uri_like_servlet apisix.match_uri_encoded_slash \
        apisix.max_post_args_readable_size apisix.router.http apisix.router.ssl \
        apisix.proxy_mode apisix.stream_proxy.tcp apisix.stream_proxy.udp apisix.dns_resolver \
        apisix.dns_resolver_valid apisix.resolver_timeout apisix.enable_resolv_search_opt \
        apisix.ssl.enable apisix.ssl.listen apisix.ssl.ssl_protocols apisix.ssl.ssl_ciphers \
        apisix.ssl.ssl_session_tickets apisix.ssl.ssl_trusted_certificate \
        apisix.ssl.fallback_sni apisix.enable_control apisix.control.ip apisix.control.port \
        apisix.control.router apisix.status.ip apisix.status.port \
        apisix.disable_sync_configuration_during_start apisix.disable_upstream_healthcheck \
        apisix.worker_startup_time_threshold apisix.data_encryption.enable_encrypt_fields \
        apisix.data_encryption.keyring apisix.events.module apisix.trusted_addresses \
        apisix.tracing apisix.lru.secret.ttl apisix.lru.secret.count nginx_config.user \
        nginx_config.error_log nginx_config.error_log_level nginx_config.worker_processes \
        nginx_config.enable_cpu_affinity nginx_config.worker_rlimit_nofile \
        nginx_config.worker_shutdown_timeout nginx_config.max_pending_timers \
        nginx_config.max_running_timers nginx_config.event.worker_connections nginx_config.envs \
        nginx_config.meta.lua_shared_dict nginx_config.stream.enable_access_log \
        nginx_config.stream.access_log nginx_config.stream.access_log_format \
        nginx_config.stream.access_log_format_escape nginx_config.stream.lua_shared_dict \
        nginx_config.main_configuration_snippet nginx_config.http_configuration_snippet \
        nginx_config.http_server_configuration_snippet \
        nginx_config.http_server_location_configuration_snippet \
        nginx_config.http_admin_configuration_snippet \
        nginx_config.http_end_configuration_snippet nginx_config.stream_configuration_snippet \
        nginx_config.http.enable_access_log nginx_config.http.access_log \
        nginx_config.http.access_log_buffer nginx_config.http.access_log_format \
        nginx_config.http.access_log_format_escape nginx_config.http.keepalive_timeout \
        nginx_config.http.client_header_timeout nginx_config.http.client_body_timeout \
        nginx_config.http.client_max_body_size nginx_config.http.send_timeout \
        nginx_config.http.underscores_in_headers nginx_config.http.real_ip_header \
        nginx_config.http.real_ip_recursive nginx_config.http.real_ip_from \
        nginx_config.http.custom_lua_shared_dict nginx_config.http.proxy_ssl_server_name \
        nginx_config.http.upstream.keepalive nginx_config.http.upstream.keepalive_requests \
        nginx_config.http.upstream.keepalive_timeout nginx_config.http.charset \
        nginx_config.http.variables_hash_max_size nginx_config.http.lua_shared_dict \
        discovery.dns.servers discovery.eureka.host discovery.nacos.host \
        discovery.consul_kv.servers discovery.consul.servers discovery.kubernetes.service \
        graphql.max_size ext-plugin.cmd ext-plugin.path_for_test plugins stream_plugins \
        wasm.plugins xrpc.protocols plugin_attr.log-rotate.timeout \
        plugin_attr.log-rotate.interval plugin_attr.log-rotate.max_kept plugin_attr.log-rotate.max_size \
        plugin_attr.log-rotate.enable_compression plugin_attr.skywalking.service_name \
        plugin_attr.skywalking.service_instance_name plugin_attr.skywalking.endpoint_addr \
        plugin_attr.skywalking.report_interval plugin_attr.opentelemetry.trace_id_source \
        plugin_attr.opentelemetry.resource plugin_attr.opentelemetry.collector \
        plugin_attr.opentelemetry.batch_span_processor plugin_attr.opentelemetry.set_ngx_var \
        plugin_attr.prometheus.export_uri plugin_attr.prometheus.metric_prefix \
        plugin_attr.prometheus.enable_export_server plugin_attr.prometheus.export_addr.ip \
        plugin_attr.prometheus.export_addr.port plugin_attr.prometheus.refresh_interval \
        plugin_attr.prometheus.metrics plugin_attr.prometheus.default_buckets \
        plugin_attr.server-info.report_ttl plugin_attr.dubbo-proxy.upstream_multiplex_count \
        plugin_attr.proxy-mirror.timeout plugin_attr.redirect.https_port \
        plugin_attr.inspect.delay plugin_attr.inspect.hooks_file plugin_attr.zipkin.set_ngx_var \
        deployment.role deployment.role_traditional.config_provider \
        deployment.role_data_plane.config_provider deployment.role_control_plane.config_provider \
        deployment.admin.admin_key_required deployment.admin.admin_key \
        deployment.admin.enable_admin_cors deployment.admin.enable_admin_ui \
        deployment.admin.allow_admin deployment.admin.admin_listen.ip \
        deployment.admin.admin_listen.port deployment.admin.https_admin \
        deployment.admin.admin_api_mtls deployment.admin.admin_api_version deployment.etcd.host \
        deployment.etcd.prefix deployment.etcd.timeout deployment.etcd.watch_timeout \
        deployment.etcd.resync_delay deployment.etcd.health_check_timeout \
        deployment.etcd.startup_retry deployment.etcd.user deployment.etcd.password \
        deployment.etcd.tls.cert deployment.etcd.tls.key deployment.etcd.tls.verify \
        deployment.etcd.tls.sni deployment.certs.cert \
    ";

    #[test]
    fn every_key_of_the_reference_is_in_the_table() {
        let is_below = |path: &str, key: &Key| {
            path.strip_prefix(key.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let without =
            REFERENCE.split_whitespace().filter(|path| !KEYS.iter().any(|key| is_below(path, key)));
        assert_eq!(without.collect::<Vec<_>>(), Vec::<&str>::new());
        assert_eq!(REFERENCE.split_whitespace().count(), 166);
    }

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
