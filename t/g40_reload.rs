//! Configurations that change under a running gateway: what is seen, what is taken, what goes on.

use crate::harness::{Client, Gateway, Setup, Upstream, drivers, eventually, get};
use rustix::process::Signal;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

fn says(word: &str) -> String {
    format!(
        "routes: [{{id: a, uri: /a, plugins: {{fault-injection: {{abort: {{http_status: 200, body: {word}}}}}}}}}]\n"
    )
}

fn watched(resources: String) -> Setup {
    Setup::new(resources).ringgate("watch: true").metrics()
}

fn write(gateway: &Gateway, name: &str, text: &str) {
    // As editors and deployments do: a new file in the place of the old one.
    let new = gateway.folder().write(&format!("{name}.new"), text);
    std::fs::rename(new, gateway.folder().path().join(name)).expect("renamed");
}

fn word(gateway: &Gateway) -> String {
    gateway.get("/a").text()
}

#[test]
fn a_changed_file_is_seen_and_taken() {
    for driver in drivers() {
        let gateway = watched(says("old")).driver(*driver).start();
        assert_eq!(word(&gateway), "old");
        write(&gateway, "apisix.yaml", &format!("{}#END\n", says("new")));
        eventually("the new file serves", || word(&gateway) == "new");
        assert_eq!(gateway.metric("ringgate_last_load_good"), Some(1.0));
    }
}

/// A file that is wrong, or not whole, leaves everything as it was, and says so.
#[test]
fn what_is_wrong_or_half_written_is_not_taken() {
    let gateway = watched(says("old")).start();
    let new = format!("{}#END\n", says("new"));
    for (text, why) in [
        (&new.replace("uri", "url")[..], "did you mean `uri`?"),
        (&new[..new.len() - 7], "does not end with `#END`"),
        (&new[..new.len() / 2], "does not end with `#END`"),
    ] {
        write(&gateway, "apisix.yaml", text);
        gateway.wait_for_log(why);
        assert_eq!(word(&gateway), "old", "{text}");
        assert_eq!(gateway.metric("ringgate_last_load_good"), Some(0.0));
    }
    write(&gateway, "apisix.yaml", &new);
    eventually("the whole file serves", || word(&gateway) == "new");
    // Workers serve it a moment before the control thread has heard of all of them.
    let is_good = || gateway.metric("ringgate_last_load_good") == Some(1.0);
    eventually("the load is good", is_good);
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Listeners come and go while connections go on, whoever accepted them.
#[test]
fn listeners_are_opened_and_closed() {
    for driver in drivers() {
        let (first, second) = (free_port(), free_port());
        let setup = watched(says("hi")).driver(*driver);
        let config = setup.write_with("port: 0}]", &format!("port: {first}}}]"));
        let gateway = setup.start_written(&config);
        let text = std::fs::read_to_string(&config).expect("config.yaml");
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let mut old = Client::connect(at(first));
        assert_eq!(old.get("/a").text(), "hi");
        let ports = |list: &str| text.replace(&format!("[{{ip: 127.0.0.1, port: {first}}}]"), list);
        let both = format!("[{{ip: 127.0.0.1, port: {first}}}, {{ip: 127.0.0.1, port: {second}}}]");
        write(&gateway, "config.yaml", &ports(&both));
        eventually("the second address listens", || TcpStream::connect(at(second)).is_ok());
        assert_eq!(get(at(second), "/a").text(), "hi");
        assert_eq!(get(at(first), "/a").text(), "hi");
        write(&gateway, "config.yaml", &ports(&format!("[{{ip: 127.0.0.1, port: {second}}}]")));
        eventually("the first address does not listen", || TcpStream::connect(at(first)).is_err());
        assert_eq!(old.get("/a").text(), "hi", "a connection that is open goes on");
        assert_eq!(get(at(second), "/a").text(), "hi");
    }
}

/// An address that somebody else has refuses the whole configuration.
#[test]
fn an_address_in_use_changes_nothing() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let gateway = watched(says("hi")).start();
    let config = gateway.folder().path().join("config.yaml");
    let text = std::fs::read_to_string(config).expect("config.yaml");
    write(&gateway, "config.yaml", &text.replace("port: 0}]", &format!("port: {port}}}]")));
    gateway.wait_for_log("is in use");
    assert_eq!(word(&gateway), "hi");
}

/// How long a stop may take is what the files say when it happens.
#[test]
fn the_drain_changes() {
    let upstream = Upstream::script(|conversation| {
        conversation.request();
        conversation.stall();
    });
    let routes =
        format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{}\": 1}}}}}}]", upstream.node());
    let mut gateway = watched(routes).ringgate("timeouts: {drain: 10m}").start();
    let mut held = gateway.client();
    held.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the upstream", || !upstream.requests().is_empty());
    let config = gateway.folder().path().join("config.yaml");
    let text = std::fs::read_to_string(config).expect("config.yaml");
    write(&gateway, "config.yaml", &text.replace("drain: 10m", "drain: 100ms"));
    let good = "ringgate_loads_total{result=\"good\"}";
    eventually("it is read", || gateway.metric(good) == Some(2.0));
    gateway.process().signal(Signal::TERM);
    let ended = gateway.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("cut off after the drain timeout"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("counts after a restart"), "{}", ended.stderr);
}

