//! Plugins that can't be had: refused at start, at the place in the file that named them.

use crate::harness::{Ended, Folder, Gateway, Setup, module, ringgate};

/// A gateway with one wasm plugin on `/`, and where in `config.yaml` its file is named.
fn with(file: &str, keys: &str) -> (Setup, String) {
    let resources = "routes:\n  - uri: /\n    plugins:\n      guest: {conf: x}\n";
    let setup = Setup::new(resources).wasm("guest", file, keys);
    let config = std::fs::read_to_string(setup.write()).expect("written");
    let number = config.lines().position(|line| line.contains("name: guest")).expect("its line");
    let line = config.lines().nth(number).expect("its line");
    let column = line.find("file: ").expect("its file") + "file: ".len();
    (setup, format!("config.yaml:{}:{}: error:", number + 1, column + 1))
}

#[track_caller]
fn refused(setup: &Setup) -> String {
    let Ended { code, stdout, stderr } = setup.refused();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(!stdout.contains("listening"), "{stdout}");
    stderr
}

#[test]
fn modules_that_can_not_be_plugins() {
    for (file, message) in [
        ("fixtures/no-memory.wat", "no memory is exported"),
        ("fixtures/no-abi.wat", "no export proxy_abi_version"),
        ("fixtures/no-allocator.wat", "no export proxy_on_memory_allocate or malloc"),
        ("fixtures/bad-signature.wat", "export proxy_on_request_headers has type (i64) -> (i32)"),
        ("fixtures/none.wasm", "can't be read"),
        ("fixtures", "can't be read"),
        ("fixtures/probe.c", ""),
    ] {
        let (setup, place) = with(file, "");
        let stderr = refused(&setup);
        assert!(stderr.contains(&place), "{place} of {file}:\n{stderr}");
        let shown = stderr.replace("(i64) -> i32", "(i64) -> (i32)");
        assert!(shown.contains(message), "{message} of {file}:\n{stderr}");
        assert!(stderr.contains("guest"), "{file}:\n{stderr}");
    }
}

