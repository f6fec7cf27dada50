//! The command line: what is said, where, and with which exit code.

use crate::harness::{Driver, Gateway, Process, Setup, drivers, ringgate};
use std::net::TcpListener;
use std::process::Command;

const NOTHING: &str = "routes: []";

#[test]
fn version_names_the_version() {
    for argument in ["version", "--version"] {
        let ended = ringgate([argument]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains(env!("CARGO_PKG_VERSION")), "{ended:?}");
    }
}

#[test]
fn help_lists_the_commands() {
    let ended = ringgate(["--help"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for word in ["run", "check", "plugin", "version"] {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
}

#[test]
fn completions_and_the_manual_page_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = ringgate(["completions", shell]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("ringgate") && ended.stdout.contains("explain"), "{shell}");
    }
    let ended = ringgate(["man"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for word in [".TH ringgate", "explain", "Exit codes"] {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &["serve"][..],
        &["run", "--no-such-option"],
        &["check", "-c"],
        &["plugin"],
        &["plugin", "build"],
        &["run", "surplus"],
    ] {
        let ended = ringgate(arguments.iter().copied());
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn check_answers_0_or_1_and_starts_nothing() {
    let setup = Setup::new(NOTHING);
    let ended = ringgate(["check", "-c", &setup.write_path()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("listening"), "{ended:?}");
    let setup = Setup::new("rootes: []");
    let ended = ringgate(["check", "-c", &setup.write_path()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("did you mean `routes`?"), "{ended:?}");
}

#[test]
fn run_says_where_it_listens_and_on_what() {
    for driver in drivers() {
        let gateway = Setup::new(NOTHING).driver(*driver).workers(2).start();
        let line = gateway.process().wait_for_output(|line| Some(line.to_owned()));
        let name = if *driver == Driver::Uring { "io_uring" } else { "epoll" };
        let wanted =
            format!("ringgate: listening on http://{} (2 workers, {name})", gateway.address);
        assert_eq!(line.as_deref(), Some(wanted.as_str()));
    }
}

#[test]
fn every_listener_has_its_line() {
    let setup = Setup::new(NOTHING);
    let two = "[{ip: 127.0.0.1, port: 0}, {ip: \"::1\", port: 0}]";
    let config = setup.write_with("[{ip: 127.0.0.1, port: 0}]", two);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    let process = Process::start(command.args(["run", "-c", &config]));
    for ip in ["127.0.0.1", "[::1]"] {
        let start = format!("ringgate: listening on http://{ip}:");
        let port = process.wait_for_output(|line| {
            line.strip_prefix(&start)?.split(' ').next()?.parse::<u16>().ok()
        });
        assert!(port.is_some_and(|port| port > 0), "{start}");
    }
}

#[test]
fn the_config_is_conf_config_yaml_by_default() {
    let setup = Setup::new(NOTHING);
    let config = std::fs::read_to_string(setup.write_path()).expect("written");
    setup.folder().write("conf/config.yaml", config);
    setup.folder().write("conf/apisix.yaml", "rootes: []\n#END\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    let command = command.arg("check").current_dir(setup.folder().path());
    let ended = Process::start(command).wait().expect("the command ends");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("conf/apisix.yaml:1:1: error:"), "{ended:?}");
}

#[test]
fn an_address_in_use_is_3() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    refused_at(taken.local_addr().expect("an address").port());
}

/// `SO_REUSEPORT` would let both answer, each a part of the connections.
#[test]
fn a_second_gateway_on_the_same_port_is_3() {
    let first = Gateway::start(NOTHING);
    refused_at(first.address.port());
    assert_eq!(first.get("/").status(), 404);
}

#[track_caller]
fn refused_at(port: u16) {
    let setup = Setup::new(NOTHING);
    let config = setup.write_with("port: 0", &format!("port: {port}"));
    let ended = ringgate(["run", "-c", &config]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains(&format!("127.0.0.1:{port}")), "{ended:?}");
    assert!(!ended.stdout.contains("listening"), "{ended:?}");
}

#[test]
fn a_core_that_is_not_there_is_3() {
    let setup = Setup::new(NOTHING);
    let config = setup.write_with("workers: [{core: ", "workers: [{core: 400");
    let ended = ringgate(["run", "-c", &config]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("core 400"), "{ended:?}");
    assert!(!ended.stdout.contains("listening"), "{ended:?}");
}

/// Every worker is a thread with a name, pinned to its core.
#[test]
fn workers_are_pinned() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let setup = Setup::new(NOTHING);
    let list: Vec<_> = (0..cores).rev().map(|core| format!("{{core: {core}}}")).collect();
    let config = setup.config_with_workers(&format!("[{}]", list.join(", ")));
    let gateway = setup.start_written(&config);
    let tasks = format!("/proc/{}/task", gateway.process().id());
    let mut pinned = Vec::new();
    for task in std::fs::read_dir(tasks).expect("threads") {
        let task = task.expect("a thread").path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        let Some(number) = name.trim().strip_prefix("ringgate-w") else { continue };
        let status = std::fs::read_to_string(task.join("status")).expect("its status");
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        pinned.push((number.to_owned(), cores.unwrap_or_default().trim().to_owned()));
    }
    pinned.sort();
    let wanted = (0..cores).map(|at| (at.to_string(), (cores - 1 - at).to_string()));
    assert_eq!(pinned, wanted.collect::<Vec<_>>());
}
