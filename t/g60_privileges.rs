//! From root to another user: all threads, for good, and everything goes on to work.

use crate::harness::{Folder, Process, Setup, Successor, eventually, get, skipped};
use rustix::process::Signal;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Debian's user without rights, and its group.
const NOBODY: u32 = 65_534;

fn says(word: &str) -> String {
    format!(
        "routes: [{{uri: /a, plugins: {{fault-injection: {{abort: {{http_status: 200, body: {word}}}}}}}}}]"
    )
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skipped("only root can become another user");
    }
    is_root
}

/// A port that only root may take.
fn low_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (600..1000).find(is_free).expect("a free port below 1024")
}

/// Every thread has the user's numbers in all places, and none of root's groups.
fn assert_dropped(pid: u32) {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let mut seen = 0;
    for thread in threads {
        let path = thread.expect("a thread").path().join("status");
        // A thread may end in between.
        let Ok(status) = std::fs::read_to_string(path) else { continue };
        for line in status.lines() {
            let Some((key, ids)) = line.split_once(':') else { continue };
            let ids: Vec<&str> = ids.split_whitespace().collect();
            match key {
                "Uid" | "Gid" => assert!(ids == [&*NOBODY.to_string(); 4], "{status}"),
                "Groups" => assert!(!ids.contains(&"0"), "{status}"),
                "CapEff" | "CapPrm" => assert_eq!(ids, ["0000000000000000"], "{status}"),
                _ => {}
            }
        }
        seen += 1;
    }
    assert!(seen > 3, "{seen} threads");
}

#[test]
fn all_threads_become_the_user_that_is_named() {
    if !is_root() {
        return;
    }
    let port = low_port();
    let home = Folder::new();
    let store = format!("store_dir: {}", home.path().join("none").display());
    let setup = Setup::new(says("old")).workers(2).metrics().ringgate("user: nobody");
    let setup = setup.ringgate(&store);
    let config = setup.write_with("port: 0}]", &format!("port: {port}}}]"));
    let mut gateway = setup.start_written(&config);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(get(address, "/a").text(), "old");
    assert_dropped(gateway.process().id());
    assert!(!gateway.log().contains("running as root"));
    gateway.folder().write("apisix.yaml", format!("{}\n#END\n", says("new")));
    gateway.process().signal(Signal::HUP);
    eventually("the new route answers", || get(address, "/a").text() == "new");
    // Who takes over has the port without being root.
    let next = Successor::of(&gateway, None);
    assert_eq!(gateway.code(), Some(0));
    assert_dropped(u32::try_from(next.0).expect("a number"));
    assert_eq!(get(address, "/a").text(), "new");
}

#[test]
fn who_can_not_be_become_is_an_error() {
    if !is_root() {
        return;
    }
    for (lines, why) in [
        (&["user: no-such-user"][..], "ringgate.user: no-such-user: there is no such user"),
        (&["user: nobody", "group: no-such-group"], "there is no such group"),
    ] {
        let setup = lines.iter().fold(Setup::new("routes: []"), |setup, line| setup.ringgate(line));
        let ended = setup.refused();
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
    // Who is not root can't become anybody.
    let config = Setup::new("routes: []").ringgate("user: daemon");
    let path = config.write_path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    let mut process = Process::start(command.args(["run", "-c", &path]).uid(NOBODY).gid(NOBODY));
    let ended = process.wait().expect("it ends");
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("only root can become daemon"), "{}", ended.stderr);
}

#[test]
fn root_is_warned() {
    if is_root() {
        Setup::new("routes: []").start().wait_for_log("running as root");
    }
}
