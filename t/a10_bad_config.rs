//! Bad `config.yaml`: refused at start with file, line, column, and what to do.

use crate::harness::{Ended, Folder, ringgate};

/// Runs and checks a configuration; both must refuse it, in the same words, with exit code 1.
#[track_caller]
fn refused(config: &str, resources: &str) -> String {
    let folder = Folder::new();
    folder.write("apisix.yaml", resources);
    let config = folder.write("config.yaml", config);
    let config = config.to_str().expect("a path of text");
    let said = |command: &str| {
        let Ended { code, stdout, stderr } = ringgate([command, "-c", config]);
        assert_eq!(code, Some(1), "{command}: {stderr}");
        assert!(!stdout.contains("listening"), "{stdout}");
        stderr
    };
    let stderr = said("run");
    assert!(stderr.starts_with(&said("check")), "{stderr}");
    stderr
}

const RESOURCES: &str = "routes: []\n#END\n";

/// A mistake with its position, its message and what to do.
type Mistake = (&'static str, &'static str, &'static str, &'static str);

const MISTAKES: &[Mistake] = &[
    (
        "apisix:\n  node_listn: 9080\n",
        "config.yaml:2:3: error:",
        "unknown key `node_listn`",
        "did you mean `node_listen`?",
    ),
    (
        "ringate:\n  workers: 2\n",
        "config.yaml:1:1: error:",
        "unknown key `ringate`",
        "did you mean `ringgate`?",
    ),
    (
        "apisix:\n  node_listen: [{ip: localhost, port: 1}]\n",
        "config.yaml:2:22: error:",
        "\"localhost\" is not an address",
        "as in `127.0.0.1`",
    ),
    (
        "ringgate:\n  workers: many\n",
        "config.yaml:2:12: error:",
        "expected a number, `auto`, or a list",
        "many",
    ),
    (
        "ringgate:\n  driver: iouring\n",
        "config.yaml:2:11: error:",
        "expected `auto`, `uring` or `epoll`",
        "did you mean `uring`?",
    ),
    (
        "nginx_config:\n  http:\n    send_timeout: fast\n",
        "config.yaml:3:19: error:",
        "expected a time",
        "as in `60s`",
    ),
    (
        "nginx_config:\n  http:\n   client_max_body_size: [1]\n",
        "config.yaml:3:26: error:",
        "expected a size",
        "as in `8k`",
    ),
    (
        "wasm:\n  plugins:\n    - {name: a, file: b}\n",
        "config.yaml:3:7: error:",
        "missing key `priority`",
        "wasm.plugins[0]",
    ),
    (
        "apisix:\n  node_listen: ${{NO_SUCH_VARIABLE}}\n",
        "config.yaml:2:16: error:",
        "the environment variable `NO_SUCH_VARIABLE` is not set",
        "give a default",
    ),
    (
        "deployment:\n  role: data_plane\n  role_data_plane: {config_provider: xds}\n",
        "config.yaml:3:38: error:",
        "the provider `xds` is not supported",
        "use `yaml`, `embedded` or `etcd`",
    ),
    (
        "ringgate: {workers: 1}\nringgate: {workers: 2}\n",
        "config.yaml:2:1: error:",
        "is there twice",
        "the first is on line 1",
    ),
];

#[test]
fn each_mistake_has_its_place_its_name_and_a_hint() {
    for (config, place, message, hint) in MISTAKES {
        let stderr = refused(config, RESOURCES);
        for wanted in [place, message, hint] {
            assert!(stderr.contains(*wanted), "{wanted:?} of {config:?}:\n{stderr}");
        }
    }
}

#[test]
fn bad_yaml_points_at_the_place() {
    for (config, place) in [
        ("apisix:\n  node_listen: [9080\n", "config.yaml:"),
        ("apisix:\n\tnode_listen: 1\n", "config.yaml:2:"),
        ("apisix: {a: \"b}\n", "config.yaml:"),
        ("a: b: c\n", "config.yaml:1:5: error:"),
    ] {
        let stderr = refused(config, RESOURCES);
        assert!(stderr.contains(place) && stderr.contains("error:"), "{config:?}:\n{stderr}");
        assert!(stderr.contains('^'), "no caret: {stderr}");
    }
}