#[test]
fn files_that_are_no_modules() {
    let folder = Folder::new();
    let whole = std::fs::read(module("dist/fault_injection_c.wasm")).expect("a module");
    let mut broken = whole.clone();
    let middle = broken.len() / 2;
    broken[middle..middle + 64].fill(0xff);
    for (name, bytes) in [
        ("empty.wasm", &[][..]),
        ("text.wasm", b"not a module"),
        ("magic.wasm", b"\0asm"),
        ("cut.wasm", &whole[..whole.len() / 2]),
        ("broken.wasm", &broken),
        ("elf.wasm", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
        ("text.wat", b"(module (func"),
    ] {
        let path = folder.write(name, bytes);
        let (setup, place) = with(path.to_str().expect("a path of text"), "");
        let stderr = refused(&setup);
        assert!(stderr.contains(&place), "{place} of {name}:\n{stderr}");
    }
}

/// An import that no host has is there as a stub: calling it is a trap, and only then.
#[test]
fn an_import_that_no_host_has() {
    let (setup, _) = with("fixtures/unknown-import.wat", "");
    let gateway = setup.start();
    for _ in 0..3 {
        assert_eq!(gateway.get("/").status(), 503);
    }
    gateway.wait_for_log("not_a_function");
    assert_eq!(gateway.get("/none").status(), 404);
}

/// Start of a file whose plugin gets that conf, and the place of the conf.
fn configured(file: &str, conf: &str, keys: &str) -> Setup {
    let resources = format!("routes:\n  - uri: /\n    plugins:\n      guest: {{conf: {conf}}}\n");
    Setup::new(resources).wasm("guest", file, keys)
}

/// `on_configure` false: the plugin's own words at the place of its conf.
#[test]
fn a_conf_that_the_plugin_refuses() {
    for file in [
        "dist/fault_injection_rust.wasm",
        "dist/fault_injection_as.wasm",
        "dist/fault_injection_c.wasm",
        "dist/fault_injection_cpp.wasm",
        "dist/fault_injection_zig.wasm",
        "dist/fault_injection_go.wasm",
    ] {
        let stderr = refused(&configured(file, "{http_status: 200, percentage: 101}", ""));
        assert!(stderr.contains("apisix.yaml:4:"), "{file}:\n{stderr}");
        assert!(
            stderr.contains("percentage must be an integer from 0 to 100"),
            "{file}:\n{stderr}"
        );
    }
    for (file, words) in [
        ("dist/header_rust.wasm", "header: "),
        ("dist/body_rust.wasm", "body: "),
        ("dist/trap.wasm", "trap: bad word in the configuration"),
    ] {
        let stderr = refused(&configured(file, "no-such-word", ""));
        assert!(stderr.contains("apisix.yaml:4:") && stderr.contains(words), "{file}:\n{stderr}");
    }
    let stderr = refused(&configured("dist/trap.wasm", "false=on_configure", ""));
    assert!(stderr.contains("apisix.yaml:4:"), "{stderr}");
    assert!(stderr.contains("proxy_on_configure returned false"), "{stderr}");
}

#[test]
fn a_plugin_that_fails_while_it_is_configured() {
    for (conf, keys, words) in [
        ("trap=on_configure", "", "unreachable"),
        ("loop=on_configure", "limits: {deadline_ms: 200}", "deadline"),
        ("recurse=on_configure", "", "stack"),
        ("echo", "vm_config: trap=on_vm_start", "unreachable"),
        ("echo", "vm_config: false=on_vm_start", "proxy_on_vm_start returned false"),
        ("echo", "root_id: trap=on_context_create", "unreachable"),
    ] {
        let stderr = refused(&configured("dist/trap.wasm", conf, keys));
        assert!(stderr.contains("error:") && stderr.contains(words), "{conf} {keys}:\n{stderr}");
        assert!(stderr.contains("apisix.yaml:4:") || stderr.contains("config.yaml:"), "{stderr}");
    }
}

#[test]
fn a_conf_of_the_wrong_kind() {
    for (conf, message) in [
        ("guest: {}", "property \"conf\" is required"),
        ("guest: {conf: \"\"}", "value should match only one schema, but matches none"),
        ("guest: {conf: {}}", "value should match only one schema, but matches none"),
        ("guest: {conf: 1}", "value should match only one schema, but matches none"),
        ("guest: {conf: [a]}", "value should match only one schema, but matches none"),
    ] {
        let resources = format!("routes:\n  - uri: /\n    plugins:\n      {conf}\n");
        let setup = Setup::new(resources).wasm("guest", "fixtures/minimal.wat", "");
        let stderr = refused(&setup);
        assert!(stderr.contains("apisix.yaml:4:") && stderr.contains(message), "{conf}:\n{stderr}");
    }
}

/// A name that is not in `wasm.plugins` is an unknown plugin like any other.
#[test]
fn a_plugin_that_was_never_named() {
    let resources = "routes:\n  - uri: /\n    plugins:\n      gest: {conf: x}\n";
    let stderr = refused(&Setup::new(resources).wasm("guest", "fixtures/minimal.wat", ""));
    assert!(stderr.contains("apisix.yaml:4:7: error:"), "{stderr}");
    assert!(stderr.contains("did you mean `guest`?"), "{stderr}");
}

/// The second start maps what the first one compiled, and writes nothing.
#[test]
fn compiled_modules_are_kept() {
    let cache = Folder::new();
    let dir = cache.path().join("compiled");
    let start = || -> Gateway {
        let conf = "{http_status: 200, body: hi}";
        configured("dist/fault_injection_c.wasm", conf, "").cache(&dir).start()
    };
    let files = || {
        let entries = std::fs::read_dir(&dir).expect("the cache").map(|entry| {
            let entry = entry.expect("a file of the cache");
            let time = entry.metadata().and_then(|data| data.modified()).expect("a time");
            (entry.file_name(), time)
        });
        let mut files: Vec<_> = entries.collect();
        files.sort();
        files
    };
    assert_eq!(start().get("/").text(), "hi");
    let first = files();
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(start().get("/").text(), "hi");
    assert_eq!(files(), first);
    // A file that is broken is replaced, not believed.
    let path = dir.join(&first[0].0);
    let whole = std::fs::read(&path).expect("compiled code");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    assert_eq!(start().get("/").text(), "hi");
    assert_eq!(std::fs::read(&path).expect("compiled code").len(), whole.len());
}

#[test]
fn plugin_build_precompiles() {
    let folder = Folder::new();
    let bytes = std::fs::read(module("dist/fault_injection_c.wasm")).expect("a module");
    let file = folder.write("guest.wasm", bytes);
    let file = file.to_str().expect("a path of text");
    let ended = ringgate(["plugin", "build", file]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let beside = folder.path().join("guest.cwasm");
    assert!(ended.stdout.contains("guest.cwasm") && beside.is_file(), "{ended:?}");
    let out = folder.path().join("other.cwasm");
    let out = out.to_str().expect("a path of text");
    let ended = ringgate(["plugin", "build", file, "-o", out]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // What was built can be run.
    let gateway = configured(out, "{http_status: 200, body: built}", "").start();
    assert_eq!(gateway.get("/").text(), "built");
    for (file, word) in [("none.wasm", "can't be read"), ("text.wasm", "")] {
        let path = folder.path().join(file);
        if file == "text.wasm" {
            folder.write(file, "no module");
        }
        let ended = ringgate(["plugin", "build", path.to_str().expect("a path of text")]);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains(file) && ended.stderr.contains(word), "{ended:?}");
    }
}
