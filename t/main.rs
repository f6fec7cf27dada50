//! The gateway from outside: the built binary, real sockets, exact bytes. See `t/README.md`.

#[path = "plugins/any.rs"]
#[allow(dead_code, reason = "it is written for other tests too")]
mod any;

mod a00_command_line;
mod a10_bad_config;
mod a20_bad_resources;
mod a30_plugin_tool;
mod a40_inspect;
mod b10_http1;
mod b15_bodies;
mod b20_malformed;
mod b30_limits;
mod b40_upgrade;
mod b50_listeners;
mod c00_routes;
mod c10_references;
mod conformance;
mod d00_upstream;
mod d10_upstream_faults;
mod d20_nginx;
mod d30_balancers;
mod d40_health;
mod d50_nodes;
mod differential;
mod e00_fault_injection;
mod e10_native_plugins;
mod f00_wasm;
mod f05_wasm_bodies;
mod f10_wasm_faults;
mod f15_wasm_pools;
mod f20_wasm_refused;
mod f30_wasm_callbacks;
mod f40_wasm_properties;
mod f50_wasm_callouts;
mod f55_wasm_grpc;
mod g00_lifecycle;
mod g10_many_connections;
mod g20_metrics;
mod g30_access_log;
mod g40_reload;
mod h00_examples;
mod h10_example_plugins;
mod h20_example_callouts;
mod h30_schema;
mod harness;
mod i00_runners;
mod i10_runner_faults;
mod i20_real_runners;
mod z00_soak;
mod z10_reloads;
mod z20_upstreams;
