//! The gateway from outside: the built binary, real sockets, exact bytes. See `t/README.md`.

mod a00_command_line;
mod a10_bad_config;
mod a20_bad_resources;
mod harness;
