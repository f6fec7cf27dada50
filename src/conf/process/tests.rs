//! `config.yaml`: every field, exact messages, every rule.

use super::super::model::KeepalivePool;
use super::super::operators::{AdminConfig, AdminKey, AdminRole, OperatorListen, Provider};
use super::super::settings::{
    AccessLogConfig, Callouts, Dns, Downstream, Driver, Dry, Identity, Isolation, Limits,
    MetricsServer, OnError, Pause, Router, RunnerConfig, WasmLimits, WorkerConfig, Workers,
};
use super::*;
use crate::listen::{Address, Options};
use crate::plugin::{Escape, LogFormat, RequestPhase};
use crate::schema::validate;
use std::sync::LazyLock;
use std::time::Duration;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "PORT" => "9081",
        "FLAG" => "false",
        "SECTION" => "apisix",
        _ => return None,
    };
    Some(value.to_owned())
}

fn good(text: &str) -> Config {
    static SCHEMA: LazyLock<Value> = LazyLock::new(super::super::process_schema);
    if !text.trim().is_empty() {
        let document = serde_yaml::from_str(text).expect("YAML");
        let misfit = validate::misfit(&document, &SCHEMA, &SCHEMA);
        assert!(misfit.is_none(), "{text}\n{misfit:?}");
    }
    match parse(&Source::new("c.yaml", text), &env) {
        Ok((config, report)) if report.is_empty() => config,
        Ok((_, report)) | Err(report) => panic!("{report}"),
    }
}

fn said(text: &str) -> Vec<String> {
    let (Ok((_, report)) | Err(report)) = parse(&Source::new("c.yaml", text), &env);
    let line = |diagnostic: &super::super::Diagnostic| {
        let hint = diagnostic.hint.iter().map(|hint| format!(" | {hint}")).collect::<String>();
        format!("{}: {}{hint}", diagnostic.severity, diagnostic.message)
    };
    report.diagnostics().iter().map(line).collect()
}

fn listen(text: &str) -> Vec<String> {
    let config = good(&format!("apisix: {{node_listen: {text}}}"));
    config.listen.iter().map(|listener| listener.address.to_string()).collect()
}

#[test]
fn runners() {
    let config = good(
        r#"
ext-plugin:
  cmd: [/opt/runner, run]
  path_for_test: unix:/tmp/x.sock
  runners:
    python: {socket: /tmp/py.sock, connections: 8, queue: 0, call_timeout: 500ms}
    java: {cmd: [java, -jar, r.jar], start_timeout: 10s}
"#,
    );
    let shown = |runner: &RunnerConfig| {
        let RunnerConfig { name, cmd, socket, connections, queue, .. } = runner;
        let (call, start) = (runner.call_timeout, runner.start_timeout);
        format!("{name} {cmd:?} {socket:?} {connections} {queue} {call:?} {start:?}")
    };
    let shown: Vec<String> = config.runners.iter().map(shown).collect();
    assert_eq!(
        shown,
        [
            r#" ["/opt/runner", "run"] Some("/tmp/x.sock") 128 1024 55s 3s"#,
            r#"python [] Some("/tmp/py.sock") 8 0 500ms 3s"#,
            r#"java ["java", "-jar", "r.jar"] None 128 1024 55s 10s"#,
        ]
    );
    for text in ["ext-plugin: {}", "ext-plugin: ~", ""] {
        assert!(good(text).runners.is_empty(), "{text}");
    }
}