/// What is set for a listener changes where it listens; nobody who connects meets a closed port.
#[test]
fn settings_of_listeners_change() {
    for driver in drivers() {
        let home = crate::harness::Folder::new();
        let socket = home.path().join("a.sock");
        let listen = |port: u16, settings: &str, mode: &str| {
            format!(
                "listen: [{{address: \"127.0.0.1:{port}\", {settings}}}, \
                 {{address: \"unix:{}\", mode: \"{mode}\"}}]",
                socket.display()
            )
        };
        let port = free_port();
        let (old, new) = (
            listen(port, "backlog: 64", "0600"),
            listen(port, "backlog: 128, fastopen: 16, proxy_protocol: true", "0666"),
        );
        let gateway = watched(says("hi")).driver(*driver).workers(2).ringgate(&old).start();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut open = Client::connect(address);
        assert_eq!(open.get("/a").text(), "hi");
        let config = gateway.folder().path().join("config.yaml");
        let text = std::fs::read_to_string(config).expect("config.yaml");
        write(&gateway, "config.yaml", &text.replace(&old, &new));
        eventually("connections begin with a header", || {
            let mut client = Client::connect(address);
            client.send("PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n");
            client.outcome(false).is_ok_and(|answer| answer.text() == "hi")
        });
        assert_eq!(open.get("/a").text(), "hi", "a connection that is open goes on");
        let mode = || std::fs::metadata(&socket).expect("it is there").permissions().mode();
        eventually("the mode has changed", || mode() & 0o777 == 0o666);
        let log = gateway.log();
        assert!(!log.contains("counts after a restart") && !log.contains("ERROR"), "{log}");
    }
}

/// Name servers are those of the start, and that is said, also of a section that is new.
#[test]
fn name_servers_count_after_a_restart() {
    let gateway = watched(says("hi")).start();
    let config = gateway.folder().path().join("config.yaml");
    let text = std::fs::read_to_string(config).expect("config.yaml");
    let named = text.replace("apisix:\n", "apisix:\n  dns_resolver: [127.0.0.53]\n");
    write(&gateway, "config.yaml", &named);
    gateway.wait_for_log("`apisix.dns_resolver` has changed: that counts after a restart");
    assert_eq!(word(&gateway), "hi");
}

/// Limits count from the next request on; what needs a restart is said.
#[test]
fn settings_change_and_restarts_are_named() {
    let gateway = watched(says("hi")).start();
    let config = gateway.folder().path().join("config.yaml");
    let text = std::fs::read_to_string(config).expect("config.yaml");
    let limited = text.replace("  http:\n", "  http:\n    client_max_body_size: 1\n");
    let named = limited.replace("ringgate:\n", "ringgate:\n  node: {id: other}\n");
    write(&gateway, "config.yaml", &named);
    gateway.wait_for_log("`ringgate.node.id` has changed: that counts after a restart");
    eventually("the limit counts", || {
        let mut client = gateway.client();
        client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
        client.response().status() == 413
    });
}

/// A limit that is configured as before has not forgotten who came; one that changed has.
#[test]
fn plugins_that_count_go_on() {
    let upstream = Upstream::hello();
    let route = |count: u32, id: &str| {
        format!(
            "{{id: {id}, uri: /{id}, plugins: {{limit-count: {{count: {count}, time_window: 600, \
             rejected_code: 429, key: remote_addr}}}}, upstream: {{nodes: {{\"{}\": 1}}}}}}",
            upstream.node()
        )
    };
    let all = |routes: &[String]| format!("routes: [{}]\n#END\n", routes.join(", "));
    let setup = watched(format!("routes: [{}, {}]", route(2, "kept"), route(2, "other")));
    let gateway = setup.start();
    let status = |path: &str| gateway.get(path).status();
    for path in ["/kept", "/other"] {
        assert_eq!([status(path), status(path), status(path)], [200, 200, 429], "{path}");
    }
    write(&gateway, "apisix.yaml", &all(&[route(1, "new"), route(3, "other"), route(2, "kept")]));
    eventually("it is taken", || status("/new") != 404);
    assert_eq!(status("/kept"), 429, "the same limit");
    assert_eq!(
        [status("/other"), status("/other"), status("/other"), status("/other")],
        [200, 200, 200, 429]
    );
}

/// A file that never had `#END` is taken when nobody writes it any more, with a warning.
#[test]
fn without_an_end_a_file_is_taken_when_it_rests() {
    let setup = watched(says("old"));
    let config = setup.write_path();
    setup.folder().write("apisix.yaml", says("old"));
    let gateway = setup.start_written(&config);
    gateway.wait_for_log("does not end with `#END`");
    assert_eq!(word(&gateway), "old");
    write(&gateway, "apisix.yaml", &says("new"));
    eventually("the new file serves", || word(&gateway) == "new");
}