#[test]
fn all_mistakes_come_at_once_each_on_lines_of_its_own() {
    let config = "ringgate:\n  workers: 0\n  driver: none\n";
    let resources = "routes:\n  - {uri: /a, plugin: {}}\n#END\n";
    let stderr = refused(config, resources);
    for place in
        ["config.yaml:2:12: error:", "config.yaml:3:11: error:", "apisix.yaml:2:15: error:"]
    {
        assert!(stderr.contains(place), "{place}:\n{stderr}");
    }
    assert!(stderr.ends_with("^^^^\nringgate: the configuration was refused\n"), "{stderr}");
}

/// A file that is not there hides nothing; where none is needed, none is looked for.
#[test]
fn a_missing_resources_file_hides_nothing() {
    let folder = Folder::new();
    let warned = "apisix: {enable_http2: true}\n";
    for (config, code, said, unsaid) in [
        (
            "apisix: {enable_http2: true}\nringgate: {driver: none}\n",
            1,
            &["config.yaml:1:10: warning:", "config.yaml:2:20: error:"][..],
            "can't be read",
        ),
        (warned, 1, &["config.yaml:1:10: warning:", "apisix.yaml: can't be read"], "is good"),
        (
            "apisix: {enable_http2: true}\ndeployment: {etcd: {hosts: []}}\n",
            1,
            &["config.yaml:1:10: warning:", "config.yaml:2:21: error: unknown key `hosts`"],
            "apisix.yaml",
        ),
        (
            "apisix: {enable_http2: true}\ndeployment: {etcd: {timeout: 5}}\n",
            0,
            &["config.yaml:1:10: warning:", "is good: its routes are in no file"],
            "apisix.yaml",
        ),
        (
            "deployment: {role: traditional}\nwasm: {plugins: [{name: a, file: b.wasm, priority: 1}]}\n",
            1,
            &["config.yaml:2:", "plugin a: can't be read"],
            "apisix.yaml",
        ),
    ] {
        let config = folder.write("config.yaml", config);
        let config = config.to_str().expect("a path of text");
        let ended = ringgate(["check", "-c", config]);
        let all = format!("{}{}", ended.stderr, ended.stdout);
        assert_eq!(ended.code, Some(code), "{all}");
        assert!(said.iter().all(|said| all.contains(said)) && !all.contains(unsaid), "{all}");
    }
    let config = folder.write("config.yaml", warned);
    let ended = ringgate(["run", "-c", config.to_str().expect("a path of text")]);
    assert!(ended.stderr.contains("config.yaml:1:10: warning:"), "{}", ended.stderr);
}

#[test]
fn a_missing_file_is_named_with_a_way_out() {
    let folder = Folder::new();
    let config = folder.path().join("config.yaml");
    let config = config.to_str().expect("a path of text");
    for command in ["run", "check"] {
        let ended = ringgate([command, "-c", config]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(config), "{ended:?}");
    }
    folder.write("config.yaml", "ringgate: {workers: 1}\n");
    for command in ["run", "check"] {
        let ended = ringgate([command, "-c", config]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("apisix.yaml"), "{ended:?}");
    }
}

#[test]
fn a_folder_and_bytes_that_are_no_text_are_refused() {
    let folder = Folder::new();
    let ended = ringgate(["run", "-c", folder.path().to_str().expect("a path of text")]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let config = folder.write("config.yaml", [0xff, 0xfe, b'a', 0, 0]);
    let ended = ringgate(["run", "-c", config.to_str().expect("a path of text")]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("config.yaml"), "{ended:?}");
}

/// What has no effect is a warning: the gateway starts.
#[test]
fn warnings_do_not_stop_the_start() {
    use crate::harness::Setup;
    let gateway = Setup::new("routes: []").more("discovery: {dns: {a: 1}}").start();
    gateway.wait_for_log("warning: `discovery` has no effect");
    assert_eq!(gateway.get("/").status(), 404);
}

#[test]
fn variables_come_from_the_environment() {
    use crate::harness::{Setup, Upstream};
    let upstream = Upstream::hello();
    let resources = "routes: [{uri: /*, upstream: {nodes: {\"${{T_NODE}}\": 1}}}]";
    let setup = Setup::new(resources).environment("T_NODE", &upstream.node());
    assert_eq!(setup.start().get("/").text(), "hello world\n");
}