#[test]
fn defaults_are_those_of_apisix() {
    let minute = Duration::from_secs(60);
    let wanted = Config {
        listen: vec![Options::new(Address::Tcp("0.0.0.0:9080".parse().expect("an address")))],
        provider: Provider::Yaml,
        admin: None,
        is_control_plane: false,
        control: Some(OperatorListen {
            address: "127.0.0.1:9090".parse().expect("an address"),
            is_named: false,
        }),
        status: None,
        store_dir: None,
        downstream: Downstream {
            keepalive_timeout: minute,
            keepalive_requests: None,
            keepalive_time: None,
            client_header_timeout: minute,
            client_body_timeout: minute,
            send_timeout: Duration::from_secs(10),
            client_max_body_size: None,
            underscores_in_headers: true,
        },
        access_log: None,
        keepalive: KeepalivePool { size: 320, idle_timeout: minute, requests: 1000 },
        server_tokens: true,
        router: Router::HostUri,
        delete_uri_tail_slash: false,
        dns: Dns { servers: vec![], valid: None, timeout: Duration::from_secs(5) },
        trusted: vec!["system".to_owned()],
        trusted_addresses: Vec::new(),
        plugins: None,
        wasm_plugins: Vec::new(),
        metrics: MetricsServer {
            listen: Some("127.0.0.1:9091".parse().expect("an address")),
            is_named: false,
            uri: "/apisix/prometheus/metrics".to_owned(),
            prefix: "apisix_".to_owned(),
        },
        runners: Vec::new(),
        workers: Workers::Auto,
        driver: Driver::Auto,
        via: true,
        limits: Limits {
            head_bytes: 32 * 1024,
            headers: 100,
            connections: None,
            connections_per_source: None,
            requests_per_worker: None,
            head_rate: 0,
            body_rate: 0,
            rate_grace: Duration::from_secs(5),
        },
        drain: Duration::from_secs(30),
        upgrade: Duration::from_secs(60),
        user: None,
        group: None,
        watch: true,
        log_level: log::LevelFilter::Warn,
        cache_dir: None,
        node: Identity::default(),
    };
    for text in ["", "apisix:\n", "{}", "apisix: {node_listen: ~}\nwasm: {}\nplugin_attr: {}\n"] {
        assert_eq!(good(text), wanted);
    }
}

#[test]
fn listeners() {
    for (text, wanted) in [
        ("80", &["0.0.0.0:80"][..]),
        ("[80, 81]", &["0.0.0.0:80", "0.0.0.0:81"]),
        ("[0, 0]", &["0.0.0.0:0", "0.0.0.0:0"]),
        ("[{port: 80}, {ip: 127.0.0.1, port: 80}]", &["0.0.0.0:80", "127.0.0.1:80"]),
        ("[{ip: \"::\", port: 1}, {ip: \"[::1]\", port: 2}]", &["[::]:1", "[::1]:2"]),
        ("\"${{PORT}}\"", &["0.0.0.0:9081"]),
        ("[\"${{NONE:=7}}\"]", &["0.0.0.0:7"]),
    ] {
        assert_eq!(listen(text), wanted);
    }
}

#[test]
fn listeners_with_settings() {
    let config = good(
        r#"
apisix:
  node_listen: [80, {ip: "::", port: 80}]
  proxy_protocol: {listen_http_port: 9181, listen_https_port: ~}
ringgate:
  listen:
    - {address: "0.0.0.0:80", backlog: 128, nodelay: false, fastopen: 16, defer_accept: 5s}
    - {address: "[::1]:81", proxy_protocol: true, keepalive: {idle: 30s, count: 3}}
    - {address: "unix:/run/r.sock", mode: "0660"}
"#,
    );
    let shown = |listener: &Options| {
        let Options { address, proxied, backlog, nodelay, fastopen, .. } = listener;
        let Options { probes, defer_accept, mode, .. } = listener;
        format!(
            "{address} {proxied} {backlog} {nodelay} {fastopen:?} {:?} {defer_accept:?} {mode:?}",
            probes.map(|probes| (probes.idle, probes.interval, probes.count))
        )
    };
    assert_eq!(
        config.listen.iter().map(shown).collect::<Vec<_>>(),
        [
            "0.0.0.0:80 false 128 false Some(16) None Some(5s) None",
            "[::]:80 false 4096 true None None None None",
            "0.0.0.0:9181 true 4096 true None None None None",
            "[::1]:81 true 4096 true None Some((30s, 10s, 3)) None None",
            "unix:/run/r.sock false 4096 true None None None Some(432)",
        ]
    );
    let only = good("{apisix: {node_listen: []}, ringgate: {listen: [{address: \"unix:r\"}]}}");
    assert_eq!(only.listen.len(), 1);
    for (text, wanted) in [
        ("apisix: {node_listen: []}", "there is no address to listen on"),
        ("ringgate: {listen: [{address: here}]}", "\"here\" is not an address to listen on"),
        ("ringgate: {listen: [{address: \"unix:\"}]}", "a socket's path has 1 to 107 bytes"),
        ("ringgate: {listen: [{address: \"1.1.1.1:1\", mode: \"0660\"}]}", "for unix sockets"),
        ("ringgate: {listen: [{address: \"unix:a\", mode: \"999\"}]}", "is not a mode"),
        ("ringgate: {listen: [{proxy_protocol: true}]}", "address"),
        ("ringgate: {listen: [{address: \"unix:a\"}, {address: \"unix:a\"}]}", "there twice"),
        ("apisix: {proxy_protocol: {listen_https_port: 1}}", "listening for TLS"),
        (
            "ringgate: {listen: [{address: \"unix:a\", keepalive: {idle: 500ms}}]}",
            "expected whole seconds",
        ),
    ] {
        let lines = said(text);
        assert!(lines.iter().any(|line| line.contains(wanted)), "{text}: {lines:?}");
    }
}

