//! The gateway from outside: the built binary, real sockets, exact bytes. See `t/README.md`.

mod harness;
