//! Tests of the exchange: a client, upstream peers and plugins that follow scripts, and a driver
//! that keeps the contract of [`super`] and checks that the exchange keeps it too.
//!
//! ```text
//! case (tables below) ─┐                ┌─ double: plugins and snapshots
//! sim (random seeds) ──┴─► world ──────┼─ naive: a parser of its own for what came out
//!                          the driver   └─ checks after every command
//! ```

mod bodies;
mod case;
mod double;
mod failures;
mod holds;
mod limits;
mod local;
mod naive;
mod proxied;
mod sim;
mod world;