#[test]
fn name_servers() {
    let text = "apisix: {dns_resolver: [10.0.0.2, \"10.0.0.3:5353\", \"::1\", \"[::1]:54\"], \
        dns_resolver_valid: 30, resolver_timeout: 2}";
    let dns = good(text).dns;
    let shown: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.2:53", "10.0.0.3:5353", "[::1]:53", "[::1]:54"]);
    assert_eq!((dns.valid, dns.timeout.as_secs()), (Some(Duration::from_secs(30)), 2));
}

#[test]
fn where_requests_are_logged() {
    let log = |text: &str| good(&format!("nginx_config: {{http: {{{text}}}}}")).access_log;
    let json =
        |file: &str| Some(AccessLogConfig { file: file.to_owned(), format: LogFormat::json() });
    for (text, wanted) in [
        ("", None),
        ("enable_access_log: false, access_log: a.log", None),
        ("access_log: \"off\"", None),
        ("enable_access_log: true", json("logs/access.log")),
        ("access_log: /dev/stdout", json("/dev/stdout")),
    ] {
        assert_eq!(log(text), wanted, "{text}");
    }
    let text = log("access_log_format: \"$status\", access_log_format_escape: json");
    assert_eq!(text.map(|log| log.format), Some(LogFormat::compile("$status", Escape::Json)));
    let said = said("nginx_config: {http: {access_log: \"syslog:server=x\"}}");
    assert!(said[0].starts_with("error: an access log on syslog"), "{said:?}");
}

#[test]
fn where_metrics_are() {
    let metrics = |text: &str| good(&format!("plugin_attr: {{prometheus: {text}}}")).metrics;
    assert_eq!(metrics("{enable_export_server: false}").listen, None);
    let named = metrics("{export_addr: {port: 0}, export_uri: /m, metric_prefix: \"\"}");
    let wanted = MetricsServer {
        listen: Some("127.0.0.1:0".parse().expect("an address")),
        is_named: true,
        uri: "/m".to_owned(),
        prefix: String::new(),
    };
    assert_eq!(named, wanted);
    let everywhere = metrics("{export_addr: {ip: \"::\", port: 80}}").listen;
    assert_eq!(everywhere, Some("[::]:80".parse().expect("an address")));
    for (text, wanted) in [
        ("{export_uri: metrics}", "error: \"metrics\" is not a plain path"),
        ("{export_uri: \"/{a}\"}", "error: \"/{a}\" is not a plain path"),
        ("{metric_prefix: 1x}", "error: no metric's name can begin with \"1x\""),
        ("{export_addr: {ip: nowhere}}", "error: \"nowhere\" is not an address"),
        ("{refresh_interval: 5}", "warning: `plugin_attr.prometheus.refresh_interval` has no"),
        ("{export_port: 5}", "error: unknown key `export_port`"),
        ("{}, skywalking: {a: 1}", "warning: `plugin_attr.skywalking` has no effect"),
    ] {
        let said = said(&format!("plugin_attr: {{prometheus: {text}}}"));
        assert!(said.len() == 1 && said[0].starts_with(wanted), "{text}: {said:?}");
    }
}

