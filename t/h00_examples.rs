//! What the repository shows newcomers works as it lies there.

use crate::harness::{Ended, Folder, Gateway, Process, Upstream, ringgate};
use std::path::Path;
use std::process::Command;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn conf(name: &str) -> String {
    std::fs::read_to_string(repository().join("conf").join(name)).expect("a file of conf/")
}

#[test]
fn conf_is_good() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    command.args(["check", "-c", "conf/config.yaml"]).current_dir(repository());
    let ended = Process::start(&mut command).wait().expect("check ends");
    let Ended { code, stderr, .. } = ended;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr, "", "the configuration we ship gives no warning");
}

/// Every route of `conf/apisix.yaml` answers, with the demo's upstream behind some of them.
#[test]
fn every_demo_route_answers() {
    let upstream = Upstream::hello();
    let examples = format!("{}/examples/", repository().display());
    let config = conf("config.yaml").replace("port: 9080", "port: 0");
    let config = config.replace("../examples/", &examples);
    let resources = conf("apisix.yaml").replace("127.0.0.1:9081", &upstream.node());
    let folder = Folder::new();
    let config = folder.write("config.yaml", config);
    folder.write("apisix.yaml", &resources);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    command.args(["run", "-c"]).arg(config).current_dir(repository());
    let gateway = Gateway::of(Process::start(&mut command), folder);
    let document: serde_json::Value = serde_yaml::from_str(&resources).expect("YAML");
    let routes = document["routes"].as_array().expect("a list of routes");
    assert!(routes.len() >= 5, "{routes:?}");
    for route in routes {
        let uri = route["uri"].as_str().expect("a uri").replace('*', "x");
        let response = gateway.get(&uri);
        assert_eq!(response.status(), 200, "{uri}: {}", response.text());
    }
}

/// The hello of each language, as README's curl lines show it.
#[test]
fn readme_names_only_routes_that_are_there() {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("README.md");
    let resources = conf("apisix.yaml");
    for line in readme.lines().filter(|line| line.contains("127.0.0.1:9080/")) {
        let (_, rest) = line.split_once("127.0.0.1:9080").expect("an address");
        let end = rest.find(|c: char| c.is_whitespace() || "`'\")".contains(c));
        let path = &rest[..end.unwrap_or(rest.len())];
        let first = path.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
        assert!(resources.contains(&format!("uri: /{first}")), "{path} of README.md has no route");
    }
}

#[test]
fn every_fixture_is_what_its_page_says() {
    let fixtures = repository().join("examples/plugins/fixtures");
    let page = std::fs::read_to_string(fixtures.join("README.md")).expect("a page");
    for entry in std::fs::read_dir(&fixtures).expect("fixtures") {
        let name = entry.expect("a file").file_name().into_string().expect("a name of text");
        if name.ends_with(".wat") {
            assert!(page.contains(&format!("`{name}`")), "{name} is not in fixtures/README.md");
        }
    }
    // And each can be precompiled or is refused in words, never by a crash.
    for name in ["minimal.wat", "no-abi.wat", "bad-signature.wat"] {
        let file = fixtures.join(name);
        let folder = Folder::new();
        let out = folder.path().join("out.cwasm");
        let ended = ringgate([
            "plugin",
            "build",
            file.to_str().expect("a path of text"),
            "-o",
            out.to_str().expect("a path of text"),
        ]);
        assert!(matches!(ended.code, Some(0 | 1)), "{ended:?}");
    }
}