#[test]
fn every_section_is_read() {
    let config = good(
        r#"
"${{SECTION}}":
  router: {http: radixtree_uri, ssl: radixtree_sni}
  enable_server_tokens: ${{FLAG}}
  delete_uri_tail_slash: true
  normalize_uri_like_servlet: false
  match_uri_encoded_slash: false
  proxy_mode: http
  enable_admin: false
  ssl: {enable: false, listen: [{port: 9443}]}
deployment:
  role: data_plane
  role_data_plane: {config_provider: yaml}
nginx_config:
  main_configuration_snippet: |
    # nothing
  http:
    keepalive_timeout: 0
    keepalive_requests: 50
    keepalive_time: 1h
    client_header_timeout: 1m30s
    client_body_timeout: 500ms
    send_timeout: 7
    client_max_body_size: 8k
    underscores_in_headers: "off"
    real_ip_from: [127.0.0.1, "unix:"]
    upstream: {keepalive: 0, keepalive_requests: 5, keepalive_timeout: 1h}
plugins: [fault-injection, limit]
ringgate:
  workers:
    - {core: 1, ring_entries: 256, buffer_bytes: 8192, buffers: 64, pool: 4}
    - core: 0
  driver: epoll
  via: false
  limits:
    {head_bytes: 8192, headers: 50, connections: 1000, connections_per_source: 10,
     requests_per_worker: 100, head_rate: 500, body_rate: 1k, rate_grace: 2s}
  timeouts: {drain: 5s}
  log: {level: debug}
  cache_dir: cache
  node: {id: n, cluster: c, region: r, zone: z, sub_zone: s, metadata: {A: x, L: {app: shop}}}
"#,
    );
    assert_eq!((config.router, config.server_tokens), (Router::Uri, false));
    assert!(config.delete_uri_tail_slash);
    let downstream = Downstream {
        keepalive_timeout: Duration::ZERO,
        keepalive_requests: Some(50),
        keepalive_time: Some(Duration::from_secs(3600)),
        client_header_timeout: Duration::from_secs(90),
        client_body_timeout: Duration::from_millis(500),
        send_timeout: Duration::from_secs(7),
        client_max_body_size: Some(8192),
        underscores_in_headers: false,
    };
    assert_eq!(config.downstream, downstream);
    let hour = Duration::from_secs(3600);
    assert_eq!(config.keepalive, KeepalivePool { size: 0, idle_timeout: hour, requests: 5 });
    let names: Vec<_> = config.plugins.iter().flatten().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["fault-injection", "limit"]);
    let at = Path::root().key("ringgate").key("workers");
    let first = WorkerConfig {
        at: at.index(0),
        core: 1,
        ring_entries: Some(256),
        buffer_bytes: Some(8192),
        buffers: Some(64),
        pool: Some(4),
    };
    let Workers::List(workers) = &config.workers else { panic!("a list") };
    assert_eq!((&workers[0], workers[1].core, workers[1].pool), (&first, 0, None));
    let limits = Limits {
        head_bytes: 8192,
        headers: 50,
        connections: Some(1000),
        connections_per_source: Some(10),
        requests_per_worker: Some(100),
        head_rate: 500,
        body_rate: 1024,
        rate_grace: Duration::from_secs(2),
    };
    assert_eq!(config.limits, limits);
    assert_eq!((config.driver, config.drain), (Driver::Epoll, Duration::from_secs(5)));
    assert!(!config.via);
    assert_eq!(config.log_level, log::LevelFilter::Debug);
    assert_eq!(config.cache_dir.as_deref(), Some("cache"));
    let text = |path: &[&str], text: &str| {
        (path.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), text.to_owned())
    };
    let node = Identity {
        id: Some("n".to_owned()),
        cluster: "c".to_owned(),
        region: "r".to_owned(),
        zone: "z".to_owned(),
        sub_zone: "s".to_owned(),
        metadata: vec![text(&["A"], "x"), text(&["L", "app"], "shop")],
    };
    assert_eq!(config.node, node);
    assert_eq!(good("ringgate: {workers: 3}").workers, Workers::Count(3));
    assert_eq!(good("ringgate: {workers: auto}").workers, Workers::Auto);
}

#[test]
fn wasm_plugins_have_all_their_fields() {
    let config = good(
        r#"
wasm:
  plugins:
    - {name: a, priority: 7999, file: a.wasm}
    - name: b
      priority: -1
      file: b.wat
      http_request_phase: rewrite
      root_id: r
      vm_id: v
      vm_config: {k: 1}
      isolation: request
      pool: 1024
      dry: wait
      on_error: open
      limits: {deadline_ms: 5, memory_mb: 1, body_mb: 0, callouts: 2, table_elements: 3, instances: 4,
        wait_ms: 0, shared_data_mb: 6}
      callouts: {direct: true, allow: [one]}
      pause: body
      writable_properties: true
"#,
    );
    let [a, b] = &config.wasm_plugins[..] else { panic!("two") };
    assert_eq!((a.at.to_string().as_str(), a.phase), ("wasm.plugins[0]", RequestPhase::Access));
    assert_eq!((a.isolation, a.pool, a.on_error), (Isolation::Shared, 2, OnError::Closed));
    let limits = WasmLimits {
        deadline: Duration::from_secs(1),
        memory_bytes: 64 << 20,
        body_bytes: 4 << 20,
        table_elements: 100_000,
        instances: 256,
        wait: Duration::from_secs(1),
        shared_data_bytes: 256 << 20,
        callouts: 1024,
    };
    assert_eq!((a.limits, a.pause, a.vm_config.as_str()), (limits, Pause::Hold, ""));
    assert_eq!(a.callouts, Callouts { direct: false, allow: None });
    assert_eq!((b.phase, b.priority, b.file.as_str()), (RequestPhase::Rewrite, -1, "b.wat"));
    assert_eq!((b.root_id.as_str(), b.vm_id.as_str()), ("r", "v"));
    assert_eq!(
        (b.vm_config.as_str(), b.isolation, b.pool),
        ("{\"k\":1}", Isolation::Request, 1024)
    );
    assert_eq!((b.on_error, b.pause), (OnError::Open, Pause::Body));
    assert_eq!((b.limits.memory_bytes, b.limits.body_bytes, b.limits.callouts), (1 << 20, 0, 2));
    assert_eq!((b.limits.table_elements, b.limits.instances), (3, 4));
    assert_eq!((b.limits.wait, b.limits.shared_data_bytes), (Duration::ZERO, 6 << 20));
    assert_eq!((a.dry, b.dry), (Dry::Make, Dry::Wait));
    let isolated = "wasm: {plugins: [{name: a, priority: 1, file: a, isolation: request}]}";
    assert_eq!(good(isolated).wasm_plugins[0].pool, 16);
    assert_eq!((a.writable_properties, b.writable_properties), (false, true));
    let allow = Some(vec!["one".to_owned()]);
    assert_eq!(b.callouts, Callouts { direct: true, allow });
}

#[test]
fn broken_settings_are_shown_exactly() {
    for (text, wanted) in [
        (
            "apisix:\n  node_listen:\n    - 9080\n    - ip: localhost\n      port: -1\n    - 9080\n",
            "\
c.yaml:4:11: error: \"localhost\" is not an address
    4 |     - ip: localhost
      |           ^^^^^^^^^ as in `127.0.0.1`, `0.0.0.0` or `::`
c.yaml:5:13: error: expected an integer from 0 to 65535, found integer -1
    5 |       port: -1
      |             ^^
c.yaml:6:7: error: the address `0.0.0.0:9080` is there twice
    6 |     - 9080
      |       ^^^^ the first is on line 3",
        ),
        (
            "ringgate:\n  node:\n    metadata: {a: {b: 1}}\n",
            "\
c.yaml:3:23: error: expected a string, or an object of strings, found integer 1
    3 |     metadata: {a: {b: 1}}
      |                       ^",
        ),
        (
            "deployment:\n  role: data_plane\n  role_data_plane:\n    config_provider: xds\n",
            "\
c.yaml:4:22: error: the provider `xds` is not supported
    4 |     config_provider: xds
      |                      ^^^ use `yaml`, `embedded` or `etcd`",
        ),
        (
            "wasm:\n  plugins:\n    - name: a\n      priority: 1\n      file: a.wasm\n    - name: a\n      file: 3\n",
            "\
c.yaml:6:7: error: missing key `priority` in wasm.plugins[1]
    6 |     - name: a
      |       ^
c.yaml:6:13: error: the plugin `a` is there twice
    6 |     - name: a
      |             ^ the first is on line 3
c.yaml:7:13: error: expected a string that is not empty, found integer 3
    7 |       file: 3
      |             ^ write \"3\" in quotes",
        ),
        (
            "ringate:\n  workers: 2\n",
            "\
c.yaml:1:1: error: unknown key `ringate`
    1 | ringate:
      | ^^^^^^^ did you mean `ringgate`?",
        ),
        (
            "apisix:\n  node_listen: ${{NOPE}}\n  ssl:\n    enable: true\n    listen: [{port: 9443}]\n",
            "\
c.yaml:2:16: error: the environment variable `NOPE` is not set
    2 |   node_listen: ${{NOPE}}
      |                ^^^^^^^^^ set it, or give a default: ${{NOPE:=value}}
c.yaml:5:5: error: listening for TLS is not supported yet
    5 |     listen: [{port: 9443}]
      |     ^^^^^^ remove `listen`, or set `enable: false`",
        ),
    ] {
        let report = parse(&Source::new("c.yaml", text), &env).expect_err(text).to_string();
        assert_eq!(report, wanted, "\n{report}");
    }
}

#[test]
fn roles_lead_to_providers() {
    let etcd = "etcd: {host: \"http://e:2379\", prefix: /p/, user: u, password: secret}";
    for (text, provider, has_admin) in [
        ("", "Yaml", false),
        ("apisix: {enable_admin: true}", "Embedded", true),
        ("deployment: {role: traditional}", "Embedded", true),
        ("deployment: {role: control_plane}", "Embedded", true),
        ("deployment: {role: data_plane}", "Yaml", false),
        ("{apisix: {enable_admin: true}, deployment: {role: data_plane}}", "Yaml", false),
        (
            "deployment: {role: traditional, role_traditional: {config_provider: yaml}}",
            "Memory",
            true,
        ),
        (
            "{apisix: {enable_admin: false}, deployment: {role: traditional, role_traditional: {config_provider: yaml}}}",
            "Yaml",
            false,
        ),
        (&format!("deployment: {{role: traditional, {etcd}}}"), "Etcd", true),
        // Without a role these are APISIX's default one.
        (&format!("deployment: {{{etcd}}}"), "Etcd", true),
        (&format!("{{apisix: {{enable_admin: false}}, deployment: {{{etcd}}}}}"), "Etcd", false),
        ("deployment: {admin: {enable_admin_cors: false}}", "Embedded", true),
        ("deployment: {role: data_plane, role_data_plane: {config_provider: etcd}}", "Etcd", false),
    ] {
        let config = good(text);
        let shown = format!("{:?} {:?}", config.provider, config.admin);
        assert!(shown.starts_with(provider), "{text}: {shown}");
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(config.admin.is_some(), has_admin, "{text}");
    }
    let Provider::Etcd(config) =
        good(&format!("deployment: {{role: traditional, {etcd}}}")).provider
    else {
        panic!("etcd")
    };
    assert_eq!(
        (config.prefix.as_str(), &config.hosts[..]),
        ("/p", &["http://e:2379".to_owned()][..])
    );
}

#[test]
fn the_admin_api_has_keys() {
    let text = "deployment:
  role: traditional
  admin:
    admin_listen: {ip: 0.0.0.0, port: 9181}
    allow_admin: [10.0.0.1, \"::/0\"]
    admin_key:
      - {name: a, key: secret, role: admin}
      - {name: v, key: other, role: viewer}
      - {name: empty, key: \"\", role: admin}
    enable_admin_cors: false
";
    let admin = good(text).admin.expect("an Admin API");
    let key =
        |name: &str, key: &str, role| AdminKey { name: name.to_owned(), key: key.to_owned(), role };
    let wanted = AdminConfig {
        listen: "0.0.0.0:9181".parse().expect("an address"),
        allow: ["10.0.0.1/32", "::/0"].map(|net| net.parse().expect("a network")).to_vec(),
        keys: vec![key("a", "secret", AdminRole::Admin), key("v", "other", AdminRole::Viewer)],
        key_required: true,
        cors: false,
    };
    assert_eq!(admin, wanted);
    assert!(!format!("{admin:?}").contains("secret"));
}

#[test]
fn networks_are_canonical() {
    let text =
        "apisix: {trusted_addresses: ['::ffff:10.1.2.3/104', '::ffff:8.8.8.8', 'fd00::1/8']}";
    let config = good(text);
    let found: Vec<_> = config.trusted_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.0/8", "8.8.8.8/32", "fd00::/8"]);
}

#[test]
fn every_rule_has_a_message() {
    for (text, wanted) in [
        ("[]", "error: expected an object, found a list"),
        ("apisix: 1", "error: expected an object, found integer 1"),
        (
            "apisix: {node_listen: []}",
            "error: there is no address to listen on | give `apisix.node_listen` a port, or \
             `ringgate.listen` an entry",
        ),
        (
            "apisix: {trusted_addresses: [10.0.0.1, a]}",
            "error: \"a\" is not an address or a network | as in `127.0.0.0/24`, `10.1.2.3` or `::1`",
        ),
        (
            "apisix: {trusted_addresses: []}",
            "error: expected a list that is not empty, found one of 0",
        ),
        ("apisix: {proxy_mode: stream}", "error: only `proxy_mode: http` is supported yet"),
        (
            "apisix: {router: {http: radixtree_uri_with_parameter}}",
            "error: the router `radixtree_uri_with_parameter` is not supported yet | use `radixtree_host_uri` or `radixtree_uri`",
        ),
        (
            "apisix: {match_uri_encoded_slash: true}",
            "error: `match_uri_encoded_slash: true` is not supported yet",
        ),
        (
            "apisix: {proxy_protocol: {listen_https_port: 1}}",
            "error: listening for TLS is not supported yet",
        ),
        (
            "apisix: {enable_debug: true}",
            "warning: `apisix.enable_debug` has no effect in ringgate yet | `ringgate explain` says what runs for a request",
        ),
        (
            "apisix: {ssl: {enable: true}}",
            "warning: `apisix.ssl.enable` has no effect in ringgate yet | nothing listens for TLS",
        ),
        (
            "ext-plugin: {runners: {go: {queue: 1}}}",
            "error: nobody can find runner `go` | give `cmd` to have it started, `socket`, or both",
        ),
        (
            "ext-plugin: {runners: {\"a/b\": {socket: /x}}}",
            "error: `a/b` can't be the name of a runner | up to 32 letters, digits, `-` and `_`",
        ),
        ("ext-plugin: {cmd: []}", "error: expected a list that is not empty, found one of 0"),
        (
            "ext-plugin: {cmd: [x], call_timeout: 2m}",
            "error: ext-plugin.call_timeout: expected at most 55 s | no plugin holds a request for 60 s",
        ),
        (
            "ext-plugin: {cmds: [x]}",
            "error: unknown key `cmds` in ext-plugin | did you mean `cmd`?",
        ),
        (
            "deployment: {etcd: {host: [a]}}",
            "error: \"a\" is not a URL of etcd | as in `http://127.0.0.1:2379`",
        ),
        (
            "deployment: {role: standalone}",
            "error: `role: standalone` is not supported | use `data_plane` with `config_provider: yaml`",
        ),
        (
            "deployment: {etcd: {tls: {verify: false}}}",
            "error: etcd's certificate is always checked | name who signed it with `ca`",
        ),
        (
            "deployment: {admin: {https_admin: true}}",
            "error: `https_admin` is not supported yet | let the Admin API listen on 127.0.0.1 only",
        ),
        (
            "deployment: {admin: {allow_admin: [a]}}",
            "error: \"a\" is not an address or a network | as in `127.0.0.0/24`, `10.1.2.3` or `::1`",
        ),
        (
            "deployment: {role_data_plane: {config_provider: yaml}, admin: {}}",
            "error: `deployment` has sections of several roles and names none | write `role: traditional`, `data_plane` or `control_plane`",
        ),
        (
            "deployment: {role_data_plane: {config_provider: json}}",
            "error: the provider `json` is not supported | use `yaml`, `embedded` or `etcd`",
        ),
        (
            "nginx_config: {http: {send_timeout: 1x}}",
            "error: expected a time, found string \"1x\" | as in `60s`, `1m30s`, `500ms`, or a number of seconds",
        ),
        ("nginx_config: {http: {send_timeout: 0}}", "error: expected a time above zero"),
        ("nginx_config: {http: {send_timeout: 2y}}", "error: expected at most a year"),
        (
            "nginx_config: {http: {client_max_body_size: -1}}",
            "error: expected a size, found integer -1 | as in `8k`, `1m`, `2g`, or a number of bytes",
        ),
        (
            "nginx_config: {http: {real_ip_from: [10.0.0.0/8]}}",
            "error: taking the client's address from a header is not supported yet | without it, addresses are those of the peer",
        ),
        (
            "nginx_config: {http_configuration_snippet: \"deny all;\"}",
            "error: `http_configuration_snippet` is text for nginx.conf, which is not there | remove it; look for a key of ringgate that does the same",
        ),
        (
            "nginx_config: {worker_processes: 4}",
            "warning: `nginx_config.worker_processes` has no effect in ringgate yet \
             | `ringgate.workers` sets them",
        ),
        (
            "nginx_config: {http: {keepalive_timout: 4}}",
            "error: unknown key `keepalive_timout` in nginx_config.http | did you mean `keepalive_timeout`?",
        ),
        ("plugins: [a, a]", "error: the plugin `a` is there twice | the first is on line 1"),
        ("wasm: {plugins: []}", "error: expected a list that is not empty, found one of 0"),
        (
            "wasm: {plugins: [{name: a, priority: 1, file: a, http_request_phase: log, pool: 0, vm_config: 1}]}",
            "error: expected `access` or `rewrite`, found string \"log\"; error: expected an integer from 1 to 1024, found integer 0; error: expected a string or an object, found integer 1",
        ),
        ("ringgate: {workers: 0}", "error: expected an integer from 1 to 4096, found integer 0"),
        (
            "ringgate: {workers: many}",
            "error: expected a number, `auto`, or a list of `{core: 0}`, found string \"many\"",
        ),
        (
            "ringgate: {workers: [{core: 1}, {core: 1}]}",
            "error: the core `1` is there twice | the first is on line 1",
        ),
        (
            "ringgate: {limits: {body_bytes: 1}}",
            "error: `body_bytes` has a name in APISIX already | use `nginx_config.http.client_max_body_size`",
        ),
        (
            "ringgate: {log: {level: warning}}",
            "error: expected `off`, `error`, `warn`, `info`, `debug` or `trace`, found string \"warning\" | did you mean `warn`?",
        ),
    ] {
        assert_eq!(said(text).join("; "), wanted, "{text}");
    }
}

/// What is looked at once, when the process starts, and what a reload changes.
#[test]
fn fields_that_count_after_a_restart() {
    for (field, expected) in [
        ("apisix.dns_resolver", true),
        ("apisix.dns_resolver[0]", true),
        ("apisix.dns_resolver_valid", true),
        ("apisix.resolver_timeout", true),
        ("apisix.node_listen[0].port", false),
        ("apisix.trusted_addresses[0]", false),
        ("deployment.etcd.host[0]", true),
        ("nginx_config.http.access_log", false),
        ("plugin_attr.prometheus.export_addr.port", true),
        ("ringgate.limits.connections", false),
        ("ringgate.listen", false),
        ("ringgate.listen[1].backlog", false),
        ("ringgate.timeouts.drain", false),
        ("ringgate.via", false),
        ("ringgate.workers", true),
    ] {
        assert_eq!(needs_restart(field), expected, "{field}");
    }
}
